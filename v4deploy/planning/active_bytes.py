"""What one forward pass reads: weights by component, the experts that its tokens choose, and the KV cache.

Every token reads the dense part and `active_experts` routed experts of each layer. Several tokens in one pass (a batch,
or drafted tokens to be checked) share the dense part, and read the union of their experts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from v4deploy.domain.model import Architecture, AttentionKind, Checkpoint, CheckpointFormat, Draft
from v4deploy.planning.attention import CSA_RATIO, HCA_RATIO, attention_kinds, shares_kv_stream
from v4deploy.planning.weights import checkpoint_parts, compressor_bytes, expert_bytes, fp8_bytes, native_parts
from v4deploy.planning.weights_gguf import gguf_parts

_BF16, _INT64 = 2, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeReads:
    """Bytes that one token reads of the official checkpoint, by component; `rest` is routers, hyper connections and
    norms.
    """

    routed: int
    shared: int
    attention: int
    compressor: int
    indexer: int
    rest: int
    head: int

    @property
    def total(self) -> int:
        return self.routed + self.shared + self.attention + self.compressor + self.indexer + self.rest + self.head


@dataclass(frozen=True, slots=True, kw_only=True)
class Reads:
    """What a checkpoint's parts cost to read.

    Attributes:
        sharded, replicated: bytes of the dense part that tensor parallelism divides, and that every rank reads whole.
        head: the output matrix, which is part of `sharded`.
        expert: bytes of one routed expert in one layer, the mean.
    """

    sharded: int
    replicated: int
    head: int
    expert: float
    layers: int
    routed_experts: int
    active_experts: int

    @property
    def dense(self) -> int:
        return self.sharded + self.replicated

    @property
    def token(self) -> int:
        """Bytes for one token, all devices together."""
        return self.dense + round(self.layers * self.active_experts * self.expert)


def native_reads(a: Architecture) -> NativeReads:
    """The official checkpoint's bytes for one token, by component."""
    kinds = attention_kinds(a)
    heads_width, output_width = a.heads * a.head_dim, a.o_groups * a.o_lora_rank
    widening, narrowing = fp8_bytes(a, a.expert_width, a.hidden_size), fp8_bytes(a, a.hidden_size, a.expert_width)
    shared = a.shared_experts * (2 * widening + narrowing)
    attention = (
        fp8_bytes(a, a.q_lora_rank, a.hidden_size)
        + fp8_bytes(a, a.head_dim, a.hidden_size)
        + fp8_bytes(a, heads_width, a.q_lora_rank)
        + fp8_bytes(a, output_width, heads_width // a.o_groups)
        + fp8_bytes(a, a.hidden_size, output_width)
    )
    index_queries = fp8_bytes(a, a.index_heads * a.index_dim, a.q_lora_rank) + a.index_heads * a.hidden_size * _BF16
    csa, hca = kinds.count(AttentionKind.CSA), kinds.count(AttentionKind.HCA)
    compressor = csa * compressor_bytes(a, a.head_dim, CSA_RATIO, overlap=2)
    compressor += hca * compressor_bytes(a, a.head_dim, HCA_RATIO, overlap=1)
    ratios = [a.compress_ratios[layer] for layer in a.kv_source_layers]
    compressor += sum(compressor_bytes(a, a.head_dim, ratio, overlap=1) for ratio in ratios if ratio > 1)
    indexer = csa * (index_queries + compressor_bytes(a, a.index_dim, CSA_RATIO, overlap=2))
    indexer += len(a.index_source_layers) * index_queries
    head = a.vocabulary * a.hidden_size * _BF16
    named = a.layers * (shared + attention) + compressor + indexer + head
    parts = native_parts(a, None)
    return NativeReads(
        routed=a.layers * a.active_experts * expert_bytes(a),
        shared=a.layers * shared,
        attention=a.layers * attention,
        compressor=compressor,
        indexer=indexer,
        rest=parts.sharded + parts.replicated - head - _hash_table_bytes(a) - named,
        head=head,
    )


def reads_of(checkpoint: Checkpoint, a: Architecture, draft: Draft | None) -> Reads | None:
    """What a checkpoint costs to read, its draft stages aside. None where its size is not known or too small."""
    if checkpoint.format is CheckpointFormat.GGUF:
        # How V4.1's GGUF files divide is not known; no engine that is driven here reads them.
        gguf = None if shares_kv_stream(a) else gguf_parts(checkpoint, a)
        if gguf is None:
            return None
        head, sharded, replicated = gguf.output_bytes, gguf.layers_dense_bytes + gguf.output_bytes, 0
        experts = gguf.experts_bytes
    else:
        known = checkpoint_parts(checkpoint, a, draft)
        if known is None:
            return None
        # Of the embedding, which is as large as the head, a token reads one row.
        head = a.vocabulary * a.hidden_size * _BF16
        sharded, replicated = known.parts.sharded - head, known.parts.replicated - _hash_table_bytes(a)
        experts = known.parts.experts
    return Reads(
        sharded=sharded,
        replicated=replicated,
        head=head,
        expert=experts / (a.layers * a.routed_experts),
        layers=a.layers,
        routed_experts=a.routed_experts,
        active_experts=a.active_experts,
    )


def distinct_experts(reads: Reads, tokens: int) -> float:
    """Experts of a layer that so many tokens need if they choose evenly and apart: the most, as real texts agree more.

    34 of 256 for the six tokens of one drafted block; 2 DGX Spark on real prompts read a quarter less at 48 tokens.
    """
    return reads.routed_experts * (1 - (1 - reads.active_experts / reads.routed_experts) ** tokens)


def busiest_rank_experts(experts: float, ranks: int) -> float:
    """At most so many of a layer's chosen experts lie on the rank that has most of them, on average, when whole experts
    are spread over ranks at random.

    The mean of the largest of `ranks` binomial counts, by the sub-gamma bound (Boucheron, Lugosi and Massart,
    Concentration Inequalities, corollary 2.6).
    """
    if ranks == 1:
        return experts
    variance = experts / ranks * (1 - 1 / ranks)
    return min(experts, experts / ranks + math.sqrt(2 * variance * math.log(ranks)) + math.log(ranks) / 3)


def cache_read_bytes(a: Architecture, context_tokens: int, *, entry_bytes: int, index_bytes: int) -> int:
    """KV cache that one token reads: the window of every layer, the chosen compressed entries, all index keys, and the
    whole of the heavily compressed stream. `entry_bytes` is one stored state, `index_bytes` one index key.
    """
    kinds = attention_kinds(a)
    window = min(context_tokens, a.window_tokens) * a.layers * entry_bytes
    hca = kinds.count(AttentionKind.HCA) * (context_tokens // HCA_RATIO) * entry_bytes
    csa = kinds.count(AttentionKind.CSA)
    chosen = csa * min(a.index_topk, context_tokens // CSA_RATIO) * entry_bytes
    scanned = csa * (context_tokens // CSA_RATIO) * index_bytes
    chosen += kinds.count(AttentionKind.CSA2) * min(a.index_topk, context_tokens) * entry_bytes
    scanned += sum(context_tokens // a.compress_ratios[layer] for layer in a.index_source_layers) * index_bytes
    return window + hca + chosen + scanned


def matrix_flops(a: Architecture) -> int:
    """Arithmetic of one token: two operations for each weight of the matrices that it passes, the cache aside."""
    experts = 3 * (a.active_experts + a.shared_experts) * a.expert_width * a.hidden_size
    native = native_reads(a)
    # FP8 has one byte a weight and a scale for each tile; bf16 has two.
    dense = native.attention + (native.compressor + native.indexer + native.head) // _BF16
    return 2 * (a.layers * experts + dense)


def _hash_table_bytes(a: Architecture) -> int:
    """Tables of the hash-routed layers, of which a token reads one row: a part of the replicated bytes."""
    return min(a.hash_layers, a.layers) * a.vocabulary * a.active_experts * _INT64
