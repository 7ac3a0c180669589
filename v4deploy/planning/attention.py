"""KV cache of the V4 attention kinds: what the architecture needs at least, and what llama.cpp allocates."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from v4deploy.domain.model import Architecture, AttentionKind

CSA_RATIO = 4
HCA_RATIO = 128

LLAMA_CPP_BLOCK_BYTES = {
    "f32": 128,
    "f16": 64,
    "bf16": 64,
    "q8_0": 34,
    "q5_1": 24,
    "q5_0": 22,
    "q4_1": 20,
    "q4_0": 18,
    "iq4_nl": 18,
}
"""Bytes of 32 elements by cache type; the types that `llama-server --cache-type-k` of b11434 takes."""

_CELL_PADDING = 256
_STATE_BYTES_PER_ELEMENT = 8
"""The compressor state holds keys and scores, both fp32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSettings:
    """What llama.cpp's cache depends on. `context_tokens` is one stream's; each slot has a stream of its own."""

    context_tokens: int
    micro_batch_tokens: int
    kv_cache_type: str


@lru_cache(maxsize=64)
def attention_kinds(architecture: Architecture) -> tuple[AttentionKind, ...]:
    """The kind of each main layer, from the compress ratios.

    Raises:
        ValueError: a ratio that no known kind has.
    """
    if architecture.kv_source_layers:
        return tuple(AttentionKind.CSA2 if ratio else AttentionKind.WINDOW for ratio in architecture.compress_ratios)
    kinds = {0: AttentionKind.WINDOW, CSA_RATIO: AttentionKind.CSA, HCA_RATIO: AttentionKind.HCA}
    unknown = sorted(set(architecture.compress_ratios) - set(kinds))
    if unknown:
        raise ValueError(f"{architecture.id} has compress ratios that no known attention has: {unknown}")
    return tuple(kinds[ratio] for ratio in architecture.compress_ratios)


def shares_kv_stream(architecture: Architecture) -> bool:
    """Whether layers share one stored KV stream (V4.1) instead of keeping their own."""
    return bool(architecture.kv_source_layers)


def ideal_bytes_per_token(architecture: Architecture, *, entry_bytes: int, index_bytes: int) -> Fraction:
    """KV bytes that each further token of a sequence adds, without an engine's pages.

    `entry_bytes` is one stored KV state, `index_bytes` one stored index key.
    """
    if shares_kv_stream(architecture):
        ratios = [architecture.compress_ratios[layer] for layer in architecture.kv_source_layers]
        return sum((Fraction(entry_bytes + index_bytes, ratio) for ratio in ratios), Fraction(0))
    kinds = attention_kinds(architecture)
    csa = kinds.count(AttentionKind.CSA) * Fraction(entry_bytes + index_bytes, CSA_RATIO)
    return csa + kinds.count(AttentionKind.HCA) * Fraction(entry_bytes, HCA_RATIO)


def llama_cpp_layer_bytes(architecture: Architecture, kind: AttentionKind, settings: CacheSettings) -> int:
    """What one layer keeps for one stream: window cells, compressed cells, index keys, compressor state.

    Follows the allocation of b11434, which holds K only because V is the same. Bytes are the library's own: the sums
    over all layers equal its log lines.

    Raises:
        ValueError: the layer reads a shared stream; no llama.cpp release has that architecture.
        KeyError: not a cache type of llama.cpp.
    """
    block_bytes = LLAMA_CPP_BLOCK_BYTES[settings.kv_cache_type]
    head, index = architecture.head_dim, architecture.index_dim
    window = min(settings.context_tokens, architecture.window_tokens + settings.micro_batch_tokens)
    raw = _cells_bytes(window, head, block_bytes)
    match kind:
        case AttentionKind.WINDOW:
            return raw
        case AttentionKind.CSA:
            cells = -(-settings.context_tokens // CSA_RATIO)
            state = 2 * CSA_RATIO * 2 * (head + index) * _STATE_BYTES_PER_ELEMENT
            return raw + _cells_bytes(cells, head, block_bytes) + _cells_bytes(cells, index, block_bytes) + state
        case AttentionKind.HCA:
            cells = -(-settings.context_tokens // HCA_RATIO)
            return raw + _cells_bytes(cells, head, block_bytes) + HCA_RATIO * head * _STATE_BYTES_PER_ELEMENT
        case AttentionKind.CSA2:
            raise ValueError(f"llama.cpp has no cache layout for the shared KV stream of {architecture.id}")


def llama_cpp_cache_bytes(architecture: Architecture, settings: CacheSettings, *, slots: int) -> int:
    """The whole cache: llama.cpp allocates the full context once for every slot, unified or not."""
    per_stream = sum(llama_cpp_layer_bytes(architecture, kind, settings) for kind in attention_kinds(architecture))
    return slots * per_stream


def padded_cells(cells: int) -> int:
    """Cells of one of llama.cpp's caches, which come in blocks of 256."""
    return -(-cells // _CELL_PADDING) * _CELL_PADDING


def _cells_bytes(cells: int, width: int, block_bytes: int) -> int:
    return padded_cells(cells) * width * block_bytes // 32
