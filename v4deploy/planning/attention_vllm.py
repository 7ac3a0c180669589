"""KV cache of the vLLM family: pages, blocks that all cost the same, and blocks pinned by tokens in flight."""

from __future__ import annotations

from dataclasses import dataclass

from v4deploy.domain.model import Architecture, AttentionKind
from v4deploy.domain.versions import is_older
from v4deploy.planning.attention import attention_kinds, shares_kv_stream

BLOCK_TOKENS = 256
"""A logical block of V4; its window pages hold 64 tokens, its compressor states 4 (CSA) and 8 (HCA)."""

_WINDOW_PAGE_TOKENS = 64
_CSA_STATE_TOKENS = 4
_HCA_STATE_TOKENS = 8
_FP32_BYTES = 4

GROUPED_LAYOUT_SINCE = "0.27.0"
"""0.26 and older give every cache group the same number of layers. Read in 0.26 and 0.32; between them nobody looked,
and the newer layout with its doubled tokens in flight is the larger of the two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntrySizes:
    """Bytes of one stored KV state and one index key, and what pages are rounded up to."""

    entry_bytes: int
    index_bytes: int
    page_alignment_bytes: int


FP8_FP8_INDEX = EntrySizes(entry_bytes=584, index_bytes=132, page_alignment_bytes=576)
FP8_FP4_INDEX = EntrySizes(entry_bytes=584, index_bytes=68, page_alignment_bytes=576)
MXFP8_FP4_INDEX = EntrySizes(entry_bytes=528, index_bytes=68, page_alignment_bytes=512)
BF16_BF16_INDEX = EntrySizes(entry_bytes=1024, index_bytes=256, page_alignment_bytes=512)


@dataclass(frozen=True, slots=True, kw_only=True)
class PagedCache:
    """What one rank has to hold; every rank of a tensor parallel group holds all of it, because the head is shared.

    Attributes:
        blocks: blocks pinned by the sequences and the tokens in flight, with the null block.
        block_bytes: each block's cost, set by the widest cache group.
        in_flight_bytes: what is not in blocks; zero for V4.
    """

    blocks: int
    block_bytes: int
    in_flight_bytes: int = 0

    @property
    def size_bytes(self) -> int:
        return self.blocks * self.block_bytes + self.in_flight_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a rank serves: sequences at once, tokens each, and `max_num_batched_tokens`."""

    context_tokens: int
    sequences: int
    batch_tokens: int


def paged_cache(
    architecture: Architecture, sizes: EntrySizes, load: Load, *, engine_version: str, draft_stages: int
) -> PagedCache:
    """The cache that vLLM's start-up check asks for one sequence, and what further sequences pin in steady state.

    The first sequence is vLLM's own rule (six published figures reproduce to the last digit). That further ones pin
    only their tokens and a window is inferred from the code: tokens in flight are shared by all.
    """
    legacy = is_older(engine_version, GROUPED_LAYOUT_SINCE)
    # Asynchronous scheduling prepares a second batch while the first one runs.
    in_flight = load.batch_tokens if legacy else 2 * load.batch_tokens
    if shares_kv_stream(architecture):
        return _shared_stream_cache(architecture, sizes, load, in_flight=in_flight, draft_stages=draft_stages)
    further = (load.sequences - 1) * steady_blocks(load.context_tokens)
    return PagedCache(
        blocks=startup_blocks(load.context_tokens, in_flight) + further + 1,
        block_bytes=block_bytes(architecture, sizes, legacy=legacy, draft_stages=draft_stages),
    )


def startup_blocks(context_tokens: int, in_flight_tokens: int) -> int:
    """Blocks that one sequence may pin at most, as vLLM counts them before it starts."""
    window, csa, hca = (min(reach + in_flight_tokens, context_tokens) for reach in (127, 7, 127))
    return (
        _ceil(context_tokens, BLOCK_TOKENS)
        + 2 * (_ceil(window, _WINDOW_PAGE_TOKENS) + 1)
        + (_ceil(csa, _CSA_STATE_TOKENS) + 1)
        + (_ceil(hca, _HCA_STATE_TOKENS) + 1)
    )


def steady_blocks(context_tokens: int) -> int:
    """Blocks that a sequence pins while it decodes one token at a time."""
    return startup_blocks(context_tokens, 1)


def block_bytes(architecture: Architecture, sizes: EntrySizes, *, legacy: bool, draft_stages: int) -> int:
    """Bytes of one block: the widest cache group decides, and all groups draw from one pool."""
    kinds = attention_kinds(architecture)
    csa_layers, hca_layers = kinds.count(AttentionKind.CSA), kinds.count(AttentionKind.HCA)
    csa_page = _page(BLOCK_TOKENS // 4 * sizes.entry_bytes, sizes)
    hca_page = _page(BLOCK_TOKENS // 128 * sizes.entry_bytes, sizes)
    index_page = _page(BLOCK_TOKENS // 4 * sizes.index_bytes, sizes)
    window_page = _page(_WINDOW_PAGE_TOKENS * sizes.entry_bytes, sizes)
    width = _ceil(architecture.layers + draft_stages, 2)
    if legacy:
        return width * (csa_page + hca_page + index_page)
    csa_state = _page(_CSA_STATE_TOKENS * 4 * architecture.head_dim * _FP32_BYTES, sizes)
    index_state = _page(_CSA_STATE_TOKENS * 4 * architecture.index_dim * _FP32_BYTES, sizes)
    hca_state = _page(_HCA_STATE_TOKENS * 2 * architecture.head_dim * _FP32_BYTES, sizes)
    return max(
        csa_layers * (csa_page + index_page) + hca_layers * hca_page,
        width * window_page,
        csa_layers * (csa_state + index_state),
        hca_layers * hca_state,
    )


def _shared_stream_cache(
    architecture: Architecture, sizes: EntrySizes, load: Load, *, in_flight: int, draft_stages: int
) -> PagedCache:
    """V4.1: pages of the source layers, and a window entry in every layer for each token in flight.

    The 128-token page reproduces the 191,488 bytes read in the code of 0.32 for SM100; the window part has no
    published figure to check against.
    """
    page_tokens = 128
    pages = 0
    for layer in architecture.kv_source_layers:
        entries = page_tokens // architecture.compress_ratios[layer]
        pages += _page(entries * sizes.entry_bytes, sizes) + _page(entries * sizes.index_bytes, sizes)
    window_tokens = in_flight + load.sequences * (architecture.window_tokens - 1)
    return PagedCache(
        blocks=load.sequences * _ceil(load.context_tokens, page_tokens) + 1,
        block_bytes=pages,
        in_flight_bytes=window_tokens * (architecture.layers + draft_stages) * sizes.entry_bytes,
    )


def _page(size_bytes: int, sizes: EntrySizes) -> int:
    return _ceil(size_bytes, sizes.page_alignment_bytes) * sizes.page_alignment_bytes


def _ceil(value: int, divisor: int) -> int:
    return -(-value // divisor)
