"""Devices against engines, drivers and memory: each check fires on the fault and is silent without it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support_checks import ascend, cuda, disk, machine, rocm, run, subject
from tests.support_plans import devices
from v4deploy.domain.engine import EngineId
from v4deploy.domain.finding import Finding, Severity
from v4deploy.domain.hardware import Amount, ComputeApi, Device, Host, OperatingSystem, Vendor
from v4deploy.domain.units import GIB

LOST = Finding(id="gpu.nvidia.driver-mismatch", severity=Severity.FAIL, summary="module and library differ")


def with_free(found: Host, pool_id: str, free_bytes: int | None) -> Host:
    pools = tuple(
        replace(pool, free=Amount(size_bytes=free_bytes, source="test")) if pool.id == pool_id else pool
        for pool in found.pools
    )
    return replace(found, pools=pools)


def mac(memory_bytes: int, ceiling_bytes: int | None) -> Host:
    gpu = devices(
        1, vendor=Vendor.APPLE, compute_api=ComputeApi.METAL, name="Apple M3 Max", arch="apple-m3", pool_id="host"
    )
    found = machine(*gpu, memory_bytes=memory_bytes, system=OperatingSystem.MACOS)
    pool = replace(found.pools[0], ceiling=Amount(size_bytes=ceiling_bytes, source="Metal"))
    return replace(found, pools=(pool, *found.pools[1:]))


@pytest.mark.parametrize(
    ("some", "severity", "runs", "not_on"),
    [
        (cuda(8, "sm_90"), Severity.OK, "vLLM (verified from 0.25.0 on)", None),
        (cuda(2, "sm_80"), Severity.INFO, "llama.cpp (expected", "not on vLLM"),
        (cuda(1, "sm_89"), Severity.INFO, "llama.cpp (verified", "not on vLLM"),
        (rocm(8, "gfx950"), Severity.OK, "vLLM (verified from 0.26.0 on)", None),
        (ascend(8, "ascend-a2"), Severity.OK, "MindIE Motor / vLLM-Ascend (verified from 0.25.0 on)", None),
    ],
)
def test_each_kind_of_device_is_told_its_engines(
    some: tuple[Device, ...], severity: Severity, runs: str, not_on: str | None
) -> None:
    (found,) = run("accelerator.v4-support", subject(machine(*some)))
    assert found.severity is severity
    assert f"{len(some)} x card of" in found.summary
    assert runs in found.summary
    assert (not_on in found.summary) if not_on else ("not on" not in found.summary)


def test_a_device_that_no_engine_knows_is_a_warning_with_the_reasons() -> None:
    (found,) = run("accelerator.v4-support", subject(machine(*ascend(8, "ascend-310p"))))
    assert found.severity is Severity.WARN
    assert "310P has no BF16" in (found.why or "")


def test_a_device_of_unknown_architecture_is_not_guessed() -> None:
    unknown = replace(cuda(1, "sm_90")[0], arch=None)
    (found,) = run("accelerator.v4-support", subject(machine(unknown)))
    assert found.severity is Severity.WARN
    assert "not known" in found.summary


def test_two_kinds_of_device_are_two_findings() -> None:
    mixed = (*cuda(2, "sm_90"), replace(cuda(3, "sm_86")[2], index=2))
    assert len(run("accelerator.v4-support", subject(machine(*mixed)))) == 2


def test_where_no_device_works_support_is_skipped_and_the_cause_named() -> None:
    broken = replace(machine(replace(cuda(1, "sm_90")[0], usable=False)), findings=(LOST,))
    (found,) = run("accelerator.v4-support", subject(broken))
    assert (found.severity, found.id) == (Severity.SKIP, "accelerator.v4-support")
    assert "gpu.nvidia.driver-mismatch" in (found.why or "")


def test_a_broken_device_of_two_skips_nothing_and_is_not_counted() -> None:
    first, second = cuda(2, "sm_90")
    found = replace(machine(first, replace(second, usable=False)), findings=(LOST,))
    (entry,) = run("accelerator.v4-support", subject(found))
    assert entry.severity is Severity.OK
    assert entry.summary.startswith("1 x ")


def test_a_machine_without_devices_skips_nothing_and_says_nothing() -> None:
    assert run("accelerator.v4-support", subject()) == ()


@pytest.mark.parametrize(("arch", "fires"), [("sm_70", True), ("sm_75", False), ("sm_121", False)])
def test_volta_is_told_that_cuda_13_leaves_it_out(arch: str, fires: bool) -> None:  # noqa: FBT001
    assert bool(run("accelerator.dropped-by-cuda-13", subject(machine(*cuda(1, arch))))) is fires


def test_a_small_architecture_number_of_another_vendor_is_no_old_cuda_device() -> None:
    assert run("accelerator.dropped-by-cuda-13", subject(machine(*rocm(1, "gfx900")))) == ()


def test_memory_that_others_hold_is_told_device_by_device() -> None:
    found = with_free(machine(*cuda(2, "sm_90")), "nvidia-1", 50 * GIB)
    (finding,) = run("accelerator.memory-in-use", subject(found))
    assert "1 of 2 devices" in finding.summary
    assert [entry.value for entry in finding.evidence] == ["card of sm_90 (1): 30.0 GiB in use"]


def test_what_programs_hold_of_system_ram_is_not_shown_as_the_gpus_use() -> None:
    gb10 = devices(1, vendor=Vendor.NVIDIA, compute_api=ComputeApi.CUDA, name="GB10", arch="sm_121", pool_id="host")
    found = with_free(machine(*gb10, memory_bytes=121 * GIB), "host", 23 * GIB)
    assert run("accelerator.memory-in-use", subject(found)) == ()


@pytest.mark.parametrize("free_bytes", [79 * GIB, None])
def test_an_idle_share_and_an_unknown_one_are_no_use(free_bytes: int | None) -> None:
    found = with_free(machine(*cuda(1, "sm_90")), "nvidia-0", free_bytes)
    assert run("accelerator.memory-in-use", subject(found)) == ()


def test_what_an_npu_keeps_for_itself_is_no_use() -> None:
    found = with_free(machine(*ascend(1, "ascend-950")), "huawei-0", 75 * GIB)
    assert run("accelerator.memory-in-use", subject(found)) == ()


@pytest.mark.parametrize(("version", "fires"), [("6.4.1", True), ("7.0", False), (None, False), ("unknown", False)])
def test_rocm_before_7_is_told(version: str | None, fires: bool) -> None:  # noqa: FBT001
    assert bool(run("accelerator.rocm-too-old", subject(machine(*rocm(2, "gfx942", version=version))))) is fires


def test_the_wired_limit_comes_with_the_command_that_raises_it() -> None:
    (found,) = run("host.wired-limit", subject(mac(128 * GIB, 96 * GIB)))
    # The published raised limit of a 128 GiB Mac (antirez/ds4 PR 893).
    assert found.fix == "`sudo sysctl iogpu.wired_limit_mb=114688`"


@pytest.mark.parametrize("ceiling_bytes", [112 * GIB, None])
def test_a_raised_or_unknown_wired_limit_is_left_alone(ceiling_bytes: int | None) -> None:
    assert run("host.wired-limit", subject(mac(128 * GIB, ceiling_bytes))) == ()


@pytest.mark.parametrize(
    ("some", "total_bytes", "fires"),
    [
        (cuda(2, "sm_90"), GIB, True),
        (cuda(2, "sm_90"), 2 * GIB, False),
        (cuda(1, "sm_90"), GIB, False),
        (ascend(8, "ascend-a2"), 2 * GIB, True),
        (cuda(2, "sm_90"), 64 * 1024**2, False),  # the host's probe says so already
        (cuda(2, "sm_90"), None, False),
    ],
)
def test_shared_memory_is_held_against_published_launch_files(
    some: tuple[Device, ...],
    total_bytes: int | None,
    fires: bool,  # noqa: FBT001
) -> None:
    found = machine(*some, disks=(disk("/dev/shm", total_bytes=total_bytes),))
    assert bool(run("host.shm-below-recipes", subject(found))) is fires


@pytest.mark.parametrize(
    ("model", "some", "memory_gib", "fires"),
    [
        ("v4.1-flash", cuda(8, "sm_90"), 128, True),
        ("v4.1-flash", cuda(8, "sm_90"), 256, False),
        ("v4.1-flash", rocm(1, "gfx1100"), 64, False),  # no engine runs it there anyway
        ("v4-flash", cuda(8, "sm_90"), 128, False),
    ],
)
def test_engram_tables_need_host_memory(
    model: str,
    some: tuple[Device, ...],
    memory_gib: int,
    fires: bool,  # noqa: FBT001
) -> None:
    found = machine(*some, memory_bytes=memory_gib * GIB)
    findings = run("host.memory-for-engram", subject(found, model=model))
    assert bool(findings) is fires
    assert not fires or "188.8 GiB" in findings[0].summary


@pytest.mark.parametrize(
    ("engine", "version", "arch", "driver", "floor"),
    [
        (EngineId.VLLM, "0.33.0", "sm_90", "570.86", "580"),
        (EngineId.VLLM, "0.33.0", "sm_90", "580.65.06", None),
        (EngineId.VLLM, "0.33.0+cu129", "sm_90", "570.86", None),
        (EngineId.VLLM, "0.33.0+cu129", "sm_90", "520.61", "525"),
        (EngineId.OLLAMA, "0.33.0", "sm_90", "545.29", "550"),
        (EngineId.OLLAMA, "0.33.0", "sm_90", "550.54", None),
        (EngineId.OLLAMA, "0.33.0", "sm_61", "550.54", "570"),
        (EngineId.LLAMA_CPP, "11434", "sm_90", "470.1", None),
        (EngineId.VLLM, "0.33.0", "sm_90", None, None),
        (EngineId.VLLM, "0.33.0", "sm_90", "open-kernel", None),
    ],
)
def test_installed_engines_are_held_against_the_driver(
    engine: EngineId, version: str, arch: str, driver: str | None, floor: str | None
) -> None:
    found = run("engine.driver-floor", subject(machine(*cuda(2, arch, driver=driver), engines={engine: version})))
    assert [f"driver {floor} or newer" in (finding.fix or "") for finding in found] == ([True] if floor else [])
