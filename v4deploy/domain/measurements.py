"""What was measured on this machine: it takes the place of estimates."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from v4deploy.domain.engine import EngineId
from v4deploy.domain.plan import Layout

MEASUREMENTS_SCHEMA = "v4deploy.measurements/1"
_KEPT_RUNS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredRun:
    """One run on this machine.

    Attributes:
        checkpoint, engine, layout, use_draft, concurrency: as in the plan that ran.
        device_names: of the layout's devices, in its order; a run counts only where they are the same.
        tokens_per_second: decoded, of each sequence; None where only the prompt or the start was measured.
        prefill_tokens_per_second: of one prompt.
        load_seconds: from start to the first health answer.
        context_tokens: about as many stood in each sequence.
        engine_version: None where it was not told.
        measured_at: ISO 8601, UTC.
    """

    checkpoint: str
    engine: EngineId
    layout: Layout
    device_names: tuple[str, ...]
    use_draft: bool
    concurrency: int
    context_tokens: int
    tokens_per_second: float | None = None
    prefill_tokens_per_second: float | None = None
    load_seconds: float | None = None
    engine_version: str | None = None
    measured_at: str

    def __post_init__(self) -> None:
        """Refuse what cannot have been measured.

        Raises:
            ValueError: a figure is not above zero.
        """
        for value in (self.tokens_per_second, self.prefill_tokens_per_second, self.load_seconds):
            _check_positive(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredRate:
    """A rate of this machine. `what` says of which disk, memory or link, and how it was taken."""

    bytes_per_second: float
    what: str
    measured_at: str

    def __post_init__(self) -> None:
        """Refuse what cannot have been measured.

        Raises:
            ValueError: the rate is not above zero.
        """
        _check_positive(self.bytes_per_second)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurements:
    """What was measured on this machine. A JSON document (`v4deploy.measurements/1`).

    Attributes:
        host_read: reading host memory with all cores.
        disk_read: reading weight files past the page cache.
        download: fetching from the hub.
    """

    runs: tuple[MeasuredRun, ...] = ()
    host_read: MeasuredRate | None = None
    disk_read: MeasuredRate | None = None
    download: MeasuredRate | None = None

    def with_runs(self, runs: tuple[MeasuredRun, ...]) -> Measurements:
        """With these runs at the end; of runs alike the last ones stay, or the file would grow with each start."""
        kept: list[MeasuredRun] = []
        for run in reversed((*self.runs, *runs)):
            if sum(_is_like(run, other) for other in kept) < _KEPT_RUNS:
                kept.append(run)
        return replace(self, runs=tuple(reversed(kept)))


def _is_like(one: MeasuredRun, other: MeasuredRun) -> bool:
    return _kind(one) == _kind(other)


def _kind(run: MeasuredRun) -> tuple[object, ...]:
    what = (run.tokens_per_second is None, run.prefill_tokens_per_second is None, run.load_seconds is None)
    return (run.checkpoint, run.engine, run.layout, run.device_names, run.use_draft, run.concurrency, what)


def _check_positive(value: float | None) -> None:
    if value is not None and not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{value} was not measured: it is no number above zero")
