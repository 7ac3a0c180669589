"""What would fit instead: every piece of advice is tried."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.planning.support import catalogue, decide, machine
from v4deploy.domain.engine import EngineId
from v4deploy.domain.finding import Finding
from v4deploy.domain.plan import Request
from v4deploy.planning.advice import changes_that_fit


def advice(request: Request, hardware: str) -> dict[str, Finding]:
    host = machine(hardware)
    assert decide(request, host).plan is None
    return {finding.id: finding for finding in changes_that_fit(request, host, catalogue(), tool_version="test")}


def test_a_small_computer_is_told_how_much_memory_would_do() -> None:
    found = advice(Request(model="v4-flash"), "cpu 23GiB")
    assert "96 GiB" in found["plan.fits-with-more-memory"].summary
    assert decide(Request(model="v4-flash"), machine("cpu 96GiB")).plan is not None
    assert decide(Request(model="v4-flash"), machine("cpu 64GiB")).plan is None


def test_a_small_mac_is_told_the_size_of_a_larger_one() -> None:
    assert "plan.fits-with-more-memory" in advice(Request(model="v4-flash"), "m4-max 64GB")


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
