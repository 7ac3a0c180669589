"""Decisions on whole machines, with the shipped catalogue."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.planning.support import amount, cards, catalogue, decide, machine
from v4deploy.documents import from_json, to_json
from v4deploy.domain.engine import EngineId
from v4deploy.domain.errors import UsageError
from v4deploy.domain.hardware import Host, InstalledEngine, PoolKind
from v4deploy.domain.layout_words import layout_words
from v4deploy.domain.model import CheckpointFormat, Status
from v4deploy.domain.plan import PLAN_SCHEMA, Basis, Plan, Request, Verdict
from v4deploy.domain.units import GIB
from v4deploy.planning.criteria import keeps_native_experts
from v4deploy.planning.rank import quant_class
from v4deploy.planning.weights import native_parts


def planned(model: str, hardware: str | Host, **wish: object) -> Plan:
    host = machine(hardware) if isinstance(hardware, str) else hardware
    decision = decide(replace(Request(model=model), **wish), host)  # type: ignore[arg-type]
    assert decision.plan is not None, [verdict.reasons for verdict in decision.verdicts]
    return decision.plan


def misses(model: str, hardware: str | Host, **wish: object) -> tuple[Verdict, ...]:
    host = machine(hardware) if isinstance(hardware, str) else hardware
    decision = decide(replace(Request(model=model), **wish), host)  # type: ignore[arg-type]
    assert decision.plan is None
    return decision.verdicts


@pytest.mark.parametrize(
    ("model", "hardware", "engine", "quant", "layout"),
    [
        ("v4-pro", "8x h200", "vllm", "native", "TP8 + EP"),
        ("v4-flash", "4x h100", "vllm", "native", "TP4 + EP"),
        ("v4-pro", "8x mi355x", "vllm", "native", "TP8"),
        ("v4-flash", "m3-ultra 256GB", "llama.cpp", "UD-Q8_K_XL", "1 device"),
        ("v4-flash", "cpu 256GB", "llama.cpp", "UD-Q8_K_XL", "CPU"),
        ("v4-flash", "8x ascend-910b3", "mindie", "w8a8", "TP8 + EP"),
        ("v4-flash", "8x a3", "mindie", "w8a8", "TP4 + DP4 + EP"),
        ("v4-flash", "4x 950dt", "mindie", "native", "DP4 + EP"),
        ("v4.1-flash", "8x h200 + 512GB", "vllm", "native", "TP8 + EP"),
    ],
)
def test_what_is_chosen(model: str, hardware: str, engine: str, quant: str, layout: str) -> None:
    chosen = planned(model, hardware).chosen
    assert (chosen.engine, chosen.checkpoint.quant, layout_words(chosen.layout)) == (engine, quant, layout)


def test_one_card_and_much_host_memory_offloads_experts() -> None:
    plan = planned("v4-flash", "rtx-4090 + 192GB")
    layout = plan.chosen.layout
    assert plan.chosen.engine is EngineId.LLAMA_CPP
    assert plan.chosen.checkpoint.quant == "UD-Q8_K_XL"
    assert 0 < layout.host_expert_layers <= 43
    assert layout.device_layers == (43,)
    assert "plan.experts-on-host" in {finding.id for finding in plan.findings}


def test_a_shorter_context_keeps_the_experts_on_the_devices() -> None:
    unasked = planned("v4-flash", "4x rtx-3090 + 64GB", quant="AD-IQ2_XXS").chosen
    asked = planned("v4-flash", "4x rtx-3090 + 64GB", quant="AD-IQ2_XXS", context_tokens=1_048_576).chosen
    assert asked.layout.host_expert_layers > 0
    assert unasked.layout.host_expert_layers == 0
    assert 32_768 <= unasked.context_tokens < 1_048_576


def test_pro_on_eight_h200_stops_where_its_recipe_does_unless_asked() -> None:
    plan = planned("v4-pro", "8x h200")
    assert plan.chosen.context_tokens == 200_000
    longer = planned("v4-pro", "8x h200", context_tokens=400_000)
    assert "plan.context-beyond-recipe" in {finding.id for finding in longer.findings}


def test_a_small_machine_gets_no_plan_and_the_nearest_miss_first() -> None:
    verdicts = misses("v4-flash", "cpu 23GiB")
    model, _ = catalogue().model_and_release("v4-flash")
    missing = [verdict.missing_bytes for verdict in verdicts if verdict.pools]
    assert missing == sorted(missing, key=lambda size: size or 0)
    assert missing[0] is not None
    assert 40 * GIB < missing[0] < 60 * GIB
    counted = [v for v in verdicts if v.pools]
    assert len({(v.candidate.engine, quant_class(v.candidate.checkpoint, model)) for v in counted}) == len(counted)
    assert all(verdict.reasons for verdict in verdicts)


def test_unknown_host_memory_is_named_and_not_counted_as_nothing() -> None:
    verdict = next(v for v in misses("v4-flash", "rtx-4090") if v.pools)
    assert verdict.missing_bytes is None
    finding = next(finding for finding in verdict.reasons if finding.id == "plan.memory-unknown")
    assert "--hardware" in (finding.fix or "")


def test_unknown_device_memory_cannot_fit() -> None:
    host = cards((None,), arch="sm_90", memory_bytes=64 * GIB)
    native = next(v for v in misses("v4-flash", host, quant="native") if v.pools)
    assert native.pools[0].budget_bytes is None
    assert native.missing_bytes is None


@pytest.mark.parametrize(
    ("model", "hardware", "wish", "reason"),
    [
        ("v4-flash", "8x rtx-4090 + 1TB", {"engine": EngineId.VLLM, "quant": "native"}, "plan.engine-unsupported"),
        ("v4-flash", "8x h200", {"engine": EngineId.VLLM, "quant": "UD-Q4_K_XL"}, "plan.engine-cannot-load"),
        ("v4-flash", "8x h200", {"engine": EngineId.VLLM, "kv_cache_type": "q8_0"}, "plan.kv-cache-type"),
        ("v4-flash", "4x ascend-910b3", {"quant": "w8a8"}, "plan.needs-more-devices"),
        ("v4-pro-preview", "8x ascend-910b3", {"quant": "w4a8"}, "plan.no-layout"),
        ("v4-flash", "8x h200 + 1TB", {"quant": "MXFP4", "engine": EngineId.LLAMA_CPP}, "plan.size-unknown"),
        ("antirez/deepseek-v4-gguf", "m3-ultra 256GB", {}, "plan.other-engine"),
    ],
)
def test_static_reasons(model: str, hardware: str, wish: dict[str, object], reason: str) -> None:
    host = machine(hardware)
    verdicts = decide(replace(Request(model=model), **wish), host).verdicts  # type: ignore[arg-type]
    found = {finding.id for verdict in verdicts for finding in verdict.reasons if not verdict.pools}
    assert reason in found


def test_an_engine_that_is_installed_and_too_old_is_ruled_out() -> None:
    host = machine("4x h100 + 64GB")
    old = replace(host, engines=(InstalledEngine(engine=EngineId.VLLM, version="0.24.1", path="/opt/vllm"),))
    verdicts = misses("v4-flash", old, engine=EngineId.VLLM, quant="native")
    assert [finding.id for finding in verdicts[0].reasons] == ["plan.engine-too-old"]
    assert "0.25" in verdicts[0].reasons[0].summary


@pytest.mark.parametrize(
    ("version", "runs"),
    [("b11434", True), ("0.6.0-dev (build 11434, commit abc)", True), ("2026.10.11549", True), ("b9100", False)],
)
def test_versions_of_llama_cpp_are_build_numbers(version: str, runs: bool) -> None:  # noqa: FBT001
    host = machine("cpu 256GB")
    found = replace(host, engines=(InstalledEngine(engine=EngineId.LLAMA_CPP, version=version, path="/opt/llama"),))
    plan = decide(Request(model="v4-flash", engine=EngineId.LLAMA_CPP), found).plan
    assert (plan is not None) is runs
    assert plan is None or plan.engine_version == version


def test_a_typed_alias_is_resolved_and_kept() -> None:
    plan = planned("v4-flash", "m3-ultra 256GB", quant="q4_k_m")
    assert plan.alias is not None
    assert plan.chosen.checkpoint.quant == plan.alias.quant == "UD-Q4_K_XL"


def test_ollama_is_planned_for_only_when_asked() -> None:
    unasked = decide(Request(model="v4-flash"), machine("m3-ultra 256GB"))
    assert EngineId.OLLAMA not in {verdict.candidate.engine for verdict in unasked.verdicts}
    assert planned("v4-flash", "m3-ultra 256GB", engine=EngineId.OLLAMA).chosen.engine is EngineId.OLLAMA


def test_superseded_releases_are_not_chosen_unless_named() -> None:
    assert planned("v4-flash", "4x h100").release.id == "v4-flash-0731"
    pinned = planned("v4-flash", "4x h100", release="v4-flash-preview")
    assert pinned.chosen.checkpoint.release == "v4-flash-preview"
    assert pinned.findings[0].id == "plan.release-superseded"


def test_many_sequences_prefer_replicated_attention() -> None:
    assert planned("v4-flash", "8x h200", concurrency=64).chosen.layout.data_parallel == 8
    assert planned("v4-flash", "8x h200", concurrency=4).chosen.layout.data_parallel == 1


def test_partitions_of_a_card_are_not_tensor_parallel() -> None:
    host = cards((70 * GIB,) * 4, arch="sm_90", memory_bytes=64 * GIB)
    whole = decide(Request(model="v4-flash", engine=EngineId.VLLM), host)
    slices = replace(host, pools=tuple(p if p.id == "host" else replace(p, kind=PoolKind.SLICE) for p in host.pools))
    cut = decide(Request(model="v4-flash", engine=EngineId.VLLM), slices)
    assert whole.plan is not None
    assert cut.plan is None
    assert {len(v.candidate.layout.device_indices) for v in cut.verdicts if v.pools} == {1}


def test_unlike_cards_are_not_tensor_parallel_but_split_by_layers() -> None:
    plan = planned("v4-flash", "2x h100 + 2x rtx-4090 + 1TB")
    assert plan.chosen.engine is EngineId.LLAMA_CPP
    assert len(plan.chosen.layout.device_layers) == 4
    assert sum(plan.chosen.layout.device_layers) == 43


def test_unusable_devices_are_left_alone() -> None:
    host = machine("4x h100 + 512GB")
    broken = replace(host, devices=tuple(replace(d, usable=d.index != 2) for d in host.devices))
    plan = planned("v4-flash", broken)
    assert 2 not in plan.chosen.layout.device_indices


def test_memory_that_others_hold_is_not_planned_with() -> None:
    host = machine("4x h100 + 512GB")
    busy = replace(host, pools=tuple(p if p.id == "host" else replace(p, free=amount(60 * GIB)) for p in host.pools))
    plan = planned("v4-flash", busy)
    assert "plan.memory-in-use" in {finding.id for finding in plan.findings}
    assert all(use.needed_bytes <= 60 * GIB for use in plan.pools if use.pool_id != "host")


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"context_tokens": 2_000_000}, "1,048,576"),
        ({"context_tokens": 0}, "1 to"),
        ({"concurrency": 0}, "0 sequences"),
        ({"quant": "q99"}, "q99"),
        ({"release": "v4-flash-0101"}, "v4-flash-0101"),
        ({"kv_cache_type": "q7"}, "q7"),
    ],
)
def test_wrong_wishes_are_usage_errors(wish: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        decide(replace(Request(model="v4-flash"), **wish), machine("8x h200"))  # type: ignore[arg-type]
    assert caught.value.hint


def test_an_unknown_model_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="v5"):
        decide(Request(model="v5"), machine("8x h200"))


@pytest.mark.parametrize("hardware", ["8x h200", "rtx-4090 + 192GB", "m3-ultra 256GB", "8x ascend-910b3", "cpu 256GB"])
def test_a_plan_survives_its_document(hardware: str) -> None:
    plan = planned("v4-flash", hardware)
    assert from_json(Plan, PLAN_SCHEMA, to_json(PLAN_SCHEMA, plan), name="plan.json") == plan


@pytest.mark.parametrize("hardware", ["8x h200", "4x rtx-3090 + 256GB", "m4-max 128GB", "8x a3", "cpu 96GB"])
def test_rows_add_up_to_pools_and_pools_stay_within_budget(hardware: str) -> None:
    for verdict in decide(Request(model="v4-flash"), machine(hardware)).verdicts:
        for use in verdict.pools:
            assert sum(row.size_bytes for row in verdict.footprint if row.pool_id == use.pool_id) == use.needed_bytes
            if verdict.fits:
                assert use.budget_bytes is not None
                assert use.needed_bytes <= use.budget_bytes
        assert all(row.size_bytes >= 0 for row in verdict.footprint)
        assert verdict.fits == (bool(verdict.pools) and verdict.missing_bytes == 0)


def test_assumed_rows_are_reported() -> None:
    plan = planned("v4-flash-preview", "8x ascend-910b3", engine=EngineId.MINDIE, quant="w8a8")
    assert Basis.ASSUMED in {row.basis for row in plan.footprint}
    finding = next(finding for finding in plan.findings if finding.id == "plan.assumptions")
    assert any("publisher gives no size" in (evidence.value or "") for evidence in finding.evidence)


def test_every_rejected_candidate_says_why() -> None:
    plan = planned("v4-flash", "m3-ultra 256GB")
    assert plan.rejected
    assert all(item.reasons for item in plan.rejected)
    assert plan.chosen.checkpoint.id not in {
        item.checkpoint for item in plan.rejected if item.reasons[0].startswith("fits")
    }


def test_the_catalogue_and_the_planner_agree_on_native_payloads() -> None:
    for model in catalogue().models:
        # A variant can have parts that the architecture does not name (an image encoder).
        for release in (release for release in model.releases if release.status is not Status.VARIANT):
            for checkpoint in model.checkpoints:
                if checkpoint.release != release.id or not keeps_native_experts(checkpoint, model):
                    continue
                if checkpoint.format is CheckpointFormat.SAFETENSORS and checkpoint.size_bytes is not None:
                    native = native_parts(model.architecture, release.draft).total_bytes
                    # Files have headers that the payload has not; V4.1's shapes are known to a thousandth.
                    assert native == pytest.approx(checkpoint.size_bytes, rel=0.001), checkpoint.id
