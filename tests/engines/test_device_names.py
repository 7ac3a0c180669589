"""How launch files name the plan's devices: by number, and beside MIG slices by UUID."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support_golden import shipped_profile
from tests.support_plans import FLASH_8X_H200, FLASH_CPU, WEIGHTS_DIR, devices, host
from v4deploy.domain.engine import EngineId, LaunchOptions
from v4deploy.domain.finding import Severity
from v4deploy.domain.hardware import ComputeApi, Host, PoolKind, Vendor
from v4deploy.domain.plan import Layout, Plan
from v4deploy.domain.units import GIB
from v4deploy.engines import llama_cpp, vllm
from v4deploy.engines.common import device_names, visible_devices_env

OPTIONS = LaunchOptions(weights_dir=WEIGHTS_DIR)
UUIDS = ("MIG-1111", "MIG-2222", "GPU-3333")


def sliced(uuids: tuple[str | None, ...] = UUIDS, *, virtual: bool = False) -> Host:
    """Slices of one device and a whole one beside them; `virtual`: so many vGPUs."""
    some = devices(len(uuids), vendor=Vendor.NVIDIA, compute_api=ComputeApi.CUDA, name="NVIDIA H100", arch="sm_90")
    named = tuple(replace(device, uuid=uuid, virtual=virtual) for device, uuid in zip(some, uuids, strict=True))
    return host(named, device_bytes=40 * GIB, pool_kind=PoolKind.SLICE)


def on(plan: Plan, found: Host, *indices: int) -> Plan:
    layout = Layout(device_indices=indices)
    return replace(plan, host=found, chosen=replace(plan.chosen, compute_api=ComputeApi.CUDA, layout=layout), pools=())


def test_a_slice_is_named_by_its_uuid_and_so_is_what_stands_beside_it() -> None:
    assert dict(visible_devices_env(on(FLASH_CPU, sliced(), 1)))["CUDA_VISIBLE_DEVICES"] == "MIG-2222"
    assert dict(visible_devices_env(on(FLASH_CPU, sliced(), 2)))["CUDA_VISIBLE_DEVICES"] == "GPU-3333"


def test_the_only_slice_needs_no_name() -> None:
    assert visible_devices_env(on(FLASH_CPU, sliced(("MIG-1111",)), 0)) == ()


def test_virtual_gpus_have_numbers() -> None:
    assert device_names(on(FLASH_CPU, sliced((None, None), virtual=True), 1)) == ("1",)


def test_a_slice_without_a_known_uuid_is_refused_rather_than_mistaken() -> None:
    plan = on(FLASH_CPU, sliced((None, None, None)), 1)
    findings = llama_cpp.check(plan, OPTIONS, shipped_profile(EngineId.LLAMA_CPP), "script")
    assert "config.slice-without-uuid" in [finding.id for finding in findings if finding.severity is Severity.FAIL]
    assert visible_devices_env(plan) == ()


@pytest.mark.parametrize(("target", "refused"), [("script", True), ("compose", False)])
def test_vllm_gets_a_slice_from_its_container_only(target: str, *, refused: bool) -> None:
    profile = shipped_profile(EngineId.VLLM)
    plan = on(FLASH_8X_H200, sliced(), 1)
    findings = vllm.check(plan, OPTIONS, profile, target)
    assert ("engine.vllm.devices-by-uuid" in [finding.id for finding in findings]) is refused
    values = vllm.values(plan, OPTIONS, profile, "compose")
    assert values["device_names"] == ["MIG-2222"]
    container = values["container_env"]
    assert isinstance(container, dict)
    assert "CUDA_VISIBLE_DEVICES" not in container


def test_vllm_is_never_given_a_uuid_outside_a_container() -> None:
    whole = devices(2, vendor=Vendor.NVIDIA, compute_api=ComputeApi.CUDA, name="NVIDIA H100", arch="sm_90")
    plan = on(FLASH_8X_H200, host(whole, device_bytes=80 * GIB), 1)
    env = dict(vllm.launch_spec(plan, OPTIONS, shipped_profile(EngineId.VLLM)).env)
    assert env["CUDA_VISIBLE_DEVICES"] == "1"
