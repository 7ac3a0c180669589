"""Understands `npu-smi info`: four layouts, each also in a wide variant from 26.x on, so no width is relied on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from v4deploy.domain.units import MIB
from v4deploy.probes.pci import normal_address


class Layout(StrEnum):
    """Told by the header. DDR: 310 to 310P. HBM: 910 and A2. DIES: A3, two rows a card. FLAT: 950, no chip column."""

    DDR = "ddr"
    HBM = "hbm"
    DIES = "dies"
    FLAT = "flat"


@dataclass(frozen=True, slots=True, kw_only=True)
class NpuRow:
    """One chip of the table; None where it prints `NA`, `-1` or nothing.

    Attributes:
        npu_id: the card's number, neither dense nor from 0.
        chip_id: the chip on its card; None in the layout without one.
        name: as printed: `910B3`, `Ascend910`, `Ascend950PR`.
        health: `OK`, `Warning`, `Alarm`, `Critical` or `UNKNOWN`; empty where nothing told it.
        physical_id: N of /dev/davinciN; the layout of A3 alone prints it.
        memory_source: what told the memory; None where nothing did.
    """

    name: str
    health: str
    npu_id: int | None = None
    chip_id: int | None = None
    physical_id: int | None = None
    pci_address: str | None = None
    total_bytes: int | None = None
    used_bytes: int | None = None
    memory_source: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NpuTable:
    """`layout` None: the header is of no known form. `driver_version` as the title line prints it."""

    layout: Layout | None = None
    driver_version: str | None = None
    rows: tuple[NpuRow, ...] = ()


_TITLE = re.compile(r"npu-smi \S+\s+Version:\s*(\S+)")
_HEALTH = re.compile(r"OK|Warning|Alarm|Critical|UNKNOWN", re.IGNORECASE)
_ID_AND_NAME = re.compile(r"(-?\d+)(?:\s+(\S.*))?")
_USED_OF_TOTAL = re.compile(r"(\d+)\s*/\s*(\d+)")


def parse_table(text: str) -> NpuTable:
    """The chips of `npu-smi info`; no rows where the text is something else. The process table is left out."""
    device_part = re.split(r"^.*Process id.*$", text, maxsplit=1, flags=re.MULTILINE)[0]
    title = _TITLE.search(device_part)
    lines = [_cells(line) for line in device_part.splitlines() if line.lstrip().startswith("|")]
    layout = _layout(device_part)
    return NpuTable(layout=layout, driver_version=title[1] if title else None, rows=tuple(_rows(lines, layout)))


def _layout(text: str) -> Layout | None:
    if "Memory-Usage(MB)" not in text:
        return None
    if "HBM-Usage(MB)" not in text:
        return Layout.DDR
    if re.search(r"\|\s*NPU ID\s*\|", text):
        return Layout.FLAT
    return Layout.DIES if "Phy-ID" in text else Layout.HBM


def _cells(line: str) -> tuple[str, ...]:
    return tuple(cell.strip() for cell in line.strip().strip("|").split("|"))


def _rows(lines: list[tuple[str, ...]], layout: Layout | None) -> Iterator[NpuRow]:
    column = "Memory-Usage" if layout is Layout.DDR else "HBM-Usage"
    for position, first in enumerate(lines):
        found = _chip_line(first)
        if found is None:
            continue
        npu_id, name, health = found
        second = lines[position + 1] if position + 1 < len(lines) else ()
        # A table that was cut off ends after a chip's first line; the next chip's is not its second.
        has_second = bool(second) and _chip_line(second) is None
        ids = re.findall(r"\d+", second[0]) if has_second else []
        used, total = _memory(second[-1]) if has_second else (None, None)
        yield NpuRow(
            npu_id=npu_id,
            chip_id=int(ids[0]) if ids else None,
            name=name,
            health=health,
            physical_id=int(ids[1]) if layout is Layout.DIES and len(ids) > 1 else None,
            pci_address=normal_address(second[-2]) if has_second and len(second) > 1 else None,
            total_bytes=total,
            used_bytes=used,
            memory_source=None if total is None else f"npu-smi info {column}",
        )


def _chip_line(cells: tuple[str, ...]) -> tuple[int | None, str, str] | None:
    """Id, name and health of a chip's first line: `0 910B3 | OK | ...`, or `0 | Ascend950PR | OK | ...`."""
    head = _ID_AND_NAME.fullmatch(cells[0])
    if head is None:
        return None
    number = int(head[1]) if int(head[1]) >= 0 else None
    name, rest = (head[2], cells[1:]) if head[2] else (cells[1] if len(cells) > 1 else "", cells[2:])
    if not rest or not name or _HEALTH.fullmatch(rest[0]) is None:
        return None
    return number, name.strip(), rest[0]


def _memory(cell: str) -> tuple[int | None, int | None]:
    """Used and total of the last pair: HBM where there is a column for it. `0 / 0` says nothing."""
    pairs = _USED_OF_TOTAL.findall(cell)
    if not pairs or int(pairs[-1][1]) == 0:
        return None, None
    used, total = pairs[-1]
    return int(used) * MIB, int(total) * MIB
