"""NUMA nodes: which have processors, how much memory each manages, and what is wrong with that."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.surroundings import NumaNode
from v4deploy.domain.units import KIB
from v4deploy.system.base import FileRead

NODES = "/sys/devices/system/node"
NODES_ONLINE = f"{NODES}/online"
BALANCING = "/proc/sys/kernel/numa_balancing"
_RANGE = re.compile(r"(\d+)(?:-(\d+))?")
_MEMORY_TOTAL = re.compile(r"^Node \d+ MemTotal:\s+(\d+) kB$", re.MULTILINE)
_MEMORY_FREE = re.compile(r"^Node \d+ MemFree:\s+(\d+) kB$", re.MULTILINE)
# CONFIG_NODES_SHIFT allows no more than 1024 nodes; a list that names more is garbage.
_MOST = 1 << 16


def parse_list(text: str | None) -> tuple[int, ...] | None:
    """The kernel's list form, `0-3,8`; empty for an empty line, None for anything else."""
    if text is None:
        return None
    numbers: list[int] = []
    for part in filter(None, text.strip().split(",")):
        match = _RANGE.fullmatch(part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last < _MOST:
            return None
        numbers += range(first, last + 1)
    return tuple(numbers)


def numa_files(online: str | None) -> tuple[str, ...]:
    """The files of all nodes that are online."""
    return tuple(
        f"{NODES}/node{number}/{name}" for number in parse_list(online) or () for name in ("cpulist", "meminfo")
    )


def parse_numa_nodes(files: Mapping[str, FileRead]) -> tuple[NumaNode, ...]:
    """All nodes with processors or memory. A node whose processors could not be read is left out: it is not known."""
    nodes = []
    for number in parse_list(_text(files, NODES_ONLINE)) or ():
        cpus = parse_list(_text(files, f"{NODES}/node{number}/cpulist"))
        meminfo = _text(files, f"{NODES}/node{number}/meminfo")
        memory = _kib(_MEMORY_TOTAL, meminfo)
        if cpus is not None and (cpus or memory):
            free = _kib(_MEMORY_FREE, meminfo)
            nodes.append(NumaNode(number=number, cpus=len(cpus), memory_bytes=memory, free_bytes=free))
    return tuple(nodes)


def nodes_of_devices(nodes: tuple[NumaNode, ...], coherent_bytes: int) -> tuple[NumaNode, ...]:
    """Nodes without processors whose memory is that of devices, which have `coherent_bytes` in all.

    CXL memory makes such nodes as well and is RAM like any other: where the devices cannot account for all of them,
    none is taken for a device's.
    """
    bare = tuple(node for node in nodes if not node.cpus)
    return bare if sum(node.memory_bytes or 0 for node in bare) <= coherent_bytes else ()


def numa_findings(nodes: tuple[NumaNode, ...], files: Mapping[str, FileRead]) -> Iterator[Finding]:
    """Memory that is missing beside a processor, and pages that the kernel moves about."""
    with_cpus = [node for node in nodes if node.cpus]
    empty = [node for node in with_cpus if node.memory_bytes == 0]
    if empty and len(with_cpus) > 1:
        yield Finding(
            id="host.numa-node-without-memory",
            severity=Severity.WARN,
            summary=f"{len(empty)} of {len(with_cpus)} NUMA nodes with processors have no memory",
            evidence=tuple(Evidence(source=f"{NODES}/node{node.number}/meminfo", value="0 kB") for node in empty),
            why="experts in host RAM then come over the link between sockets, and part of the bandwidth is missing",
            fix="populate the memory channels of every socket evenly",
        )
    if len(with_cpus) > 1 and (_text(files, BALANCING) or "").strip() not in {"", "0"}:
        yield Finding(
            id="host.numa-balancing",
            severity=Severity.INFO,
            summary=f"the kernel moves pages between {len(with_cpus)} NUMA nodes while engines read them",
            evidence=(Evidence(source=BALANCING, value=(_text(files, BALANCING) or "").strip()),),
            why="llama.cpp warns about it: experts in host RAM run slower while pages are moved",
            fix="`sysctl -w kernel.numa_balancing=0`",
        )


def _kib(pattern: re.Pattern[str], text: str | None) -> int | None:
    match = pattern.search(text or "")
    return int(match[1]) * KIB if match else None


def _text(files: Mapping[str, FileRead], path: str) -> str | None:
    read = files.get(path)
    return read.text if read else None
