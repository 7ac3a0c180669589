"""Fit the speed model on profiles/speed/measurements.yaml, report its cross-validated error, write model.yaml.

A forward pass takes `bytes / (efficiency * bandwidth) + layers * layer_seconds`. Efficiency is one number an engine
family (the share of the data sheet's bandwidth that its kernels reach), the time of a layer one a class of hardware.
Least squares of the relative error: for a given efficiency the times have a closed form, and efficiency is searched in
steps of a hundredth.

The error is what a run is off by when it is predicted from others, in two ways. On a measured chip: all runs with its
setting are left out, and others on the same chip remain. On another chip: all runs on its chip are left out.

    python -m tools.fit_speed            report and compare with profiles/speed/model.yaml; exit status 1 if it differs
    python -m tools.fit_speed --write    report and write it
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tools.speed_data import PROFILES, ClassEntry, MeasurementFile, Point, RunEntry, points, read_measurements

MODEL = PROFILES / "speed" / "model.yaml"
EFFICIENCIES = tuple(hundredths / 100 for hundredths in range(50, 91))
"""No kernel is known to read more than nine tenths of the data sheet's bandwidth: 215 of 256 GB/s on a Strix Halo
(lhl/strix-halo-testing)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """The coefficients of one family."""

    efficiency: float
    layer_seconds: Mapping[str, float]

    def seconds(self, point: Point) -> float:
        """What a pass should take.

        Raises:
            KeyError: the fit saw no run of this class.
        """
        return point.read_seconds / self.efficiency + point.layers * self.layer_seconds[_class(point)]

    def error(self, point: Point) -> float:
        """Predicted less measured, relative to measured; in tokens a second it has the other sign."""
        return self.seconds(point) / point.seconds - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Validated:
    """A class with its coefficients and what it is off by."""

    entry: ClassEntry
    efficiency: float
    layer_seconds: float
    fitted: tuple[Point, ...]
    same_errors: Mapping[str, float]
    other_errors: Mapping[str, float]
    spread: float
    other_spread: float
    batches: tuple[tuple[int, float], ...]
    prefill: tuple[float, float] | None


def fit_family(family: Sequence[Point]) -> Fit:
    """The least squares fit over all classes of a family."""
    return min((_at(efficiency, family) for efficiency in EFFICIENCIES), key=lambda fit: _squares(fit, family))


def same_chip_errors(family: Sequence[Point]) -> dict[str, float]:
    """By run: its error when the family is fitted without its setting, where its chip remains."""
    return _errors(family, _setting, lambda other, point: _chip(other) == _chip(point))


def other_chip_errors(family: Sequence[Point]) -> dict[str, float]:
    """By run: its error when the family is fitted without its chip, where its class remains."""
    return _errors(family, _chip, lambda other, point: _class(other) == _class(point))


def validate(file: MeasurementFile) -> tuple[Validated, ...]:
    """Every class that has a run, in the order of the file."""
    found = points(file)
    names = tuple(dict.fromkeys(entry.family for entry in file.classes))
    fitted = {name: [point for point in found if point.family == name and not point.run.back_test] for name in names}
    same = {name: same_chip_errors(family) for name, family in fitted.items()}
    other = {name: other_chip_errors(family) for name, family in fitted.items()}
    # Where a family says nothing of one of the errors, the others' worst stands in.
    every_same = [error for errors in same.values() for error in errors.values()]
    every_other = [error for errors in other.values() for error in errors.values()]
    result: list[Validated] = []
    for entry in file.classes:
        family = fitted[entry.family]
        own = tuple(point for point in family if _class(point) == entry.id)
        if not own:
            continue
        fit = fit_family(family)
        same_errors = {run: error for run, error in same[entry.family].items() if run in _ids(own)}
        other_errors = {run: error for run, error in other[entry.family].items() if run in _ids(own)}
        tested = [point for point in found if point.family == entry.family and point.run.back_test]
        # A class has one time for all its chips: what that misses on a measured one counts, too.
        least = max(_least(file, own), *(factor(fit.error(point)) for point in own))
        spread = _spread(least, same_errors, same[entry.family], every_same)
        result.append(
            Validated(
                entry=entry,
                efficiency=fit.efficiency,
                layer_seconds=fit.layer_seconds[entry.id],
                fitted=own,
                same_errors=same_errors,
                other_errors=other_errors,
                spread=spread,
                other_spread=_spread(spread, other_errors, other[entry.family], every_other),
                batches=_batches(fit, [point for point in tested if _class(point) == entry.id] or tested),
                prefill=_prefill(own, spread),
            )
        )
    return tuple(result)


