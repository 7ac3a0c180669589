"""Which misses are worth a line, and what is said of everything that was not chosen."""

from __future__ import annotations

from v4deploy.domain.layout_words import layout_words
from v4deploy.domain.model import Checkpoint, Model
from v4deploy.domain.plan import Rejected, Verdict
from v4deploy.planning.criteria import Ranking, why_worse
from v4deploy.planning.weights import native_parts


def rejected(verdict: Verdict, chosen: Verdict, ranking: Ranking) -> Rejected:
    """A verdict that is not the chosen one, with all that stands against it."""
    if verdict.fits:
        return summary_of(verdict, (f"fits; {why_worse(verdict, chosen, ranking)}",))
    return summary_of(verdict, tuple(finding.summary for finding in verdict.reasons))


def summary_of(verdict: Verdict, reasons: tuple[str, ...]) -> Rejected:
    """A verdict in one line, with these reasons."""
    candidate = verdict.candidate
    return Rejected(
        checkpoint=candidate.checkpoint.id,
        quant=candidate.checkpoint.quant,
        engine=candidate.engine,
        layout=layout_words(candidate.layout),
        reasons=reasons,
        missing_bytes=None if verdict.fits else verdict.missing_bytes,
    )


def nearest_misses(verdicts: tuple[Verdict, ...], model: Model) -> tuple[Verdict, ...]:
    """Of each engine and class of quant the one that misses least, nearest first; then what is ruled out altogether."""
    best: dict[tuple[object, ...], Verdict] = {}
    for verdict in sorted(verdicts, key=_miss_order):
        is_ruled_out = not verdict.pools
        what = verdict.reasons[0].id if is_ruled_out else quant_class(verdict.candidate.checkpoint, model)
        best.setdefault((verdict.candidate.engine, is_ruled_out, what), verdict)
    return tuple(best.values())


def quant_class(checkpoint: Checkpoint, model: Model) -> int:
    """Bits a weight, rounded; the native files have about 4.5. 0 where the size is not known."""
    if checkpoint.size_bytes is None:
        return 0
    native = native_parts(model.architecture, None)
    return round(4.5 * (checkpoint.size_bytes - checkpoint.offloadable_bytes) / (native.total_bytes - native.engram))


def _miss_order(verdict: Verdict) -> tuple[int, int, str]:
    """By what is missing; where that is not known, what needs least is nearest."""
    name = verdict.candidate.checkpoint.id
    if not verdict.pools:
        return (2, 0, name)
    if verdict.missing_bytes is None:
        return (1, sum(use.needed_bytes for use in verdict.pools), name)
    return (0, verdict.missing_bytes, name)
