"""Bytes of the native safetensors checkpoints by component, and what of them lands on one rank."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from v4deploy.domain.model import Architecture, AttentionKind, Checkpoint, Draft, DraftKind
from v4deploy.domain.plan import Basis
from v4deploy.planning.attention import CSA_RATIO, HCA_RATIO, attention_kinds

ESTIMATED_EXPERT_BYTES_PER_WEIGHT = {"w8a8": 1.0, "w4a8": 0.5}
"""For re-quants whose publisher gives no size: what the name says about the routed experts."""

UNCERTAIN_CONFIDENCE = frozenset({"C", "D"})
"""Derived, or only known to exist."""

_BF16, _FP32, _INT64 = 2, 4, 8
_FP4_SCALE_GROUP = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightParts:
    """Bytes by how they spread: `*_experts` and `sharded` are divided under tensor parallelism, `replicated` is not.

    Attributes:
        sharded: attention projections, shared experts, embedding and output head.
        replicated: low-rank inputs, compressors, indexers, routers, hyper connections, norms.
        vision: tower and aligner, replicated too.
        draft_experts, draft_sharded, draft_replicated: the same of the draft stages.
        engram: n-gram tables (V4.1).
    """

    experts: int
    sharded: int
    replicated: int
    vision: int = 0
    draft_experts: int = 0
    draft_sharded: int = 0
    draft_replicated: int = 0
    engram: int = 0

    @property
    def dense_bytes(self) -> int:
        return self.sharded + self.replicated + self.vision

    @property
    def total_bytes(self) -> int:
        return (
            self.experts
            + self.dense_bytes
            + self.draft_experts
            + self.draft_sharded
            + self.draft_replicated
            + self.engram
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointParts:
    """The parts of a checkpoint and what they rest on."""

    parts: WeightParts
    basis: Basis
    note: str


@lru_cache(maxsize=64)
def native_parts(architecture: Architecture, draft: Draft | None) -> WeightParts:
    """The parts of the official checkpoint: FP4 experts, FP8 projections with tile scales, bf16 and fp32 rest.

    Adds up to the payload of V4-Flash-0731 and V4-Pro-0813 to the byte; V4.1's is within 0.1 %.
    """
    main = main_parts(architecture, range(architecture.layers))
    return main if draft is None else _with_draft(main, architecture, draft)


@lru_cache(maxsize=256)
def main_parts(architecture: Architecture, layers: range) -> WeightParts:
    """The native parts of some layers, with the embedding and vision before the first and the output after the last."""
    last = architecture.layers - 1
    kinds = attention_kinds(architecture)
    shares = [_layer_parts(architecture, kinds[layer]) for layer in layers]
    hashed = sum(layer < architecture.hash_layers for layer in layers)
    routing = (
        hashed * architecture.vocabulary * architecture.active_experts * _INT64
        + (len(layers) - hashed) * architecture.routed_experts * _FP32
    )
    end = architecture.vocabulary * architecture.hidden_size * _BF16
    tables = architecture.engram
    return WeightParts(
        experts=len(layers) * architecture.routed_experts * expert_bytes(architecture),
        sharded=sum(sharded for sharded, _ in shares) + end * ((0 in layers) + (last in layers)),
        replicated=sum(rest for _, rest in shares) + routing + (_head_bytes(architecture) if last in layers else 0),
        vision=(architecture.vision_bytes or 0) if 0 in layers else 0,
        engram=sum(
            rows * tables.row_bytes for layer, rows in zip(tables.layers, tables.rows, strict=True) if layer in layers
        )
        if tables
        else 0,
    )


def expert_bytes(architecture: Architecture) -> int:
    """One routed expert in native FP4 with a scale byte for 32 weights."""
    weights = 3 * architecture.expert_width * architecture.hidden_size
    return weights // 2 + weights // _FP4_SCALE_GROUP


def checkpoint_parts(checkpoint: Checkpoint, architecture: Architecture, draft: Draft | None) -> CheckpointParts | None:
    """The parts of any safetensors checkpoint: what is not dense by the native shapes is experts.

    None where the size is not known and the quant's name gives no bytes a weight.
    """
    native = native_parts(architecture, draft)
    all_experts = native.experts + native.draft_experts
    if checkpoint.size_bytes is not None:
        experts = checkpoint.size_bytes - (native.total_bytes - all_experts)
        basis, note = _division_basis(checkpoint)
    else:
        bytes_per_weight = ESTIMATED_EXPERT_BYTES_PER_WEIGHT.get(checkpoint.quant.lower())
        if bytes_per_weight is None:
            return None
        native_per_weight = 1 / 2 + 1 / _FP4_SCALE_GROUP
        experts = round(all_experts * bytes_per_weight / native_per_weight)
        basis = Basis.ASSUMED
        note = (
            f"the publisher gives no size: {bytes_per_weight:g} byte a routed weight, the rest as in the native files"
        )
    if experts <= 0:
        return None
    main = experts * native.experts // all_experts
    return CheckpointParts(parts=replace(native, experts=main, draft_experts=experts - main), basis=basis, note=note)


def uncertain_size(checkpoint: Checkpoint) -> str | None:
    """Why the size in the catalogue is not that of files which somebody listed; None where it is."""
    if checkpoint.source.confidence not in UNCERTAIN_CONFIDENCE:
        return None
    return f"the size of {checkpoint.repo} is derived, not read from its files"


def _division_basis(checkpoint: Checkpoint) -> tuple[Basis, str]:
    uncertain = uncertain_size(checkpoint)
    if uncertain is not None:
        return Basis.ASSUMED, uncertain
    if checkpoint.quant != "native":
        return Basis.ASSUMED, "file sizes; what is not routed experts is assumed to be as in the native files"
    return Basis.FILE_SIZES, "file sizes, divided by the shapes in config.json"


def _layer_parts(architecture: Architecture, kind: AttentionKind) -> tuple[int, int]:
    """Bytes of one layer without routed experts and without what differs by routing: (sharded, replicated)."""
    a = architecture
    heads_width, output_width = a.heads * a.head_dim, a.o_groups * a.o_lora_rank
    widening, narrowing = fp8_bytes(a, a.expert_width, a.hidden_size), fp8_bytes(a, a.hidden_size, a.expert_width)
    sharded = (
        fp8_bytes(a, heads_width, a.q_lora_rank)
        + fp8_bytes(a, output_width, heads_width // a.o_groups)
        + fp8_bytes(a, a.hidden_size, output_width)
        + a.shared_experts * (2 * widening + narrowing)
    )
    mixes = (2 + a.hyper_connections) * a.hyper_connections
    hyper = 2 * (mixes * a.hyper_connections * a.hidden_size + mixes + 3) * _FP32
    norms = (a.q_lora_rank + a.head_dim + 2 * a.hidden_size) * _BF16 + a.heads * _FP32
    router = a.routed_experts * a.hidden_size * _BF16
    inputs = fp8_bytes(a, a.q_lora_rank, a.hidden_size) + fp8_bytes(a, a.head_dim, a.hidden_size)
    return sharded, inputs + norms + hyper + router + _compression_bytes(a, kind)


def _compression_bytes(a: Architecture, kind: AttentionKind) -> int:
    """Compressor and indexer of one layer; V4.1 shares them, so a layer is charged with its part of the sources."""
    index_queries = fp8_bytes(a, a.index_heads * a.index_dim, a.q_lora_rank) + a.index_heads * a.hidden_size * _BF16
    match kind:
        case AttentionKind.WINDOW:
            return 0
        case AttentionKind.CSA:
            keys = compressor_bytes(a, a.index_dim, CSA_RATIO, overlap=2)
            return compressor_bytes(a, a.head_dim, CSA_RATIO, overlap=2) + index_queries + keys
        case AttentionKind.HCA:
            return compressor_bytes(a, a.head_dim, HCA_RATIO, overlap=1)
        case AttentionKind.CSA2:
            sources = [a.compress_ratios[layer] for layer in a.kv_source_layers]
            shared = sum(compressor_bytes(a, a.head_dim, ratio, overlap=1) for ratio in sources if ratio > 1)
            queries = len(a.index_source_layers) * index_queries
            return (shared + queries) // attention_kinds(a).count(AttentionKind.CSA2)


def compressor_bytes(a: Architecture, width: int, ratio: int, *, overlap: int) -> int:
    """Key and gate projections, position table, norm; CSA's windows overlap, which doubles the widths."""
    return 2 * a.hidden_size * overlap * width * _BF16 + ratio * overlap * width * _FP32 + width * _BF16


