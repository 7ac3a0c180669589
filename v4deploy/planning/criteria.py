"""What makes one candidate that fits better than another: criteria by preference, in order, each with its words."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from v4deploy.domain.engine import EngineId
from v4deploy.domain.model import Checkpoint, Draft, Model
from v4deploy.domain.plan import Prefer, Verdict
from v4deploy.planning import margins
from v4deploy.planning.active_bytes import reads_of
from v4deploy.planning.notes import EXPECTED_ONLY_ID
from v4deploy.planning.weights import native_parts

NEAR_NATIVE_BITS = 8
"""Experts re-quantised to so many bits from the original's four lose next to nothing."""

FEWEST_BITS = 2
"""Perplexity of V4-Flash-0731 grows by 7 % with three-bit experts, by 8 to 28 % with two, by 41 % with one
(AtomicChat/dsv4-eval-artifacts, 2026-08): one bit is nobody's price for speed, context or sequences."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """What a comparison rests on beside the verdicts. `precedence` is EngineProfile's, by engine."""

    model: Model
    draft: Draft | None
    precedence: Mapping[EngineId, int]
    prefer: Prefer | None = None


Worth = int | float | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """Attributes:
    lacks: what is to be said of the one that is worse here.
    worth: the smaller, the better.
    shown: how a worth reads, for criteria whose numbers tell more than `lacks`; None for the others.
    """

    lacks: str
    worth: Callable[[Verdict, Ranking], Worth]
    shown: Callable[[Verdict], str] | None = None


def named_bits(quant: str) -> int:
    """Bits that a quant's name gives its experts: 3 for `UD-IQ3_XXS`, 8 for `w8a8`; 0 where it names none.

    Bytes alone mislead: a plain Q2_K is as large as a dynamic IQ3_S and much further from the original.
    """
    match = re.search(r"(?:q|w|fp|int)(\d+)", quant.lower())
    return int(match[1]) if match else 0


def is_near_native(checkpoint: Checkpoint, model: Model) -> bool:
    """Whether nobody has to weigh this checkpoint's quality against speed: the original experts, or eight bits."""
    return keeps_native_experts(checkpoint, model) or named_bits(checkpoint.quant) >= NEAR_NATIVE_BITS


def keeps_native_experts(checkpoint: Checkpoint, model: Model) -> bool:
    """Whether the routed experts are bit for bit the official ones: a native file, or a GGUF that says so by size."""
    if is_original(checkpoint):
        return True
    if checkpoint.size_bytes is None or checkpoint.dense_bytes is None:
        return False
    return checkpoint.size_bytes - checkpoint.dense_bytes == native_parts(model.architecture, None).experts


def is_original(checkpoint: Checkpoint) -> bool:
    """Whether these are the files that the model's makers released."""
    return checkpoint.official and checkpoint.quant == "native"


def _token_bytes(verdict: Verdict, ranking: Ranking) -> int | None:
    """Bytes of weights that one token reads; None where the checkpoint's size is not known."""
    reads = reads_of(verdict.candidate.checkpoint, ranking.model.architecture, ranking.draft)
    return None if reads is None else reads.token


def _has_enough_bits(checkpoint: Checkpoint, model: Model) -> bool:
    return keeps_native_experts(checkpoint, model) or named_bits(checkpoint.quant) >= FEWEST_BITS


def _layout(verdict: Verdict) -> tuple[bool, bool]:
    """Whether devices take part, and whether a part of the experts is left to the CPU."""
    layout = verdict.candidate.layout
    return bool(layout.device_indices), layout.host_expert_layers > 0


