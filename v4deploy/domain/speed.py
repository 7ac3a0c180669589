"""How fast a plan is: figures as ranges, each with its basis or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class SpeedBasis(StrEnum):
    """MEASURED_HERE: this plan ran on this machine. FITTED: a model fitted on published runs of this engine on hardware
    of this class. RATE: bytes over a rate that was measured on this machine.
    """

    MEASURED_HERE = "measured-here"
    FITTED = "fitted"
    RATE = "rate"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedFigure:
    """A quantity as a range, or None and the reason.

    Attributes:
        low, high: in the unit that the field's name says; equal for a single measurement, both None where there is no
            basis.
        basis: None exactly where low and high are.
        source: what the range rests on, in words.
        reason: why there is no range.
        at_most: what the memory's bandwidth allows without drafting, where that is all that is known: a bound, not an
            estimate.
    """

    low: float | None = None
    high: float | None = None
    basis: SpeedBasis | None = None
    source: str | None = None
    reason: str | None = None
    at_most: float | None = None

    def __post_init__(self) -> None:
        """Refuse half a figure.

        Raises:
            ValueError: the range has one end, is upside down, or has neither a basis nor a reason to be missing.
        """
        if self.low is None or self.high is None:
            if self.low is not None or self.high is not None or self.basis is not None or not self.reason:
                raise ValueError("a figure without a range says why, and has no basis")
        elif not (0 < self.low <= self.high and self.basis is not None and self.source):
            raise ValueError(f"{self.low} to {self.high} is no range with a basis")

    @property
    def middle(self) -> float | None:
        """The geometric middle, to compare candidates with; None where there is no range."""
        return None if self.low is None or self.high is None else float((self.low * self.high) ** 0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedEstimate:
    """What to expect of a candidate, for texts of a few thousand tokens.

    Attributes:
        single_tokens_per_second: decoding one sequence alone.
        each_tokens_per_second: decoding, of each of the sequences asked for.
        all_tokens_per_second: of all of them together.
        prefill_tokens_per_second: reading a prompt.
        load_seconds: reading the weights from disk when the engine starts.
        download_seconds: fetching the weights.
        token_read_bytes: weights that one token needs, without drafting, over all devices; None where the checkpoint's
            size is not known.
        notes: what the figures leave out.
    """

    single_tokens_per_second: SpeedFigure
    each_tokens_per_second: SpeedFigure
    all_tokens_per_second: SpeedFigure
    prefill_tokens_per_second: SpeedFigure
    load_seconds: SpeedFigure
    download_seconds: SpeedFigure
    token_read_bytes: int | None
    notes: tuple[str, ...] = ()
