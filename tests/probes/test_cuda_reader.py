"""The reader against a compiled stand-in for CUDA's library."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from v4deploy.probes.nvidia_cuda import parse_cuda
from v4deploy.system.base import LibraryAnswer
from v4deploy.system.live import LiveSystem

COMPILER = shutil.which("cc")
SOURCE = Path(__file__).with_name("fake_cuda.c")


def asked(folder: Path, *options: str, **environ: str) -> LibraryAnswer:
    if COMPILER is None or sys.platform != "linux":
        pytest.skip("needs a C compiler and the Linux loader")
    library = folder / "libcuda.so.1"
    subprocess.run([COMPILER, "-shared", "-fPIC", "-w", *options, "-o", str(library), str(SOURCE)], check=True)
    return LiveSystem({**os.environ, "LD_LIBRARY_PATH": str(folder), **environ}).library("cuda", timeout_seconds=30)


def test_every_device_is_reported_with_its_own_errors(tmp_path: Path) -> None:
    answer = asked(tmp_path)
    assert answer.data is not None
    card, integrated, closed = answer.data["devices"]
    assert card == {
        "index": 0,
        "handle": {"value": True},
        "name": {"value": "NVIDIA GeForce RTX 4090"},
        "memory": {"value": {"total": 25393692672}},
        "compute_capability": {"value": [8, 9]},
        "integrated": {"value": 0},
        "pci": {"value": {"address": "0000:01:00.0"}},
    }
    assert integrated["integrated"] == {"value": 1}
    assert integrated["pci"] == {"error": "CUDA error 101", "code": 101}
    assert closed == {"index": 2, "handle": {"error": "CUDA error 101", "code": 101}}


def test_the_parser_understands_what_the_reader_says(tmp_path: Path) -> None:
    report = parse_cuda(asked(tmp_path))
    assert report is not None
    assert (report.cuda_version, report.failure) == ("13.3", None)
    found = [(d.pci_address, d.cuda_total_bytes, d.arch, d.integrated, d.failure is None) for d in report.devices]
    assert found == [
        ("0000:01:00.0", 25393692672, "sm_89", False, True),
        (None, 50787385344, "sm_121", True, True),
        (None, None, None, None, False),
    ]


def test_devices_hidden_from_engines_are_still_reported(tmp_path: Path) -> None:
    answer = asked(tmp_path, CUDA_VISIBLE_DEVICES="")
    assert answer.data is not None
    assert answer.data["device_count"] == {"value": 3}


def test_a_refusal_carries_cudas_own_name_and_number(tmp_path: Path) -> None:
    answer = asked(tmp_path, "-DINIT_STATUS=802")
    assert answer.data == {
        "init": {"error": "CUDA_ERROR_SYSTEM_NOT_READY", "code": 802},
        "driver_version": {"value": 13030},
    }


def test_a_library_that_lacks_a_function_costs_that_field_only(tmp_path: Path) -> None:
    answer = asked(tmp_path, "-DcuDeviceGetPCIBusId=gone")
    assert answer.data is not None
    card = answer.data["devices"][0]
    assert "gone" not in card["pci"]
    assert card["pci"]["code"] is None
    assert card["memory"] == {"value": {"total": 25393692672}}


def test_a_machine_without_the_library_says_so(tmp_path: Path) -> None:
    answer = LiveSystem({**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}).library("cuda", timeout_seconds=30)
    assert answer.data is not None
    if "error" not in answer.data["init"]:
        pytest.skip("this machine has CUDA")
    assert "libcuda.so.1" in answer.data["init"]["error"]
