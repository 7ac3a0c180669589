"""Plans for llama.cpp that differ in what they ask of its command line."""

from __future__ import annotations

from dataclasses import replace

from tests.support_plans import FLASH_CPU, FLASH_M3_ULTRA, FLASH_OFFLOAD, devices, host
from v4deploy.domain.hardware import ComputeApi, Cpu, HostOrigin, Vendor
from v4deploy.domain.model import FileRole, WeightFile
from v4deploy.domain.plan import Layout, Plan
from v4deploy.domain.units import GIB


def chosen(plan: Plan, **changes: object) -> Plan:
    return replace(plan, chosen=replace(plan.chosen, **changes))  # type: ignore[arg-type]  # names are checked below


def two_cards(plan: Plan) -> Plan:
    cards = devices(2, vendor=Vendor.NVIDIA, compute_api=ComputeApi.CUDA, name="NVIDIA RTX A6000", arch="sm_86")
    return chosen(
        replace(plan, host=host(cards, device_bytes=48 * GIB)),
        layout=Layout(device_indices=(0, 1), host_expert_layers=20, device_layers=(30, 13)),
        compute_api=ComputeApi.CUDA,
    )


DRAFTED = chosen(
    FLASH_CPU,
    use_draft=True,
    checkpoint=replace(
        FLASH_CPU.chosen.checkpoint, side_files=(WeightFile(path="dspark-Q8_0.gguf", role=FileRole.DRAFT),)
    ),
)
AMX = replace(FLASH_CPU, host=host(cpu_features=("amx_int8", "amx_tile", "avx2")))
QUOTA = replace(
    FLASH_CPU,
    host=replace(
        FLASH_CPU.host,
        origin=HostOrigin.LIVE,
        cpu=Cpu(architecture="x86_64", model=None, physical_cores=32, usable_cores=6),
    ),
)


SEEING = chosen(
    FLASH_CPU,
    checkpoint=replace(
        FLASH_CPU.chosen.checkpoint,
        files=(*FLASH_CPU.chosen.checkpoint.files, WeightFile(path="mmproj-F16.gguf", role=FileRole.MMPROJ)),
    ),
)
PLANS = {
    "cpu": FLASH_CPU,
    "offload": FLASH_OFFLOAD,
    "metal": FLASH_M3_ULTRA,
    "two-cards": two_cards(FLASH_CPU),
    "draft": DRAFTED,
    "amx": AMX,
    "quota": QUOTA,
    "projector": SEEING,
    "q8-cache": chosen(FLASH_CPU, kv_cache_type="q8_0"),
}
