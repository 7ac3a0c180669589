"""The reader against compiled stand-ins for both generations of Huawei's library, and the parser of what it says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from v4deploy.probes.ascend_dcmi import DcmiReport, parse_dcmi
from v4deploy.probes.dcmi_reader import read_all
from v4deploy.system.base import LibraryAnswer
from v4deploy.system.live import LiveSystem

MIB = 1024**2
COMPILER = shutil.which("cc")
Ask = Callable[..., LibraryAnswer]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """Asks the reader, in its child process, a stand-in that was compiled with these definitions."""
    if COMPILER is None or sys.platform != "linux":
        pytest.skip("needs a C compiler and the Linux loader")

    def compiled(*definitions: str, timeout_seconds: float = 30) -> LibraryAnswer:
        folder = tmp_path_factory.mktemp("dcmi")
        source = Path(__file__).with_name("fake_dcmi.c")
        flags = [f"-D{definition}" for definition in definitions]
        command = [str(COMPILER), "-shared", "-fPIC", "-w", *flags, "-o", str(folder / "libdcmi.so"), str(source)]
        subprocess.run(command, check=True)
        environ = {**os.environ, "LD_LIBRARY_PATH": str(folder)}
        return LiveSystem(environ).library("dcmi", timeout_seconds=timeout_seconds)

    return compiled


@pytest.fixture(scope="module")
def cards(ask: Ask) -> LibraryAnswer:
    return ask("GENERATION=1")


@pytest.fixture(scope="module")
def flat(ask: Ask) -> LibraryAnswer:
    return ask("GENERATION=2")


def data_of(answer: LibraryAnswer) -> Any:
    assert answer.data is not None, answer.error
    return answer.data


def test_words_of_the_driver_on_standard_output_do_not_spoil_the_answer(cards: LibraryAnswer) -> None:
    assert data_of(cards)["init"] == {"value": 1}
    assert data_of(cards)["driver_version"] == {"value": "25.5.2"}


def test_controllers_are_no_devices(cards: LibraryAnswer) -> None:
    assert [(d["card"], d["chip"]) for d in data_of(cards)["devices"]] == [(0, 0), (0, 1), (5, 0), (7, 0)]


def test_every_field_carries_its_own_error(cards: LibraryAnswer) -> None:
    healthy, other_die, broken, _ = data_of(cards)["devices"]
    assert healthy["names"] == {
        "value": {"type": "Ascend", "name": "Ascend910", "version": "", "npu_name": "9392"},
    }
    assert healthy["hbm"] == {"value": {"total": 65536, "used": 3133}}
    assert healthy["pci"] == {"value": {"address": "0000:9c:00.0", "device_id": "19e5:d803"}}
    assert other_die["physical_id"] == {"value": 9}
    assert broken["hbm"]["code"] == -8006
    assert "timed out" in broken["hbm"]["error"]
    assert broken["board_id"] == {"value": 0x37}
    assert broken["logical_id"]["code"] == -8006


def test_ddr_is_asked_for_only_where_there_is_no_hbm(cards: LibraryAnswer) -> None:
    by_card = {device["card"]: device for device in data_of(cards)["devices"]}
    assert by_card[7]["memory"] == {"value": {"total": 44280}}
    assert "memory" not in by_card[5]
    assert "memory" not in by_card[0]


def test_a_card_that_does_not_tell_its_chips_is_not_forgotten(cards: LibraryAnswer) -> None:
    report = parse_dcmi(cards)
    assert len(report.errors) == 1
    assert report.errors[0].startswith("card 6: ")
    assert "-8006" in report.errors[0]


def test_the_parser_understands_the_first_generation(cards: LibraryAnswer) -> None:
    report = parse_dcmi(cards)
    assert (report.generation, report.driver_version, report.failure) == (1, "25.5.2", None)
    first, second, broken, small = report.chips
    assert (first.soc, first.row.physical_id, first.row.health) == ("Ascend910_9392", 8, "OK")
    assert (first.row.total_bytes, first.row.used_bytes) == (65536 * MIB, 3133 * MIB)
    assert (first.row.pci_address, first.pci_id, first.compatibility) == ("0000:9c:00.0", "19e5:d803", "OK")
    assert second.row.health == "Alarm"
    assert (broken.soc, broken.row.total_bytes, broken.row.health, broken.row.pci_address) == (
        "Ascend910B3",
        None,
        "",
        None,
    )
    assert (broken.compatibility, broken.board_id) == ("NOT OK", 0x37)
    assert any("dcmi_get_device_hbm_info" in error for error in broken.errors)
    assert (small.row.total_bytes, small.row.used_bytes) == (44280 * MIB, None)


def test_a_950_refuses_the_first_generation_and_answers_the_second(flat: LibraryAnswer) -> None:
    data = data_of(flat)
    assert data["init"] == {"value": 2}
    assert data["init_errors"]["1"]["code"] == -8255
    report = parse_dcmi(flat)
    assert report.generation == 2
    assert [(chip.soc, chip.row.npu_id, chip.row.chip_id, chip.row.physical_id) for chip in report.chips] == [
        ("Ascend950PR_9579", 0, None, 1),
        ("Ascend950PR_9579", 1, None, 2),
        ("Ascend950PR_9579", 2, None, 3),
    ]
    assert [chip.row.total_bytes for chip in report.chips] == [131072 * MIB, None, 131072 * MIB]
    assert [chip.row.health for chip in report.chips] == ["UNKNOWN"] * 3
    assert [chip.compatibility for chip in report.chips] == [None] * 3


def test_a_function_that_the_library_lacks_costs_its_own_field_only(flat: LibraryAnswer) -> None:
    assert data_of(flat)["driver_version"]["code"] is None
    assert "dcmiv2_get_driver_version" in data_of(flat)["driver_version"]["error"]
    assert parse_dcmi(flat).driver_version is None


def test_a_device_that_is_no_pcie_function_has_no_address(flat: LibraryAnswer) -> None:
    on_bus, on_fabric, _ = parse_dcmi(flat).chips
    assert (on_bus.row.pci_address, on_bus.pci_id) == ("0000:61:00.0", "19e5:d806")
    assert (on_fabric.row.pci_address, on_fabric.pci_id) == (None, None)


@pytest.mark.parametrize(
    ("generation", "code", "words"), [(1, -8020, "held by another"), (2, -8020, "held by another"), (1, -9, "unknown")]
)
def test_a_library_that_does_not_start_says_why(ask: Ask, generation: int, code: int, words: str) -> None:
    report = parse_dcmi(ask(f"GENERATION={generation}", f"INIT_RESULT={code}"))
    assert report.chips == ()
    assert report.failure is not None
    assert (report.failure.code, report.failure.is_hang) == (code, False)
    assert words in report.failure.message


def test_a_library_that_hangs_is_given_up(ask: Ask) -> None:
    report = parse_dcmi(ask("GENERATION=1", "INIT_RESULT=(pause(),0)", timeout_seconds=1.5))
    assert report.failure is not None
    assert report.failure.is_hang


def test_a_library_that_crashes_takes_only_the_reader_with_it(ask: Ask) -> None:
    report = parse_dcmi(ask("GENERATION=1", "INIT_RESULT=(*(volatile int*)0)"))
    assert report.failure is not None
    assert (report.failure.code, report.failure.is_hang) == (None, False)


def test_a_library_that_is_not_here_is_no_failure(tmp_path: Path) -> None:
    missing = read_all([str(tmp_path / "libdcmi.so")])
    assert "cannot open" in missing["library"]["error"]
    assert parse_dcmi(LibraryAnswer(library="dcmi", data=missing)) == DcmiReport()


def test_a_file_that_is_no_library_is_not_loaded(tmp_path: Path) -> None:
    (tmp_path / "libdcmi.so").write_text("404 not found")
    assert "error" in read_all([str(tmp_path / "libdcmi.so")])["library"]


# --- what a recording may hold ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"library": "libdcmi.so"},
        {"library": {"value": "libdcmi.so"}},
        {"library": {"value": "libdcmi.so"}, "init": {"value": 1}, "device_list": {"value": []}},
        {"library": {"value": "x"}, "init": {"value": 1}, "device_list": {"value": [0]}, "devices": "garbage"},
        {"library": {"value": "x"}, "init": {"value": 1}, "device_list": {"error": "held", "code": -8020}},
    ],
)
def test_an_answer_without_devices_lists_none(data: dict[str, Any]) -> None:
    assert parse_dcmi(LibraryAnswer(library="dcmi", data=data)).chips == ()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    ["names", "chip", "hbm", "memory", "pci", "health", "board_id", "compatibility", "physical_id", "card"]
)


@given(st.dictionaries(FIELDS, JSON | st.fixed_dictionaries({"value": JSON})))
def test_no_device_makes_the_parser_fail(device: dict[str, Any]) -> None:
    data = {"library": {"value": "x"}, "init": {"value": 1}, "device_list": {"value": [0]}, "devices": [device]}
    (chip,) = parse_dcmi(LibraryAnswer(library="dcmi", data=data)).chips
    assert chip.row.total_bytes is None or chip.row.total_bytes > 0


def test_what_was_not_recorded_is_neither_device_nor_failure() -> None:
    assert parse_dcmi(LibraryAnswer(library="dcmi", data=None, error="not recorded")) == DcmiReport()
    assert parse_dcmi(None) == DcmiReport()
