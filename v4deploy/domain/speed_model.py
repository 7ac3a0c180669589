"""The speed model as the catalogue holds it: coefficients that tools/fit_speed.py fitted on published runs."""

from __future__ import annotations

from dataclasses import dataclass

from v4deploy.domain.engine import EngineId
from v4deploy.domain.model import DraftKind


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedClass:
    """The fitted coefficients of an engine on a class of hardware, written by tools/fit_speed.py.

    A forward pass takes `bytes / (efficiency * bandwidth) + layers * layer_seconds`.

    Attributes:
        engines: that the class speaks for.
        archs: architectures of the devices; `measured_chips` are those that the runs were on, `measured_engines` what
            ran there: SGLang's passes took as long as vLLM's where both ran on one machine.
        runs: published runs that the fit used.
        worst_error: the largest relative error of a run predicted from others on the same chip; None where none has
            others. `worst_error_elsewhere`: predicted from other chips of the class.
        spread: a prediction for a measured chip may be off by this factor, both ways: from the worst error, of other
            classes where the class has none, and never less than what repeated runs differ by. `spread_elsewhere`: for
            other chips of these architectures.
        batches: sequences, and the factor by which the slowest run of up to so many was slower than predicted; empty
            where no run of several sequences was published.
        prefill_flops_low, prefill_flops_high: arithmetic of one device while it reads prompts, per second; None where
            no run reports it.
        depth: what long texts cost with these engines, in words with its source; None where nothing was published.
    """

    id: str
    engines: tuple[EngineId, ...]
    archs: tuple[str, ...]
    measured_chips: tuple[str, ...]
    measured_engines: tuple[str, ...]
    efficiency: float
    layer_seconds: float
    runs: int
    worst_error: float | None
    worst_error_elsewhere: float | None
    spread: float
    spread_elsewhere: float
    batches: tuple[tuple[int, float], ...]
    prefill_flops_low: float | None
    prefill_flops_high: float | None
    depth: str | None
    source: str

    def spread_on(self, chips: frozenset[str | None]) -> float:
        """The spread on devices of these chips."""
        return self.spread if chips <= set(self.measured_chips) else self.spread_elsewhere

    def batch_factor(self, sequences: int) -> float | None:
        """How much slower than predicted a pass over so many sequences may be; None where none of so many ran."""
        if sequences == 1:
            return 1.0
        return next((factor for tested, factor in self.batches if tested >= sequences), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptLength:
    """Tokens that one forward pass yields when `draft_tokens` are drafted, on real text."""

    kind: DraftKind
    draft_tokens: int
    low: float
    high: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRead:
    """Which share of a measured read bandwidth the CPU reaches while it computes experts."""

    low: float
    high: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenRun:
    """A published run that no fit could use, for where there is nothing better.

    Attributes:
        offload: whether the CPU computes experts.
        tokens_per_second: of all sequences together.
        left_out: why no fit uses it.
    """

    model: str
    chip: str
    devices: int
    hardware: str
    engine: str
    weights: str
    sequences: int
    offload: bool
    tokens_per_second: float
    left_out: str
    source: str
    as_of: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedModel:
    """profiles/speed/model.yaml. Empty where a profile directory has none: then nothing is estimated."""

    classes: tuple[SpeedClass, ...] = ()
    accept_lengths: tuple[AcceptLength, ...] = ()
    host_read: HostRead | None = None
    seen: tuple[SeenRun, ...] = ()
    as_of: str = ""

    def seen_on(self, model: str, chips: tuple[str | None, ...], *, offload: bool) -> tuple[SeenRun, ...]:
        """Runs of a model on just these devices, the newest first."""
        alike = (
            run
            for run in self.seen
            if (run.model, run.offload, run.devices) == (model, offload, len(chips)) and set(chips) == {run.chip}
        )
        return tuple(sorted(alike, key=lambda run: run.as_of, reverse=True))

    def class_of(self, engine: EngineId, archs: frozenset[str | None]) -> SpeedClass | None:
        """The class that speaks for an engine on devices of these architectures; None where no run was published."""
        return next((one for one in self.classes if engine in one.engines and archs and archs <= set(one.archs)), None)
