"""What is chosen when something is preferred, how many sequences a plan holds, and why something was not chosen."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.planning.support import catalogue, decide, machine
from v4deploy.domain.engine import EngineId
from v4deploy.domain.errors import UsageError
from v4deploy.domain.layout_words import layout_words
from v4deploy.domain.plan import Plan, Prefer, Request
from v4deploy.planning.candidates import at_concurrency
from v4deploy.planning.capacities import most_sequences
from v4deploy.planning.choose import case_for, find_wanted
from v4deploy.planning.criteria import FEWEST_BITS, is_original, keeps_native_experts, named_bits
from v4deploy.planning.judge import judge
from v4deploy.planning.why_not import Subject, WhyNot, why_not


def planned(hardware: str, request: Request) -> Plan:
    plan = decide(request, machine(hardware)).plan
    assert plan is not None
    return plan


def asked_why_not(asked: str, hardware: str, request: Request | None = None) -> WhyNot:
    host, request = machine(hardware), request or Request(model="v4-flash")
    return why_not(asked, request, decide(request, host).plan, host, catalogue())


MACHINES = ["8x h200 + 2TB", "2x rtx-5090 + 256GB", "rtx-4090 + 128GB", "m3-ultra 512GB", "4x rtx-3090 + 256GB"]


@pytest.mark.parametrize("hardware", MACHINES)
def test_a_preference_is_not_beaten_by_the_balance_in_what_it_prefers(hardware: str) -> None:
    balanced = planned(hardware, Request(model="v4-flash")).chosen
    longest = planned(hardware, Request(model="v4-flash", prefer=Prefer.CONTEXT)).chosen
    assert longest.context_tokens >= balanced.context_tokens
    best = planned(hardware, Request(model="v4-flash", prefer=Prefer.QUALITY)).chosen
    assert is_original(best.checkpoint) >= is_original(balanced.checkpoint)
    wide = planned(hardware, Request(model="v4-flash", prefer=Prefer.CONCURRENCY))
    assert wide.chosen.concurrency >= balanced.concurrency
    assert wide.chosen.context_tokens == 32_768
    fast = planned(hardware, Request(model="v4-flash", prefer=Prefer.SPEED)).chosen
    assert (fast.layout.host_expert_layers > 0) <= (balanced.layout.host_expert_layers > 0)


def test_speed_leaves_the_cpu_out_where_smaller_weights_allow_it() -> None:
    balanced = planned("4x rtx-3090 + 256GB", Request(model="v4-flash")).chosen
    fast = planned("4x rtx-3090 + 256GB", Request(model="v4-flash", prefer=Prefer.SPEED)).chosen
    assert balanced.layout.host_expert_layers
    assert not fast.layout.host_expert_layers
    assert named_bits(fast.checkpoint.quant) >= FEWEST_BITS


def test_speed_keeps_quality_where_that_costs_no_cpu() -> None:
    model, _ = catalogue().model_and_release("v4-flash")
    fast = planned("8x mi300x + 1TB", Request(model="v4-flash", prefer=Prefer.SPEED)).chosen
    assert keeps_native_experts(fast.checkpoint, model)


def test_context_goes_beyond_a_recipe_and_says_so() -> None:
    plan = planned("8x h200 + 2TB", Request(model="v4-pro", prefer=Prefer.CONTEXT))
    assert plan.chosen.engine is EngineId.VLLM
    assert plan.chosen.context_tokens > 200_000
    assert "plan.context-beyond-recipe" in {finding.id for finding in plan.findings}


def test_concurrency_takes_the_context_that_was_asked_for() -> None:
    plan = planned("8x h200 + 2TB", Request(model="v4-pro", prefer=Prefer.CONCURRENCY, context_tokens=131_072))
    assert plan.chosen.context_tokens == 131_072
    assert plan.chosen.concurrency > planned("8x h200 + 2TB", Request(model="v4-pro")).capacity[1].sequences
    more = replace(plan.request, concurrency=plan.chosen.concurrency * 2, prefer=None)
    assert decide(replace(more, engine=EngineId.VLLM), machine("8x h200 + 2TB")).plan is None


@pytest.mark.parametrize("hardware", ["8x h200 + 2TB", "m3-ultra 512GB", "8x b200 + 2TB"])
@pytest.mark.parametrize("model", ["v4-flash", "v4-pro"])
def test_as_many_fit_as_a_plan_says_and_not_one_more(hardware: str, model: str) -> None:
    host = machine(hardware)
    plan = planned(hardware, Request(model=model))
    case = case_for(plan.chosen.engine, host, catalogue(), find_wanted(Request(model=model), catalogue()))
    most = case.profile.most_sequences
    for row in plan.capacity:
        candidate = replace(plan.chosen, context_tokens=row.context_tokens)
        assert judge(at_concurrency(candidate, case, row.sequences), case).fits
        assert row.sequences == most or not judge(at_concurrency(candidate, case, row.sequences + 1), case).fits


@given(limit=st.integers(0, 3000), most=st.integers(1, 2048))
def test_the_largest_number_is_found(limit: int, most: int) -> None:
    assert most_sequences(lambda count: count <= limit, most=most) == min(limit, most)


def test_more_sequences_never_go_with_more_context() -> None:
    rows = planned("8x h200 + 2TB", Request(model="v4-pro")).capacity
    assert [row.context_tokens for row in rows] == sorted((row.context_tokens for row in rows), reverse=True)
    assert [row.sequences for row in rows] == sorted(row.sequences for row in rows)


@pytest.mark.parametrize(
    ("asked", "subject", "words"),
    [
        ("mindie", Subject.ENGINE, "does not run this on sm_90"),
        ("nvfp4", Subject.QUANT, "this is sm_90"),
        ("UD-Q4_K_XL", Subject.QUANT, "fits;"),
        ("tp4", Subject.LAYOUT, "4 of the 8 devices that the plan uses would be idle"),
        ("dp8", Subject.LAYOUT, "attention is replicated"),
        ("tp8", Subject.LAYOUT, "is what the plan chose"),
        ("dp16", Subject.LAYOUT, "it takes 16 devices, and here are 8"),
        ("tp3+ep", Subject.LAYOUT, "cannot be divided over 3 devices"),
        ("cpu", Subject.LAYOUT, "everything is computed by the CPU"),
    ],
)
def test_why_not(asked: str, subject: Subject, words: str) -> None:
    answer = asked_why_not(asked, "8x h200 + 1TB")
    assert answer.subject is subject
    assert any(words in reason for item in answer.answers for reason in item.reasons), answer.answers


def test_an_alias_is_answered_for_what_it_means() -> None:
    assert asked_why_not("q4_k_m", "8x h200 + 1TB").meant == "UD-Q4_K_XL"


def test_every_rule_that_forbids_is_named_and_not_only_the_first() -> None:
    (item,) = asked_why_not("nvfp4", "8x h200 + 1TB").answers
    assert len(item.reasons) == 2


def test_what_the_plan_chose_is_said_to_be_so() -> None:
    answer = asked_why_not("vllm", "8x h200 + 1TB")
    assert answer.is_chosen
    assert answer.answers[0].reasons == ("is what the plan chose",)
    assert {item.engine for item in answer.answers} == {EngineId.VLLM}


def test_without_any_plan_the_misses_answer() -> None:
    answer = asked_why_not("UD-Q4_K_XL", "cpu 23GiB")
    assert answer.chosen is None
    assert answer.fix is None
    assert answer.answers[0].missing_bytes


def test_the_option_that_is_offered_plans_it() -> None:
    answer = asked_why_not("dp8", "8x h200 + 1TB")
    assert answer.fix == "--layout dp8"
    plan = planned("8x h200 + 1TB", Request(model="v4-flash", layout="dp8"))
    assert layout_words(plan.chosen.layout) == "DP8 + EP"


def test_what_is_neither_engine_nor_quant_nor_layout() -> None:
    with pytest.raises(UsageError, match="no engine, no layout and no quant"):
        asked_why_not("nonsense", "8x h200 + 1TB")


def test_a_layout_is_answered_by_those_who_could_have_it_and_with_true_rules() -> None:
    answer = asked_why_not("tp6", "6x h100 + 1TB")
    assert [(item.quant, item.engine) for item in answer.answers] == [("native", EngineId.VLLM)]
    assert "64 attention heads cannot be divided over 6 devices" in answer.answers[0].reasons[0]
    assert {item.engine for item in asked_why_not("pp6", "6x h100 + 1TB").answers} == {EngineId.VLLM}


def test_a_refusal_says_why() -> None:
    reasons = asked_why_not("vllm", "8x mi300x + 1TB").answers[0].reasons
    assert any("the recipe rules out MI300X" in reason for reason in reasons)


def test_slices_of_experts_can_be_asked_for() -> None:
    answer = asked_why_not("tp4+no-ep", "4x h100 + 512GB")
    assert not answer.is_chosen
    assert answer.answers[0].layout == "TP4"
    assert answer.fix == "--layout tp4+no-ep"
    assert (
        layout_words(planned("4x h100 + 512GB", Request(model="v4-flash", layout="tp4+no-ep")).chosen.layout) == "TP4"
    )


def test_a_layout_of_several_words_is_offered_as_one_argument() -> None:
    assert asked_why_not("4 devices", "8x h200 + 1TB").fix == "--layout '4 devices'"
