"""Plans moved to other devices, and what vLLM makes of them; shared by the tests of its arguments and of its files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from tests.support_golden import shipped_profile
from tests.support_plans import FLASH, FLASH_8X_H200, PRO_8X_H200, WEIGHTS_DIR, devices, host, make_plan
from v4deploy.domain.artefact import ArtefactSet
from v4deploy.domain.engine import EngineId, LaunchOptions
from v4deploy.domain.finding import Finding, Severity
from v4deploy.domain.hardware import ComputeApi, Vendor
from v4deploy.domain.model import Draft, DraftKind
from v4deploy.domain.plan import Layout, Plan
from v4deploy.domain.units import MIB
from v4deploy.engines import vllm
from v4deploy.render.render import render
from v4deploy.render.templates import load_templates

ROOT = Path(__file__).parents[1]
PROFILE = shipped_profile(EngineId.VLLM)
TEMPLATES = load_templates([ROOT / "templates"])
FLAG_TABLE_PATH = ROOT / "tests" / "fixtures" / "vllm-flags.json"
FLAG_TABLE: dict[str, Any] = json.loads(FLAG_TABLE_PATH.read_text())
OPTIONS = LaunchOptions(weights_dir=WEIGHTS_DIR)


def on(  # noqa: PLR0913 - each argument is one thing that a test varies
    plan: Plan,
    arch: str,
    *,
    count: int = 8,
    compute_api: ComputeApi = ComputeApi.CUDA,
    used: int | None = None,
    version: str | None = None,
) -> Plan:
    """The plan moved to other devices, `used` of which it takes."""
    vendor = Vendor.AMD if compute_api is ComputeApi.ROCM else Vendor.NVIDIA
    machine = host(
        devices(count, vendor=vendor, compute_api=compute_api, name=arch, arch=arch), device_bytes=180_000 * MIB
    )
    size = used or count
    layout = Layout(device_indices=tuple(range(count - size, count)), tensor_parallel=size, expert_parallel=True)
    moved = make_plan(
        machine,
        plan.release,
        plan.chosen.checkpoint,
        EngineId.VLLM,
        layout=layout,
        compute_api=compute_api,
        context_tokens=262_144,
        concurrency=16,
        kv_cache_type="fp8",
        batch_tokens=8192,
        engine_version=version or plan.engine_version,
        use_draft=plan.chosen.use_draft,
    )
    return replace(moved, gguf_arch=plan.gguf_arch)


def v41(plan: Plan) -> Plan:
    checkpoint = replace(plan.chosen.checkpoint, model="v4.1-flash", offloadable_bytes=203_000_000_000)
    return replace(plan, gguf_arch="deepseek41", chosen=replace(plan.chosen, checkpoint=checkpoint))


def with_layout(plan: Plan, **changes: Any) -> Plan:
    return replace(plan, chosen=replace(plan.chosen, layout=replace(plan.chosen.layout, **changes)))


def config(plan: Plan, options: LaunchOptions = OPTIONS, target: str = "script") -> dict[str, Any]:
    loaded = yaml.safe_load(rendered(plan, options, target)["vllm.yaml"])
    assert isinstance(loaded, dict)
    return loaded


def artefacts(plan: Plan, options: LaunchOptions = OPTIONS, target: str = "script") -> ArtefactSet:
    return render("vllm", target, vllm.values(plan, options, PROFILE, target), TEMPLATES)


def rendered(plan: Plan, options: LaunchOptions = OPTIONS, target: str = "script") -> dict[str, str]:
    return {artefact.path: artefact.text for artefact in artefacts(plan, options, target).artefacts}


def failures(plan: Plan, options: LaunchOptions = OPTIONS, target: str = "script") -> list[str]:
    return [finding.id for finding in found(plan, options, target) if finding.severity is Severity.FAIL]


def found(plan: Plan, options: LaunchOptions = OPTIONS, target: str = "script") -> tuple[Finding, ...]:
    return vllm.check(plan, options, PROFILE, target)


FLASH_B200 = on(FLASH_8X_H200, "sm_100")
PRO_B200 = on(PRO_8X_H200, "sm_100")
FLASH_MI355X = on(FLASH_8X_H200, "gfx950", compute_api=ComputeApi.ROCM)
FLASH_RTX_PRO_6000 = on(FLASH_8X_H200, "sm_120")
V41_B300 = v41(on(FLASH_8X_H200, "sm_103", count=4))
PREVIEW = replace(
    FLASH,
    id="v4-flash",
    draft=Draft(kind=DraftKind.MTP, stages=1),
    minimum_engine_versions=((EngineId.VLLM, "0.20.0"), (EngineId.LLAMA_CPP, "9840")),
)
PREVIEW_H200 = replace(FLASH_8X_H200, release=PREVIEW)
CASES = {
    "flash-8x-h200": FLASH_8X_H200,
    "pro-8x-h200": PRO_8X_H200,
    "pro-8x-b200": PRO_B200,
    "pro-8x-b200-vllm-0.27.1": replace(PRO_B200, engine_version="0.27.1"),
    "flash-8x-mi355x": FLASH_MI355X,
    "flash-8x-rtx-pro-6000": FLASH_RTX_PRO_6000,
    "flash-preview-dp8-h200": with_layout(PREVIEW_H200, tensor_parallel=1, data_parallel=8),
    "flash-4-of-8-b200": on(FLASH_8X_H200, "sm_100", used=4),
    "v4.1-flash-4x-b300": V41_B300,
}
