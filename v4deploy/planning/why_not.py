"""Why not this engine, quant or layout: it is weighed alone, and compared with what was chosen."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from enum import StrEnum

from v4deploy.domain.catalogue import Catalogue, resolve_quant
from v4deploy.domain.engine import EngineId
from v4deploy.domain.errors import UsageError
from v4deploy.domain.finding import Finding
from v4deploy.domain.hardware import Host
from v4deploy.domain.layout_words import layout_words
from v4deploy.domain.plan import Layout, Plan, Rejected, Request, Verdict
from v4deploy.planning.choose import find_wanted, ranking_for, weigh_all
from v4deploy.planning.criteria import Ranking, preference, why_worse
from v4deploy.planning.judge import shortfall_bytes
from v4deploy.planning.layout_wish import EXAMPLES, names_layout, parse_layout
from v4deploy.planning.rank import summary_of


class Subject(StrEnum):
    ENGINE = "engine"
    QUANT = "quant"
    LAYOUT = "layout"


@dataclass(frozen=True, slots=True, kw_only=True)
class WhyNot:
    """An answer.

    Attributes:
        asked: as typed; `meant` is what it was taken for.
        chosen: what the plan says instead, in words; None where nothing fits at all.
        is_chosen: the plan is made of just this.
        answers: what was weighed of it, what fits first, then the nearest misses, each with all its reasons.
        fix: the option that plans it all the same; None where nothing of it fits.
    """

    asked: str
    subject: Subject
    meant: str
    chosen: str | None
    is_chosen: bool
    answers: tuple[Rejected, ...]
    fix: str | None


def why_not(asked: str, request: Request, plan: Plan | None, host: Host, catalogue: Catalogue) -> WhyNot:
    """Weigh what was asked about in place of the planner's own choice.

    Raises:
        UsageError: it is neither an engine, nor a quant of the model, nor a layout.
    """
    subject, meant, narrowed = _narrowed(asked, request, catalogue)
    wanted = find_wanted(narrowed, catalogue)
    ranking = ranking_for(request, catalogue, wanted)
    verdicts = weigh_all(narrowed, host, catalogue, wanted)
    fitting = sorted((verdict for verdict in verdicts if verdict.fits), key=lambda one: preference(one, ranking))
    misses = sorted((verdict for verdict in verdicts if not verdict.fits), key=_order_of_misses)
    telling = _telling(misses, subject, else_nothing=not fitting)
    return WhyNot(
        asked=asked,
        subject=subject,
        meant=meant,
        chosen=None if plan is None else _in_words(plan),
        is_chosen=plan is not None and _is_chosen(subject, meant, plan),
        answers=tuple(_answer(verdict, plan, ranking) for verdict in (*fitting, *telling)),
        fix=f"--{subject} {shlex.quote(meant)}" if fitting else None,
    )


def _narrowed(asked: str, request: Request, catalogue: Catalogue) -> tuple[Subject, str, Request]:
    word = asked.strip()
    if word.lower() in {engine.value for engine in EngineId}:
        engine = EngineId(word.lower())
        return Subject.ENGINE, engine.value, replace(request, engine=engine)
    if names_layout(word):
        return Subject.LAYOUT, word.lower(), replace(request, layout=word)
    model, release = catalogue.model_and_release(request.release or request.model)
    try:
        quant, _ = resolve_quant(model, release, word)
    except UsageError as error:
        raise UsageError(
            f"`{asked}` is no engine, no layout and no quant of {release.id}",
            hint=error.hint,
            details=(f"engines: {', '.join(EngineId)}", f"layouts: {EXAMPLES}", *error.details),
        ) from error
    return Subject.QUANT, quant, replace(request, quant=quant)


def _is_chosen(subject: Subject, meant: str, plan: Plan) -> bool:
    match subject:
        case Subject.ENGINE:
            return plan.chosen.engine.value == meant
        case Subject.QUANT:
            return plan.chosen.checkpoint.quant == meant
        case Subject.LAYOUT:
            return parse_layout(meant).admits(plan.chosen.layout)


def _answer(verdict: Verdict, plan: Plan | None, ranking: Ranking) -> Rejected:
    if not verdict.fits:
        return summary_of(verdict, tuple(_in_full(finding) for finding in verdict.reasons))
    if plan is None:
        return summary_of(verdict, ("fits",))
    chosen = Verdict(candidate=plan.chosen, fits=True, reasons=plan.findings)
    mine, theirs = verdict.candidate, plan.chosen
    if mine == theirs:
        return summary_of(verdict, ("is what the plan chose",))
    if (mine.checkpoint, mine.engine) == (theirs.checkpoint, theirs.engine):
        return summary_of(verdict, (f"fits; {_other_layout(mine.layout, theirs.layout)}",))
    return summary_of(verdict, (f"fits; {why_worse(verdict, chosen, ranking)}",))


def _in_full(finding: Finding) -> str:
    return finding.summary if finding.why is None else f"{finding.summary}: {finding.why}"


def _other_layout(mine: Layout, theirs: Layout) -> str:
    """Why the same weights on the same engine are planned in another layout."""
    idle = len(theirs.device_indices) - len(mine.device_indices)
    if idle > 0:
        return f"{idle} of the {len(theirs.device_indices)} devices that the plan uses would be idle"
    if mine.host_expert_layers != theirs.host_expert_layers:
        return "its context or its experts lie otherwise, and the plan's stay on the devices as far as they can"
    if mine.pipeline_parallel > theirs.pipeline_parallel:
        return "its stages work one after the other, so a single sequence is slower"
    if mine.data_parallel > theirs.data_parallel:
        return "attention is replicated, which holds more sequences and makes a single one slower"
    if mine.data_parallel < theirs.data_parallel:
        return "the cache of all sequences lies on every device, so fewer of them fit"
    return "recipes for these devices keep experts the other way"


_SAYS_LITTLE = frozenset({"plan.no-such-layout", "plan.engine-cannot-load"})


_ABOUT_LAYOUTS = frozenset(
    {
        "plan.needs-more-devices",
        "plan.too-many-stages",
        "plan.heads-not-divisible",
        "plan.experts-not-divisible",
        "plan.partitioned-devices",
        "plan.shared-pool",
        "plan.unlike-devices",
    }
)


def _telling(misses: list[Verdict], subject: Subject, *, else_nothing: bool) -> list[Verdict]:
    """Without what says only that an engine knows no such files or layout, where something else says more; asked
    about a layout, first of all without weights that are ruled out whatever their layout.
    """
    if subject is Subject.LAYOUT:
        about = [miss for miss in misses if miss.pools or _ABOUT_LAYOUTS & {finding.id for finding in miss.reasons}]
        misses = about or (misses if else_nothing else [])
    more = [miss for miss in misses if not _SAYS_LITTLE & {finding.id for finding in miss.reasons}]
    return more or misses


def _order_of_misses(verdict: Verdict) -> tuple[int, int, str]:
    return (0 if verdict.pools else 1, shortfall_bytes(verdict), verdict.candidate.checkpoint.id)


def _in_words(plan: Plan) -> str:
    chosen = plan.chosen
    return f"{chosen.checkpoint.quant} on {chosen.engine}, {layout_words(chosen.layout)}"