ON_DEVICES = Criterion(
    lacks="everything is computed by the CPU", worth=lambda verdict, _: 0 if _layout(verdict)[0] else 1
)
WHOLLY_ON_DEVICES = Criterion(
    lacks="part of it is computed by the CPU", worth=lambda verdict, _: int(_layout(verdict)[1])
)
USEFUL_CONTEXT = Criterion(
    lacks="its context is short",
    worth=lambda verdict, _: 0 if verdict.candidate.context_tokens >= margins.USEFUL_CONTEXT_TOKENS else 1,
)
LONG_CONTEXT = Criterion(
    lacks="its context is shorter",
    worth=lambda verdict, _: -verdict.candidate.context_tokens,
    shown=lambda verdict: f"{verdict.candidate.context_tokens:,} tokens",
)
MANY_SEQUENCES = Criterion(
    lacks="it holds fewer sequences",
    # Twice as many count; a few more do not outweigh what is asked of a candidate next.
    worth=lambda verdict, _: -verdict.candidate.concurrency.bit_length(),
    shown=lambda verdict: f"{verdict.candidate.concurrency:,}",
)
TWO_BITS = Criterion(
    lacks="its experts have fewer than two bits",
    worth=lambda verdict, ranking: 0 if _has_enough_bits(verdict.candidate.checkpoint, ranking.model) else 1,
)
ORIGINAL = Criterion(
    lacks="its weights are not the original ones",
    worth=lambda verdict, _: 0 if is_original(verdict.candidate.checkpoint) else 1,
)
NEAR_NATIVE = Criterion(
    lacks="its experts are not known to be near the original ones",
    worth=lambda verdict, ranking: 0 if is_near_native(verdict.candidate.checkpoint, ranking.model) else 1,
)
PUBLISHED_RUN = Criterion(
    lacks="no published run on this device",
    worth=lambda verdict, _: int(any(finding.id == EXPECTED_ONLY_ID for finding in verdict.reasons)),
)
ENGINE = Criterion(
    lacks="another engine is faster here", worth=lambda verdict, ranking: ranking.precedence[verdict.candidate.engine]
)
NATIVE_EXPERTS = Criterion(
    lacks="its experts are not the original ones",
    worth=lambda verdict, ranking: 0 if keeps_native_experts(verdict.candidate.checkpoint, ranking.model) else 1,
)
BITS = Criterion(
    lacks="its quant has fewer bits", worth=lambda verdict, _: -named_bits(verdict.candidate.checkpoint.quant)
)
LARGE = Criterion(
    lacks="its weights are smaller, so further from the original",
    worth=lambda verdict, _: -(verdict.candidate.checkpoint.size_bytes or 0),
)
READS_LITTLE = Criterion(
    lacks="more bytes are read for each token",
    worth=lambda verdict, ranking: _token_bytes(verdict, ranking) or 1 << 62,
)
MEASURED_QUALITY = Criterion(
    lacks="no measured quality",
    worth=lambda verdict, _: 0 if verdict.candidate.checkpoint.official or verdict.candidate.checkpoint.quality else 1,
)
NAME = Criterion(lacks="equal; the other comes first by name", worth=lambda verdict, _: verdict.candidate.checkpoint.id)

BALANCED = (
    ON_DEVICES,
    USEFUL_CONTEXT,
    NEAR_NATIVE,
    WHOLLY_ON_DEVICES,
    PUBLISHED_RUN,
    ENGINE,
    NATIVE_EXPERTS,
    BITS,
    LARGE,
    MEASURED_QUALITY,
    NAME,
)
"""Devices come first: neither context nor quality may hand over to the CPU what they can hold, or more host memory
would make a plan many times slower."""

PREFERRED = {
    Prefer.QUALITY: (USEFUL_CONTEXT, ORIGINAL, NATIVE_EXPERTS, BITS, LARGE),
    Prefer.SPEED: (ON_DEVICES, USEFUL_CONTEXT, TWO_BITS, WHOLLY_ON_DEVICES, ENGINE, NEAR_NATIVE, READS_LITTLE),
    Prefer.CONTEXT: (ON_DEVICES, TWO_BITS, LONG_CONTEXT),
    Prefer.CONCURRENCY: (
        ON_DEVICES,
        USEFUL_CONTEXT,
        TWO_BITS,
        WHOLLY_ON_DEVICES,
        ENGINE,
        NEAR_NATIVE,
        MANY_SEQUENCES,
    ),
}
"""What a preference puts before the rest of BALANCED."""


def criteria(prefer: Prefer | None) -> tuple[Criterion, ...]:
    """The criteria of a preference, the weightiest first; a name at the end, so that no two are equal."""
    return BALANCED if prefer is None else tuple(dict.fromkeys((*PREFERRED[prefer], *BALANCED)))


def preference(verdict: Verdict, ranking: Ranking) -> tuple[Worth, ...]:
    """The smaller, the better; one entry for each criterion."""
    return tuple(criterion.worth(verdict, ranking) for criterion in criteria(ranking.prefer))


def why_worse(verdict: Verdict, chosen: Verdict, ranking: Ranking) -> str:
    """The first criterion that tells two candidates apart, in words."""
    for criterion in criteria(ranking.prefer):
        if criterion.worth(verdict, ranking) != criterion.worth(chosen, ranking):
            if criterion.shown is None:
                return criterion.lacks
            return f"{criterion.lacks}: {criterion.shown(verdict)} instead of {criterion.shown(chosen)}"
    raise ValueError("a candidate was compared with itself")
