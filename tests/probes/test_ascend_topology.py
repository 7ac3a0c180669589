"""How NPUs are connected: the matrix of `npu-smi info -t topo`, the links of the probe, and what it finds wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from v4deploy.domain.hardware import LinkKind
from v4deploy.probes import ascend
from v4deploy.probes.ascend_device_findings import link_findings
from v4deploy.probes.ascend_family import NpuChip
from v4deploy.probes.ascend_table import NpuRow
from v4deploy.probes.ascend_topology import NpuPath, fast_groups, links_of, parse_topology, paths_of
from v4deploy.system.recorded import RecordedSystem

RECORDINGS = Path(__file__).parents[1] / "recordings"
DIES = """\
           Phy-ID12   Phy-ID13
Phy-ID12   X          SIO
Phy-ID13   SIO        X

Legend:
  X    = Self
  HCCS = Connection traversing HCCS.
"""
GROUPS = """\
               NPU0       NPU1       NPU4       NPU5      CPU Affinity
    NPU0       X          UB         SYS        SYS       0-63,128-191
    NPU1       UB         X          SYS        NA        0-63,128-191
    NPU4       SYS        SYS        X          UB        64-127,192-255
    NPU5       SYS        NA         UB         X         64-127,192-255
"""


def test_dies_are_named_by_their_physical_ids() -> None:
    topology = parse_topology(DIES)
    assert topology is not None
    assert topology.by_physical_id
    assert topology.paths == {(12, 13): NpuPath.SIO}


def test_cards_are_named_by_their_numbers_and_affinity_is_no_path() -> None:
    topology = parse_topology(GROUPS)
    assert topology is not None
    assert not topology.by_physical_id
    assert topology.paths[0, 1] is NpuPath.UB
    assert topology.paths[1, 4] is NpuPath.SYS
    assert len(topology.paths) == 5
    assert (1, 5) not in topology.paths


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Legend:\n  X = Self\n",
        "           NPU0       NPU1\n",
        "           NPU0\nNPU0       X\n",
        "This device does not support querying topo.",
        "            设备0     设备1\n设备0       X         HCCS\n",
        "           NPU0       NPU1\nNPU0       X          连接\n",
        "\0NPU\0NPU0 X",
    ],
)
def test_what_is_no_matrix_is_none(text: str) -> None:
    assert parse_topology(text) is None


def test_a_matrix_that_was_cut_off_keeps_its_whole_rows() -> None:
    topology = parse_topology(GROUPS[: GROUPS.rindex("    NPU4")])
    assert topology is not None
    assert topology.paths == {(0, 1): NpuPath.UB, (0, 4): NpuPath.SYS, (0, 5): NpuPath.SYS, (1, 4): NpuPath.SYS}


@given(st.text(alphabet="NPU0123 XHCSYB-\n\tLegend") | st.text())
def test_no_text_makes_the_parser_fail(text: str) -> None:
    topology = parse_topology(text)
    assert topology is None or all(first < second for first, second in topology.paths)


def rows_of(*numbers: int) -> list[NpuRow]:
    return [NpuRow(npu_id=number, name="910B3", health="OK") for number in numbers]


def test_paths_follow_the_devices_not_the_numbers_of_the_matrix() -> None:
    paths = paths_of(parse_topology(GROUPS), rows_of(5, 4, 0))
    assert paths == {(0, 1): NpuPath.UB, (0, 2): NpuPath.SYS, (1, 2): NpuPath.SYS}


def test_two_chips_under_one_number_have_no_path() -> None:
    assert paths_of(parse_topology(GROUPS), rows_of(0, 0, 1)) == {}
    assert paths_of(None, rows_of(0, 1)) == {}


def test_groups_are_what_fast_links_join() -> None:
    assert fast_groups(paths_of(parse_topology(GROUPS), rows_of(0, 1, 4, 5))) == ((0, 1), (2, 3))
    chain = {(0, 1): NpuPath.HCCS, (1, 2): NpuPath.HCCS_SWITCH, (0, 2): NpuPath.SYS}
    assert fast_groups(chain) == ((0, 1, 2),)
    assert fast_groups({(0, 1): NpuPath.PIX}) == ((0,), (1,))


@pytest.mark.parametrize(
    ("recording", "pairs", "source"),
    [
        ("atlas-800i-a2-910b3-x8-dcmi", 28, "npu-smi info -t topo: HCCS"),
        ("atlas-a3-one-card-in-container-sio", 1, "npu-smi info -t topo: SIO"),
    ],
)
def test_links_of_recorded_machines(recording: str, pairs: int, source: str) -> None:
    outcome = ascend.parse(ascend.collect(RecordedSystem(RECORDINGS / recording)))
    assert len(outcome.links) == pairs
    assert {link.source for link in outcome.links} == {source}


def test_every_path_is_a_link_of_a_kind() -> None:
    kinds = [link.kind for path in NpuPath for link in links_of({(0, 1): path})]
    assert kinds[:4] == [LinkKind.HCCS, LinkKind.HCCS_SWITCH, LinkKind.SIO, LinkKind.UB]
    assert None not in kinds


def test_pcie_paths_are_links_of_their_kinds() -> None:
    machine = RecordedSystem(RECORDINGS / "atlas-800i-a2-280t-64g-without-hccs")
    kinds = [link.kind for link in ascend.parse(ascend.collect(machine)).links]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        LinkKind.PCIE_SWITCH: 4,
        LinkKind.HOST_BRIDGE: 8,
        LinkKind.SYSTEM: 16,
    }


def test_one_board_without_hccs_beside_others_is_no_finding() -> None:
    boards = [0x37, 0x33, 0x33]
    chips = [
        NpuChip(row=row, name="Ascend910B4-1", name_family="ascend-a2", board_id=board)
        for row, board in zip(rows_of(0, 1, 2), boards, strict=True)
    ]
    assert list(link_findings(chips, {})) == []
    both = [replace(chip, board_id=0x37) for chip in chips]
    assert [finding.id for finding in link_findings(both, {})] == ["npu.huawei.no-fast-link"]
