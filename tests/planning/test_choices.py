"""What is preferred to what: devices to the CPU, quality to speed, documented layouts to derived ones."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.planning.support import catalogue, decide, machine
from v4deploy.domain.engine import EngineId
from v4deploy.domain.finding import Finding, Severity
from v4deploy.domain.layout_words import layout_words
from v4deploy.domain.model import Checkpoint
from v4deploy.domain.plan import Plan, Request
from v4deploy.planning.criteria import is_near_native


def planned(hardware: str, request: Request) -> Plan:
    decision = decide(request, machine(hardware))
    assert decision.plan is not None, hardware
    return decision.plan


def finding_of(plan: Plan, finding_id: str) -> Finding | None:
    return next((finding for finding in plan.findings if finding.id == finding_id), None)


def checkpoint(checkpoint_id: str) -> Checkpoint:
    return next(c for model in catalogue().models for c in model.checkpoints if c.id == checkpoint_id)


@pytest.mark.parametrize(
    ("devices", "concurrency"),
    [
        ("8x 910b3", 1),
        ("8x a3", 64),
        ("4x h100", 1),
        ("8x mi355x", 64),
        ("2x rtx-5090", 1),
        ("2x rtx-3060-12gb", 64),
    ],
)
def test_more_host_memory_never_hands_a_plan_over_to_the_cpu(devices: str, concurrency: int) -> None:
    on_devices = False
    for memory_gib in (32, 96, 256, 1024):
        request = Request(model="v4-flash", concurrency=concurrency)
        plan = decide(request, machine(f"{devices} + {memory_gib}GB")).plan
        uses_devices = plan is not None and bool(plan.chosen.layout.device_indices)
        assert uses_devices or not on_devices, memory_gib
        on_devices = uses_devices
    assert on_devices


def test_what_only_fits_with_a_short_context_stays_on_the_devices_and_the_cpu_is_named() -> None:
    plan = planned("2x rtx-3060-12gb + 256GB", Request(model="v4-flash", concurrency=64))
    assert plan.chosen.layout.device_indices
    assert plan.chosen.context_tokens < 32_768
    named = finding_of(plan, "plan.devices-before-context")
    assert named is not None
    assert named.severity is Severity.INFO
    alone = [item for item in plan.rejected if item.layout == "CPU" and item.reasons[0].startswith("fits")]
    assert alone
    assert {item.reasons[0] for item in alone} == {"fits; everything is computed by the CPU"}


def test_an_asked_context_is_not_weighed_on_the_cpu_beside_devices_that_hold_it() -> None:
    plan = planned("2x rtx-3060-12gb + 256GB", Request(model="v4-flash", context_tokens=4096))
    assert "CPU" not in {item.layout for item in plan.rejected}


def test_quality_comes_before_speed_and_the_faster_one_is_named() -> None:
    request = Request(model="v4-flash")
    plan = planned("4x rtx-4090 + 256GB", request)
    assert plan.chosen.checkpoint.quant == "UD-Q8_K_XL"
    assert plan.chosen.layout.host_expert_layers
    named = finding_of(plan, "plan.quality-before-speed")
    assert named is not None
    assert named.fix is not None
    faster = planned("4x rtx-4090 + 256GB", replace(request, quant=named.fix.removeprefix("--quant "))).chosen
    assert not faster.layout.host_expert_layers
    assert len(faster.layout.device_indices) == 4
    assert f"{faster.context_tokens:,} tokens" in named.summary


@pytest.mark.parametrize("hardware", ["8x h200 + 1TB", "rtx-4090 + 256GB", "m3-ultra 256GB", "cpu 256GB"])
def test_no_trade_is_reported_where_there_is_none(hardware: str) -> None:
    plan = planned(hardware, Request(model="v4-flash"))
    assert not {"plan.quality-before-speed", "plan.devices-before-context"} & {finding.id for finding in plan.findings}


@pytest.mark.parametrize(
    ("checkpoint_id", "near"),
    [
        ("v4-flash-0731-native", True),
        ("v4-flash-0731-w8a8", True),
        ("v4-flash-0731-ud-q4_k_xl", True),  # its experts are the original's, bit for bit
        ("v4-flash-0731-ud-q3_k_xl", False),
        ("v4-flash-preview-w4a8", False),
    ],
)
def test_what_counts_as_near_the_original(checkpoint_id: str, near: bool) -> None:  # noqa: FBT001
    model, _ = catalogue().model_and_release("v4-flash")
    assert is_near_native(checkpoint(checkpoint_id), model) is near


@pytest.mark.parametrize(
    ("model", "hardware", "words"),
    [
        ("v4-pro-preview", "32x 910b3", "four servers"),
        ("v4-pro-preview", "16x a3", "two servers"),
        ("v4-pro", "16x 950dt", "two servers"),
        ("v4.1-flash-0910", "32x 910b3", "four servers"),
        ("v4.1-flash-0910", "16x a3 + 2TB", "image of their own"),
    ],
)
def test_layouts_over_several_servers_are_not_planned_and_that_is_said(model: str, hardware: str, words: str) -> None:
    decision = decide(Request(model=model, engine=EngineId.MINDIE), machine(hardware))
    assert decision.plan is None
    reasons = [finding for verdict in decision.verdicts for finding in verdict.reasons]
    assert {words in (finding.why or "") for finding in reasons if finding.id == "plan.no-layout"} == {True}


def test_a_layout_that_no_document_shows_is_marked() -> None:
    eight, four = (planned(f"{count}x 950dt + 1TB", Request(model="v4-flash")) for count in (8, 4))
    assert layout_words(eight.chosen.layout) == "DP8 + EP"
    derived = finding_of(eight, "plan.layout-derived")
    assert derived is not None
    assert derived.severity is Severity.WARN
    assert "DP4" in derived.summary
    assert layout_words(four.chosen.layout) == "DP4 + EP"
    assert finding_of(four, "plan.layout-derived") is None


def test_v41_keeps_its_experts_whole_where_slices_would_be_padded() -> None:
    assert layout_words(planned("8x b200 + 1TB", Request(model="v4.1-flash")).chosen.layout) == "TP8 + EP"
    assert layout_words(planned("8x mi355x + 1TB", Request(model="v4.1-flash")).chosen.layout) == "TP8"


@pytest.mark.parametrize(("hardware", "is_expected_only"), [("m4-max 128GB", True), ("m3-ultra 256GB", False)])
def test_a_run_on_one_mac_verifies_no_other(hardware: str, is_expected_only: bool) -> None:  # noqa: FBT001
    plan = planned(hardware, Request(model="v4-flash", engine=EngineId.OLLAMA))
    assert ("plan.support-expected" in {finding.id for finding in plan.findings}) is is_expected_only
