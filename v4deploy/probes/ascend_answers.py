"""Understands npu-smi's other answers: key-value sections, lists of cards, version files, and its refusals.

All messages go to stdout. Exit status 0 is no proof of data, and another one no proof that there is no device.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from v4deploy.system.base import CommandRun, Failure

_PAIR = re.compile(r"^[ \t]*([A-Z][^:\n]*?)[ \t]*:[ \t]+(\S.*?)[ \t]*$", re.MULTILINE)
_NO_CHIP_NAMES = ("mcu", "cpu")


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


def parse_card_ids(text: str) -> tuple[int, ...]:
    """The card numbers of `npu-smi info -l`."""
    return tuple(int(number) for number in re.findall(r"^\s*NPU ID\s*:\s*(\d+)\s*$", text, re.MULTILINE))


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
