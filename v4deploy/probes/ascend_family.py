"""From what npu-smi prints to the name of the SoC, and from that to the family that images and weights are made for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from v4deploy.probes.ascend_table import NpuRow

# `dcmi_common.h` of hicann/driver, 2026-07-21. Subsystem vendors differ by partner.
FAMILY_OF_PCI_ID = {
    "19e5:d100": "ascend-310",
    "19e5:d500": "ascend-310p",
    "19e5:d801": "ascend-910",
    "19e5:d802": "ascend-a2",
    "19e5:d803": "ascend-a3",
    "19e5:d806": "ascend-950",
}
# Variants and future parts in the driver's table: NPUs all the same.
_OTHER_NPU_IDS = frozenset({"19e5:d804", "19e5:d805", "19e5:d807", "19e5:d808"})
# In order: a bare `910B` is a first-generation part, so digits are asked for (Ascend/pytorch issue 144).
_FAMILIES = (
    (re.compile(r"950.*"), "ascend-950"),
    (re.compile(r"910_93\d\d.*"), "ascend-a3"),
    (re.compile(r"910B\d[^_]*"), "ascend-a2"),
    (re.compile(r"910(?:A|B|Pro.*|Premium.*)"), "ascend-910"),
    (re.compile(r"310P.*"), "ascend-310p"),
    (re.compile(r"310B.*"), "ascend-310b"),
    (re.compile(r"310"), "ascend-310"),
)
_PREFIX = "Ascend"
_ABSENT = {"", "-", "NA", "N/A"}


@dataclass(frozen=True, slots=True, kw_only=True)
class NpuChip:
    """A chip with what its name and its PCI id say about its family; None where one does not tell.

    Attributes:
        source: what told the chip's health.
        compatibility: of driver and firmware, as the board section words it.
        board_id: of the card; None where nothing told it.
        firmware_version: as the board section prints it.
        product: the machine's name, asked for only where the family is not known.
        faults: what `npu-smi info -t health` says of a chip that is not well.
        errors: what the vendor's library said of fields that it did not tell.
    """

    row: NpuRow
    name: str
    name_family: str | None = None
    pci_id: str | None = None
    numa_node: int | None = None
    source: str = "npu-smi info"
    compatibility: str | None = None
    board_id: int | None = None
    firmware_version: str | None = None
    product: str | None = None
    faults: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()

    @property
    def pci_family(self) -> str | None:
        return FAMILY_OF_PCI_ID.get(self.pci_id or "")

    @property
    def family(self) -> str | None:
        return self.name_family or self.pci_family

    @property
    def is_healthy(self) -> bool:
        """False only for `Critical`: with a lesser alarm jobs still run."""
        return self.row.health.lower() != "critical"


def is_npu(pci_id: str) -> bool:
    return pci_id in FAMILY_OF_PCI_ID or pci_id in _OTHER_NPU_IDS


def soc_name(card: Mapping[str, str], chip: Mapping[str, str]) -> str | None:
    """The SoC from `-t board -i N` (`card`) and `-t board -i N -c 0` (`chip`), as vLLM-Ascend's build tells it.

    The 950 names its chip at card level. A2 gives type and name (`Ascend` `910B3`), A3 a name and an NPU name
    (`Ascend910` `9392`); a driver that prints all three is settled by which combination is a known family.
    None where nothing was printed.
    """
    if name := _value(card, "Chip Name"):
        return normal_name("_".join(filter(None, (name, _value(card, "NPU Name")))))
    name = _value(chip, "Chip Name")
    if name is None:
        return None
    kind, number = _value(chip, "Chip Type"), _value(chip, "NPU Name")
    numbered = normal_name(f"{name}_{number}") if number else None
    if numbered and (kind is None or family_of(numbered) is not None):
        return numbered
    # DCMI names the kind beside names that carry it already: `Ascend` and `Ascend950PR`.
    return normal_name(name if kind is None or name.startswith(kind) else f"{kind}{name}")


def normal_name(text: str) -> str:
    """`910B3`, `Ascend 910B3` and the China edition's `A2G3` all become `Ascend910B3`; `I2` stands for 310P there."""
    core = re.sub(r"\s+", "", text)
    core = re.sub(r"^(?:Ascend|Alan)", "", core, flags=re.IGNORECASE)
    core = re.sub(r"^A2G(?=\d)", "910B", core)
    core = re.sub(r"^I2(?=\d|$)", "310P", core)
    return f"{_PREFIX}{core}"


def family_of(name: str, *, is_dies_layout: bool = False) -> str | None:
    """The family of a name from `normal_name`. None where the name does not tell.

    `is_dies_layout`: the table has a column of physical ids, which A3 alone has; its name is a bare `Ascend910`.
    """
    core = name.removeprefix(_PREFIX)
    if core == "910" and is_dies_layout:
        return "ascend-a3"
    return next((family for pattern, family in _FAMILIES if pattern.fullmatch(core)), None)


def _value(fields: Mapping[str, str], key: str) -> str | None:
    value = fields.get(key, "").strip()
    return None if value in _ABSENT else value
