"""KV cache of the vLLM family: the start-up check for one sequence, and what further ones pin in steady state."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from v4deploy.domain.engine_memory import BlockLayout, CacheFormat, CacheLayout
from v4deploy.domain.model import Architecture
from v4deploy.domain.versions import is_older
from v4deploy.planning.cache_groups import GroupedCache, grouped
from v4deploy.planning.cache_pages import page_kinds


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a rank serves: sequences at once, and tokens each."""

    context_tokens: int
    sequences: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafting:
    """Draft layers, which keep a window each, and the tokens that a step guesses; none of both without drafting."""

    layers: int = 0
    tokens: int = 0


NO_DRAFTING = Drafting()


@dataclass(frozen=True, slots=True, kw_only=True)
class PagedCache:
    """What one rank has to hold; every rank of a tensor parallel group holds all of it, because the head is shared.

    Attributes:
        blocks: pinned by the sequences and the tokens in flight, with the one that is never used.
        block_bytes: each block's cost.
        startup_bytes: what the engine's check before the start asks for; some releases count larger blocks there.
    """

    blocks: int
    block_bytes: int
    startup_bytes: int

    @property
    def size_bytes(self) -> int:
        return max(self.blocks * self.block_bytes, self.startup_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The cache of a model on one pipeline stage in one release: grouped pages and the tokens in flight.

    Attributes:
        layers: of this stage, draft layers numbered after the main ones.
        in_flight_tokens: scheduled and not yet settled; each keeps the blocks that it was given.
        step_tokens: what one sequence adds in a step while it decodes.
    """

    cache: GroupedCache
    layers: range
    in_flight_tokens: int
    step_tokens: int

    def need(self, load: Load) -> PagedCache:
        """The blocks for a load.

        The first sequence is the engine's own rule. That further ones pin only their tokens and a window each is
        inferred from its code: the tokens in flight are shared by all of them.
        """
        window_tokens = load.context_tokens * load.sequences
        first = sum(
            group.kind.pinned_pages(
                load.context_tokens if group.kind.reach_tokens is None else window_tokens, self.in_flight_tokens
            )
            for group in self.cache.groups
        )
        further = (load.sequences - 1) * self.cache.pinned_blocks(load.context_tokens, self.step_tokens)
        return PagedCache(
            blocks=first + further + 1,
            block_bytes=self.cache.block_bytes(self.layers),
            startup_bytes=self.cache.startup_bytes(self.layers, load.context_tokens, self.in_flight_tokens),
        )


@lru_cache(maxsize=256)
def _grouped(architecture: Architecture, form: CacheFormat, drafting: Drafting, blocks: BlockLayout) -> GroupedCache:
    """Groups depend on neither context nor batch, and a plan asks for them hundreds of times."""
    kinds = page_kinds(architecture, form, draft_layers=drafting.layers, draft_tokens=drafting.tokens)
    return grouped(kinds, blocks)


def layout_of(layouts: tuple[CacheLayout, ...], engine_version: str) -> CacheLayout:
    """The newest layout that the version has; the oldest where it is older than all."""
    fitting = [layout for layout in layouts if not is_older(engine_version, layout.since)]
    return fitting[-1] if fitting else layouts[0]


def pool(  # noqa: PLR0913 - what an engine's cache depends on
    architecture: Architecture,
    form: CacheFormat,
    layout: CacheLayout,
    *,
    batch_tokens: int,
    drafting: Drafting = NO_DRAFTING,
    stage_layers: range | None = None,
    stages: int = 1,
) -> Pool:
    """The cache of one rank.

    `stage_layers` None means all. With pipeline parallelism over `stages` a batch more is in flight for each further
    one, where the release counts batches at all.

    Raises:
        ValueError: the architecture has a layer of no known kind.
    """
    every = range(architecture.layers + drafting.layers)
    batches = layout.batches_in_flight
    return Pool(
        cache=_grouped(architecture, form, drafting, layout.blocks),
        layers=every if stage_layers is None else stage_layers,
        in_flight_tokens=batch_tokens * (batches + stages - 1 if batches > 1 else 1),
        step_tokens=1 + drafting.tokens,
    )
