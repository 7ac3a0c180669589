"""One checkpoint on one engine and one set of devices: the best candidate that fits, or the nearest miss."""

from __future__ import annotations

import bisect
from collections.abc import Callable
from dataclasses import dataclass, replace

from v4deploy.domain.plan import Prefer, Verdict
from v4deploy.planning import margins
from v4deploy.planning.candidates import (
    Trial,
    at_concurrency,
    candidates_at,
    layout_obstacles,
    recipe_context_limit,
    unplaced,
)
from v4deploy.planning.capacities import sequences_that_fit
from v4deploy.planning.judge import judge, shortfall_bytes
from v4deploy.planning.notes import fit_notes
from v4deploy.planning.obstacles import find_obstacles


def weigh(trial: Trial) -> Verdict:
    """The candidate with the longest context that fits; where none does, the one that misses least.

    A shorter context that is still useful wins if it keeps on devices what a longer one would push to host memory,
    unless context is what is preferred. With concurrency preferred, the candidate that holds the most sequences.
    """
    obstacles = find_obstacles(trial.checkpoint, trial.case, trial.devices, trial.request.kv_cache_type)
    obstacles = obstacles or layout_obstacles(trial)
    if obstacles:
        return Verdict(candidate=unplaced(trial), fits=False, reasons=obstacles)
    contexts = context_ladder(trial)
    ladder = _Ladder(trial=trial, contexts=contexts, found={})
    nearest = ladder.at(len(contexts) - 1)
    if not nearest.fits:
        return nearest
    widest = _widest(trial, contexts) if trial.request.prefer is Prefer.CONCURRENCY else None
    if widest is not None:
        return widest
    longest = ladder.at(ladder.first(lambda verdict: verdict.fits))
    if trial.request.prefer is Prefer.CONTEXT or not longest.candidate.layout.host_expert_layers:
        return longest
    whole = ladder.first(_lies_on_devices)
    useful = whole < len(contexts) and contexts[whole] >= margins.USEFUL_CONTEXT_TOKENS
    return ladder.at(whole) if useful else longest


def context_ladder(trial: Trial) -> tuple[int, ...]:
    """Contexts to try, longest first: what was asked for, else the ladder up to what model and recipe allow.

    Who prefers context is not stopped by a recipe that ends earlier, unless other layouts are unknown altogether.
    """
    asked = trial.request.context_tokens
    if asked is not None:
        return (asked,)
    most = trial.case.model.architecture.max_context_tokens
    limit = recipe_context_limit(trial)
    if limit is not None and (trial.request.prefer is not Prefer.CONTEXT or trial.case.profile.recipes.layouts):
        most = min(most, limit)
    return (most, *(context for context in margins.CONTEXT_LADDER_TOKENS if context < most))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ladder:
    """Verdicts by context, each found once."""

    trial: Trial
    contexts: tuple[int, ...]
    found: dict[int, Verdict]

    def at(self, position: int) -> Verdict:
        if position not in self.found:
            self.found[position] = _first_fit(self.trial, self.contexts[position])
        return self.found[position]

    def first(self, holds: Callable[[Verdict], bool]) -> int:
        """The longest context for which `holds`; as many as there are contexts where it holds for none.

        What holds for a context holds for all shorter ones.
        """
        return bisect.bisect_left(range(len(self.contexts)), 1, key=lambda position: int(holds(self.at(position))))


def _lies_on_devices(verdict: Verdict) -> bool:
    return verdict.fits and not verdict.candidate.layout.host_expert_layers


def _first_fit(trial: Trial, context_tokens: int) -> Verdict:
    nearest: Verdict | None = None
    for candidate in candidates_at(trial, context_tokens):
        verdict = judge(candidate, trial.case)
        if verdict.fits:
            return _noted(verdict, trial)
        if nearest is None or shortfall_bytes(verdict) < shortfall_bytes(nearest):
            nearest = verdict
    assert nearest is not None
    return nearest


def _widest(trial: Trial, contexts: tuple[int, ...]) -> Verdict | None:
    """The first candidate that holds nearly the most sequences, at the asked or at the shortest useful context.

    None where that context does not fit even for as many as were asked for.
    """
    case, least = trial.case, trial.request.concurrency
    useful = [context for context in contexts if context >= margins.USEFUL_CONTEXT_TOKENS]
    counted = []
    for candidate in candidates_at(trial, useful[-1] if useful else contexts[0]):
        # Sequences may push out more experts where some lie in host memory anyway, but not begin to.
        offloads = candidate.layout.host_expert_layers > 0
        most = sequences_that_fit(candidate, case, least=least, may_offload_more=offloads)
        counted.append((most, candidate))
    enough = max(most for most, _ in counted) * margins.NEARLY_AS_MANY_PERCENT // 100
    found = next((pair for pair in counted if pair[0] >= max(least, enough)), None)
    return None if found is None else _noted(judge(at_concurrency(found[1], case, found[0]), case), trial)


def _noted(verdict: Verdict, trial: Trial) -> Verdict:
    return replace(verdict, reasons=fit_notes(verdict.candidate, trial.case, trial.devices))
