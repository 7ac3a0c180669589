"""The reader against a compiled stand-in for Metal and the Objective-C runtime. No Mac has run it yet."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from v4deploy.probes.metal_reader import read_all
from v4deploy.probes.native import Answer
from v4deploy.system.live import LiveSystem

COMPILER = shutil.which("cc")
SOURCE = Path(__file__).with_name("fake_metal.c")


def asked(folder: Path, *options: str) -> Answer:
    if COMPILER is None or sys.platform != "linux":
        pytest.skip("needs a C compiler and the Linux loader")
    library = folder / f"metal{len(options)}.so"
    subprocess.run([COMPILER, "-shared", "-fPIC", *options, "-o", str(library), str(SOURCE)], check=True)
    loaded = ctypes.CDLL(str(library))
    return read_all(loaded, loaded)


def test_what_metal_recommends_is_told_in_bytes(tmp_path: Path) -> None:
    assert asked(tmp_path) == {
        "device": {"value": True},
        "name": {"value": "Apple M3 Ultra"},
        "recommended_bytes": {"value": 239143485440},
        "unified": {"value": True},
    }


def test_a_mac_without_a_device_says_so(tmp_path: Path) -> None:
    assert asked(tmp_path, "-DNO_DEVICE") == {"device": {"error": "Metal gives no device", "code": None}}


def test_a_runtime_that_lacks_a_function_costs_its_fields_only(tmp_path: Path) -> None:
    answers = asked(tmp_path, "-Dsel_registerName=gone")
    assert answers["device"] == {"value": True}
    assert answers["recommended_bytes"]["code"] is None


def test_a_machine_without_metal_says_so() -> None:
    if sys.platform == "darwin":
        pytest.skip("this machine has Metal")
    answer = LiveSystem(os.environ).library("metal", timeout_seconds=30)
    assert answer.data is not None
    assert "cannot be loaded" in answer.data["device"]["error"]
