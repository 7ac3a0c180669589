"""The sums behind the weights of one rank, in numbers, for people who check them."""

from __future__ import annotations

from v4deploy.domain.counting import counted
from v4deploy.domain.plan import Layout
from v4deploy.planning.weights import WeightParts


def experts(parts: WeightParts, layout: Layout) -> str:
    """How the routed experts of a checkpoint are divided."""
    ranks = layout.tensor_parallel * layout.data_parallel
    way = "whole experts over" if layout.expert_parallel else "slices over"
    return _of_stage(f"{parts.experts:,} B, {way} {counted(ranks, 'rank')}", layout)


def dense(parts: WeightParts, layout: Layout) -> str:
    """How everything else is divided."""
    return _of_stage(f"{parts.sharded:,} B / {layout.tensor_parallel} + {parts.replicated:,} B on every rank", layout)


def draft(parts: WeightParts, layout: Layout) -> str:
    """How the draft stages are divided."""
    ranks = layout.tensor_parallel * layout.data_parallel
    return (
        f"experts of {parts.draft_experts:,} B over {counted(ranks, 'rank')}, "
        f"{parts.draft_sharded:,} B / {layout.tensor_parallel} + {parts.draft_replicated:,} B on every rank"
    )


def _of_stage(text: str, layout: Layout) -> str:
    stages = layout.pipeline_parallel
    return text if stages == 1 else f"{text}, by layers over {stages} stages"
