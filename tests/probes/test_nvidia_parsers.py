from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from v4deploy.domain.hardware import AddressingMode, PoolKind
from v4deploy.domain.units import GIB, MIB
from v4deploy.probes.nvidia_device import NvidiaDevice, pool_kind
from v4deploy.probes.nvidia_nvml import parse_nvml
from v4deploy.probes.nvidia_smi import FULL_FIELDS, MINIMAL_FIELDS, parse_smi, query_argv
from v4deploy.probes.pci import normal_address
from v4deploy.system.base import CommandRun, Failure, LibraryAnswer

FULL = query_argv("nvidia-smi", FULL_FIELDS)
MINIMAL = query_argv("nvidia-smi", MINIMAL_FIELDS)
ROW = "0, NVIDIA H200, 00000000:1B:00.0, 143771, 143000, 580.126.09, 0x233510DE, 700, 9.0, Disabled, None\n"


def run(argv: tuple[str, ...], stdout: str = "", status: int | None = 0, **more: Any) -> CommandRun:
    return CommandRun(argv=argv, exit_status=status, stdout=stdout, **more)


def nvml(**data: Any) -> LibraryAnswer:
    return LibraryAnswer(library="nvml", data={"init": {"value": True}, "device_count": {"value": 1}, **data})


def test_a_full_row() -> None:
    report = parse_smi([run(FULL, ROW)])
    assert report.failure is None
    assert report.devices == (
        NvidiaDevice(
            index=0,
            name="NVIDIA H200",
            pci_address="0000:1b:00.0",
            pci_id="10de:2335",
            total_bytes=143771 * MIB,
            reserved_bytes=700 * MIB,
            free_bytes=143000 * MIB,
            compute_capability=(9, 0),
            addressing_mode=AddressingMode.NONE,
        ),
    )


@pytest.mark.parametrize(
    "na", ["[N/A]", "N/A", "[Not Supported]", "Not Supported", "[Unknown Error]", "ERR!", "", "[GPU is lost]"]
)
def test_no_value_is_spelled_in_many_ways_and_never_zero(na: str) -> None:
    report = parse_smi([run(FULL, f"0, Orin (nvgpu), {na}, {na}, {na}, {na}, {na}, {na}, {na}, {na}, {na}\n")])
    device = report.devices[0]
    assert (device.total_bytes, device.free_bytes, device.pci_address, device.compute_capability) == (None,) * 4
    assert device.memory_error is not None


def test_the_minimal_query_answers_where_the_full_one_fails() -> None:
    refused = run(FULL, 'Field "addressing_mode" is not a valid field to query.\n', 2)
    report = parse_smi([refused, run(MINIMAL, "0, NVIDIA A10, 00000000:1B:00.0, 23028, 22000, 535.1.2\n")])
    assert report.failure is None
    assert report.driver_version == "535.1.2"
    assert report.devices[0].total_bytes == 23028 * MIB


@pytest.mark.parametrize(
    ("banner", "cuda", "driver"),
    [
        ("| NVIDIA-SMI 580.126.09  Driver Version: 580.126.09  CUDA Version: 13.0 |", "13.0", "580.126.09"),
        ("| NVIDIA-SMI 610.43.02  KMD Version: 610.43.02  CUDA UMD Version: 13.3 |", "13.3", "610.43.02"),
        ("NVIDIA-SMI version  : 616.56\nKMD version : 616.56\n", None, None),
        ("| NVIDIA-SMI 540.4.0  Driver Version: 540.4.0  CUDA Version: N/A |", None, "540.4.0"),
        ("", None, None),
    ],
)
def test_both_spellings_of_the_banner(banner: str, cuda: str | None, driver: str | None) -> None:
    report = parse_smi([run(FULL, ROW.replace("580.126.09", "[N/A]")), run(("nvidia-smi",), banner)])
    assert (report.cuda_version, report.driver_version) == (cuda, driver)


def test_a_lost_device_is_kept_beside_the_others() -> None:
    text = ROW + "Unable to determine the device handle for GPU0000:06:00.0: Unknown Error\n"
    report = parse_smi([run(FULL, text, 15)])
    assert [(d.index, d.pci_address, d.failure is None) for d in report.devices] == [
        (0, "0000:1b:00.0", True),
        (1, "0000:06:00.0", False),
    ]


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (run(FULL, "Failed to initialize NVML: Driver/library version mismatch\n", 18), 18, "mismatch"),
        (run(FULL, "Failed to initialize NVML: Unknown Error\n", 255), 999, "Unknown Error"),
        (run(FULL, "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", 9), 9, "driver"),
        (run(FULL, "No devices were found\n", 6), 6, "No devices"),
        (run(FULL, "Unable to determine the device handle for GPU 0000:06:00.0: GPU is lost.\n", 15), 15, "lost"),
        (run(FULL, "", 4), 4, "status 4"),
        (run(FULL, "", 0), None, "printed nothing"),
        (run(FULL, "garbage, with, commas\n\x00\n", 0), None, "garbage"),
        (run(FULL, ROW[:30], 0), None, "0, NVIDIA"),
        (run(FULL, "", None, failure=Failure.TIMED_OUT), None, "gave no answer in time"),
        (run(FULL, "", None, failure=Failure.NO_PERMISSION), None, "no-permission"),
    ],
    ids=["mismatch", "unknown", "no-driver", "none", "lost", "code", "empty", "garbage", "cut", "timeout", "denied"],
)
def test_a_query_without_rows_says_why(answer: CommandRun, code: int | None, words: str) -> None:
    report = parse_smi([answer])
    assert report.devices == ()
    assert report.failure is not None
    assert report.failure.code == code
    assert words in report.failure.message


