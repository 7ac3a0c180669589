"""What each device reads in one forward pass, as a span: from all tokens sharing their experts to none doing so."""

from __future__ import annotations

from dataclasses import dataclass

from v4deploy.domain.model import Architecture
from v4deploy.domain.plan import Layout
from v4deploy.planning.active_bytes import Reads, busiest_rank_experts, distinct_experts
from v4deploy.planning.weights_ranks import padded_expert_width


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Bytes, from the least to the most that a pass may read."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What one pass works on.

    Attributes:
        sequences: that are decoded at once.
        sequence_tokens: of each: one, and with drafting those to be checked.
        cache_bytes: KV cache that one sequence reads.
    """

    sequences: int = 1
    sequence_tokens: int = 1
    cache_bytes: int = 0

    @property
    def tokens(self) -> int:
        return self.sequences * self.sequence_tokens


def rank_span(reads: Reads, architecture: Architecture, layout: Layout, load: Load) -> Span:
    """What a rank of the vLLM family reads; all ranks of the layout work at the same time.

    Tensor parallelism divides each expert (padded as the kernels pad it); expert parallelism spreads whole ones, and
    the rank that has most of the chosen ones is waited for. Data parallel groups divide the sequences.
    """
    ranks = layout.tensor_parallel * layout.data_parallel
    dense = reads.sharded / layout.tensor_parallel + reads.replicated
    cache = -(-load.sequences // layout.data_parallel) * load.cache_bytes
    few, many = reads.active_experts, distinct_experts(reads, load.tokens)
    if layout.expert_parallel:
        low, high = few / ranks, busiest_rank_experts(many, ranks)
    else:
        share = padded_expert_width(architecture, layout.tensor_parallel) / architecture.expert_width
        low, high = few * share, many * share
    layer = reads.layers * reads.expert
    return Span(low=dense + cache + low * layer, high=dense + cache + high * layer)


def layers_span(reads: Reads, load: Load, *, layers: int, resident: int, holds_head: bool) -> Span:
    """What a device reads that holds some whole layers, with the routed experts of `resident` of them."""
    share = layers / reads.layers
    fixed = (reads.dense - reads.head) * share + (reads.head if holds_head else 0)
    fixed += load.sequences * load.cache_bytes * share
    experts = host_span(reads, load, layers=resident)
    return Span(low=fixed + experts.low, high=fixed + experts.high)


def host_span(reads: Reads, load: Load, *, layers: int) -> Span:
    """The routed experts of some layers."""
    layer = layers * reads.expert
    return Span(low=reads.active_experts * layer, high=distinct_experts(reads, load.tokens) * layer)
