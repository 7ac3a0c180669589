"""What would fit instead: every piece of advice is tried."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.planning.support import amount, catalogue, decide, machine
from v4deploy.domain.engine import EngineId
from v4deploy.domain.finding import Finding
from v4deploy.domain.hardware import Host
from v4deploy.domain.plan import Request
from v4deploy.domain.units import GIB
from v4deploy.planning.advice import Miss, changes_that_fit, explain_miss


def advice(request: Request, hardware: str) -> dict[str, Finding]:
    host = machine(hardware)
    assert decide(request, host).plan is None
    return {finding.id: finding for finding in changes_that_fit(request, host, catalogue())}


def test_a_small_computer_is_told_how_much_memory_would_do() -> None:
    found = advice(Request(model="v4-flash"), "cpu 23GiB")
    assert "96 GiB" in found["plan.fits-with-more-memory"].summary
    assert decide(Request(model="v4-flash"), machine("cpu 96GiB")).plan is not None
    assert decide(Request(model="v4-flash"), machine("cpu 64GiB")).plan is None


def test_a_small_mac_is_told_the_size_of_a_larger_one() -> None:
    assert "plan.fits-with-more-memory" in advice(Request(model="v4-flash"), "m4-max 64GB")


@pytest.mark.parametrize("hardware", ["gb10", "m3-ultra 512GB"])
def test_nobody_is_told_to_buy_memory_that_a_chip_is_not_sold_with(hardware: str) -> None:
    request = Request(model="v4.1-flash", quant="native", engine=EngineId.VLLM)
    assert "plan.fits-with-more-memory" not in advice(request, hardware)


def test_where_sizes_are_unknown_the_nearest_miss_is_what_needs_least() -> None:
    needs = [
        sum(use.needed_bytes for use in verdict.pools)
        for verdict in decide(Request(model="v4-flash"), machine("rtx-4090")).verdicts
        if verdict.pools
    ]
    assert len(needs) > 1
    assert needs == sorted(needs)


def test_too_much_context_is_shortened() -> None:
    request = Request(model="v4-pro", context_tokens=1_048_576, concurrency=200)
    found = advice(request, "8x h200")
    shorter, narrower = found["plan.fits-with-smaller-context"], found["plan.fits-with-fewer-sequences"]
    context = int((shorter.fix or "").split()[-1])
    sequences = int((narrower.fix or "").split()[-1])
    host = machine("8x h200")
    assert decide(replace(request, context_tokens=context), host).plan is not None
    assert decide(replace(request, concurrency=sequences), host).plan is not None


def test_a_pinned_quant_that_does_not_fit_gets_another_one() -> None:
    found = advice(Request(model="v4-flash", quant="UD-Q8_K_XL"), "rtx-4090 + 128GB")
    quant = (found["plan.fits-with-other-quant"].fix or "").split()[-1]
    assert decide(Request(model="v4-flash", quant=quant), machine("rtx-4090 + 128GB")).plan is not None
    assert "192 GiB" in found["plan.fits-with-more-memory"].summary


def test_more_cards_of_the_same_kind() -> None:
    found = advice(Request(model="v4-flash", quant="native"), "2x h100")
    assert "4x NVIDIA H100" in found["plan.fits-with-more-devices"].summary
    assert decide(Request(model="v4-flash", quant="native"), machine("4x h100")).plan is not None


def test_another_engine_where_the_asked_one_cannot() -> None:
    assert (
        "vllm"
        in advice(Request(model="v4-flash", engine=EngineId.MINDIE), "8x h200")["plan.fits-with-other-engine"].summary
    )


@pytest.mark.parametrize("hardware", ["cpu 23GiB", "rtx-4090", "2x h100"])
def test_all_pins_are_dropped_only_where_no_single_change_helps(hardware: str) -> None:
    request = Request(model="v4-flash", quant="native", context_tokens=1_048_576, concurrency=64)
    assert advice(request, hardware)


def misses(request: Request, host: Host) -> list[Miss]:
    decision = decide(request, host)
    assert decision.plan is None
    return [explain_miss(verdict, request, host, catalogue()) for verdict in decision.verdicts]


def remedies(miss: Miss) -> dict[str, Finding]:
    return {finding.id.removeprefix("plan.fits-with-"): finding for finding in miss.remedies}


def test_each_miss_is_told_what_it_lacks_in_each_pool_and_what_would_do() -> None:
    host = machine("2x h100 + 64GB")
    miss = next(m for m in misses(Request(model="v4-flash", quant="native"), host) if m.verdict.pools)
    assert [shortage.pool_id for shortage in miss.shortages] == ["nvidia-0", "nvidia-1"]
    assert all(shortage.missing_bytes for shortage in miss.shortages)
    found = remedies(miss)
    assert found["more-devices"].summary.startswith("with 4x NVIDIA H100")
    assert "native fits: vllm" in found["more-devices"].summary


def test_remedies_keep_the_quant_and_the_engine_of_their_miss() -> None:
    host = machine("cpu 23GiB")
    for miss in misses(Request(model="v4-flash"), host):
        candidate = miss.verdict.candidate
        for finding in miss.remedies:
            assert f"{candidate.checkpoint.quant} fits: {candidate.engine}" in finding.summary


def test_what_a_rule_forbids_has_no_remedy() -> None:
    forbidden = [m for m in misses(Request(model="v4-flash"), machine("cpu 23GiB")) if not m.verdict.pools]
    assert forbidden
    assert all(not miss.remedies and not miss.shortages for miss in forbidden)


def test_a_quantised_cache_or_a_shorter_context_helps_where_the_cache_is_what_is_too_much() -> None:
    host = machine("m3-ultra 256GB")
    request = Request(model="v4-flash", quant="UD-Q8_K_XL", context_tokens=1_048_576, concurrency=12)
    (miss,) = misses(request, host)
    found = remedies(miss)
    assert {"smaller-context", "fewer-sequences", "smaller-kv-cache"} <= set(found)
    kv_cache_type = (found["smaller-kv-cache"].fix or "").split()[-1]
    assert decide(replace(request, kv_cache_type=kv_cache_type), host).plan is not None


def test_a_raised_limit_of_unified_memory_is_a_remedy() -> None:
    host = machine("m3-ultra 256GB")
    low = amount(96 * GIB)
    limited = replace(host, pools=tuple(replace(pool, ceiling=low, free=low) for pool in host.pools))
    (miss,) = misses(Request(model="v4-flash", quant="UD-Q4_K_XL"), limited)
    assert "256.0 GiB" in remedies(miss)["raised-limit"].summary
