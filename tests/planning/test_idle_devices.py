"""Devices that a plan leaves out, and cards of other kinds beside those that it takes."""

from __future__ import annotations

import pytest

from tests.planning.support import decide, machine
from v4deploy.domain.finding import Finding
from v4deploy.domain.layout_words import layout_words
from v4deploy.domain.plan import Plan, Request


def planned(hardware: str, layout: str | None = None) -> Plan:
    plan = decide(Request(model="v4-flash", layout=layout), machine(hardware)).plan
    assert plan is not None
    return plan


def idle(plan: Plan) -> Finding | None:
    return next((finding for finding in plan.findings if finding.id == "plan.devices-idle"), None)


@pytest.mark.parametrize(
    ("hardware", "words"),
    [
        ("6x h100 + 1TB", "2 of 6 devices are not used: NVIDIA H100 SXM"),
        ("8x mi300x + 1TB", "7 of 8 devices are not used: AMD Instinct MI300X"),
    ],
)
def test_idle_devices_are_named_and_the_option_takes_them_all(hardware: str, words: str) -> None:
    finding = idle(planned(hardware))
    assert finding is not None
    assert finding.summary == words
    assert finding.fix is not None
    every = finding.fix.removeprefix("`--layout ").split("`")[0]
    assert len(planned(hardware, every).chosen.layout.device_indices) == int(every.split("-")[0])


@pytest.mark.parametrize("hardware", ["8x h200 + 2TB", "cpu 256GB", "2x rtx-5090 + 256GB"])
def test_nothing_is_said_where_none_is_idle(hardware: str) -> None:
    assert idle(planned(hardware)) is None


def test_cards_that_an_engine_does_not_run_on_keep_it_from_no_others() -> None:
    chosen = planned("4x h100 + 2x rtx-4090 + 256GB").chosen
    assert (chosen.engine, layout_words(chosen.layout), chosen.layout.device_indices) == (
        "vllm",
        "TP4 + EP",
        (0, 1, 2, 3),
    )
    finding = idle(planned("4x h100 + 2x rtx-4090 + 256GB"))
    assert finding is not None
    assert finding.summary == "2 of 6 devices are not used: GeForce RTX 4090"
    assert finding.fix is None
    last = planned("2x rtx-4090 + 4x h100 + 256GB").chosen
    assert last.layout.device_indices == (2, 3, 4, 5)


def test_all_of_the_context_is_called_that_and_less_of_it_is_not() -> None:
    def said(hardware: str, model: str = "v4-flash") -> Finding:
        plan = decide(Request(model=model), machine(hardware)).plan
        assert plan is not None
        return next(finding for finding in plan.findings if finding.id == "plan.context-chosen")

    assert said("8x h200 + 2TB").summary == "1,048,576 tokens is the whole context of the model"
    assert "experts" not in (said("8x h200 + 2TB").fix or "")
    assert "experts" in (said("1x rtx-4090 + 128GB").fix or "")
    assert "longest context tried" in said("gb10").summary
    recipe = said("8x h200 + 2TB", "v4-pro")
    assert recipe.why == "that is as far as the published recipe for this hardware goes"
    assert "--prefer context" in (recipe.fix or "")
