"""Understands `npu-smi info -t topo`: how each pair of NPUs is connected."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from v4deploy.domain.hardware import Link, LinkKind
from v4deploy.probes.ascend_table import NpuRow

SOURCE = "npu-smi info -t topo"
_LABEL = re.compile(r"(NPU|Phy-ID)(\d+)")


class NpuPath(StrEnum):
    """Words of the matrix's legend. HCCS, SIO (between the dies of an A3 card) and UB do without PCIe."""

    HCCS = "HCCS"
    HCCS_SWITCH = "HCCS_SW"
    SIO = "SIO"
    UB = "UB"
    PIX = "PIX"
    PXB = "PXB"
    PHB = "PHB"
    SYS = "SYS"

    @property
    def is_fast(self) -> bool:
        return self in {NpuPath.HCCS, NpuPath.HCCS_SWITCH, NpuPath.SIO, NpuPath.UB}


_KINDS: Mapping[NpuPath, LinkKind] = {
    NpuPath.HCCS: LinkKind.HCCS,
    NpuPath.HCCS_SWITCH: LinkKind.HCCS_SWITCH,
    NpuPath.SIO: LinkKind.SIO,
    NpuPath.UB: LinkKind.UB,
    NpuPath.PIX: LinkKind.PCIE_SWITCH,
    NpuPath.PXB: LinkKind.PCIE_SWITCH,
    NpuPath.PHB: LinkKind.HOST_BRIDGE,
    NpuPath.SYS: LinkKind.SYSTEM,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """The matrix. `by_physical_id`: rows are `Phy-ID12` (A3) and not `NPU0`. Pairs of unknown connection are left out.

    `paths` holds each pair once, the lower number first.
    """

    by_physical_id: bool
    paths: Mapping[tuple[int, int], NpuPath]


def parse_topology(text: str) -> Topology | None:
    """The matrix; None where the text holds none."""
    lines = [line.split() for line in text.split("Legend", maxsplit=1)[0].splitlines()]
    header = next((_labels(cells) for cells in lines if len(_labels(cells)) > 1), ())
    if not header:
        return None
    paths: dict[tuple[int, int], NpuPath] = {}
    for cells in lines:
        row = _LABEL.fullmatch(cells[0]) if cells else None
        # The header has one label more than a row, and the last column, the CPU affinity, has none.
        if row is None or len(_labels(cells)) > 1:
            continue
        for column, word in zip(header, cells[1:], strict=False):
            if word in set(NpuPath) and column != int(row[2]):
                paths[_pair(int(row[2]), column)] = NpuPath(word)
    return Topology(by_physical_id="Phy-ID" in text.split("Legend", maxsplit=1)[0], paths=paths) if paths else None


def paths_of(topology: Topology | None, rows: Sequence[NpuRow]) -> dict[tuple[int, int], NpuPath]:
    """The paths between rows, by their positions. A row whose number the matrix does not hold is left out."""
    if topology is None:
        return {}
    numbers = [row.physical_id if topology.by_physical_id else row.npu_id for row in rows]
    # Of two chips under one number the matrix does not tell which one it means.
    position = {number: index for index, number in enumerate(numbers) if numbers.count(number) == 1}
    return {
        _pair(position[one], position[other]): path
        for (one, other), path in topology.paths.items()
        if one in position and other in position
    }


def links_of(paths: Mapping[tuple[int, int], NpuPath]) -> Iterator[Link]:
    """The paths as links between devices."""
    for (first, second), path in sorted(paths.items()):
        yield Link(first_index=first, second_index=second, kind=_KINDS[path], source=f"{SOURCE}: {path}")


def fast_groups(paths: Mapping[tuple[int, int], NpuPath]) -> tuple[tuple[int, ...], ...]:
    """Devices that reach one another over fast links, directly or through others; those without any are alone."""
    group = {device: frozenset({device}) for pair in paths for device in pair}
    for (first, second), path in paths.items():
        if path.is_fast:
            joined = group[first] | group[second]
            group.update(dict.fromkeys(joined, joined))
    return tuple(tuple(sorted(members)) for members in sorted(set(group.values()), key=min))


def _labels(cells: Sequence[str]) -> tuple[int, ...]:
    return tuple(int(match[2]) for cell in cells if (match := _LABEL.fullmatch(cell)))


def _pair(one: int, other: int) -> tuple[int, int]:
    return (one, other) if one < other else (other, one)
