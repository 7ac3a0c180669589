"""GGUF files: which bytes must be on a device, and how many one layer's routed experts take."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from v4deploy.domain.model import Architecture, AttentionKind, Checkpoint
from v4deploy.domain.plan import Basis
from v4deploy.planning.attention import CSA_RATIO, HCA_RATIO, attention_kinds
from v4deploy.planning.weights import expert_bytes, uncertain_size

_Q8_0_BYTES_PER_32 = 34
_BF16_BYTES_PER_32 = 64
_FP32, _INT32 = 4, 4
_MIX_SCALES = 3
"""Of every mixing of hyper-connection streams: one for what goes in, one for what goes out, one for their mixing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufParts:
    """A GGUF checkpoint, divided for placement.

    Attributes:
        embedding_bytes: the token embedding, which llama.cpp keeps in host memory.
        output_bytes: the output head, which goes with the last device.
        layers_dense_bytes: all layers without routed experts.
        layer_experts_bytes: routed experts of each layer, the unit of offload; alike where the catalogue does not say.
        basis, note: of the division.
        size_basis, size_note: of the sum.
    """

    embedding_bytes: int
    output_bytes: int
    layers_dense_bytes: int
    layer_experts_bytes: tuple[int, ...]
    layers: int
    basis: Basis
    note: str
    size_basis: Basis
    size_note: str | None

    @property
    def total_bytes(self) -> int:
        return self.embedding_bytes + self.output_bytes + self.layers_dense_bytes + self.experts_bytes

    @property
    def layer_dense_bytes(self) -> int:
        return -(-self.layers_dense_bytes // self.layers)

    @property
    def experts_bytes(self) -> int:
        return sum(self.layer_experts_bytes)


def gguf_parts(checkpoint: Checkpoint, architecture: Architecture) -> GgufParts | None:
    """Divide a GGUF checkpoint. None where its size is not known or is too small to be this model."""
    total = checkpoint.size_bytes
    if total is None:
        return None
    known = checkpoint.layer_experts
    if known is not None:
        dense, basis = total - sum(known.by_layer(architecture.layers)), Basis.FILE_SIZES
        note = "file sizes, with the experts of each layer from the catalogue"
    elif checkpoint.dense_bytes is not None:
        dense, basis, note = (
            checkpoint.dense_bytes,
            Basis.FILE_SIZES,
            "file sizes, with the dense part from the catalogue",
        )
    else:
        dense, basis = _assumed_dense_bytes(total, architecture), Basis.ASSUMED
        note = "file sizes, with the dense part assumed as Q8_0; the file's header would tell"
    if not 0 < dense < total:
        return None
    uncertain = uncertain_size(checkpoint)
    if uncertain is not None:
        basis, note = Basis.ASSUMED, f"{uncertain}; {note}"
    # Embedding and output head are quantised like the rest of the dense part.
    end = dense * (_embedding_weights(architecture) * _Q8_0_BYTES_PER_32 // 32) // dense_bytes(architecture)
    return GgufParts(
        embedding_bytes=end,
        output_bytes=end,
        layers_dense_bytes=dense - 2 * end,
        layer_experts_bytes=_even(total - dense, architecture.layers)
        if known is None
        else known.by_layer(architecture.layers),
        layers=architecture.layers,
        basis=basis,
        note=note,
        size_basis=Basis.FILE_SIZES if uncertain is None else Basis.ASSUMED,
        size_note=uncertain,
    )


def _even(size_bytes: int, layers: int) -> tuple[int, ...]:
    """Parts of about the same size; dynamic quants give some layers more than others."""
    return tuple(size_bytes * (n + 1) // layers - size_bytes * n // layers for n in range(layers))


@lru_cache(maxsize=64)
def dense_bytes(architecture: Architecture, bytes_per_32_weights: int = _Q8_0_BYTES_PER_32) -> int:
    """All but the routed experts, with matrices in the given type and norms, routers and hyper connections in fp32."""
    return _dense_weights(architecture) * bytes_per_32_weights // 32 + _small_bytes(architecture)


def _assumed_dense_bytes(total: int, architecture: Architecture) -> int:
    """Q8_0, or more where experts in their native width leave more: publishers keep the dense part in up to bf16."""
    quantised = dense_bytes(architecture)
    beside_native = total - architecture.layers * architecture.routed_experts * expert_bytes(architecture)
    if quantised < beside_native <= dense_bytes(architecture, _BF16_BYTES_PER_32):
        return beside_native
    return quantised


def _embedding_weights(architecture: Architecture) -> int:
    return architecture.vocabulary * architecture.hidden_size


def _dense_weights(a: Architecture) -> int:
    heads_width, output_width = a.heads * a.head_dim, a.o_groups * a.o_lora_rank
    attention = (
        a.q_lora_rank * (a.hidden_size + heads_width)
        + a.head_dim * a.hidden_size
        + output_width * (heads_width // a.o_groups + a.hidden_size)
    )
    shared = 3 * a.shared_experts * a.expert_width * a.hidden_size
    compression = sum(_compression_weights(a, kind) for kind in attention_kinds(a))
    return 2 * _embedding_weights(a) + a.layers * (attention + shared) + compression


def _compression_weights(a: Architecture, kind: AttentionKind) -> int:
    match kind:
        case AttentionKind.CSA:
            indexer = a.index_heads * (a.hidden_size + a.index_dim * a.q_lora_rank)
            return 4 * a.hidden_size * (a.head_dim + a.index_dim) + indexer
        case AttentionKind.HCA:
            return 2 * a.hidden_size * a.head_dim
        case AttentionKind.WINDOW | AttentionKind.CSA2:
            return 0


def _small_bytes(a: Architecture) -> int:
    """What every quant keeps in fp32, and the hash layers' token table in int32."""
    mixes = (2 + a.hyper_connections) * a.hyper_connections
    layer = (
        2 * (mixes * a.hyper_connections * a.hidden_size + mixes + _MIX_SCALES)
        + a.routed_experts * (a.hidden_size + 1)
        + 2 * a.hidden_size
        + a.q_lora_rank
        + a.head_dim
        + a.heads
    ) * _FP32
    kinds = attention_kinds(a)
    # Positions inside a window, and the norm of what it is folded into.
    compressed = kinds.count(AttentionKind.CSA) * (2 * CSA_RATIO + 1) * (a.head_dim + a.index_dim)
    compressed += kinds.count(AttentionKind.HCA) * (HCA_RATIO + 1) * a.head_dim
    head = (a.hyper_connections**2 + 1) * a.hidden_size + a.hyper_connections + 1
    # Hash layers have no bias for choosing experts.
    full = compressed + head - a.hash_layers * a.routed_experts
    hashed = a.hash_layers * a.vocabulary * a.active_experts * _INT32
    return a.layers * layer + full * _FP32 + hashed