def _head_bytes(a: Architecture) -> int:
    """What ends the model beside the output matrix: its norm and the hyper connections' last mix."""
    streams = a.hyper_connections
    return a.hidden_size * _BF16 + (streams * streams * a.hidden_size + streams + 1) * _FP32


def _with_draft(main: WeightParts, a: Architecture, draft: Draft) -> WeightParts:
    """Stages are window layers with experts of their own; what joins them differs between MTP and DSpark."""
    sharded, replicated = _layer_parts(a, AttentionKind.WINDOW)
    experts = a.routed_experts if draft.experts is None else draft.experts
    if draft.kind is DraftKind.DSPARK:
        rank = draft.markov_rank
        markov = 0 if rank is None else (2 * a.vocabulary * rank + a.hidden_size + rank) * _BF16
        joining = fp8_bytes(a, a.hidden_size, 3 * a.hidden_size) + a.hidden_size * _BF16 + _head_bytes(a) + markov
    else:
        joining = draft.stages * (
            2 * fp8_bytes(a, a.hidden_size, a.hidden_size) + 2 * a.hidden_size * _BF16 + _head_bytes(a)
        )
    return replace(
        main,
        draft_experts=draft.stages * experts * expert_bytes(a),
        draft_sharded=draft.stages * sharded,
        draft_replicated=draft.stages * (replicated + a.routed_experts * _FP32) + joining,
    )


def fp8_bytes(a: Architecture, rows: int, columns: int) -> int:
    """A matrix in FP8 with one scale byte for each tile."""
    return rows * columns + -(-rows // a.expert_block) * -(-columns // a.expert_block)
