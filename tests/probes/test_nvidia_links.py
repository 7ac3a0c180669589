from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from v4deploy.domain.hardware import LinkKind
from v4deploy.probes.nvidia_device import NvidiaDevice, NvidiaLink
from v4deploy.probes.nvidia_links import matrix_links, nvml_links, topology_argvs
from v4deploy.system.base import CommandRun, Failure

WAYS, PEERS = topology_argvs("nvidia-smi")
TWO = tuple(NvidiaDevice(index=index, pci_address=f"0000:0{index}:00.0") for index in (0, 1))
SWITCH = {"remote_type": 2, "remote_address": None}
NO = {"error": "Not Supported", "code": 3}


def to(address: str, kind: int | None = 0) -> dict[str, Any]:
    return {"remote_type": kind, "remote_address": address}


def answers(first: Any = (), second: Any = (), **pair: int) -> dict[str, Any]:
    """What the reader says about two devices: the ends of their links, and the answers about the pair."""
    ends = [{"index": n, "nvlinks": {"value": list(links)}} for n, links in enumerate((first, second))]
    told = {name: {"value": value} for name, value in pair.items()}
    fields = ("common_ancestor", "p2p_read", "p2p_write", "p2p_nvlink")
    return {"devices": ends, "pairs": [{"first": 0, "second": 1, **dict.fromkeys(fields, NO), **told}]}


def matrices(ways: str = "", peers: str = "") -> tuple[NvidiaLink, ...]:
    runs = [CommandRun(argv=WAYS, exit_status=0, stdout=ways), CommandRun(argv=PEERS, exit_status=0, stdout=peers)]
    return matrix_links(runs)


@pytest.mark.parametrize(
    ("data", "kind", "bonded"),
    [
        (answers([to("00000000:01:00.0")] * 4, [to("00000000:00:00.0")] * 4, common_ancestor=50), "nvlink", 4),
        (answers([to("00000000:01:00.0", None)], common_ancestor=50), "nvlink", 1),
        (answers([SWITCH] * 18, [SWITCH] * 17, common_ancestor=40), "nvswitch", 17),
        (answers([SWITCH] * 18, [], common_ancestor=40), "numa", None),
        (answers([to("00000000:99:00.0")] * 4, common_ancestor=30), "host-bridge", None),
        (answers([to("00000000:99:00.0")] * 4, common_ancestor=30, p2p_nvlink=0), "nvlink", None),
        (answers(common_ancestor=0), "pcie-switch", None),
        (answers(common_ancestor=10), "pcie-switch", None),
        (answers(common_ancestor=20), "pcie-switch", None),
        (answers(common_ancestor=50), "system", None),
    ],
)
def test_the_best_way_between_two_devices(data: dict[str, Any], kind: str, bonded: int | None) -> None:
    (link,) = nvml_links(data, TWO)
    assert (link.kind, link.bonded_links) == (kind, bonded)


@pytest.mark.parametrize(
    ("read", "write", "access"),
    [(0, 0, True), (2, 2, False), (0, 5, False), (3, 0, False), (6, 0, None), (0, 6, None), (77, 77, None)],
)
def test_peer_access_needs_both_directions_and_is_unknown_where_the_driver_does_not_know(
    read: int, write: int, *, access: bool | None
) -> None:
    (link,) = nvml_links(answers(common_ancestor=30, p2p_read=read, p2p_write=write), TWO)
    assert link.peer_access is access
    assert (link.peer_status is not None) == (access is False)


def test_nothing_known_of_a_pair_is_no_link() -> None:
    assert nvml_links(answers(), TWO) == ()
    assert nvml_links(answers(common_ancestor=77), TWO) == ()


def test_slices_and_unlisted_devices_have_no_links() -> None:
    data = answers(common_ancestor=30, p2p_read=0, p2p_write=0)
    assert nvml_links(data, TWO[:1]) == ()
    assert nvml_links(data, (TWO[0], NvidiaDevice(index=1, is_slice=True))) == ()


@pytest.mark.parametrize("data", [{}, {"pairs": None}, {"pairs": [None, {}, {"first": True}]}, {"devices": 5}])
def test_answers_of_another_shape_are_no_links(data: dict[str, Any]) -> None:
    assert nvml_links(data, TWO) == ()


EIGHT = """\
        GPU0    GPU1    GPU2    NIC0    NIC1    CPU Affinity    NUMA Affinity   GPU NUMA ID
GPU0     X      NV18    SYS     PIX     NODE    0-23,96-119     0               N/A
GPU1    NV18     X      PXB     NODE    PIX     0-23,96-119     0               N/A
GPU2    SYS     PXB      X      SYS     SYS     24-47,120-143   1               N/A
NIC0    PIX     NODE    SYS      X      SYS
NIC1    NODE    PIX     SYS     SYS      X

Legend:

  X    = Self
  NV#  = Connection traversing a bonded set of # NVLinks

NIC Legend:

  NIC0: mlx5_0
"""


@pytest.mark.parametrize("text", [EIGHT, EIGHT.replace("        GPU0", "\t\x1b[4mGPU0").replace("ID\n", "ID\x1b[0m\n")])
def test_the_matrix_of_ways(text: str) -> None:
    links = {(link.first, link.second): (link.kind, link.bonded_links) for link in matrices(text)}
    assert links == {
        (0, 1): (LinkKind.NVLINK, 18),
        (0, 2): (LinkKind.SYSTEM, None),
        (1, 2): (LinkKind.PCIE_SWITCH, None),
    }


@pytest.mark.parametrize(
    ("word", "access"), [("OK", True), ("GNS", False), ("CNS", False), ("TNS", False), ("DR", False), ("U", None)]
)
def test_the_matrix_of_peers(word: str, *, access: bool | None) -> None:
    links = matrices(
        peers=f" \tGPU0\tGPU1\t\n GPU0\tX\t{word}\t\n GPU1\t{word}\tX\t\n\nLegend:\n\n  OK   = Status Ok\n"
    )
    assert [link.peer_access for link in links] == ([] if access is None else [access])
    assert [link.kind for link in links] == [None] * len(links)


def test_a_matrix_whose_command_failed_is_not_read() -> None:
    failed = CommandRun(argv=WAYS, exit_status=3, stdout=EIGHT)
    killed = CommandRun(argv=WAYS, exit_status=None, stdout=EIGHT, failure=Failure.TIMED_OUT)
    assert matrix_links([failed, killed]) == ()


@given(st.text(alphabet="GPU012 XNVSYOK\t\n", max_size=120))
def test_no_text_makes_the_matrix_parser_raise_or_link_a_device_to_itself(text: str) -> None:
    assert all(link.first < link.second for link in matrices(text, text))
