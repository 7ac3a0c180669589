"""The fit of the speed model: it finds what it should, and the committed coefficients are what it gives."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tools.fit_speed import MODEL, factor, fit_family, model_text, other_chip_errors, same_chip_errors, validate
from tools.speed_data import Point, catalogue, points, read_measurements

FILE = read_measurements()
POINTS = points(FILE)
CLASSES = validate(FILE)


def test_the_committed_model_is_what_the_committed_runs_give() -> None:
    assert MODEL.read_text(encoding="utf-8") == model_text(FILE, CLASSES), "run `make fit-speed` and commit the file"


def test_every_run_is_in_a_class_or_says_why_not() -> None:
    assert not [run.id for run in FILE.runs if (run.run_class is None) != (run.left_out is not None)]
    assert len({run.id for run in FILE.runs}) == len(FILE.runs)
    assert {run.run_class for run in FILE.runs} - {None} <= {entry.id for entry in FILE.classes}


def test_every_run_names_a_chip_of_its_class() -> None:
    archs = {chip.id: chip.arch for chip in catalogue().chips}
    of_class = {entry.id: entry.archs for entry in FILE.classes}
    wrong = [
        run.id
        for run in FILE.runs
        if run.run_class is not None and run.chip is not None and archs[run.chip] not in of_class[run.run_class]
    ]
    assert not wrong
    assert {run.chip for run in FILE.runs} - {None} <= set(archs)


def test_exact_runs_give_their_coefficients_back() -> None:
    made = [
        replace(point, seconds=point.read_seconds / 0.7 + point.layers * 0.0003)
        for point in POINTS
        if point.family == "vllm" and not point.run.back_test
    ]
    fit = fit_family(made)
    assert fit.efficiency == pytest.approx(0.7)
    assert list(fit.layer_seconds.values()) == pytest.approx([0.0003] * len(fit.layer_seconds))
    errors = {**same_chip_errors(made), **other_chip_errors(made)}
    assert errors
    assert max(map(abs, errors.values())) < 1e-9


def test_a_run_is_never_predicted_from_itself_or_its_twin() -> None:
    family = [point for point in POINTS if point.family == "vllm" and not point.run.back_test]
    wrong = [replace(point, seconds=point.seconds * 3) if point.run.chip == "b200" else point for point in family]
    # Three times slower runs on one chip cannot vouch for each other once the chip is left out.
    assert other_chip_errors(wrong)["r87"] < -0.5


@pytest.mark.parametrize("point", [p for p in POINTS if not p.run.back_test], ids=lambda point: point.run.id)
def test_every_fitted_run_lies_in_the_range_that_is_claimed(point: Point) -> None:
    one = next(one for one in CLASSES if one.entry.id == point.run.run_class)
    seconds = point.read_seconds / one.efficiency + point.layers * one.layer_seconds
    assert factor(seconds / point.seconds - 1) <= one.spread <= one.other_spread


def test_the_error_when_left_out_is_what_we_say() -> None:
    errors = [abs(error) for one in CLASSES for error in one.same_errors.values()]
    assert len(errors) >= 15
    assert sorted(errors)[len(errors) // 2] < 0.10
    assert max(errors) < 0.25
    elsewhere = [abs(error) for one in CLASSES for error in one.other_errors.values()]
    assert sorted(elsewhere)[len(elsewhere) // 2] < 0.15
    assert max(elsewhere) < 0.65
