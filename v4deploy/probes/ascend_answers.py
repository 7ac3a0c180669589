"""Understands npu-smi's other answers: key-value sections, lists of cards, version files, and its refusals.

All messages go to stdout. Exit status 0 is no proof of data, and another one no proof that there is no device.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from v4deploy.domain.units import MIB
from v4deploy.system.base import CommandRun, Failure

_PAIR = re.compile(r"^[ \t]*([A-Z][^:\n]*?)[ \t]*:[ \t]+(\S.*?)[ \t]*$", re.MULTILINE)
_NO_CHIP_NAMES = ("mcu", "cpu")
_ABSENT = {"", "-", "NA", "N/A", "None"}


class Refusal(StrEnum):
    """Why npu-smi gave no table."""

    NOT_INSTALLED = "not-installed"
    NO_ANSWER = "no-answer"
    NO_CARD = "no-card"
    IN_USE = "in-use"
    NOT_INITIALISED = "not-initialised"
    BOARD_UNKNOWN = "board-unknown"
    VIRTUAL_MACHINE = "virtual-machine"
    LIBRARIES_MISSING = "libraries-missing"
    OTHER = "other"


# Words of npu-smi's source (hicann/driver, `npu_smi.c`, `npu_info_print.c`), the more telling first.
_MESSAGES = (
    (re.compile(r"ret is -8020|because the device is used"), Refusal.IN_USE),
    (re.compile(r"dcmi modu?le? initiali[sz]e\w* failed"), Refusal.NOT_INITIALISED),
    (re.compile(r"npu get board type failed"), Refusal.BOARD_UNKNOWN),
    (re.compile(r"cannot be executed on a VM"), Refusal.VIRTUAL_MACHINE),
    (re.compile(r"There is no NPU c(?:ard|hip)"), Refusal.NO_CARD),
    (re.compile(r"error while loading shared libraries|lib(?:drvdsmi_host|c_sec|dcmi)\.so"), Refusal.LIBRARIES_MISSING),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MappedChip:
    """A row of `npu-smi info -m`. `has_physical_id`: the listing has a column of physical ids."""

    npu_id: int
    chip_id: int | None
    name: str
    has_physical_id: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUsage:
    """Of one chip. `used_percent` is a whole number, rounded in a way that is not documented; None when not told."""

    total_bytes: int
    used_percent: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChipHealth:
    """Of one chip; None where `NA` or nothing was printed."""

    status: str | None
    error_code: str | None
    error: str | None


def refusal_of(run: CommandRun) -> Refusal:
    """Why a run that printed no table did not."""
    if run.failure is Failure.NOT_FOUND:
        return Refusal.NOT_INSTALLED
    if run.failure is Failure.TIMED_OUT:
        return Refusal.NO_ANSWER
    text = f"{run.stdout}\n{run.stderr}"
    return next((refusal for pattern, refusal in _MESSAGES if pattern.search(text)), Refusal.OTHER)


def parse_section(text: str) -> dict[str, str]:
    """A `-t` section as key and value; of repeated keys the first, which is the NPU's and not its controller's."""
    fields: dict[str, str] = {}
    for key, value in _PAIR.findall(text):
        fields.setdefault(key, value)
    return fields


def parse_blocks(text: str) -> tuple[dict[str, str], ...]:
    """A `-t` section that repeats its keys for each chip, one block a chip, without controllers.

    `common` prints `Chip ID` before a chip's values, `usages` and `product` after them, and the 950 not at all: a new
    block begins where a key repeats. What stands before the first chip (`NPU ID`, `Chip Count`) is in the first block.
    """
    blocks: list[dict[str, str]] = [{}]
    for key, value in _PAIR.findall(text):
        if key in blocks[-1] or (key == "Chip Name" and value.lower() in _NO_CHIP_NAMES):
            blocks.append({})
        blocks[-1][key] = value
    return tuple(block for block in blocks if block and block.get("Chip Name", "").lower() not in _NO_CHIP_NAMES)


def parse_usage(text: str, chip_id: int | None) -> MemoryUsage | None:
    """A chip's memory from `-t usages`: HBM where the section has it, else DDR. `chip_id` None: the card has one chip.

    None where the section has no block for the chip, or prints no capacity.
    """
    blocks = [block for block in parse_blocks(text) if any(key.endswith("Capacity(MB)") for key in block)]
    named = [block for block in blocks if block.get("Chip ID") == str(chip_id)]
    # The 950 prints no chip id; a card of several chips does, so that a block without one is the only one.
    chosen = named or [block for block in blocks if len(blocks) == 1 and "Chip ID" not in block]
    if not chosen:
        return None
    kind = "HBM" if "HBM Capacity(MB)" in chosen[0] else "DDR"
    capacity, rate = (_whole(chosen[0].get(f"{kind} {name}")) for name in ("Capacity(MB)", "Usage Rate(%)"))
    return MemoryUsage(total_bytes=capacity * MIB, used_percent=rate) if capacity else None


def parse_health(text: str) -> ChipHealth:
    """`-t health` of one chip: `Health Status`, which the 950 calls `Health`, and the faults behind it."""
    fields = parse_section(text)
    told = {key: value for key, value in fields.items() if value not in _ABSENT}
    return ChipHealth(
        status=told.get("Health Status") or told.get("Health"),
        error_code=told.get("Error Code"),
        error=told.get("Error Information"),
    )


def parse_product(text: str) -> str | None:
    """`Product Type` of `-t product`, which the 950 does not know; None where it is not told."""
    value = parse_section(text).get("Product Type", "")
    return None if value in _ABSENT else value


def parse_listing(text: str) -> tuple[tuple[int, int | None], ...]:
    """The cards of `npu-smi info -l`, each with its number of chips, which the 950 leaves out."""
    cards: list[tuple[int, int | None]] = []
    for key, value in _PAIR.findall(text):
        if key == "NPU ID" and value.isdecimal():
            cards.append((int(value), None))
        elif key == "Chip Count" and value.isdecimal() and cards:
            cards[-1] = (cards[-1][0], int(value))
    return tuple(cards)


def parse_mapping(text: str) -> tuple[MappedChip, ...]:
    """The chips of `npu-smi info -m`, without the management controllers that it lists too."""
    lines = [re.split(r"\s{2,}|\t+", line.strip()) for line in text.splitlines() if line.strip()]
    header = next((cells for cells in lines if cells[0] == "NPU ID" and cells[-1] == "Chip Name"), None)
    if header is None:
        return ()
    chips = []
    for cells in lines:
        row = dict(zip(header, cells, strict=False))
        if len(cells) == len(header) and cells[0].isdecimal() and cells[-1].lower() not in _NO_CHIP_NAMES:
            chip = row.get("Chip ID", "")
            chips.append(
                MappedChip(
                    npu_id=int(cells[0]),
                    chip_id=int(chip) if chip.isdecimal() else None,
                    name=cells[-1],
                    has_physical_id="Chip Phy-ID" in header and "Slot ID" not in header,
                )
            )
    return tuple(chips)


def parse_version(text: str | None) -> str | None:
    """From a `version.info` or install record: `Version=25.5.2`, `version=9.1.0`, `... Version : 9.1.0.B150`."""
    match = re.search(r"^(?:Ascend-cann-\w+ )?[Vv]ersion\s*[=:]\s*(\S+)$", text or "", re.MULTILINE)
    return match[1] if match else None


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
