"""Speed estimates: ranges with a basis, None with a reason, and measurements that take their place."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.planning.support import catalogue, decide, machine
from v4deploy.documents import from_json, to_json
from v4deploy.domain.engine import EngineId
from v4deploy.domain.hardware import Host
from v4deploy.domain.measurements import MEASUREMENTS_SCHEMA, MeasuredRate, MeasuredRun, Measurements
from v4deploy.domain.plan import PLAN_SCHEMA, Plan, Request
from v4deploy.domain.speed import SpeedBasis, SpeedEstimate, SpeedFigure
from v4deploy.planning.case import Case
from v4deploy.planning.choose import case_for, find_wanted, make_plan
from v4deploy.planning.speed import estimate, grounds_of
from v4deploy.planning.speed_route import Grounds

FIGURES = (
    "single_tokens_per_second",
    "each_tokens_per_second",
    "all_tokens_per_second",
    "prefill_tokens_per_second",
    "load_seconds",
    "download_seconds",
)
HOST_READ = MeasuredRate(bytes_per_second=60e9, what="24 threads", measured_at="2026-11-28T08:00:00Z")

# Whether a run of the chosen engine on such devices was published.
MACHINES = (
    ("rtx-4090 + 128GB", False),
    ("2x rtx-5090 + 256GB", False),
    ("4x h100 + 1TB", True),
    ("8x h200 + 2TB", True),
    ("8x b200 + 2TB", True),
    ("gb10", True),
    ("m3-ultra 512GB", True),
    ("strix-halo 128GB", True),
    ("8x mi300x + 2TB", False),
    ("8x 910b3 + 1TB", True),
    ("8x a3 + 1TB", False),
    ("4x 950dt + 1TB", False),
    ("cpu 256GB", False),
)


@cache
def plan_for(hardware: str, **wish: object) -> Plan:
    plan = decide(Request(**{"model": "v4-flash", **wish}), machine(hardware)).plan  # type: ignore[arg-type]
    assert plan is not None
    return plan


def case_of(plan: Plan) -> Case:
    return case_for(plan.chosen.engine, plan.host, catalogue(), find_wanted(plan.request, catalogue()))


def again(plan: Plan, grounds: Grounds) -> SpeedEstimate:
    return estimate(plan.chosen, case_of(plan), grounds)


def figures(speed: SpeedEstimate) -> list[SpeedFigure]:
    return [getattr(speed, name) for name in FIGURES]


@pytest.mark.parametrize(("hardware", "known"), MACHINES)
def test_every_figure_is_a_range_with_a_basis_or_says_why_not(hardware: str, known: bool) -> None:  # noqa: FBT001
    plan = plan_for(hardware)
    assert (plan.speed.single_tokens_per_second.low is not None) is known
    check_figures(plan)


@pytest.mark.parametrize("hardware", ["8x b200 + 2TB", "gb10", "8x 910b3 + 1TB"])
def test_several_sequences_are_never_faster_than_one(hardware: str) -> None:
    plan = plan_for(hardware, concurrency=8)
    check_figures(plan)
    one, each = plan.speed.single_tokens_per_second, plan.speed.each_tokens_per_second
    if each.low is not None and one.low is not None and each.high is not None and one.high is not None:
        assert each.low <= one.low
        assert each.high <= one.high


def check_figures(plan: Plan) -> None:
    for figure in figures(plan.speed):
        if figure.low is None:
            assert figure.reason
        else:
            assert figure.high is not None
            assert figure.high >= figure.low > 0
            assert figure.basis is not None
            assert figure.source
    assert from_json(Plan, PLAN_SCHEMA, to_json(PLAN_SCHEMA, plan), name="plan") == plan


@pytest.mark.parametrize(
    ("hardware", "wish", "published"),
    [
        ("gb10", {"quant": "UD-IQ2_XXS"}, 19.07),
        ("8x rtx-3090 + 256GB", {"quant": "UD-Q8_K_XL", "engine": EngineId.LLAMA_CPP}, 30.5),
        ("strix-halo 128GB", {"quant": "UD-IQ3_XXS"}, 18.56),
        ("m5-max-40-core 128GB", {"quant": "UD-IQ2_XXS"}, 33.4),
        ("8x 910b3 + 1TB", {}, 36.2 / 1.98),
    ],
)
def test_published_runs_lie_in_the_range(hardware: str, wish: dict[str, object], published: float) -> None:
    figure = plan_for(hardware, **wish).speed.single_tokens_per_second
    assert figure.low is not None
    assert figure.high is not None
    assert figure.low <= published <= figure.high


def test_without_a_published_run_there_is_a_bound_and_no_number() -> None:
    figure = plan_for("8x a3 + 1TB").speed.single_tokens_per_second
    assert (figure.low, figure.high, figure.basis) == (None, None, None)
    assert figure.at_most is not None
    assert "no run of this engine" in (figure.reason or "")


def test_unknown_bandwidth_gives_no_number() -> None:
    plan = plan_for("gb10")
    grounds = replace(grounds_of(catalogue()), bandwidths={"gb10": None})
    figure = again(plan, grounds).single_tokens_per_second
    assert (figure.low, figure.at_most) == (None, None)
    assert "bandwidth of gb10" in (figure.reason or "")


def test_a_device_that_matched_no_entry_gives_no_number() -> None:
    plan = plan_for("gb10")
    nameless = replace(plan.host, devices=tuple(replace(device, chip=None) for device in plan.host.devices))
    case = replace(case_of(plan), host=nameless)
    figure = estimate(plan.chosen, case, grounds_of(catalogue())).single_tokens_per_second
    assert figure.low is None
    assert "not in the catalogue" in (figure.reason or "")


def test_more_sequences_than_anybody_ran_give_no_number() -> None:
    speed = plan_for("8x b200 + 2TB", concurrency=500, context_tokens=8192).speed
    assert speed.single_tokens_per_second.low is not None
    assert speed.each_tokens_per_second.low is None
    assert "500 sequences" in (speed.all_tokens_per_second.reason or "")


def test_experts_in_host_memory_need_its_measured_speed() -> None:
    plan = plan_for("rtx-4090 + 128GB")
    assert "host memory" in (plan.speed.single_tokens_per_second.reason or "")
    figure = again(plan, grounds_of(catalogue(), Measurements(host_read=HOST_READ))).single_tokens_per_second
    assert figure.low is not None
    assert figure.high is not None
    # 13.7 tokens a second were measured with a faster card beside memory of this speed, all experts in it.
    assert figure.low < 13.7 < figure.high


def test_a_cpu_reads_all_of_a_token_from_host_memory() -> None:
    plan = plan_for("cpu 256GB", quant="UD-Q4_K_XL")
    triad = MeasuredRate(bytes_per_second=186e9, what="triad", measured_at="2026-07-11")
    figure = again(plan, grounds_of(catalogue(), Measurements(host_read=triad))).single_tokens_per_second
    assert figure.low is not None
    assert figure.high is not None
    # ikawrakow/ik_llama.cpp#1752: 9.7 tokens a second on an EPYC 9V45.
    assert figure.low < 9.7 < figure.high


def test_no_bound_is_claimed_for_drafting() -> None:
    plan = plan_for("8x b200 + 2TB")
    nothing_known = replace(grounds_of(catalogue()), model=replace(catalogue().speed, classes=()))
    assert plan.chosen.use_draft
    assert again(plan, nothing_known).single_tokens_per_second.at_most is None
    without = replace(plan, chosen=replace(plan.chosen, use_draft=False))
    assert again(without, nothing_known).single_tokens_per_second.at_most is not None


def test_published_runs_that_are_no_basis_are_told_where_there_is_none() -> None:
    notes = " ".join(plan_for("2x rtx-5090 + 256GB").speed.notes)
    assert "published, but no basis: 32 tokens/s" in notes
    assert "fork" in notes
    assert "published" not in " ".join(plan_for("gb10").speed.notes)
    # The card is the same, but all of the model lies on four of them there.
    assert "published" not in " ".join(plan_for("rtx-4090 + 128GB").speed.notes)


def test_prefill_is_not_lent_to_another_chip() -> None:
    assert plan_for("gb10").speed.prefill_tokens_per_second.low is not None
    assert plan_for("m3-ultra 512GB").speed.prefill_tokens_per_second.low is None


@settings(deadline=None, max_examples=30)
@given(
    hardware=st.sampled_from(["gb10", "8x h200 + 2TB", "8x b200 + 2TB", "m3-ultra 512GB"]),
    faster=st.floats(1.0, 10.0),
    concurrency=st.sampled_from([1, 4]),
)
def test_more_bandwidth_is_never_slower(hardware: str, faster: float, concurrency: int) -> None:
    plan = plan_for(hardware, concurrency=concurrency)
    known = grounds_of(catalogue())
    bandwidths = {chip: None if value is None else round(value * faster) for chip, value in known.bandwidths.items()}
    for name in ("single_tokens_per_second", "each_tokens_per_second"):
        before, after = getattr(plan.speed, name), getattr(again(plan, replace(known, bandwidths=bandwidths)), name)
        assert (before.low is None) == (after.low is None)
        if before.low is not None:
            assert after.low >= before.low
            assert after.high >= before.high


@settings(deadline=None, max_examples=30)
@given(share=st.floats(0.5, 1.0), hardware=st.sampled_from(["gb10", "8x h200 + 2TB"]))
def test_fewer_bytes_a_token_are_never_slower(share: float, hardware: str) -> None:
    plan = plan_for(hardware)
    size = plan.chosen.checkpoint.size_bytes
    assert size is not None
    smaller = replace(plan.chosen.checkpoint, size_bytes=round(size * share))
    found = estimate(replace(plan.chosen, checkpoint=smaller), case_of(plan), grounds_of(catalogue()))
    before, after = plan.speed.single_tokens_per_second, found.single_tokens_per_second
    assert found.token_read_bytes is None or found.token_read_bytes <= (plan.speed.token_read_bytes or 0)
    if after.low is not None and before.low is not None and after.high is not None and before.high is not None:
        assert after.low >= before.low
        assert after.high >= before.high


def run_of(plan: Plan, host: Host, **values: object) -> MeasuredRun:
    names = tuple(host.devices[index].name for index in plan.chosen.layout.device_indices)
    run = MeasuredRun(
        checkpoint=plan.chosen.checkpoint.id,
        engine=plan.chosen.engine,
        layout=plan.chosen.layout,
        device_names=names,
        use_draft=plan.chosen.use_draft,
        concurrency=1,
        context_tokens=4096,
        measured_at="2026-11-28T08:00:00Z",
    )
    return replace(run, **values)  # type: ignore[arg-type]


def measured_plan(plan: Plan, *runs: MeasuredRun, **rates: MeasuredRate) -> SpeedEstimate:
    measured = Measurements(runs=runs, **rates)
    text = to_json(MEASUREMENTS_SCHEMA, measured)
    assert from_json(Measurements, MEASUREMENTS_SCHEMA, text, name="measurements") == measured
    decision = make_plan(plan.request, plan.host, catalogue(), tool_version="test", measured=measured)
    assert decision.plan is not None
    return decision.plan.speed


def test_what_was_measured_here_takes_the_place_of_the_estimate() -> None:
    plan = plan_for("gb10", concurrency=4)
    speed = measured_plan(
        plan,
        run_of(plan, plan.host, tokens_per_second=18.5, prefill_tokens_per_second=550.0, load_seconds=95.0),
        run_of(plan, plan.host, tokens_per_second=19.5),
        run_of(plan, plan.host, tokens_per_second=8.0, concurrency=4),
    )
    assert (speed.single_tokens_per_second.low, speed.single_tokens_per_second.high) == (18.5, 19.5)
    assert speed.each_tokens_per_second.low == 8.0
    assert speed.all_tokens_per_second.low == 32.0
    assert (speed.prefill_tokens_per_second.low, speed.load_seconds.low) == (550.0, 95.0)
    assert {f.basis for f in figures(speed) if f.basis} == {SpeedBasis.MEASURED_HERE}


@pytest.mark.parametrize(
    "other",
    [
        {"checkpoint": "another"},
        {"engine": EngineId.OLLAMA},
        {"device_names": ("another",)},
        {"use_draft": True},
    ],
)
def test_a_run_of_something_else_says_nothing(other: dict[str, object]) -> None:
    plan = plan_for("gb10")
    speed = measured_plan(plan, run_of(plan, plan.host, tokens_per_second=999.0, **other))
    assert speed == plan.speed


def test_measured_rates_give_the_times_of_start_and_download() -> None:
    plan = plan_for("gb10")
    assert plan.speed.load_seconds.low is plan.speed.download_seconds.low is None
    disk = MeasuredRate(bytes_per_second=2e9, what="/weights, past the cache", measured_at="2026-11-28T08:00:00Z")
    link = MeasuredRate(bytes_per_second=5e7, what="the hub", measured_at="2026-11-28T08:00:00Z")
    speed = measured_plan(plan, disk_read=disk, download=link)
    size = plan.chosen.checkpoint.size_bytes or 0
    assert speed.load_seconds.low == pytest.approx(size / 2e9)
    assert speed.download_seconds.high == pytest.approx(size / 5e7)
    assert speed.download_seconds.basis is SpeedBasis.RATE


@pytest.mark.parametrize(
    "half",
    [
        {"low": 1.0},
        {"low": 2.0, "high": 1.0, "basis": SpeedBasis.FITTED, "source": "x"},
        {"low": 1.0, "high": 2.0},
        {},
        {"basis": SpeedBasis.FITTED, "reason": "x"},
    ],
)
def test_half_a_figure_cannot_be_made(half: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="range"):
        SpeedFigure(**half)  # type: ignore[arg-type]
