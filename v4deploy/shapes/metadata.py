"""The key-value pairs of a `deepseek4` GGUF file, from the numbers of an Architecture. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from v4deploy.domain.model import Architecture
from v4deploy.shapes.tensors import GGUF_ARCHITECTURE

# The same in config.json of V4-Flash and V4-Pro (revision b5968e9 of the latter), so Architecture does not carry them.
ROPE_BASE = 10_000.0
COMPRESSED_ROPE_BASE = 160_000.0
NORM_EPSILON = 1e-6
SINKHORN_ITERATIONS = 20
SWIGLU_CLAMP = 10.0
# llama.cpp's number for V4's sqrt(softplus) scoring of experts (build 11434).
GATING_SQRT_SOFTPLUS = 4


class ValueKind(StrEnum):
    """GGUF value types that we write."""

    STRING = "string"
    UINT32 = "uint32"
    FLOAT32 = "float32"
    BOOL = "bool"
    ARRAY = "array"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One key of a GGUF file. An array holds values of one type, strings or integers."""

    key: str
    kind: ValueKind
    value: str | float | tuple[str, ...] | tuple[int, ...]


def metadata(architecture: Architecture, *, name: str, description: str) -> tuple[Entry, ...]:
    """All pairs beside the tokenizer's, in a fixed order, so that the same architecture gives the same bytes.

    `general.architecture` is left to the writer, which puts it first as the format asks.
    """
    return (
        Entry(key="general.name", kind=ValueKind.STRING, value=name),
        Entry(key="general.description", kind=ValueKind.STRING, value=description),
        *_prefixed(ValueKind.UINT32, _counts(architecture)),
        *_prefixed(ValueKind.FLOAT32, _floats(architecture)),
        *_prefixed(ValueKind.BOOL, {"expert_weights_norm": True}),
        *_prefixed(ValueKind.STRING, {"rope.scaling.type": "yarn"}),
        Entry(
            key=f"{GGUF_ARCHITECTURE}.attention.compress_ratios",
            kind=ValueKind.ARRAY,
            value=architecture.compress_ratios,
        ),
        # The vendor's sampling; llama.cpp's own defaults (0.8, 0.95) are not V4's.
        Entry(key="general.sampling.temp", kind=ValueKind.FLOAT32, value=1.0),
        Entry(key="general.sampling.top_p", kind=ValueKind.FLOAT32, value=1.0),
    )


def _prefixed(kind: ValueKind, values: Mapping[str, str | float]) -> Iterator[Entry]:
    for key, value in values.items():
        yield Entry(key=f"{GGUF_ARCHITECTURE}.{key}", kind=kind, value=value)


def _counts(arch: Architecture) -> dict[str, int]:
    return {
        "vocab_size": arch.vocabulary,
        "context_length": arch.max_context_tokens,
        "embedding_length": arch.hidden_size,
        "block_count": arch.layers,
        "feed_forward_length": arch.expert_width,
        "hash_layer_count": arch.hash_layers,
        "attention.head_count": arch.heads,
        "attention.head_count_kv": 1,
        "attention.key_length": arch.head_dim,
        "attention.value_length": arch.head_dim,
        "attention.q_lora_rank": arch.q_lora_rank,
        "attention.output_lora_rank": arch.o_lora_rank,
        "attention.output_group_count": arch.o_groups,
        "attention.sliding_window": arch.window_tokens,
        "attention.indexer.head_count": arch.index_heads,
        "attention.indexer.key_length": arch.index_dim,
        "attention.indexer.top_k": arch.index_topk,
        "expert_count": arch.routed_experts,
        "expert_used_count": arch.active_experts,
        "expert_shared_count": arch.shared_experts,
        "expert_feed_forward_length": arch.expert_width,
        "expert_gating_func": GATING_SQRT_SOFTPLUS,
        "hyper_connection.count": arch.hyper_connections,
        "hyper_connection.sinkhorn_iterations": SINKHORN_ITERATIONS,
        "rope.dimension_count": arch.rope_dim,
        "rope.scaling.original_context_length": arch.rope_original_context_tokens,
    }


def _floats(arch: Architecture) -> dict[str, float]:
    return {
        "attention.layer_norm_rms_epsilon": NORM_EPSILON,
        "attention.compress_rope_freq_base": COMPRESSED_ROPE_BASE,
        "rope.freq_base": ROPE_BASE,
        "rope.scaling.factor": arch.max_context_tokens / arch.rope_original_context_tokens,
        "hyper_connection.epsilon": NORM_EPSILON,
        "expert_weights_scale": arch.routed_scaling,
        "swiglu_clamp_exp": SWIGLU_CLAMP,
    }
