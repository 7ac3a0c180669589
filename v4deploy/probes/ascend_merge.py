"""Puts together what DCMI and npu-smi say of the same NPUs. DCMI goes first; where both speak, they should agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from v4deploy.domain.units import MIB
from v4deploy.probes.ascend_dcmi import HBM_SOURCE, DcmiChip
from v4deploy.probes.ascend_family import family_of, normal_name
from v4deploy.probes.ascend_table import NpuRow


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedRow:
    """A row of both sources. `chip` is None where DCMI did not list it."""

    row: NpuRow
    chip: DcmiChip | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """One thing of which the sources say different things; `where` names the device."""

    where: str
    dcmi: str
    npu_smi: str


def merge(chips: Sequence[DcmiChip], rows: Sequence[NpuRow]) -> tuple[tuple[MergedRow, ...], tuple[Disagreement, ...]]:
    """Every NPU that either source lists, DCMI's first. With one source empty, the other as it is."""
    left = list(rows)
    merged: list[MergedRow] = []
    found: list[Disagreement] = []
    for chip in chips:
        partner = next((row for row in left if _is_same(chip.row, row)), None)
        if partner is None:
            merged.append(MergedRow(row=chip.row, chip=chip))
            found.append(Disagreement(where=device_label(chip.row), dcmi="listed", npu_smi="not listed"))
        else:
            left.remove(partner)
            merged.append(MergedRow(row=_filled(chip.row, partner), chip=chip))
            found.extend(_differences(chip.row, partner))
    merged += [MergedRow(row=row) for row in left]
    found += [Disagreement(where=device_label(row), dcmi="not listed", npu_smi="listed") for row in left]
    return tuple(merged), tuple(found) if chips and rows else ()


def device_label(row: NpuRow) -> str:
    """The device for people: its bus address, or its numbers where it has none."""
    if row.pci_address is not None:
        return row.pci_address
    chip = "" if row.chip_id is None else f" chip {row.chip_id}"
    return f"NPU {'?' if row.npu_id is None else row.npu_id}{chip}"


def _is_same(one: NpuRow, other: NpuRow) -> bool:
    if one.pci_address is not None and other.pci_address is not None:
        return one.pci_address == other.pci_address
    return one.npu_id is not None and (one.npu_id, one.chip_id) == (other.npu_id, other.chip_id)


def _filled(chip: NpuRow, row: NpuRow) -> NpuRow:
    """DCMI's row with npu-smi's answers in its gaps. Memory comes from one of them as a whole."""
    # npu-smi prints what of a chip's DDR can be used, DCMI what is built in.
    memory = chip if chip.memory_source == HBM_SOURCE or row.memory_source is None else row
    return replace(
        chip,
        npu_id=row.npu_id if chip.npu_id is None else chip.npu_id,
        chip_id=row.chip_id if chip.chip_id is None else chip.chip_id,
        physical_id=row.physical_id if chip.physical_id is None else chip.physical_id,
        name=chip.name or row.name,
        health=chip.health or row.health,
        pci_address=chip.pci_address or row.pci_address,
        total_bytes=memory.total_bytes,
        used_bytes=memory.used_bytes,
        memory_source=memory.memory_source,
    )


def _differences(chip: NpuRow, row: NpuRow) -> Iterator[Disagreement]:
    where = device_label(row)
    if chip.memory_source == HBM_SOURCE and row.total_bytes not in {None, chip.total_bytes}:
        totals = [f"{(size or 0) // MIB} MiB" for size in (chip.total_bytes, row.total_bytes)]
        yield Disagreement(where=where, dcmi=totals[0], npu_smi=totals[1])
    if chip.health and row.health and chip.health.lower() != row.health.lower():
        yield Disagreement(where=where, dcmi=f"health {chip.health}", npu_smi=f"health {row.health}")
    families = [family_of(normal_name(name)) for name in (chip.name, row.name)]
    if all(families) and families[0] != families[1]:
        yield Disagreement(where=where, dcmi=chip.name, npu_smi=row.name)
