"""The reader against a compiled stand-in for NVIDIA's library, through the real nvidia-ml-py."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from v4deploy.domain.hardware import LinkKind
from v4deploy.probes.nvidia_device import NvidiaLink
from v4deploy.probes.nvidia_nvml import parse_nvml
from v4deploy.probes.nvml_reader import read_all
from v4deploy.system.base import LibraryAnswer
from v4deploy.system.live import LiveSystem

COMPILER = shutil.which("cc")


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> LibraryAnswer:
    if COMPILER is None or sys.platform != "linux":
        pytest.skip("needs a C compiler and the Linux loader")
    folder = tmp_path_factory.mktemp("nvml")
    source = Path(__file__).with_name("fake_nvml.c")
    command = [COMPILER, "-shared", "-fPIC", "-w", "-o", str(folder / "libnvidia-ml.so.1"), str(source)]
    subprocess.run(command, check=True)
    return LiveSystem({**os.environ, "LD_LIBRARY_PATH": str(folder)}).library("nvml", timeout_seconds=30)


def test_every_device_is_reported_with_its_own_errors(answer: LibraryAnswer) -> None:
    assert answer.data is not None
    healthy, lost, unsupported, sliced = answer.data["devices"]
    assert healthy["memory"] == {"value": {"total": 1000, "free": 800, "used": 100, "reserved": 100}}
    assert healthy["pci"] == {"value": {"address": "00000000:11:00.0", "device_id": 0x233010DE}}
    assert healthy["recovery_action"] == {"value": 2}
    assert lost["handle"]["code"] == 15
    assert unsupported["memory"]["code"] == 3
    assert unsupported["fabric"] == {"value": {"state": 2, "status": 0}}
    assert sliced["memory"]["code"] == 4


def test_a_function_that_the_driver_lacks_costs_its_own_field_only(answer: LibraryAnswer) -> None:
    assert answer.data is not None
    device = answer.data["devices"][0]
    assert device["numa_node"]["code"] == 13
    assert device["name"] == {"value": "NVIDIA H100 80GB HBM3"}


def test_slices_that_exist_are_reported_and_empty_slots_are_not(answer: LibraryAnswer) -> None:
    assert answer.data is not None
    slices = answer.data["devices"][3]["slices"]
    assert [entry["index"] for entry in slices] == [2, 5]
    assert slices[0]["memory"] == {"value": {"total": 125, "free": 120, "used": 5}}
    assert slices[0]["uuid"] == {"value": "MIG-377e0049-554c-540b-93c6-d0976f8426cb"}


def test_links_and_peer_access_are_reported(answer: LibraryAnswer) -> None:
    assert answer.data is not None
    first, _, third, sliced = answer.data["devices"]
    assert first["nvlinks"] == {
        "value": [
            {"remote_type": 0, "remote_address": "00000000:13:00.0"},
            {"remote_type": None, "remote_address": "00000000:13:00.0"},
        ]
    }
    assert sliced["nvlinks"]["code"] == 3
    pairs = {(pair["first"], pair["second"]): pair for pair in answer.data["pairs"]}
    assert set(pairs) == {(0, 2), (0, 3), (2, 3)}
    assert [pairs[0, 2][name]["value"] for name in ("common_ancestor", "p2p_read", "p2p_write", "p2p_nvlink")] == [
        50,
        0,
        0,
        0,
    ]
    assert pairs[0, 3]["p2p_read"] == {"value": 5}
    assert [entry["memory_affinity"]["value"] for entry in (first, third)] == [[65], [67]]


def test_health_licence_and_confidential_computing_are_reported(answer: LibraryAnswer) -> None:
    assert answer.data is not None
    first, _, _, virtual = answer.data["devices"]
    assert first["remapped_rows"] == {"value": [1, 2, 1, 0]}
    assert first["repair_pending"]["code"] == 13
    assert first["fabric"] == {"value": {"state": 3, "status": 0, "health_summary": 1}}
    assert "licences" not in first
    assert virtual["licences"]["value"] == [
        {"product": "NVIDIA Virtual Applications", "licensed": False},
        {"product": "NVIDIA Virtual Compute Server", "licensed": True},
    ]
    assert answer.data["conf_compute"] == {"value": {"feature": 1, "multi_gpu_mode": 0}}
    assert answer.data["conf_compute_ready"] == {"value": 0}


def test_the_parser_understands_what_the_reader_says(answer: LibraryAnswer) -> None:
    report = parse_nvml(answer)
    assert (report.driver_version, report.cuda_version, report.failure) == ("580.126.09", "13.0", None)
    assert report.awaits_attestation
    assert report.links == (NvidiaLink(first=0, second=2, kind=LinkKind.NVLINK, bonded_links=2, peer_access=True),)
    first, virtual = report.devices[0], report.devices[3]
    assert (first.repairs_pending, first.ecc_pending, first.near_node) == (("remapping of memory rows",), False, 65)
    assert (virtual.is_virtual, virtual.licensed) == (True, True)
    assert [(d.index, d.is_slice, d.total_bytes, d.failure is None) for d in report.devices] == [
        (0, False, 1000, True),
        (1, False, None, False),
        (2, False, None, True),
        (3, True, 125, True),
        (3, True, 125, True),
    ]


def test_an_old_module_still_tells_what_it_can() -> None:
    class NVMLError(Exception):
        value = 3

    def refuse(*_: Any) -> Any:
        raise NVMLError

    old = SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlSystemGetDriverVersion=lambda: b"470.1",
        nvmlDeviceGetCount=lambda: 1,
        nvmlDeviceGetHandleByIndex=lambda _: object(),
        nvmlDeviceGetName=lambda _: b"Tesla T4",
        nvmlDeviceGetMemoryInfo=lambda _: SimpleNamespace(total=5, free=4, used=1),
        nvmlDeviceGetMigMode=refuse,
    )
    answers = read_all(old)
    assert answers["module_is_old"] is True
    assert answers["driver_version"] == {"value": "470.1"}
    device = answers["devices"][0]
    assert device["name"] == {"value": "Tesla T4"}
    assert device["memory"] == {"value": {"total": 5, "free": 4, "used": 1}}
    assert device["mig_mode"]["code"] == 3
    assert "addressing_mode" in device
    assert device["slices"] == []