@given(st.text(alphabet="0123456789,.[]/ NA\nGPUx", max_size=200))
def test_no_output_makes_the_parser_raise(text: str) -> None:
    parse_smi([run(FULL, text), run(("nvidia-smi",), text)])


@pytest.mark.parametrize(
    "answer",
    [
        None,
        LibraryAnswer(library="nvml", data=None, error="gave no answer in 10 s"),
        LibraryAnswer(library="nvml", data={"init": {"error": "Driver Not Loaded", "code": 9}}),
        nvml(device_count={"error": "Unknown Error", "code": 999}),
    ],
    ids=["not-asked", "timed-out", "not-loaded", "no-count"],
)
def test_nvml_without_devices_says_why(answer: LibraryAnswer | None) -> None:
    report = parse_nvml(answer)
    assert report.failure is not None
    assert report.devices == ()


def test_one_failing_field_hides_no_other() -> None:
    device = {
        "index": 0,
        "handle": {"value": True},
        "name": {"value": "NVIDIA H100 80GB HBM3"},
        "memory": {"error": "Unknown Error", "code": 999},
        "compute_capability": {"value": [9, 0]},
        "pci": {"error": "GPU is lost", "code": 15},
    }
    found = parse_nvml(nvml(devices=[device])).devices[0]
    assert (found.name, found.arch, found.total_bytes, found.pci_address) == (
        "NVIDIA H100 80GB HBM3",
        "sm_90",
        None,
        None,
    )
    assert found.memory_error == "NVML: Unknown Error"


@pytest.mark.parametrize(
    "devices",
    [
        None,
        "x",
        [None, 1, "x"],
        [{}],
        [{"index": "0", "memory": {"value": {"total": "80 GB"}}, "compute_capability": {"value": [9]}}],
        [{"index": 0, "pci": {"value": {"address": "?", "device_id": None}}, "mig_mode": {"value": []}}],
        [{"index": 0, "slices": [None, {"index": 0}]}],
    ],
)
def test_data_of_another_shape_is_unknown_and_no_crash(devices: Any) -> None:
    for device in parse_nvml(nvml(devices=devices, driver_version={"value": 5}, cuda_driver_version=7)).devices:
        assert device.total_bytes is None
        assert device.arch is None


@pytest.mark.parametrize(("number", "version"), [(13030, "13.3"), (12080, "12.8"), (13000, "13.0")])
def test_cuda_versions(number: int, version: str) -> None:
    assert parse_nvml(nvml(cuda_driver_version={"value": number})).cuda_version == version


@pytest.mark.parametrize(
    ("device", "host_bytes", "kind"),
    [
        (NvidiaDevice(index=0, name="NVIDIA H200", total_bytes=140 * GIB), 128 * GIB, PoolKind.DEDICATED),
        (NvidiaDevice(index=0, name="NVIDIA GeForce RTX 4090", total_bytes=24 * GIB), 24 * GIB, PoolKind.DEDICATED),
        (NvidiaDevice(index=0, name="NVIDIA GB10"), 122 * GIB, PoolKind.UNIFIED),
        (NvidiaDevice(index=0, name="NVIDIA GB10", total_bytes=121 * GIB), 122 * GIB, PoolKind.UNIFIED),
        (NvidiaDevice(index=0, name="NVIDIA RTX Spark N1X", total_bytes=8128 * MIB), 54 * GIB, PoolKind.UNIFIED),
        (
            NvidiaDevice(index=0, name="NVIDIA Thor", addressing_mode=AddressingMode.ATS),
            122 * GIB,
            PoolKind.UNIFIED,
        ),
        (
            NvidiaDevice(index=0, name="unheard of", total_bytes=120 * GIB, addressing_mode=AddressingMode.ATS),
            122 * GIB,
            PoolKind.UNIFIED,
        ),
        (
            NvidiaDevice(index=0, name="NVIDIA GB200", total_bytes=185 * GIB, addressing_mode=AddressingMode.ATS),
            480 * GIB,
            PoolKind.COHERENT,
        ),
        (
            NvidiaDevice(index=0, name="NVIDIA GB200", total_bytes=185 * GIB, addressing_mode=AddressingMode.ATS),
            None,
            PoolKind.COHERENT,
        ),
        (NvidiaDevice(index=0, name="NVIDIA H100 MIG", total_bytes=GIB, is_slice=True), GIB, PoolKind.SLICE),
        (NvidiaDevice(index=0), 122 * GIB, PoolKind.DEDICATED),
    ],
)
def test_whose_memory_it_is(device: NvidiaDevice, host_bytes: int | None, kind: PoolKind) -> None:
    assert pool_kind(device, host_bytes) is kind


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("00000000:63:00.0", "0000:63:00.0"),
        ("0000000F:01:00.0", "000f:01:00.0"),
        ("63:00.0", "0000:63:00.0"),
        ("0000:AF:1f.7", "0000:af:1f.7"),
        ("N/A", None),
        ("", None),
        (None, None),
    ],
)
def test_addresses_are_written_as_sysfs_does(text: str | None, address: str | None) -> None:
    assert normal_address(text) == address
