"""How many sequences a layout holds at once: the largest number that still fits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from v4deploy.domain.plan import Candidate, Capacity, Verdict
from v4deploy.planning import margins
from v4deploy.planning.candidates import at_concurrency
from v4deploy.planning.case import Case
from v4deploy.planning.judge import judge


def most_sequences(fits: Callable[[int], bool], *, most: int) -> int:
    """The largest number up to `most` for which `fits` holds; 0 where not even one does.

    `fits` has to be monotone: what holds for many holds for few.
    """
    low, high = 0, 1
    while high <= most and fits(high):
        low, high = high, high * 2
    high = min(high, most + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def capacity_of(chosen: Verdict, case: Case) -> tuple[Capacity, ...]:
    """The chosen context, and shorter ones that people ask for, with the sequences that the layout holds of each."""
    candidate = chosen.candidate
    shorter = (tokens for tokens in margins.CAPACITY_CONTEXTS_TOKENS if tokens < candidate.context_tokens)
    return tuple(
        Capacity(
            context_tokens=tokens,
            sequences=sequences_that_fit(replace(candidate, context_tokens=tokens), case, least=candidate.concurrency),
        )
        for tokens in (candidate.context_tokens, *shorter)
    )


def sequences_that_fit(candidate: Candidate, case: Case, *, least: int, may_offload_more: bool = False) -> int:
    """The most sequences that fit; 0 where not even one does.

    Numbers up to what the engine serves are tried, or up to `least` where that is more. Unless `may_offload_more`, no
    more experts move to host memory to make room for them.
    """
    offloaded = candidate.layout.host_expert_layers

    def fits(sequences: int) -> bool:
        changed = at_concurrency(candidate, case, sequences)
        stays = may_offload_more or changed.layout.host_expert_layers <= offloaded
        return stays and judge(changed, case).fits

    return most_sequences(fits, most=max(least, case.profile.most_sequences))
