"""Findings that no recording shows: each machine here is the least one that has the fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from v4deploy.domain.hardware import Host
from v4deploy.probes import nvidia
from v4deploy.probes.base import Capture
from v4deploy.probes.survey import survey
from v4deploy.system.base import CommandRun, Failure, FileRead, LibraryAnswer
from v4deploy.system.recorded import RecordedSystem
from v4deploy.system.recorder import RecordingSystem
from v4deploy.system.yaml_files import write_yaml_file

RECORDINGS = Path(__file__).parents[1] / "recordings"
PCI = "/sys/bus/pci/devices/0000:01:00.0"
GPU_FILES = {f"{PCI}/vendor": "0x10de", f"{PCI}/device": "0x2330", f"{PCI}/class": "0x030200"}
LOADED = {"/proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue\n"}
MEMINFO = {"/proc/meminfo": "MemTotal: 1000000 kB\nMemAvailable: 900000 kB\nSwapTotal: 1 kB\n"}


def gpu(**fields: Any) -> dict[str, Any]:
    healthy = {
        "handle": {"value": True},
        "name": {"value": "NVIDIA H100 80GB HBM3"},
        "pci": {"value": {"address": "00000000:01:00.0", "device_id": 0x233010DE}},
        "memory": {"value": {"total": 8, "free": 8, "used": 0}},
    }
    return {"index": 0, **healthy, **fields}


def answers(*devices: dict[str, Any], **more: Any) -> dict[str, Any]:
    count = {"value": len(devices)}
    return {"init": {"value": True}, "device_count": count, "devices": list(devices), **more}


def machine(directory: Path, *, nvml: dict[str, Any] | None = None, weights_dir: str = "/w", **facts: Any) -> Host:
    files = {**MEMINFO, **facts.pop("files", {})}
    data = {"machine": {"system": "Linux", "machine": "x86_64"}, **facts, "files": files}
    write_yaml_file(directory / "facts.yaml", data)
    write_yaml_file(
        directory / "origin.yaml", {"kind": "hand-made", "source": "a test", "as_of": "2026-11-22", "claim": "x"}
    )
    if nvml is not None:
        write_yaml_file(directory / "libraries" / "nvml.yaml", {"data": nvml})
    return survey(RecordedSystem(directory), weights_dir=weights_dir, chips=(), probes=(nvidia,))


def ids(host: Host) -> set[str]:
    return {f"{finding.severity} {finding.id}" for finding in host.findings} - {"warn accelerator.none"}


@pytest.mark.parametrize(
    ("device", "finding", "usable"),
    [
        (gpu(recovery_action={"value": 2}), "fail gpu.nvidia.recovery-needed", False),
        (gpu(recovery_action={"value": 4}), "warn gpu.nvidia.recovery-needed", True),
        (gpu(mig_mode={"value": [1, 1]}), "fail gpu.nvidia.mig-without-slices", False),
        (gpu(memory={"error": "Unknown Error", "code": 999}), "warn gpu.nvidia.memory-unknown", True),
        (gpu(fabric={"value": {"state": 1, "status": 0}}), "fail gpu.nvidia.fabric-not-ready", False),
        (gpu(fabric={"value": {"state": 3, "status": 999}}), "fail gpu.nvidia.fabric-not-ready", False),
        (gpu(handle={"error": "Insufficient Permissions", "code": 4}), "fail gpu.nvidia.no-permission", False),
        (gpu(handle={"error": "Reset required", "code": 16}), "fail gpu.nvidia.driver-not-answering", False),
    ],
)
def test_a_device_with_a_fault(tmp_path: Path, device: dict[str, Any], finding: str, *, usable: bool) -> None:
    host = machine(tmp_path, nvml=answers(device))
    assert ids(host) == {finding}
    assert [one.usable for one in host.devices] == [usable]


def test_a_device_that_the_driver_leaves_out_is_named(tmp_path: Path) -> None:
    information = {"/proc/driver/nvidia/gpus/0000:02:00.0/information": "Model: \t NVIDIA H100\n"}
    host = machine(tmp_path, nvml=answers(gpu()), files={**LOADED, **information})
    assert ids(host) == {"fail gpu.nvidia.device-missing"}


def test_a_device_that_a_virtual_machine_holds_is_named(tmp_path: Path) -> None:
    other = {path.replace("01:00", "02:00"): text for path, text in GPU_FILES.items()}
    held = {f"{PCI.replace('01:00', '02:00')}/uevent": "DRIVER=vfio-pci\nPCI_ID=10DE:2330\n"}
    host = machine(tmp_path, nvml=answers(gpu()), files={**LOADED, **GPU_FILES, **other, **held})
    assert ids(host) == {"info gpu.nvidia.held-by-other-driver"}


@pytest.mark.parametrize(
    ("init", "finding"),
    [
        ({"error": "Unknown Error", "code": 999}, "fail gpu.nvidia.container-lost-device"),
        ({"error": "Driver Not Loaded", "code": 9}, "fail gpu.nvidia.driver-not-loaded"),
        ({"error": "Timeout", "code": 10}, "fail gpu.nvidia.driver-not-answering"),
    ],
)
def test_a_driver_that_refuses(tmp_path: Path, init: dict[str, Any], finding: str) -> None:
    host = machine(
        tmp_path, nvml={"init": init}, files={**LOADED, **GPU_FILES}, present=["/dev/nvidiactl", "/dev/nvidia0"]
    )
    assert ids(host) == {finding}
    assert [device.usable for device in host.devices] == [False]


def test_a_driver_that_lists_nothing_although_there_is_a_device(tmp_path: Path) -> None:
    host = machine(tmp_path, nvml=answers(), files={**LOADED, **GPU_FILES}, present=["/dev/nvidiactl"])
    assert ids(host) == {"fail gpu.nvidia.none-listed"}


def test_a_display_device_of_another_class_is_none(tmp_path: Path) -> None:
    audio = {**GPU_FILES, f"{PCI}/class": "0x040300"}
    host = machine(tmp_path, files=audio, nvml={"init": {"error": "NVML Shared Library Not Found", "code": 12}})
    assert ids(host) == set()
    assert host.devices == ()


def test_what_hides_devices_or_fields_is_said(tmp_path: Path) -> None:
    host = machine(tmp_path, nvml=answers(gpu(), module_is_old=True), environ={"CUDA_VISIBLE_DEVICES": "0"})
    assert ids(host) == {"info gpu.nvidia.old-python-module", "warn config.cuda-visible-devices"}


def test_a_host_of_which_nothing_can_be_read(tmp_path: Path) -> None:
    host = machine(tmp_path, files={"/proc/meminfo": ""})
    assert ids(host) == {"warn host.memory-unknown"}
    assert host.memory.total.size_bytes is None
    assert host.cpu.usable_cores is None
    assert host.disks[0].free_bytes is None


def test_a_forbidden_meminfo_is_no_memory_of_zero(tmp_path: Path) -> None:
    host = machine(tmp_path, files={"/proc/other": ""}, file_failures={"/proc/meminfo": "no-permission"})
    assert host.memory.total.size_bytes is None


@pytest.mark.parametrize(
    ("filesystem", "finding"),
    [
        ("tmpfs", {"warn storage.weights-on-tmpfs"}),
        ("fuse.sshfs", {"warn storage.weights-on-network"}),
        ("lustre", {"warn storage.weights-on-network"}),
        ("overlay", {"warn storage.weights-on-overlay"}),
        ("btrfs", set()),
    ],
)
def test_the_file_system_of_the_weights(tmp_path: Path, filesystem: str, finding: set[str]) -> None:
    mounts = {"/proc/self/mountinfo": f"1 0 8:1 / / rw - ext4 /dev/sda rw\n2 1 0:9 / /w rw - {filesystem} x rw\n"}
    host = machine(tmp_path, files=mounts, weights_dir="/w/v4")
    assert ids(host) == finding
    assert (host.disks[0].mount_point, host.disks[0].filesystem) == ("/w", filesystem)


def test_a_link_is_followed_to_the_disk_that_holds_the_weights(tmp_path: Path) -> None:
    mounts = {"/proc/self/mountinfo": "1 0 8:1 / / rw - ext4 /dev/sda rw\n2 1 0:9 / /data rw - xfs x rw\n"}
    disks = {"/home/user/w": {"total_bytes": 9, "free_bytes": 5, "resolved_path": "/data/w"}}
    host = machine(tmp_path, files=mounts, disks=disks, weights_dir="/home/user/w")
    assert (host.disks[0].mount_point, host.disks[0].free_bytes) == ("/data", 5)


def test_an_old_processor(tmp_path: Path) -> None:
    host = machine(tmp_path, files={"/proc/cpuinfo": "processor : 0\nflags : fpu sse4_2 avx\n"})
    assert ids(host) == {"warn host.cpu.no-avx2"}


@pytest.mark.parametrize(("quota", "cores"), [("50000 100000", 1), ("250000 100000", 2), ("max 100000", 4)])
def test_a_cpu_quota_lowers_the_usable_cores(tmp_path: Path, quota: str, cores: int) -> None:
    files = {"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": quota}
    host = machine(tmp_path, files=files, machine={"system": "Linux", "machine": "x86_64", "usable_cpus": 4})
    assert host.cpu.usable_cores == cores


def test_a_driver_that_hangs_is_asked_once() -> None:
    wedged = RecordingSystem(RecordedSystem(RECORDINGS / "wedged-driver-gives-no-answer"))
    assert len(nvidia.collect(wedged).commands) == 1


@pytest.mark.parametrize(
    ("facts", "container"),
    [
        ({"present": ["/run/.containerenv"]}, "podman"),
        ({"files": {"/proc/1/environ": "PATH=/bin\0container=lxc\0"}}, "lxc"),
        ({"environ": {"container": "systemd-nspawn"}}, "systemd-nspawn"),
        ({"files": {"/proc/self/cgroup": "0::/system.slice/docker-abc.scope\n"}}, "docker"),
        ({"files": {"/proc/self/cgroup": "0::/user.slice/user-1000.slice\n"}}, None),
    ],
)
def test_containers(tmp_path: Path, facts: dict[str, Any], container: str | None) -> None:
    assert machine(tmp_path, **facts).container == container


@pytest.mark.parametrize("failure", [None, *Failure])
@pytest.mark.parametrize("text", [None, "", "garbage", '{"init', "\0\0"])
def test_no_answer_makes_the_nvidia_probe_raise(text: str | None, failure: Failure | None) -> None:
    paths = ["/proc/driver/nvidia/version", "/sys/devices/soc0/family", f"{PCI}/vendor", f"{PCI}/class"]
    runs = [("nvidia-smi",), ("nvidia-smi", "--query-gpu=index,name", "x"), ("nvidia-smi", "other")]
    capture = Capture(
        files={path: FileRead(path=path, text=text, failure=failure) for path in paths},
        commands={
            " ".join(argv): CommandRun(argv=argv, exit_status=0, stdout=text or "", failure=failure) for argv in runs
        },
        libraries={"nvml": LibraryAnswer(library="nvml", data=None, error=text)},
    )
    assert nvidia.parse(capture).devices == ()
    assert nvidia.parse(Capture()).findings == ()
