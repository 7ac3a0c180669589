"""DCMI and npu-smi put together, and versions that do not go together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from v4deploy.probes import ascend
from v4deploy.probes.ascend_dcmi import HBM_SOURCE, DcmiChip
from v4deploy.probes.ascend_merge import merge
from v4deploy.probes.ascend_table import NpuRow
from v4deploy.probes.ascend_versions import (
    Versions,
    parse_firmware_ranges,
    same_release,
    version_findings,
)
from v4deploy.system.base import CommandRun, Failure, LibraryAnswer
from v4deploy.system.recorded import RecordedSystem

GIB = 1024**3
RECORDINGS = Path(__file__).parents[1] / "recordings"
ROW = NpuRow(
    npu_id=0,
    chip_id=0,
    name="910B3",
    health="OK",
    pci_address="0000:c1:00.0",
    total_bytes=64 * GIB,
    used_bytes=3 * GIB,
    memory_source="npu-smi info HBM-Usage",
)


def chip_of(row: NpuRow) -> DcmiChip:
    return DcmiChip(row=row, soc="Ascend910B3", pci_id=None, board_id=None, compatibility=None, errors=())


TOLD = replace(ROW, memory_source=HBM_SOURCE)


def test_sources_that_agree_give_one_device_and_nothing_to_say() -> None:
    (merged,), found = merge([chip_of(TOLD)], [ROW])
    assert merged.row.memory_source == HBM_SOURCE
    assert found == ()


def test_npu_smi_fills_what_dcmi_left_open() -> None:
    bare = NpuRow(npu_id=0, chip_id=0, name="", health="")
    (merged,), found = merge([chip_of(bare)], [ROW])
    assert merged.row == ROW
    assert found == ()


def test_what_in_use_differs_between_two_moments_is_no_disagreement() -> None:
    assert merge([chip_of(replace(TOLD, used_bytes=9 * GIB))], [ROW])[1] == ()


@pytest.mark.parametrize(
    ("change", "dcmi", "npu_smi"),
    [
        ({"total_bytes": 32 * GIB}, "32768 MiB", "65536 MiB"),
        ({"health": "Critical"}, "health Critical", "health OK"),
        ({"name": "Ascend910_9392"}, "Ascend910_9392", "910B3"),
    ],
)
def test_differences_are_told_and_dcmi_is_believed(change: dict[str, object], dcmi: str, npu_smi: str) -> None:
    told = replace(TOLD, **change)  # type: ignore[arg-type]
    (merged,), (found,) = merge([chip_of(told)], [ROW])
    assert (found.where, found.dcmi, found.npu_smi) == ("0000:c1:00.0", dcmi, npu_smi)
    assert (merged.row.total_bytes, merged.row.health, merged.row.name) == (told.total_bytes, told.health, told.name)


def test_usable_ddr_is_believed_over_what_is_built_in() -> None:
    built_in = replace(ROW, total_bytes=48 * GIB, used_bytes=None, memory_source="DCMI memory")
    (merged,), found = merge([chip_of(built_in)], [ROW])
    assert (merged.row.total_bytes, merged.row.used_bytes) == (64 * GIB, 3 * GIB)
    assert found == ()


def test_addresses_win_over_numbers() -> None:
    other = replace(ROW, npu_id=1, pci_address="0000:c2:00.0")
    swapped = [chip_of(replace(TOLD, npu_id=1)), chip_of(replace(TOLD, npu_id=0, pci_address="0000:c2:00.0"))]
    merged, found = merge(swapped, [ROW, other])
    assert (len(merged), found) == (2, ())


def test_a_device_that_one_source_hides_is_kept_and_told() -> None:
    other = replace(ROW, npu_id=1, pci_address="0000:c2:00.0")
    merged, found = merge([chip_of(TOLD)], [ROW, other])
    assert [item.row.npu_id for item in merged] == [0, 1]
    assert [(item.dcmi, item.npu_smi) for item in found] == [("not listed", "listed")]
    merged, found = merge([chip_of(TOLD), chip_of(replace(other, memory_source=HBM_SOURCE))], [ROW])
    assert len(merged) == 2
    assert [(item.dcmi, item.npu_smi) for item in found] == [("listed", "not listed")]


ROWS = st.lists(
    st.builds(
        lambda npu, chip, address: replace(ROW, npu_id=npu, chip_id=chip, pci_address=address),
        st.none() | st.integers(0, 2),
        st.none() | st.integers(0, 1),
        st.none() | st.sampled_from(["0000:c1:00.0", "0000:c2:00.0"]),
    ),
    max_size=4,
)


@given(ROWS, ROWS)
def test_no_device_is_lost_and_none_counted_more_than_twice(told: list[NpuRow], listed: list[NpuRow]) -> None:
    merged, found = merge([chip_of(row) for row in told], listed)
    assert max(len(told), len(listed)) <= len(merged) <= len(told) + len(listed)
    if not told or not listed:
        assert found == ()


# --- collecting ------------------------------------------------------------------------------------------------------


class HangingSystem(RecordedSystem):
    """A recording in which one command hangs; notes what is started."""

    def __init__(self, directory: Path, hangs: tuple[str, ...]) -> None:
        super().__init__(directory)
        self.started: list[tuple[str, ...]] = []
        self._hangs = hangs

    def run(self, argv: Sequence[str], *, timeout_seconds: float) -> CommandRun:
        self.started.append(tuple(argv))
        if tuple(argv) == self._hangs:
            return CommandRun(argv=tuple(argv), exit_status=None, failure=Failure.TIMED_OUT)
        return super().run(argv, timeout_seconds=timeout_seconds)


def test_dcmi_saves_the_question_about_the_chip() -> None:
    system = HangingSystem(RECORDINGS / "atlas-800i-a2-910b3-x8-dcmi", ())
    ascend.collect(system)
    assert [argv[2:] for argv in system.started if argv[0] == "npu-smi"] == [
        (),
        ("-t", "board", "-i", "0"),
        ("-t", "topo"),
    ]


def test_after_a_question_that_hangs_no_other_is_asked() -> None:
    board = ("npu-smi", "info", "-t", "board", "-i", "0")
    system = HangingSystem(RECORDINGS / "atlas-800i-a2-910b4-x8", board)
    outcome = ascend.parse(ascend.collect(system))
    assert [argv for argv in system.started if argv[0] == "npu-smi"] == [board[:2], board]
    assert len(outcome.devices) == 8
    assert "npu.huawei.question-timed-out" in {finding.id for finding in outcome.findings}


def ids_with(answer: LibraryAnswer, recording: str) -> set[str]:
    capture = ascend.collect(RecordedSystem(RECORDINGS / recording))
    return {finding.id for finding in ascend.parse(replace(capture, libraries={"dcmi": answer})).findings}


@pytest.mark.parametrize(
    ("answer", "finding"),
    [
        (LibraryAnswer(library="dcmi", data=None, error="gave no answer in 8 s"), "npu.huawei.driver-not-answering"),
        (
            LibraryAnswer(library="dcmi", data=None, error="its reader ended with status -11: no message"),
            "npu.huawei.driver-not-initialised",
        ),
        (LibraryAnswer(library="dcmi", data={"library": {"error": "not found"}}), "npu.huawei.tool-missing"),
    ],
)
def test_without_npu_smi_dcmi_says_why(answer: LibraryAnswer, finding: str) -> None:
    assert ids_with(answer, "ascend-dcmi-held-by-other-container") == {finding}


def test_a_library_that_fails_beside_a_good_table_is_told() -> None:
    answer = LibraryAnswer(library="dcmi", data=None, error="gave no answer in 8 s")
    assert "npu.huawei.dcmi-failed" in ids_with(answer, "atlas-800i-a2-910b4-x8")


@pytest.mark.parametrize(
    "run",
    [
        CommandRun(argv=("npu-smi", "info"), exit_status=0, stdout="NPU overview v2"),
        CommandRun(argv=("npu-smi", "info"), exit_status=None, failure=Failure.TIMED_OUT),
        CommandRun(argv=("npu-smi", "info"), exit_status=187, stdout="dcmi module initialize failed. ret is -8005"),
    ],
)
def test_npu_smi_that_fails_beside_a_good_library_is_told_and_hides_nothing(run: CommandRun) -> None:
    capture = ascend.collect(RecordedSystem(RECORDINGS / "atlas-800i-a2-910b3-x8-dcmi"))
    outcome = ascend.parse(replace(capture, commands={**capture.commands, "npu-smi info": run}))
    assert [device.usable for device in outcome.devices] == [True] * 8
    assert "npu.huawei.npu-smi-failed" in {finding.id for finding in outcome.findings}


# --- versions --------------------------------------------------------------------------------------------------------


def test_ranges_of_firmware() -> None:
    text = "Version=25.3.rc1\ncompatible_version=[V100R001C19]\ncompatible_version_fw=[6.4.0,6.4.99],[7.0.0,8.9.9]\n"
    assert parse_firmware_ranges(text) == (("6.4.0", "6.4.99"), ("7.0.0", "8.9.9"))
    assert parse_firmware_ranges("compatible_version_fw=anything\n") == ()
    assert parse_firmware_ranges("Version=25.3.rc1\n") == ()


def found(versions: Versions, family: str | None = "ascend-a2") -> set[str]:
    return {finding.id.removeprefix("npu.huawei.") for finding in version_findings(versions, [family])}


@pytest.mark.parametrize(
    ("firmware", "fits"),
    [
        ("7.0.0.0.1", True),
        ("7.2.99", True),
        ("7.2.99.5.201", True),
        ("7.3.0.1.231", False),
        ("6.4.0.4.220", False),
        ("unknown", True),
        (None, True),
    ],
)
def test_firmware_against_the_range_of_the_driver(firmware: str | None, *, fits: bool) -> None:
    versions = Versions(driver="25.5.2", firmware=firmware, firmware_ranges=(("7.0.0", "7.2.99"),))
    assert (found(versions) == set()) is fits


@pytest.mark.parametrize(
    ("versions", "family", "expected"),
    [
        (Versions(), "ascend-a2", set()),
        (Versions(driver="25.5.1", cann="9.0.0", nnal="9.0.0.B150"), "ascend-a2", set()),
        (Versions(driver="26.0.rc1", cann="9.0.0"), "ascend-950", {"cann-too-old"}),
        (Versions(driver="26.0.rc1", cann="9.1.0"), "ascend-950", set()),
        (Versions(driver="25.5.0", cann="8.5.1"), "ascend-a3", {"driver-old", "cann-too-old"}),
        (Versions(driver="24.1.rc2", cann="8.5.1"), "ascend-310p", set()),
        (Versions(driver="24.1.rc2", cann="8.5.1"), None, set()),
        (Versions(cann="9.1.0", nnal="9.0.0.B150"), "ascend-a2", {"nnal-mismatch"}),
        (Versions(driver="xxx", cann="xxx", nnal="xxx"), "ascend-a2", set()),
    ],
)
def test_versions_that_do_not_go_together(versions: Versions, family: str | None, expected: set[str]) -> None:
    assert found(versions, family) == expected


def test_builds_of_one_release_belong_together() -> None:
    assert same_release("9.1.0", "9.1.0.B150")
    assert not same_release("9.1.0", "9.1.1")
    assert not same_release(None, None)


def test_of_several_nnal_the_one_of_the_toolkit_counts() -> None:
    capture = ascend.collect(RecordedSystem(RECORDINGS / "atlas-800i-a2-910b3-x8-dcmi"))
    folder = "/usr/local/Ascend/nnal/atb"
    old = next(iter(capture.files.values()))
    files = {f"{folder}/8.5.0/version.info": replace(old, text="Ascend-cann-atb Version : 8.5.0.B1\n")}
    more = replace(capture, files={**capture.files, **files}, entries={**capture.entries, folder: ("8.5.0", "9.1.0")})
    assert ascend.parse(more).findings == ()
