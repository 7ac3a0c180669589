"""From a wish, a host and the catalogue to a decision: everything is weighed, the best that fits is the plan."""

from __future__ import annotations

from dataclasses import dataclass

from v4deploy.domain.catalogue import Catalogue, resolve_quant, unknown_name
from v4deploy.domain.engine import EngineId
from v4deploy.domain.errors import UsageError
from v4deploy.domain.hardware import Device, Host
from v4deploy.domain.measurements import Measurements
from v4deploy.domain.model import Checkpoint, Model, QuantAlias, Release, Runnable
from v4deploy.domain.plan import Candidate, Plan, Request, Verdict
from v4deploy.planning import layouts, margins, remarks
from v4deploy.planning.candidates import Trial
from v4deploy.planning.capacities import capacity_of
from v4deploy.planning.case import Case
from v4deploy.planning.criteria import Ranking, preference
from v4deploy.planning.engine_versions import planned_version
from v4deploy.planning.layout_wish import parse_layout
from v4deploy.planning.rank import nearest_misses, rejected
from v4deploy.planning.speed import estimate, grounds_of
from v4deploy.planning.weigh import weigh

ENGINES_UNASKED = (EngineId.VLLM, EngineId.MINDIE, EngineId.LLAMA_CPP)
"""Ollama runs the same files in the same engine as llama.cpp, so it is planned for when asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A plan, or None and the nearest misses.

    Attributes:
        verdicts: with a plan: everything that was weighed, the choice first. Without: one a class of quant and engine,
            the smallest miss first.
    """

    plan: Plan | None
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a request names in the catalogue."""

    model: Model
    release: Release
    checkpoints: tuple[Checkpoint, ...]
    alias: QuantAlias | None


def make_plan(
    request: Request,
    host: Host,
    catalogue: Catalogue,
    *,
    tool_version: str,
    measured: Measurements | None = None,
) -> Decision:
    """Decide. `measured` is what this very machine measured; None for any other.

    Raises:
        UsageError: an unknown model, release or quant, or numbers that no model takes.
    """
    wanted = find_wanted(request, catalogue)
    verdicts = weigh_all(request, host, catalogue, wanted)
    ranking = ranking_for(request, catalogue, wanted)
    fitting = sorted((verdict for verdict in verdicts if verdict.fits), key=lambda v: preference(v, ranking))
    misses = nearest_misses(tuple(verdict for verdict in verdicts if not verdict.fits), wanted.model)
    if not fitting:
        return Decision(plan=None, verdicts=misses)
    chosen, *others = fitting
    case = case_for(chosen.candidate.engine, host, catalogue, wanted)
    plan = Plan(
        tool_version=tool_version,
        request=request,
        release=wanted.release,
        gguf_arch=wanted.model.architecture.gguf_arch,
        chosen=chosen.candidate,
        alias=wanted.alias,
        engine_version=case.engine_version,
        footprint=chosen.footprint,
        pools=chosen.pools,
        capacity=capacity_of(chosen, case),
        speed=estimate(chosen.candidate, case, grounds_of(catalogue, measured)),
        findings=remarks.of_plan(chosen, tuple(others), request, case),
        rejected=tuple(rejected(verdict, chosen, ranking) for verdict in (*others, *misses)),
        host=host,
    )
    return Decision(plan=plan, verdicts=(chosen, *others, *misses))


def first_choice(request: Request, host: Host, catalogue: Catalogue) -> Candidate | None:
    """What a plan would choose, without what else it tells. None where nothing fits.

    Raises:
        UsageError: as `make_plan`.
    """
    wanted = find_wanted(request, catalogue)
    ranking = ranking_for(request, catalogue, wanted)
    fitting = (verdict for verdict in weigh_all(request, host, catalogue, wanted) if verdict.fits)
    best = min(fitting, key=lambda verdict: preference(verdict, ranking), default=None)
    return None if best is None else best.candidate


def find_wanted(request: Request, catalogue: Catalogue) -> Wanted:
    """The model, release and checkpoints that a request speaks of.

    Raises:
        UsageError: an unknown name, or a context, concurrency or cache type that nothing takes.
    """
    model, release = catalogue.model_and_release(request.model)
    if request.release is not None:
        release = _release(model, request.release)
    _check_numbers(request, model, catalogue)
    repo = request.model.strip().lower()
    of_release = [c for c in model.checkpoints if c.release == release.id]
    named = [c for c in of_release if c.repo.lower() == repo]
    alias = None
    if request.quant is not None:
        quant, alias = resolve_quant(model, release, request.quant)
        pinned = tuple(c for c in named or of_release if c.quant == quant)
        if not pinned:
            raise unknown_name("quant", request.quant, [c.quant for c in named], of=request.model)
        return Wanted(model=model, release=release, checkpoints=pinned, alias=alias)
    driven = tuple(c for c in named or of_release if c.runnable is Runnable.DRIVEN)
    return Wanted(model=model, release=release, checkpoints=tuple(named) or driven or tuple(of_release), alias=None)


def weigh_all(request: Request, host: Host, catalogue: Catalogue, wanted: Wanted) -> tuple[Verdict, ...]:
    """What fits of each checkpoint on each engine, or its nearest miss."""
    engines = ENGINES_UNASKED if request.engine is None else (request.engine,)
    verdicts: list[Verdict] = []
    for engine in engines:
        case = case_for(engine, host, catalogue, wanted)
        verdicts += [
            verdict
            for checkpoint in wanted.checkpoints
            # Without a wish for an engine, a checkpoint is weighed on those that load it, not refused by the others;
            # one that none of them loads is refused once.
            if request.engine is not None or engine in (checkpoint.engines or engines[:1])
            for verdict in weigh_on_host(checkpoint, case, request)
        ]
    return tuple(verdicts)


def ranking_for(request: Request, catalogue: Catalogue, wanted: Wanted) -> Ranking:
    """How what fits is compared."""
    precedence = {profile.id: profile.precedence for profile in catalogue.engines}
    return Ranking(model=wanted.model, draft=wanted.release.draft, precedence=precedence, prefer=request.prefer)


def case_for(engine: EngineId, host: Host, catalogue: Catalogue, wanted: Wanted) -> Case:
    """What all candidates on one engine share."""
    profile = catalogue.engine(engine)
    return Case(
        model=wanted.model,
        release=wanted.release,
        profile=profile,
        engine_version=planned_version(profile, wanted.release, host),
        host=host,
    )


def weigh_on_host(checkpoint: Checkpoint, case: Case, request: Request) -> tuple[Verdict, ...]:
    """What fits on each of the host's device groups, and on the CPU alone where they leave no useful context.

    A group that a rule forbids is tried by architecture: a card for the screen must not keep four others from an
    engine that does not run on it. Where nothing fits, the one nearest miss.
    """

    def weighed(devices: tuple[Device, ...]) -> Verdict:
        return weigh(Trial(checkpoint=checkpoint, case=case, devices=devices, request=request))

    tried = []
    for group in layouts.device_groups(case.host):
        together = weighed(group)
        parts = [] if together.pools else [weighed(part) for part in layouts.alike_groups(group)]
        tried += [together, *(part for part in parts if part.pools)]
    if not any(verdict.fits and _is_long_enough(verdict, request) for verdict in tried):
        alone = weighed(())
        # That an engine does not run on a CPU says nothing where there are devices that it was weighed on.
        if alone.pools or not tried:
            tried.append(alone)
    return tuple(verdict for verdict in tried if verdict.fits) or (min(tried, key=_distance),)


def _is_long_enough(verdict: Verdict, request: Request) -> bool:
    return request.context_tokens is not None or verdict.candidate.context_tokens >= margins.USEFUL_CONTEXT_TOKENS


def _distance(miss: Verdict) -> tuple[int, int]:
    if not miss.pools:
        return (2, 0)
    return (1, 0) if miss.missing_bytes is None else (0, miss.missing_bytes)


def _release(model: Model, release_id: str) -> Release:
    wanted = release_id.strip().lower()
    for release in model.releases:
        if release.id == wanted:
            return release
    raise unknown_name("release", release_id, [release.id for release in model.releases], of=model.id)


def _check_numbers(request: Request, model: Model, catalogue: Catalogue) -> None:
    most = model.architecture.max_context_tokens
    context = request.context_tokens
    if context is not None and not 0 < context <= most:
        raise UsageError(
            f"{model.name} takes 1 to {most:,} tokens of context, not {context:,}",
            hint=f"ask for `--context {most}` or less, or leave it out",
        )
    if request.concurrency < 1:
        raise UsageError(
            f"{request.concurrency} sequences at once cannot be served", hint="ask for `--concurrency 1` or more"
        )
    if request.layout is not None:
        parse_layout(request.layout)
    known = {name for profile in catalogue.engines for name in profile.kv_cache_types}
    if request.kv_cache_type is not None and request.kv_cache_type not in known:
        raise unknown_name("KV cache type", request.kv_cache_type, sorted(known))