def _errors(
    family: Sequence[Point], key: Callable[[Point], object], vouches: Callable[[Point, Point], bool]
) -> dict[str, float]:
    errors: dict[str, float] = {}
    for point in family:
        others = [other for other in family if key(other) != key(point)]
        if any(vouches(other, point) for other in others):
            errors[point.run.id] = fit_family(others).error(point)
    return errors


def _spread(least: float, own: Mapping[str, float], family: Mapping[str, float], every: Iterable[float]) -> float:
    """The worst factor: of the class's own errors, else of its family's, else of all."""
    return max(least, *map(factor, own.values() or family.values() or every))


def _least(file: MeasurementFile, own: Iterable[Point]) -> float:
    inferred = any(point.run.accept_basis == "inferred" for point in own)
    return 1 + max(file.repeat_percent, file.inferred_percent if inferred else 0) / 100


def _ids(own: Iterable[Point]) -> set[str]:
    return {point.run.id for point in own}


def _batches(fit: Fit, tested: Iterable[Point]) -> tuple[tuple[int, float], ...]:
    """By number of sequences: how much slower than predicted the slowest run of up to so many was, at least 1."""
    worst, result = 1.0, []
    for point in sorted(tested, key=lambda point: point.run.sequences or 0):
        worst = max(worst, 1 / (1 + fit.error(point)))
        result.append((point.run.sequences or 0, worst))
    return tuple(dict(result).items())


def factor(error: float) -> float:
    """A relative error as a factor above 1, the same for too slow and too fast."""
    return math.exp(abs(math.log1p(error)))


def _at(efficiency: float, family: Sequence[Point]) -> Fit:
    times = {
        name: _layer_seconds(efficiency, [point for point in family if _class(point) == name])
        for name in dict.fromkeys(map(_class, family))
    }
    return Fit(efficiency=efficiency, layer_seconds=times)


def _layer_seconds(efficiency: float, own: Sequence[Point]) -> float:
    """Minimises the squares of `(read / efficiency + layers * x) / measured - 1`; no layer takes less than no time."""
    weights = [point.layers / point.seconds for point in own]
    rests = [1 - point.read_seconds / (efficiency * point.seconds) for point in own]
    product = sum(weight * rest for weight, rest in zip(weights, rests, strict=True))
    return max(0.0, product / sum(weight * weight for weight in weights))


def _squares(fit: Fit, family: Sequence[Point]) -> float:
    return sum(fit.error(point) ** 2 for point in family)


def _class(point: Point) -> str:
    assert point.run.run_class is not None
    return point.run.run_class


def _chip(point: Point) -> tuple[object, ...]:
    return (_class(point), point.run.chip)


def _setting(point: Point) -> tuple[object, ...]:
    run = point.run
    return (*_chip(point), run.devices, run.model, run.weights_gb, run.pass_tokens, run.sequences)


def _prefill(own: Iterable[Point], spread: float) -> tuple[float, float] | None:
    """From the slowest to the fastest run of the class, and never closer than decoding is known."""
    known = [point.prefill_flops for point in own if point.prefill_flops is not None]
    if not known:
        return None
    low, high = min(known), max(known)
    return (low, high) if high / low >= spread else (low / math.sqrt(spread), high * math.sqrt(spread))


# --- the report and the file -----------------------------------------------------------------------------------------


def report(file: MeasurementFile, classes: Sequence[Validated]) -> str:
    """Coefficients, errors by class and run, and the back tests."""
    lines = [
        "                                              off by, median and worst",
        "class                 runs efficiency us/layer  same chip  another chip  range x/  elsewhere x/",
    ]
    for one in classes:
        lines.append(
            f"{one.entry.id:21} {len(one.fitted):4} {one.efficiency:10.2f} {one.layer_seconds * 1e6:8.0f}"
            f"  {_errors_text(one.same_errors):9}  {_errors_text(one.other_errors):12}"
            f"  {one.spread:8.2f}  {one.other_spread:12.2f}"
        )
        lines += [
            f"    {point.run.id:18} {point.seconds * 1000:7.2f} ms a pass{_run_text(one, point.run.id)}"
            for point in one.fitted
        ]
    lines.append("\nback tests: several sequences, predicted with all tokens' experts apart and not fitted")
    by_class = {one.entry.id: one for one in classes}
    for point in (point for point in points(file) if point.run.back_test):
        one = by_class[_class(point)]
        seconds = point.read_seconds / one.efficiency + point.layers * one.layer_seconds
        lines.append(
            f"    {point.run.id:18} {point.seconds * 1000:7.2f} ms a pass, {seconds / point.seconds - 1:+.0%} predicted"
        )
    for words, errors in (
        ("on a chip measured otherwise", [e for one in classes for e in one.same_errors.values()]),
        ("on a chip not measured", [e for one in classes for e in one.other_errors.values()]),
    ):
        sizes = [abs(error) for error in errors]
        lines.append(f"{words}: {len(sizes)} runs, median error {statistics.median(sizes):.0%}, worst {max(sizes):.0%}")
    return "\n".join(lines)


