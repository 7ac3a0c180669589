"""Rungs of the NVIDIA ladder and states of devices that no recording shows: each machine here is the least one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from v4deploy.domain.hardware import HOST_POOL_ID, AddressingMode, Host, LinkKind, PoolKind, ProbeOutcome, Vendor
from v4deploy.domain.units import GIB, MIB
from v4deploy.probes import nvidia
from v4deploy.probes.base import Capture
from v4deploy.probes.survey import survey
from v4deploy.system.base import LibraryAnswer, System
from v4deploy.system.recorded import RecordedSystem
from v4deploy.system.recorder import RecordingSystem
from v4deploy.system.yaml_files import write_yaml_file

PCI = "/sys/bus/pci/devices/0000:01:00.0"
CARD = {f"{PCI}/vendor": "0x10de", f"{PCI}/device": "0x2330", f"{PCI}/class": "0x030200"}
LOADED = {"/proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue\n"}
NODES = ("/dev/nvidiactl", "/dev/nvidia0")
NO = {"error": "Not Supported", "code": 3}
NO_NVML = {"init": {"error": "NVML Shared Library Not Found", "code": 12}}


class Asked(RecordingSystem):
    """A recorded machine that keeps in mind which libraries were asked."""

    def __init__(self, inner: System) -> None:
        super().__init__(inner)
        self.libraries: list[str] = []

    def library(self, library: str, *, timeout_seconds: float) -> LibraryAnswer:
        self.libraries.append(library)
        return super().library(library, timeout_seconds=timeout_seconds)


def gpu(index: int = 0, **fields: Any) -> dict[str, Any]:
    healthy = {
        "handle": {"value": True},
        "name": {"value": "NVIDIA H100 80GB HBM3"},
        "pci": {"value": {"address": f"00000000:0{index + 1}:00.0", "device_id": 0x233010DE}},
        "memory": {"value": {"total": 80 * GIB, "free": 79 * GIB, "used": GIB}},
    }
    return {"index": index, **healthy, **fields}


def nvml(*devices: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"init": {"value": True}, "device_count": {"value": len(devices)}, "devices": list(devices), **more}


def cuda(*devices: dict[str, Any]) -> dict[str, Any]:
    return {"init": {"value": True}, "device_count": {"value": len(devices)}, "devices": list(devices)}


def on_cuda(name: str, total_bytes: int, address: str = "0000:01:00.0", integrated: int = 0) -> dict[str, Any]:
    return {
        "index": 0,
        "handle": {"value": True},
        "name": {"value": name},
        "memory": {"value": {"total": total_bytes}},
        "compute_capability": {"value": [12, 1]},
        "integrated": {"value": integrated},
        "pci": {"value": {"address": address}},
    }


def recorded(directory: Path, libraries: dict[str, Any], **facts: Any) -> RecordedSystem:
    memory = {"/proc/meminfo": f"MemTotal: {64 * MIB} kB\nMemAvailable: {60 * MIB} kB\nSwapTotal: 1 kB\n"}
    data = {"machine": {"system": "Linux", "machine": "x86_64"}, **facts, "files": {**memory, **facts.get("files", {})}}
    write_yaml_file(directory / "facts.yaml", data)
    origin = {"kind": "hand-made", "source": "a test", "as_of": "2026-11-22", "claim": "x"}
    write_yaml_file(directory / "origin.yaml", origin)
    for name, answer in libraries.items():
        write_yaml_file(directory / "libraries" / f"{name}.yaml", {"data": answer})
    return RecordedSystem(directory)


def machine(directory: Path, libraries: dict[str, Any], **facts: Any) -> Host:
    return survey(recorded(directory, libraries, **facts), weights_dir="/w", chips=(), probes=(nvidia,))


def ids(host: Host) -> set[str]:
    return {f"{f.severity} {f.id}" for f in host.findings if f.id.startswith("gpu.")}


@pytest.mark.parametrize(
    ("libraries", "facts", "asked"),
    [
        ({"nvml": nvml(gpu())}, {}, False),
        ({"nvml": NO_NVML}, {}, False),
        ({"nvml": NO_NVML}, {"files": CARD}, True),
        ({"nvml": NO_NVML}, {"present": ["/dev/dxg"]}, True),
        ({"nvml": NO_NVML}, {"files": {"/sys/devices/soc0/family": "Tegra"}}, True),
        ({"nvml": nvml(gpu(memory=NO))}, {}, True),
        ({"nvml": nvml(gpu(mig_mode={"value": [1, 1]}))}, {}, True),
        ({"nvml": nvml(gpu(compute_capability={"value": [12, 1]}))}, {}, True),
        ({"nvml": nvml(gpu(handle={"error": "GPU is lost", "code": 15}))}, {}, False),
        ({"nvml": {"init": {"error": "Driver/library version mismatch", "code": 18}}}, {"files": CARD}, False),
        ({"nvml": {"init": {"error": "Driver Not Loaded", "code": 9}}}, {"files": CARD}, False),
    ],
    ids=[
        "complete",
        "no-sign",
        "card-on-the-bus",
        "wsl",
        "tegra",
        "memory-unknown",
        "mig-without-slices",
        "system-on-chip",
        "lost",
        "mismatch",
        "not-loaded",
    ],
)
def test_libcuda_is_asked_only_where_it_can_fill_a_gap(
    tmp_path: Path, libraries: dict[str, Any], facts: dict[str, Any], *, asked: bool
) -> None:
    system = Asked(recorded(tmp_path, libraries, **facts))
    nvidia.collect(system)
    assert ("cuda" in system.libraries) == asked


def test_a_driver_that_hangs_is_not_asked_through_libcuda_too(tmp_path: Path) -> None:
    inner = recorded(tmp_path, {}, files={**CARD, **LOADED})
    write_yaml_file(tmp_path / "libraries" / "nvml.yaml", {"data": None, "error": "gave no answer in 10 s"})
    system = Asked(RecordedSystem(tmp_path))
    assert inner.is_live is False
    nvidia.collect(system)
    assert system.libraries == ["nvml"]


def test_cuda_fills_only_what_nvml_left_open(tmp_path: Path) -> None:
    answers = cuda(on_cuda("x", 70 * GIB), on_cuda("y", 71 * GIB, "0000:02:00.0"))
    host = machine(tmp_path, {"nvml": nvml(gpu(0), gpu(1, memory=NO)), "cuda": answers})
    totals = [(host.pool(d.pool_id).total.size_bytes, host.pool(d.pool_id).total.source) for d in host.devices]
    assert totals == [(80 * GIB, "NVML memory total"), (71 * GIB, "libcuda memory total")]
    assert [d.name for d in host.devices] == ["NVIDIA H100 80GB HBM3"] * 2
    assert ids(host) == set()


def test_a_container_that_was_given_one_slice_gets_the_slice(tmp_path: Path) -> None:
    parent = gpu(memory={"error": "Insufficient Permissions", "code": 4}, mig_mode={"value": [1, 1]})
    answers = cuda(on_cuda("NVIDIA H100 NVL MIG 1g.12gb", 11 * GIB))
    host = machine(tmp_path, {"nvml": nvml(parent), "cuda": answers})
    (device,) = host.devices
    assert (device.name, device.usable) == ("NVIDIA H100 NVL MIG 1g.12gb", True)
    pool = host.pool(device.pool_id)
    assert (pool.kind, pool.total.size_bytes, pool.free.size_bytes) == (PoolKind.SLICE, 11 * GIB, None)
    assert ids(host) == set()


def test_two_slices_of_one_device_do_not_get_each_others_size(tmp_path: Path) -> None:
    slices = [
        {"index": n, "handle": {"value": True}, "name": {"value": f"NVIDIA H100 MIG {n}g.10gb"}, "memory": NO}
        for n in (1, 2)
    ]
    answers = cuda(on_cuda("NVIDIA H100 MIG 2g.10gb", 20 * GIB))
    host = machine(tmp_path, {"nvml": nvml(gpu(slices=slices)), "cuda": answers})
    assert [host.pool(d.pool_id).total.size_bytes for d in host.devices] == [None, 20 * GIB]


@pytest.mark.parametrize(
    ("limit_bytes", "ceiling_bytes"),
    [("max", 62 * GIB), (str(16 * GIB), 16 * GIB)],
    ids=["cuda-is-lower", "container-is-lower"],
)
def test_an_integrated_gpu_takes_the_lower_of_cudas_total_and_the_containers_limit(
    tmp_path: Path, limit_bytes: str, ceiling_bytes: int
) -> None:
    files = {"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/memory.max": limit_bytes}
    answers = cuda(on_cuda("NVIDIA GB10", 62 * GIB, integrated=1))
    host = machine(
        tmp_path, {"nvml": nvml(gpu(name={"value": "NVIDIA GB10"}, memory=NO)), "cuda": answers}, files=files
    )
    assert (host.memory.kind, host.memory.ceiling.size_bytes) == (PoolKind.UNIFIED, ceiling_bytes)
    assert host.devices[0].pool_id == HOST_POOL_ID


def test_a_new_integrated_part_is_known_by_cuda_whatever_its_name(tmp_path: Path) -> None:
    soc = gpu(
        name={"value": "NVIDIA unheard of"},
        compute_capability={"value": [12, 1]},
        memory={"value": {"total": 8 * GIB, "free": 7 * GIB, "used": GIB}},
    )
    answers = cuda(on_cuda("NVIDIA unheard of", 45 * GIB, integrated=1))
    host = machine(tmp_path, {"nvml": nvml(soc), "cuda": answers})
    assert host.devices[0].pool_id == HOST_POOL_ID
    assert host.memory.ceiling.size_bytes == 45 * GIB


def test_an_old_jetson_keeps_its_boards_name_and_gets_its_architecture_from_cuda(tmp_path: Path) -> None:
    files = {"/sys/devices/soc0/family": "Tegra", "/proc/device-tree/model": "Jetson AGX Xavier\0"}
    host = machine(tmp_path, {"nvml": NO_NVML, "cuda": cuda(on_cuda("Xavier", 31 * GIB, integrated=1))}, files=files)
    (device,) = host.devices
    assert (device.name, device.arch, device.pool_id, device.usable) == ("Jetson AGX Xavier", "sm_121", "host", True)
    assert ids(host) == {"info gpu.nvidia.unified-memory"}


@pytest.mark.parametrize(
    ("code", "finding"),
    [
        (802, "fail gpu.nvidia.cuda-not-ready"),
        (803, "fail gpu.nvidia.driver-mismatch"),
        (804, "fail gpu.nvidia.cuda-compat-refused"),
        (100, "fail gpu.nvidia.cuda-refuses"),
    ],
)
def test_a_refusal_of_cuda_takes_the_devices_out_of_use(tmp_path: Path, code: int, finding: str) -> None:
    answers = {"init": {"error": "CUDA_ERROR", "code": code}}
    facts = {"files": {**CARD, **LOADED}, "present": list(NODES)}
    host = machine(tmp_path / "kernel", {"nvml": NO_NVML, "cuda": answers}, **facts)
    assert ids(host) == {finding, "warn gpu.nvidia.library-missing"}
    assert [device.usable for device in host.devices] == [False]
    host = machine(tmp_path / "nvml", {"nvml": nvml(gpu(memory=NO)), "cuda": answers})
    assert ids(host) == {finding, "warn gpu.nvidia.memory-unknown"}
    assert [device.usable for device in host.devices] == [False]


def test_error_802_of_an_unfinished_fabric_is_told_once(tmp_path: Path) -> None:
    device = gpu(memory=NO, fabric={"value": {"state": 2, "status": 0}})
    host = machine(tmp_path, {"nvml": nvml(device), "cuda": {"init": {"error": "CUDA_ERROR", "code": 802}}})
    assert ids(host) == {"fail gpu.nvidia.fabric-not-ready", "warn gpu.nvidia.memory-unknown"}


@pytest.mark.parametrize("answer", [{}, {"init": {"error": "cannot be loaded", "code": None}}, {"devices": "x"}])
def test_libcuda_that_is_not_there_changes_nothing(tmp_path: Path, answer: dict[str, Any]) -> None:
    host = machine(tmp_path, {"nvml": nvml(gpu(memory=NO)), "cuda": answer})
    assert ids(host) == {"warn gpu.nvidia.memory-unknown"}
    assert host.devices[0].usable


@pytest.mark.parametrize(
    ("fields", "finding", "usable"),
    [
        ({"remapped_rows": {"value": [0, 1, 1, 0]}}, "warn gpu.nvidia.repair-pending", True),
        ({"remapped_rows": {"value": [0, 1, 0, 1]}}, "fail gpu.nvidia.memory-unrepairable", True),
        ({"retired_pages_pending": {"value": 1}}, "warn gpu.nvidia.repair-pending", True),
        ({"repair_pending": {"value": [0, 1]}}, "warn gpu.nvidia.repair-pending", True),
        ({"unrepairable_memory": {"value": 1}}, "fail gpu.nvidia.memory-unrepairable", True),
        ({"ecc_mode": {"value": [1, 0]}}, "info gpu.nvidia.ecc-change-pending", True),
        ({"virtualization_mode": {"value": 2}}, "info gpu.nvidia.virtual", True),
        ({"virtualization_mode": {"value": 3}}, "fail gpu.nvidia.serves-virtual-machines", False),
        (
            {"fabric": {"value": {"state": 3, "status": 0, "health_summary": 2}}},
            "warn gpu.nvidia.fabric-unhealthy",
            True,
        ),
    ],
)
def test_a_state_of_a_device(tmp_path: Path, fields: dict[str, Any], finding: str, *, usable: bool) -> None:
    host = machine(tmp_path, {"nvml": nvml(gpu(**fields))})
    assert ids(host) == {finding}
    assert [device.usable for device in host.devices] == [usable]


@pytest.mark.parametrize(
    "fields",
    [
        {"remapped_rows": {"value": [5, 5, 0, 0]}, "ecc_mode": {"value": [1, 1]}},
        {"remapped_rows": {"value": [1]}, "repair_pending": {"value": []}, "ecc_mode": {"value": [1]}},
        {"virtualization_mode": {"value": 1}},
        {"virtualization_mode": {"value": 77}},
        {"retired_pages_pending": {"value": "1"}, "unrepairable_memory": {"value": True}},
        {"fabric": {"value": {"state": 3, "status": 0, "health_summary": 1}}},
    ],
)
def test_a_state_that_is_fine_or_unreadable_is_no_finding(tmp_path: Path, fields: dict[str, Any]) -> None:
    host = machine(tmp_path, {"nvml": nvml(gpu(**fields))})
    assert ids(host) == set()
    assert [(device.usable, device.virtual) for device in host.devices] == [(True, False)]


@pytest.mark.parametrize(
    ("state", "ready", "waits"),
    [
        ({"feature": 1}, 0, True),
        ({"feature": 0, "multi_gpu_mode": 1}, 0, True),
        ({"feature": 1}, 1, False),
        ({"feature": 0, "multi_gpu_mode": 0}, 0, False),
        ({"feature": 1}, None, False),
    ],
)
def test_the_ready_state_counts_only_with_confidential_computing_on(
    tmp_path: Path, state: dict[str, int], ready: int | None, *, waits: bool
) -> None:
    told = {"conf_compute": {"value": state}, "conf_compute_ready": NO if ready is None else {"value": ready}}
    host = machine(tmp_path, {"nvml": nvml(gpu(), **told)})
    assert ids(host) == ({"fail gpu.nvidia.confidential-not-ready"} if waits else set())
    assert host.devices[0].usable is not waits


@pytest.mark.parametrize(
    ("products", "unlicensed"),
    [
        ([{"licensed": False}, {"licensed": True}], False),
        ([{"licensed": False}, {"licensed": False}], True),
        ([], False),
        ([None], False),
    ],
)
def test_one_licence_is_enough_and_no_answer_is_no_accusation(
    tmp_path: Path, products: list[Any], *, unlicensed: bool
) -> None:
    host = machine(tmp_path, {"nvml": nvml(gpu(virtualization_mode={"value": 2}, licences={"value": products}))})
    assert ("warn gpu.nvidia.vgpu-unlicensed" in ids(host)) == unlicensed
    assert host.pool(host.devices[0].pool_id).kind is PoolKind.SLICE


def pair(first: int, second: int, peers: int) -> dict[str, Any]:
    answers = {"p2p_read": {"value": peers}, "p2p_write": {"value": peers}, "common_ancestor": {"value": 30}}
    return {"first": first, "second": second, **answers}


def test_links_follow_their_devices_to_dense_indexes(tmp_path: Path) -> None:
    taken = gpu(0)
    answers = nvml(taken, gpu(1), gpu(2), pairs=[pair(0, 1, 0), pair(0, 2, 0), pair(1, 2, 2)])

    class Earlier:
        """A vendor that claims the first device's address and has two devices."""

        VENDOR = Vendor.AMD

        def collect(self, system: System) -> Capture:
            return nvidia.collect(system)

        def parse(self, capture: Capture) -> ProbeOutcome:
            outcome = nvidia.parse(capture)
            return ProbeOutcome(devices=outcome.devices[:1], pools=outcome.pools)

    host = survey(recorded(tmp_path, {"nvml": answers}), weights_dir="/w", chips=(), probes=(Earlier(), nvidia))
    assert [device.pci_address for device in host.devices] == ["0000:01:00.0", "0000:02:00.0", "0000:03:00.0"]
    assert [(link.first_index, link.second_index, link.kind, link.peer_access) for link in host.links] == [
        (1, 2, LinkKind.HOST_BRIDGE, False)
    ]


