"""Which of several candidates that fit is the better one, and which misses are worth a line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from v4deploy.domain.engine import EngineId
from v4deploy.domain.model import Checkpoint, Model
from v4deploy.domain.plan import Layout, Rejected, Verdict
from v4deploy.planning import margins
from v4deploy.planning.notes import EXPECTED_ONLY_ID
from v4deploy.planning.weights import native_parts

NEAR_NATIVE_BITS = 8
"""Experts re-quantised to so many bits from the original's four lose next to nothing."""

_REASONS = (
    "everything is computed by the CPU",
    "its context is short",
    "its experts are not known to be near the original ones",
    "part of it is computed by the CPU",
    "no published run on this device",
    "another engine is faster here",
    "its experts are not the original ones",
    "its quant has fewer bits",
    "its weights are smaller, so further from the original",
    "no measured quality",
    "equal; the other comes first by name",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """What a comparison rests on beside the verdicts. `precedence` is EngineProfile's, by engine."""

    model: Model
    precedence: Mapping[EngineId, int]


def preference(verdict: Verdict, ranking: Ranking) -> tuple[int | str, ...]:
    """The smaller, the better; one entry for each of the reasons above.

    Devices come first: neither context nor quality may hand over to the CPU what they can hold, or more host memory
    would make a plan many times slower.
    """
    candidate, checkpoint, model = verdict.candidate, verdict.candidate.checkpoint, ranking.model
    return (
        0 if candidate.layout.device_indices else 1,
        0 if candidate.context_tokens >= margins.USEFUL_CONTEXT_TOKENS else 1,
        0 if is_near_native(checkpoint, model) else 1,
        1 if candidate.layout.host_expert_layers else 0,
        1 if any(finding.id == EXPECTED_ONLY_ID for finding in verdict.reasons) else 0,
        ranking.precedence[candidate.engine],
        0 if keeps_native_experts(checkpoint, model) else 1,
        -named_bits(checkpoint.quant),
        -(checkpoint.size_bytes or 0),
        0 if checkpoint.official or checkpoint.quality else 1,
        checkpoint.id,
    )


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
    if checkpoint.official and checkpoint.quant == "native":
        return True
    if checkpoint.size_bytes is None or checkpoint.dense_bytes is None:
        return False
    return checkpoint.size_bytes - checkpoint.dense_bytes == native_parts(model.architecture, None).experts


def why_not(verdict: Verdict, chosen: Verdict, ranking: Ranking) -> str:
    """Why a candidate was not chosen, in a few words."""
    if not verdict.fits:
        return verdict.reasons[0].summary
    pairs = zip(_REASONS, preference(verdict, ranking), preference(chosen, ranking), strict=True)
    return "fits; " + next(reason for reason, mine, theirs in pairs if mine != theirs)


def rejected(verdict: Verdict, chosen: Verdict, ranking: Ranking) -> Rejected:
    candidate = verdict.candidate
    return Rejected(
        checkpoint=candidate.checkpoint.id,
        quant=candidate.checkpoint.quant,
        engine=candidate.engine,
        layout=layout_words(candidate.layout),
        reason=why_not(verdict, chosen, ranking),
        missing_bytes=None if verdict.fits else verdict.missing_bytes,
    )


def layout_words(layout: Layout) -> str:
    """The layout in a few words: `TP8 + EP`, `1 device, experts of 38 layers in host memory`, `CPU`."""
    count = len(layout.device_indices)
    if not count:
        return "CPU"
    sizes = (("TP", layout.tensor_parallel), ("PP", layout.pipeline_parallel), ("DP", layout.data_parallel))
    words = [f"{name}{size}" for name, size in sizes if size > 1] + (["EP"] if layout.expert_parallel else [])
    text = " + ".join(words) or f"{count} device{'s' if count > 1 else ''}"
    layers = layout.host_expert_layers
    return text + (f", experts of {layers} layer{'s' if layers > 1 else ''} in host memory" if layers else "")


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
    if not verdict.pools:
        return (2, 0, verdict.candidate.checkpoint.id)
    missing = verdict.missing_bytes
    return (1, 0, verdict.candidate.checkpoint.id) if missing is None else (0, missing, verdict.candidate.checkpoint.id)