def model_text(file: MeasurementFile, classes: Sequence[Validated]) -> str:
    """profiles/speed/model.yaml, for the classes that speak for an engine."""
    newest = max(run.as_of for run in file.runs if run.run_class is not None)
    lines = [
        "# Written by tools/fit_speed.py (`make fit-speed`) from measurements.yaml; do not edit.",
        "# Keys: see SpeedModel in v4deploy/domain/speed_model.py.",
        f"as_of: {newest}",
        "classes:",
    ]
    lines += [_class_line(one, file.depths.get(one.entry.family)) for one in classes if one.entry.serves]
    lines.append("accept_lengths:")
    lines += [
        f"  - {{kind: {entry.kind}, draft_tokens: {entry.draft_tokens}, low: {entry.low}, high: {entry.high},"
        f" source: {_quoted(entry.source)}}}"
        for entry in file.accept_lengths
    ]
    host = file.host_read
    lines.append(f"host_read: {{low: {host.low}, high: {host.high}, source: {_quoted(host.source)}}}")
    lines.append("seen:")
    lines += [_seen_line(run) for run in file.runs if run.shown]
    return "\n".join(lines) + "\n"


def _seen_line(run: RunEntry) -> str:
    draft = f", {run.draft}" if run.draft else ""
    return (
        f"  - {{model: {run.model}, chip: {run.chip}, devices: {run.devices}, hardware: {_quoted(run.hardware)},"
        f" engine: {_quoted(run.engine)}, weights: {_quoted(run.weights + draft)}, sequences: {run.sequences},"
        f" offload: {str(run.offload).lower()}, tokens_per_second: {run.tokens_per_second},"
        f" left_out: {_quoted(run.left_out or '')},"
        f" source: {_quoted(run.source)}, as_of: {_quoted(run.as_of)}}}"
    )


def _class_line(one: Validated, depth: str | None) -> str:
    chips = ", ".join(dict.fromkeys(point.run.chip for point in one.fitted if point.run.chip))
    engines = ", ".join(dict.fromkeys(point.run.engine.split()[0].lower() for point in one.fitted))
    sources = ", ".join(dict.fromkeys(point.run.source for point in one.fitted))
    prefill = ("null", "null") if one.prefill is None else tuple(f"{flops:.2e}" for flops in one.prefill)
    batches = ", ".join(f"[{sequences}, {slower:.2f}]" for sequences, slower in one.batches)
    return (
        f"  - {{id: {one.entry.id}, engines: [{', '.join(one.entry.serves)}], archs: [{', '.join(one.entry.archs)}],"
        f" measured_chips: [{chips}], measured_engines: [{engines}], efficiency: {one.efficiency:.2f},"
        f" layer_seconds: {one.layer_seconds:.7f}, runs: {len(one.fitted)},"
        f" worst_error: {_worst(one.same_errors)},"
        f" worst_error_elsewhere: {_worst(one.other_errors)}, spread: {one.spread:.2f},"
        f" spread_elsewhere: {one.other_spread:.2f}, batches: [{batches}],"
        f" prefill_flops_low: {prefill[0]}, prefill_flops_high: {prefill[1]},"
        f" depth: {'null' if depth is None else _quoted(depth)}, source: {_quoted(sources)}}}"
    )


def _worst(errors: Mapping[str, float]) -> str:
    return f"{max(map(abs, errors.values())):.2f}" if errors else "null"


def _errors_text(errors: Mapping[str, float]) -> str:
    sizes = [abs(error) for error in errors.values()]
    return f"{statistics.median(sizes):.0%} {max(sizes):.0%}" if sizes else "-"


def _run_text(one: Validated, run: str) -> str:
    same, other = one.same_errors.get(run), one.other_errors.get(run)
    return (f", {same:+.0%} without its setting" if same is not None else "") + (
        f", {other:+.0%} without its chip" if other is not None else ""
    )


def _quoted(text: str) -> str:
    return '"' + text.replace('"', "'") + '"'


def main() -> int:
    parser = argparse.ArgumentParser(description="fit the speed model on the published runs")
    parser.add_argument("--write", action="store_true", help="write profiles/speed/model.yaml")
    write = parser.parse_args().write
    file = read_measurements()
    classes = validate(file)
    sys.stdout.write(report(file, classes) + "\n")
    text = model_text(file, classes)
    if write:
        MODEL.write_text(text, encoding="utf-8")
        return 0
    is_current = MODEL.is_file() and MODEL.read_text(encoding="utf-8") == text
    if not is_current:
        sys.stdout.write(f"{MODEL} is not what this fit gives: `make fit-speed` writes it\n")
    return 0 if is_current else 1


if __name__ == "__main__":
    sys.exit(main())
