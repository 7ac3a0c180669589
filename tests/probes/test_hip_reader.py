"""The reader against a compiled stand-in for HIP's library."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from v4deploy.probes.amd_runtime import parse_hip
from v4deploy.probes.hip_reader import see_all_devices
from v4deploy.system.base import LibraryAnswer
from v4deploy.system.live import LiveSystem

COMPILER = shutil.which("cc")
SOURCE = Path(__file__).with_name("fake_hip.c")


def asked(folder: Path, *options: str, name: str = "libamdhip64.so.7", **environ: str) -> LibraryAnswer:
    if COMPILER is None or sys.platform != "linux":
        pytest.skip("needs a C compiler and the Linux loader")
    library = folder / name
    subprocess.run([COMPILER, "-shared", "-fPIC", "-w", *options, "-o", str(library), str(SOURCE)], check=True)
    return LiveSystem({**os.environ, "LD_LIBRARY_PATH": str(folder), **environ}).library("hip", timeout_seconds=30)


def test_every_device_is_reported_with_its_own_errors(tmp_path: Path) -> None:
    answer = asked(tmp_path)
    assert answer.data is not None, answer.error
    card, integrated, closed = answer.data["devices"]
    assert card == {
        "index": 0,
        "handle": {"value": True},
        "name": {"value": "AMD Radeon RX 9070 XT"},
        "memory": {"value": {"total": 17095983104}},
        "target": {"value": "gfx1201"},
        "integrated": {"value": 0},
        "pci": {"value": {"address": "0000:03:00.0"}},
    }
    assert integrated["target"] == {"value": "gfx1151:sramecc-:xnack-"}
    assert integrated["pci"] == {"error": "HIP error 101", "code": 101}
    assert closed == {"index": 2, "handle": {"error": "HIP error 101", "code": 101}}


def test_the_parser_understands_what_the_reader_says(tmp_path: Path) -> None:
    report = parse_hip(asked(tmp_path))
    found = [(d.pci_address, d.gfx, d.vram_total_bytes, d.shared_total_bytes, d.is_integrated) for d in report.devices]
    assert found == [
        ("0000:03:00.0", "gfx1201", 17095983104, None, False),
        (None, "gfx1151", None, 128849018880, True),
    ]


def test_devices_that_are_hidden_or_renamed_for_engines_are_shown_as_they_are(tmp_path: Path) -> None:
    answer = asked(tmp_path, HIP_VISIBLE_DEVICES="", HSA_OVERRIDE_GFX_VERSION="11.0.0")
    assert answer.data is not None
    assert answer.data["device_count"] == {"value": 3}
    assert answer.data["devices"][0]["target"] == {"value": "gfx1201"}


def test_the_runtime_is_told_to_look_behind_windows_under_wsl_only() -> None:
    here, there = {"HOME": "/"}, {"HOME": "/"}
    see_all_devices(here, behind_windows=False)
    see_all_devices(there, behind_windows=True)
    assert here == {"HOME": "/"}
    assert there == {"HOME": "/", "HSA_ENABLE_DXG_DETECTION": "1"}


def test_a_runtime_without_devices_says_so_in_its_own_word(tmp_path: Path) -> None:
    answer = asked(tmp_path, "-DINIT_STATUS=100")
    assert answer.data == {
        "init": {"error": "hipErrorNoDevice", "code": 100},
        "runtime_version": {"value": 70253211},
    }
    assert parse_hip(answer).error == "HIP: hipErrorNoDevice"


def test_a_library_that_lacks_a_function_costs_that_field_only(tmp_path: Path) -> None:
    answer = asked(tmp_path, "-DhipGetDevicePropertiesR0600=gone", name="libamdhip64.so.6")
    assert answer.data is not None
    card = answer.data["devices"][0]
    assert card["target"]["code"] is None
    assert "hipGetDeviceProperties" in card["target"]["error"]
    assert card["memory"] == {"value": {"total": 17095983104}}


def test_a_library_below_rocm_path_is_found(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    asked(tmp_path / "lib", name="libamdhip64.so")
    answer = LiveSystem({**os.environ, "ROCM_PATH": str(tmp_path)}).library("hip", timeout_seconds=30)
    assert answer.data is not None
    assert answer.data["device_count"] == {"value": 3}


def test_a_machine_without_the_library_says_so(tmp_path: Path) -> None:
    answer = LiveSystem({**os.environ, "ROCM_PATH": str(tmp_path)}).library("hip", timeout_seconds=30)
    assert answer.data is not None
    if "error" not in answer.data["init"]:
        pytest.skip("this machine has HIP")
    assert "libamdhip64.so" in answer.data["init"]["error"]
