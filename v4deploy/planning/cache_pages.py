"""Pages of vLLM's cache: what each layer stores, in pages of how many tokens, and which layers share a block table."""

from __future__ import annotations

from dataclasses import dataclass

from v4deploy.domain.engine_memory import CacheFormat
from v4deploy.domain.model import Architecture, AttentionKind
from v4deploy.planning.attention import CSA_RATIO, HCA_RATIO, attention_kinds, shares_kv_stream

_FP32_BYTES = 4

_LEAST_RING_TOKENS = 8
"""vllm/models/deepseek_v41/compressor.py of 0.32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page of one layer; draft layers are numbered after the main ones."""

    layer: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PageKind:
    """Pages that hold the same tokens of their layers, so that one block table serves them all.

    Attributes:
        page_tokens: tokens that a page stands for.
        reach_tokens: how many tokens before the current one are kept; None for all of them.
        is_ring: one page a sequence, written round and round.
    """

    pages: tuple[Page, ...]
    page_tokens: int
    reach_tokens: int | None
    is_ring: bool = False

    def pinned_pages(self, context_tokens: int, in_flight_tokens: int) -> int:
        """Pages of one sequence at most: a window may begin anywhere in a page, hence one more."""
        if self.is_ring:
            return 1
        if self.reach_tokens is None:
            return ceil_div(context_tokens, self.page_tokens)
        return ceil_div(min(self.reach_tokens + in_flight_tokens, context_tokens), self.page_tokens) + 1


def page_kinds(
    architecture: Architecture, form: CacheFormat, *, draft_layers: int, draft_tokens: int
) -> tuple[PageKind, ...]:
    """All pages of a model, those that keep every token first.

    `draft_layers` keep a window only; `draft_tokens` is what a step may guess at most.

    Raises:
        ValueError: the architecture has a layer of no known kind.
    """
    kinds = attention_kinds(architecture)
    layers = architecture.layers + draft_layers
    if shares_kv_stream(architecture):
        return (
            _shared_entries(architecture, form),
            _window(architecture, form, layers),
            *_rings(architecture, draft_tokens),
        )
    csa = [layer for layer, kind in enumerate(kinds) if kind is AttentionKind.CSA]
    hca = [layer for layer, kind in enumerate(kinds) if kind is AttentionKind.HCA]
    return (
        *_entries(form, csa, hca),
        _window(architecture, form, layers),
        _csa_states(architecture, form, csa),
        _hca_states(architecture, form, hca),
    )


def ceil_div(value: int, divisor: int) -> int:
    return -(-value // divisor)


def _entries(form: CacheFormat, csa: list[int], hca: list[int]) -> tuple[PageKind, ...]:
    """Compressed entries and index keys of V4: for the same tokens, or HCA's with a block table of their own."""
    in_csa, hca_tokens = form.block_tokens // CSA_RATIO, form.hca_block_tokens or form.block_tokens
    in_hca = hca_tokens // HCA_RATIO
    csa_pages = (
        *(_page(form, layer, in_csa * form.index_bytes) for layer in csa),
        *(_page(form, layer, in_csa * form.entry_bytes) for layer in csa),
    )
    hca_pages = tuple(_page(form, layer, in_hca * form.entry_bytes) for layer in hca)
    if form.hca_block_tokens is None:
        return (PageKind(pages=(*csa_pages, *hca_pages), page_tokens=form.block_tokens, reach_tokens=None),)
    return (
        PageKind(pages=csa_pages, page_tokens=form.block_tokens, reach_tokens=None),
        PageKind(pages=hca_pages, page_tokens=hca_tokens, reach_tokens=None),
    )


def _shared_entries(architecture: Architecture, form: CacheFormat) -> PageKind:
    """Compressed entries and index keys of V4.1: the source layers alone store them."""
    pages = []
    for layer in architecture.kv_source_layers:
        entries = form.block_tokens // architecture.compress_ratios[layer]
        pages += [_page(form, layer, entries * form.entry_bytes), _page(form, layer, entries * form.index_bytes)]
    return PageKind(pages=tuple(pages), page_tokens=form.block_tokens, reach_tokens=None)


def _window(architecture: Architecture, form: CacheFormat, layers: int) -> PageKind:
    pages = tuple(_page(form, layer, form.window_tokens * form.window_entry_bytes) for layer in range(layers))
    return PageKind(pages=pages, page_tokens=form.window_tokens, reach_tokens=architecture.window_tokens - 1)


def _csa_states(architecture: Architecture, form: CacheFormat, csa: list[int]) -> PageKind:
    """Keys and scores in fp32 of two overlapping groups of four tokens, for entries and for index keys."""
    widths = (architecture.index_dim, architecture.head_dim)
    pages = tuple(
        _page(form, layer, form.csa_state_tokens * 2 * 2 * width * _FP32_BYTES) for width in widths for layer in csa
    )
    return PageKind(pages=pages, page_tokens=form.csa_state_tokens, reach_tokens=2 * CSA_RATIO - 1)


def _hca_states(architecture: Architecture, form: CacheFormat, hca: list[int]) -> PageKind:
    size_bytes = form.hca_state_tokens * 2 * architecture.head_dim * _FP32_BYTES
    pages = tuple(_page(form, layer, size_bytes) for layer in hca)
    return PageKind(pages=pages, page_tokens=form.hca_state_tokens, reach_tokens=HCA_RATIO - 1)


def _rings(architecture: Architecture, draft_tokens: int) -> tuple[PageKind, ...]:
    """Compressor states of V4.1: keys and scores of the open group; rows for all that a step writes, a power of two."""
    rows = max(_LEAST_RING_TOKENS, 1 << (draft_tokens + 1).bit_length())
    sources = [layer for layer in architecture.kv_source_layers if architecture.compress_ratios[layer] > 1]
    size_bytes = rows * 2 * architecture.head_dim * _FP32_BYTES
    pages = tuple(Page(layer=layer, size_bytes=size_bytes) for layer in sources)
    return (PageKind(pages=pages, page_tokens=rows, reach_tokens=None, is_ring=True),) if pages else ()


def _page(form: CacheFormat, layer: int, size_bytes: int) -> Page:
    alignment = form.page_alignment_bytes
    return Page(layer=layer, size_bytes=ceil_div(size_bytes, alignment) * alignment)