def test_missing_peer_access_is_told_once_for_usable_devices(tmp_path: Path) -> None:
    pairs = [pair(0, 1, 2), pair(0, 2, 2), pair(1, 2, 0)]
    healthy = [gpu(n) for n in range(3)]
    host = machine(tmp_path / "all", {"nvml": nvml(*healthy, pairs=pairs)})
    (finding,) = (finding for finding in host.findings if finding.id == "gpu.nvidia.no-peer-access")
    assert finding.summary.startswith("2 of 3 pairs")
    assert any("GNS" in (evidence.value or "") for evidence in finding.evidence)
    broken = gpu(0, recovery_action={"value": 2})
    host = machine(tmp_path / "one", {"nvml": nvml(broken, *healthy[1:], pairs=pairs)})
    assert "info gpu.nvidia.no-peer-access" not in ids(host)


def test_the_drivers_numa_node_and_addressing_mode_are_kept(tmp_path: Path) -> None:
    device = gpu(memory_affinity={"value": [1]}, addressing_mode={"value": 1})
    on_bus = {**CARD, f"{PCI}/numa_node": "0"}
    host = machine(tmp_path / "one", {"nvml": nvml(device)}, files=on_bus)
    assert (host.devices[0].numa_node, host.devices[0].addressing_mode) == (1, AddressingMode.HMM)
    host = machine(tmp_path / "several", {"nvml": nvml(gpu(memory_affinity={"value": [0, 1]}))}, files=on_bus)
    assert (host.devices[0].numa_node, host.devices[0].addressing_mode) == (0, None)
