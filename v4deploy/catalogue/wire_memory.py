"""The form of `memory:` in profiles/engines/<engine>.yaml, compact for humans, and its EngineMemory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from v4deploy.domain.engine_memory import (
    BlockLayout,
    CacheFormat,
    CacheLayout,
    EngineMemory,
    ExpertPadding,
    MemoryFigure,
)
from v4deploy.domain.hardware import ComputeApi
from v4deploy.domain.source import Source
from v4deploy.domain.versions import is_older

_Confidence = Literal["A", "B", "C", "D"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutEntry:
    """As CacheLayout documents it. `source` and `confidence` null mean those of `memory:`, here and below."""

    since: str
    blocks: BlockLayout
    batches_in_flight: int
    source: str | None = None
    confidence: _Confidence | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatEntry:
    """As CacheFormat documents it, for several architectures and models; "*" means every one.

    Attributes:
        window_entry_bytes: null means the same as compressed entries.
        window_tokens, csa_state_tokens, hca_state_tokens: as vLLM has them for V4 where nothing else is said.
    """

    archs: tuple[str, ...] = ("*",)
    models: tuple[str, ...] = ("*",)
    entry_bytes: int
    window_entry_bytes: int | None = None
    index_bytes: int
    page_alignment_bytes: int
    block_tokens: int
    hca_block_tokens: int | None = None
    window_tokens: int = 64
    csa_state_tokens: int = 4
    hca_state_tokens: int = 8
    is_assumed: bool = False
    note: str | None = None
    source: str | None = None
    confidence: _Confidence | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureEntry:
    """As MemoryFigure documents it."""

    value: int
    compute_apis: tuple[ComputeApi, ...] = ()
    hidden_size: int | None = None
    tensor_parallel: int | None = None
    quant: str | None = None
    note: str | None = None
    source: str | None = None
    confidence: _Confidence | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PaddingEntry:
    """As ExpertPadding documents it; `largest_multiple` null means that all kernels pad alike."""

    compute_api: ComputeApi
    multiple: int
    largest_multiple: int | None = None
    source: str | None = None
    confidence: _Confidence | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryEntry:
    """The memory model of an engine."""

    source: str
    as_of: str
    confidence: _Confidence
    cache_layouts: tuple[LayoutEntry, ...]
    cache_formats: tuple[FormatEntry, ...]
    batches_tokens: tuple[int, ...]
    shared_stream_batches_tokens: tuple[int, ...]
    expert_paddings: tuple[PaddingEntry, ...]
    loaded_surplus_percent: FigureEntry
    activation_bytes: FigureEntry
    graph_bytes: FigureEntry
    context_bytes: FigureEntry
    worker_bytes: FigureEntry
    logit_bytes: FigureEntry


_Row = LayoutEntry | FormatEntry | FigureEntry | PaddingEntry


def memory_of(entry: MemoryEntry | None) -> EngineMemory | None:
    """The memory model. None where the profile has no such key."""
    if entry is None:
        return None
    return EngineMemory(
        cache_layouts=tuple(
            CacheLayout(
                since=row.since,
                blocks=row.blocks,
                batches_in_flight=row.batches_in_flight,
                source=_source(row, entry),
            )
            for row in entry.cache_layouts
        ),
        cache_formats=tuple(_formats(entry)),
        batches_tokens=entry.batches_tokens,
        shared_stream_batches_tokens=entry.shared_stream_batches_tokens,
        expert_paddings=tuple(
            ExpertPadding(
                compute_api=row.compute_api.value,
                multiple=row.multiple,
                largest_multiple=row.largest_multiple or row.multiple,
                source=_source(row, entry),
            )
            for row in entry.expert_paddings
        ),
        loaded_surplus_percent=_figure(entry.loaded_surplus_percent, entry),
        activation_bytes=_figure(entry.activation_bytes, entry),
        graph_bytes=_figure(entry.graph_bytes, entry),
        context_bytes=_figure(entry.context_bytes, entry),
        worker_bytes=_figure(entry.worker_bytes, entry),
        logit_bytes=_figure(entry.logit_bytes, entry),
    )


def memory_faults(entry: MemoryEntry | None) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """What the form allows and no engine can mean: path and message of each."""
    if entry is None:
        return
    if not any("*" in row.archs and "*" in row.models for row in entry.cache_formats):
        yield ("memory", "cache_formats"), 'one row has to cover every device and model ("*")'
    for name in ("cache_layouts", "batches_tokens", "shared_stream_batches_tokens", "expert_paddings"):
        if not getattr(entry, name):
            yield ("memory", name), "is empty"
    yield from _misplaced_layouts(entry)


def _misplaced_layouts(entry: MemoryEntry) -> Iterator[tuple[tuple[str | int, ...], str]]:
    for index, row in enumerate(entry.cache_layouts):
        earlier = entry.cache_layouts[index - 1].since if index else "0"
        try:
            if not is_older(earlier, row.since):
                yield ("memory", "cache_layouts", index, "since"), f"{row.since} does not come after {earlier}"
        except ValueError as error:
            yield ("memory", "cache_layouts", index, "since"), str(error)


def _formats(entry: MemoryEntry) -> Iterator[CacheFormat]:
    for row in entry.cache_formats:
        for arch in row.archs:
            for model in row.models:
                yield CacheFormat(
                    arch=arch,
                    model=model,
                    entry_bytes=row.entry_bytes,
                    window_entry_bytes=row.window_entry_bytes or row.entry_bytes,
                    index_bytes=row.index_bytes,
                    page_alignment_bytes=row.page_alignment_bytes,
                    block_tokens=row.block_tokens,
                    hca_block_tokens=row.hca_block_tokens,
                    window_tokens=row.window_tokens,
                    csa_state_tokens=row.csa_state_tokens,
                    hca_state_tokens=row.hca_state_tokens,
                    is_assumed=row.is_assumed,
                    note=row.note,
                    source=_source(row, entry),
                )


def _figure(row: FigureEntry, entry: MemoryEntry) -> MemoryFigure:
    return MemoryFigure(
        value=row.value,
        compute_apis=tuple(compute_api.value for compute_api in row.compute_apis),
        hidden_size=row.hidden_size,
        tensor_parallel=row.tensor_parallel,
        quant=row.quant,
        note=row.note,
        source=_source(row, entry),
    )


def _source(row: _Row, entry: MemoryEntry) -> Source:
    return Source(source=row.source or entry.source, as_of=entry.as_of, confidence=row.confidence or entry.confidence)
