"""How NVIDIA GPUs reach each other: from NVML's answers, or from the two matrices of `nvidia-smi topo`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from v4deploy.domain.hardware import LinkKind
from v4deploy.probes.answers import objects, value_of, whole
from v4deploy.probes.nvidia_device import NvidiaDevice, NvidiaLink
from v4deploy.probes.pci import normal_address
from v4deploy.system.base import CommandRun

_GPU, _SWITCH = 0, 2
_ANCESTORS = {
    0: LinkKind.PCIE_SWITCH,  # two GPUs on one board, behind the board's own switch
    10: LinkKind.PCIE_SWITCH,
    20: LinkKind.PCIE_SWITCH,
    30: LinkKind.HOST_BRIDGE,
    40: LinkKind.NUMA,
    50: LinkKind.SYSTEM,
}
# NVML_P2P_STATUS_*, in the words of `nvidia-smi topo -p2p`; 0 is yes, 6 unknown.
_PEER_REFUSALS = {
    1: "CNS, chipset not supported",
    2: "GNS, GPU not supported",
    3: "TNS, topology not supported",
    4: "DR, disabled by a driver option",
    5: "NS, not supported",
}
_REFUSAL_WORDS = {words.partition(",")[0]: words for words in _PEER_REFUSALS.values()}
_MATRIX_KINDS = {
    "PIX": LinkKind.PCIE_SWITCH,
    "PXB": LinkKind.PCIE_SWITCH,
    "PSB": LinkKind.PCIE_SWITCH,  # the spelling of old drivers
    "PHB": LinkKind.HOST_BRIDGE,
    "NODE": LinkKind.NUMA,
    "SYS": LinkKind.SYSTEM,
    "SOC": LinkKind.SYSTEM,  # the spelling of drivers before 387
}
_NVLINKS = re.compile(r"NV(\d+)")
_GPU_LABEL = re.compile(r"GPU(\d+)")
_TERMINAL_CODE = re.compile(r"\x1b\[[0-9;]*m")
_TOPOLOGY, _PEERS = ("topo", "-m"), ("topo", "-p2p", "r")


def nvml_links(data: Mapping[str, Any], devices: Sequence[NvidiaDevice]) -> tuple[NvidiaLink, ...]:
    """The links between whole devices: slices have no peer access, and the planner never joins them."""
    whole_devices = {device.index: device for device in devices if not device.is_slice}
    remotes = {whole(entry.get("index")): _remotes(entry) for entry in objects(data.get("devices"))}
    links = []
    for pair in objects(data.get("pairs")):
        first, second = whole(pair.get("first")), whole(pair.get("second"))
        if first is None or second is None or not {first, second} <= whole_devices.keys():
            continue
        kind, bonded = _kind(pair, remotes.get(first, ()), remotes.get(second, ()), whole_devices[second].pci_address)
        access, status = _peer_access(pair)
        if kind is not None or access is not None:
            links.append(
                NvidiaLink(
                    first=first, second=second, kind=kind, bonded_links=bonded, peer_access=access, peer_status=status
                )
            )
    return tuple(links)


def topology_argvs(program: str) -> tuple[tuple[str, ...], ...]:
    """The two command lines that `matrix_links` understands."""
    return (program, *_TOPOLOGY), (program, *_PEERS)


def matrix_links(runs: Sequence[CommandRun]) -> tuple[NvidiaLink, ...]:
    """The links that `nvidia-smi topo -m` and `topo -p2p r` print. Neither tells a switch from a direct NVLink."""
    ways = _matrix(runs, _TOPOLOGY)
    peers = _matrix(runs, _PEERS)
    links = []
    for first, second in sorted({*ways, *peers}):
        nvlinks = _NVLINKS.fullmatch(ways.get((first, second), ""))
        kind = LinkKind.NVLINK if nvlinks else _MATRIX_KINDS.get(ways.get((first, second), ""))
        word = peers.get((first, second), "")
        access = word == "OK" if word == "OK" or word in _REFUSAL_WORDS else None
        if kind is not None or access is not None:
            links.append(
                NvidiaLink(
                    first=first,
                    second=second,
                    kind=kind,
                    bonded_links=int(nvlinks[1]) if nvlinks else None,
                    peer_access=access,
                    peer_status=_REFUSAL_WORDS.get(word),
                )
            )
    return tuple(links)


def _remotes(entry: Mapping[str, Any]) -> tuple[tuple[int | None, str | None], ...]:
    """What each active link of a device ends at: its kind, and its address on the bus."""
    ends = objects(value_of(entry, "nvlinks", list))
    return tuple((whole(end.get("remote_type")), normal_address(str(end.get("remote_address") or ""))) for end in ends)


def _kind(
    pair: Mapping[str, Any],
    first: Sequence[tuple[int | None, str | None]],
    second: Sequence[tuple[int | None, str | None]],
    address: str | None,
) -> tuple[LinkKind | None, int | None]:
    """The best way, and how many links it bonds. A virtual machine may show foreign addresses at the ends of its
    links; then only the driver's word tells that NVLink is there.
    """
    direct = [end for end in first if address is not None and end[1] == address and end[0] in {_GPU, None}]
    if direct:
        return LinkKind.NVLINK, len(direct)
    to_switch = min(sum(end[0] == _SWITCH for end in ends) for ends in (first, second))
    if to_switch:
        return LinkKind.NVSWITCH, to_switch
    if value_of(pair, "p2p_nvlink", int) == 0:
        return LinkKind.NVLINK, None
    ancestor = value_of(pair, "common_ancestor", int)
    return (None if ancestor is None else _ANCESTORS.get(ancestor)), None


def _peer_access(pair: Mapping[str, Any]) -> tuple[bool | None, str | None]:
    answers = [value_of(pair, name, int) for name in ("p2p_read", "p2p_write")]
    refusal = next((_PEER_REFUSALS[answer] for answer in answers if answer in _PEER_REFUSALS), None)
    if refusal is not None:
        return False, refusal
    return (True if answers == [0, 0] else None), None


def _matrix(runs: Sequence[CommandRun], arguments: tuple[str, ...]) -> dict[tuple[int, int], str]:
    """The cells right of the diagonal, by pair of GPU numbers."""
    text = "\n".join(run.stdout for run in runs if run.argv[1:] == arguments and run.exit_status == 0)
    return dict(_cells(_TERMINAL_CODE.sub("", text)))


def _cells(text: str) -> Iterator[tuple[tuple[int, int], str]]:
    """GPU columns come first in every layout; network cards and affinities follow. Pasted text has blanks for tabs."""
    columns: list[int] = []
    for line in text.splitlines():
        words = line.split()
        labels = [_GPU_LABEL.fullmatch(word) for word in words]
        numbers = [int(label[1]) for label in labels if label]
        if not columns:
            columns = numbers if len(numbers) > 1 and labels[0] else []
        elif len(numbers) == 1 and labels[0] and len(words) > len(columns):
            row = numbers[0]
            yield from (
                ((row, column), word)
                for column, word in zip(columns, words[1 : len(columns) + 1], strict=True)
                if row < column
            )
