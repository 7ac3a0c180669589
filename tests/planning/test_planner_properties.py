"""What must hold for any machine and any wish."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.planning.support import cards, decide, machine
from v4deploy.domain.engine import EngineId
from v4deploy.domain.hardware import Amount, Host
from v4deploy.domain.plan import Request
from v4deploy.domain.units import GIB

few = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])

machines = st.one_of(
    st.builds(
        lambda sizes, arch, memory: cards(tuple(size * GIB for size in sizes), arch=arch, memory_bytes=memory * GIB),
        st.lists(st.integers(8, 192), max_size=4),
        st.sampled_from(["sm_89", "sm_90", "sm_100"]),
        st.integers(8, 512),
    ),
    st.sampled_from(["m3-ultra 256GB", "m4-max 128GB", "strix-halo 128GB", "gb10", "8x ascend-910b3"]).map(machine),
)
wishes = st.builds(
    Request,
    model=st.sampled_from(["v4-flash", "v4-pro"]),
    context_tokens=st.one_of(st.none(), st.integers(1, 1_048_576)),
    concurrency=st.sampled_from([1, 2, 8, 40]),
    engine=st.sampled_from([None, EngineId.LLAMA_CPP, EngineId.VLLM]),
)


def richer(host: Host, further_bytes: int) -> Host:
    """The same machine with more of every memory."""

    def more(amount: Amount) -> Amount:
        known = amount.size_bytes
        return amount if known is None else replace(amount, size_bytes=known + further_bytes)

    return replace(
        host,
        pools=tuple(
            replace(pool, total=more(pool.total), ceiling=more(pool.ceiling), free=more(pool.free))
            for pool in host.pools
        ),
    )


@few
@given(host=machines, request=wishes, further=st.integers(1, 64 * GIB))
def test_more_memory_never_turns_fit_into_no_fit(host: Host, request: Request, further: int) -> None:
    before = {
        (verdict.candidate.checkpoint.id, verdict.candidate.engine)
        for verdict in decide(request, host).verdicts
        if verdict.fits
    }
    after = {
        (verdict.candidate.checkpoint.id, verdict.candidate.engine)
        for verdict in decide(request, richer(host, further)).verdicts
        if verdict.fits
    }
    assert before <= after


@few
@given(host=machines, request=wishes)
def test_no_plan_exceeds_a_budget(host: Host, request: Request) -> None:
    plan = decide(request, host).plan
    if plan is None:
        return
    for use in plan.pools:
        pool = host.pool(use.pool_id)
        known = [a.size_bytes for a in (pool.total, pool.ceiling, pool.free) if a.size_bytes is not None]
        assert use.budget_bytes is not None
        assert use.needed_bytes <= use.budget_bytes <= min(known)
    assert request.context_tokens in {None, plan.chosen.context_tokens}
    assert plan.chosen.concurrency == request.concurrency


@few
@given(host=machines, concurrency=st.integers(1, 16), context=st.integers(4096, 500_000))
def test_what_fits_long_and_wide_fits_short_and_narrow(host: Host, concurrency: int, context: int) -> None:
    large = Request(model="v4-flash", context_tokens=context, concurrency=concurrency)
    small = Request(model="v4-flash", context_tokens=context // 2, concurrency=max(1, concurrency // 2))
    fitting = {v.candidate.checkpoint.id for v in decide(large, host).verdicts if v.fits}
    assert fitting <= {v.candidate.checkpoint.id for v in decide(small, host).verdicts if v.fits}


@few
@given(host=machines, context=st.integers(4096, 500_000))
def test_a_smaller_file_of_the_same_ladder_fits_where_a_larger_one_does(host: Host, context: int) -> None:
    """Unsloth's quants whose dense part is assumed alike differ in the experts only."""
    decision = decide(Request(model="v4-flash", engine=EngineId.LLAMA_CPP, context_tokens=context), host)
    fits = {}
    for quant in ("UD-IQ1_S", "UD-IQ2_XXS", "UD-IQ3_XXS", "UD-Q3_K_XL"):
        one = decide(Request(model="v4-flash", engine=EngineId.LLAMA_CPP, context_tokens=context, quant=quant), host)
        fits[quant] = one.plan is not None
    values = list(fits.values())
    assert values == sorted(values, reverse=True)
    assert any(values) <= (decision.plan is not None)
