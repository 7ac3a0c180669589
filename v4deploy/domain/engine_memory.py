"""What an engine of the vLLM family keeps in memory beside the weights: cache layouts, formats and measured figures."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from v4deploy.domain.source import Source


class BlockLayout(StrEnum):
    """How a release of vLLM shares one pool of blocks between caches whose pages differ in size.

    TUPLES: every group has the same number of page tuples, and a block pays for all of them. SLOTS: the same groups,
    but a block pays only for the pages of each size that some group uses. DENSE: pages lie side by side, a block is as
    large as the largest group; the start-up check still counts tuples. PACKED: the start-up check counts real blocks,
    and one that is never used.
    """

    TUPLES = "tuples"
    SLOTS = "slots"
    DENSE = "dense"
    PACKED = "packed"


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheLayout:
    """How releases from `since` on lay out the cache, until the next one.

    Attributes:
        batches_in_flight: batches whose tokens hold their blocks at once, without pipeline parallelism.
    """

    since: str
    blocks: BlockLayout
    batches_in_flight: int
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheFormat:
    """Bytes that the engine stores for a model on an architecture, "*" for any.

    Attributes:
        entry_bytes: one compressed KV entry.
        window_entry_bytes: one entry of the sliding window.
        index_bytes: one index key.
        page_alignment_bytes: what pages are rounded up to.
        block_tokens: tokens of a block of compressed entries and index keys.
        hca_block_tokens: of HCA's entries; None where they share the block of CSA's.
        window_tokens, csa_state_tokens, hca_state_tokens: tokens of a page of the window and of compressor states.
        is_assumed: nothing of the engine's own was read or measured.
    """

    arch: str
    model: str
    entry_bytes: int
    window_entry_bytes: int
    index_bytes: int
    page_alignment_bytes: int
    block_tokens: int
    hca_block_tokens: int | None
    window_tokens: int
    csa_state_tokens: int
    hca_state_tokens: int
    is_assumed: bool
    note: str | None
    source: Source

    def covers(self, arch: str | None, model: str) -> bool:
        return self.arch in {"*", arch} and self.model in {"*", model}


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryFigure:
    """A figure with what it was measured on; on anything else it is an assumption.

    Attributes:
        value: bytes or percent, as its name says.
        compute_apis: where it was measured; empty where it never was.
        hidden_size, tensor_parallel: of the measured run; None where it does not depend on them.
        quant: weights of the measured run; None as above.
    """

    value: int
    compute_apis: tuple[str, ...]
    hidden_size: int | None
    tensor_parallel: int | None
    quant: str | None
    note: str | None
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertPadding:
    """What the width of an expert's slice is rounded up to under tensor parallelism.

    Attributes:
        multiple: the least that every kernel there pads to.
        largest_multiple: what some kernels pad to; the same where all agree.
    """

    compute_api: str
    multiple: int
    largest_multiple: int
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineMemory:
    """The memory model of an engine, as data.

    Attributes:
        cache_layouts: oldest first; a version older than all of them takes the first.
        cache_formats: the first that covers model and device counts.
        batches_tokens: `max-num-batched-tokens` to try, the preferred first.
        shared_stream_batches_tokens: the same for models that share one KV stream.
        loaded_surplus_percent: by how much loaded weights exceed the checkpoint's own bytes.
        activation_bytes: peak of one forward pass; grows with the hidden size.
        graph_bytes: captured graphs.
        context_bytes: device context and communication buffers of one rank.
        worker_bytes: host memory of one worker process.
        logit_bytes: one indexer logit of batched tokens times context, for models that share one KV stream.
    """

    cache_layouts: tuple[CacheLayout, ...]
    cache_formats: tuple[CacheFormat, ...]
    batches_tokens: tuple[int, ...]
    shared_stream_batches_tokens: tuple[int, ...]
    expert_paddings: tuple[ExpertPadding, ...]
    loaded_surplus_percent: MemoryFigure
    activation_bytes: MemoryFigure
    graph_bytes: MemoryFigure
    context_bytes: MemoryFigure
    worker_bytes: MemoryFigure
    logit_bytes: MemoryFigure
