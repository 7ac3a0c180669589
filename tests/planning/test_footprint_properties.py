"""What must hold for the bytes of any candidate: the parts sum to the whole, and more of anything never needs less."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.planning.support import catalogue, decide, machine
from v4deploy.documents import from_json, to_json
from v4deploy.domain.engine import EngineId
from v4deploy.domain.hardware import Host
from v4deploy.domain.plan import PLAN_SCHEMA, Candidate, Plan, Prefer, Request, Verdict
from v4deploy.planning.candidates import at_concurrency
from v4deploy.planning.case import Case
from v4deploy.planning.choose import case_for, find_wanted
from v4deploy.planning.judge import judge

few = settings(max_examples=25, deadline=None)

HARDWARE = st.sampled_from(["8x h200 + 2TB", "8x b200 + 2TB", "2x rtx-4090 + 512GB", "m3-ultra 512GB", "cpu 512GB"])


@cache
def chosen(hardware: str, model: str) -> tuple[Candidate, Case]:
    """A plan's candidate, to be varied."""
    host: Host = machine(hardware)
    plan = decide(Request(model=model), host).plan
    assert plan is not None
    wanted = find_wanted(Request(model=model), catalogue())
    return plan.chosen, case_for(plan.chosen.engine, host, catalogue(), wanted)


def needed_bytes(verdict: Verdict) -> int:
    return sum(use.needed_bytes for use in verdict.pools)


@few
@given(hardware=HARDWARE, model=st.sampled_from(["v4-flash", "v4-pro"]), context=st.integers(1, 1_048_576))
def test_rows_sum_to_pools_and_pools_to_the_whole(hardware: str, model: str, context: int) -> None:
    candidate, case = chosen(hardware, model)
    verdict = judge(replace(candidate, context_tokens=context), case)
    by_pool: dict[str, int] = {}
    for row in verdict.footprint:
        assert row.size_bytes >= 0
        by_pool[row.pool_id] = by_pool.get(row.pool_id, 0) + row.size_bytes
    assert by_pool == {use.pool_id: use.needed_bytes for use in verdict.pools}
    assert sum(row.size_bytes for row in verdict.footprint) == needed_bytes(verdict)


@few
@given(
    hardware=HARDWARE,
    model=st.sampled_from(["v4-flash", "v4-pro"]),
    contexts=st.tuples(st.integers(1, 1_048_576), st.integers(1, 1_048_576)),
    sequences=st.tuples(st.integers(1, 64), st.integers(1, 64)),
)
def test_more_context_and_more_sequences_never_need_less(
    hardware: str, model: str, contexts: tuple[int, int], sequences: tuple[int, int]
) -> None:
    candidate, case = chosen(hardware, model)
    short, long = sorted(contexts)
    narrow, wide = sorted(sequences)

    def needs(context: int, count: int) -> int:
        return needed_bytes(judge(replace(candidate, context_tokens=context, concurrency=count), case))

    assert needs(short, narrow) <= needs(long, narrow)
    assert needs(short, narrow) <= needs(short, wide)


@few
@given(hardware=HARDWARE, share=st.floats(0.3, 1.0))
def test_fewer_bytes_a_weight_never_need_more(hardware: str, share: float) -> None:
    candidate, case = chosen(hardware, "v4-flash")
    checkpoint = candidate.checkpoint
    assert checkpoint.size_bytes is not None
    smaller = replace(checkpoint, size_bytes=int(checkpoint.size_bytes * share))
    whole, cut = judge(candidate, case), judge_if_known(replace(candidate, checkpoint=smaller), case)
    assume(cut is not None)
    assert cut is not None
    assert needed_bytes(cut) <= needed_bytes(whole)


def judge_if_known(candidate: Candidate, case: Case) -> Verdict | None:
    """None for a file that is smaller than its dense part: there is no such file."""
    try:
        return judge(candidate, case)
    except ValueError:
        return None


@few
@given(hardware=HARDWARE, sequences=st.integers(1, 40))
def test_a_candidate_with_one_sequence_more_is_still_itself(hardware: str, sequences: int) -> None:
    candidate, case = chosen(hardware, "v4-flash")
    changed = at_concurrency(candidate, case, sequences)
    assert changed.concurrency == sequences
    assert (changed.checkpoint, changed.engine, changed.context_tokens) == (
        candidate.checkpoint,
        candidate.engine,
        candidate.context_tokens,
    )
    assert sum(changed.layout.device_layers) == sum(candidate.layout.device_layers)


@settings(max_examples=12, deadline=None)
@given(
    hardware=HARDWARE,
    prefer=st.sampled_from([None, *Prefer]),
    engine=st.sampled_from([None, EngineId.LLAMA_CPP]),
    context=st.one_of(st.none(), st.integers(1, 1_048_576)),
)
def test_a_plan_comes_back_from_json_as_it_was(
    hardware: str, prefer: Prefer | None, engine: EngineId | None, context: int | None
) -> None:
    request = Request(model="v4-flash", prefer=prefer, engine=engine, context_tokens=context)
    plan = decide(request, machine(hardware)).plan
    assume(plan is not None)
    assert plan is not None
    assert from_json(Plan, PLAN_SCHEMA, to_json(PLAN_SCHEMA, plan), name="plan") == plan
