"""vLLM's cache for tests: the shipped layouts and formats, and what the engine's own log says of a pool."""

from __future__ import annotations

from tests.planning.support import catalogue
from v4deploy.domain.engine import EngineId
from v4deploy.domain.engine_memory import BlockLayout, CacheFormat, EngineMemory
from v4deploy.domain.model import Architecture
from v4deploy.planning.attention_vllm import NO_DRAFTING, Drafting, Load, PagedCache, Pool, layout_of, pool
from v4deploy.planning.cache_pages import ceil_div

ONE_DRAFT_LAYER = Drafting(layers=1, tokens=1)
THREE_DRAFT_LAYERS = Drafting(layers=3, tokens=5)


def memory(engine: EngineId = EngineId.VLLM) -> EngineMemory:
    profile = next(profile for profile in catalogue().engines if profile.id is engine)
    assert profile.memory is not None
    return profile.memory


def form(arch: str, architecture: Architecture, engine: EngineId = EngineId.VLLM) -> CacheFormat:
    return next(row for row in memory(engine).cache_formats if row.covers(arch, architecture.id))


def pool_of(  # noqa: PLR0913 - one argument for each thing that a test varies
    architecture: Architecture,
    version: str,
    *,
    batch_tokens: int,
    drafting: Drafting = NO_DRAFTING,
    arch: str = "sm_90",
    engine: EngineId = EngineId.VLLM,
    stage_layers: range | None = None,
    stages: int = 1,
) -> Pool:
    return pool(
        architecture,
        form(arch, architecture, engine),
        layout_of(memory(engine).cache_layouts, version),
        batch_tokens=batch_tokens,
        drafting=drafting,
        stage_layers=stage_layers,
        stages=stages,
    )


def need(  # noqa: PLR0913 - as above
    architecture: Architecture,
    version: str,
    *,
    context_tokens: int,
    batch_tokens: int,
    drafting: Drafting = NO_DRAFTING,
    arch: str = "sm_90",
    sequences: int = 1,
) -> PagedCache:
    found = pool_of(architecture, version, batch_tokens=batch_tokens, drafting=drafting, arch=arch)
    return found.need(Load(context_tokens=context_tokens, sequences=sequences))


def logged_tokens(found: Pool, context_tokens: int, pool_bytes: int) -> int:
    """`GPU KV cache size` of a start: how often the longest request fits, times its length.

    Up to 0.26 the engine weighed each group's blocks by their bytes for this; later ones count blocks.
    """
    cache = found.cache
    pinned = [group.kind.pinned_pages(context_tokens, found.in_flight_tokens) for group in cache.groups]
    blocks = pool_bytes // cache.block_bytes(found.layers)
    if cache.blocks in {BlockLayout.TUPLES, BlockLayout.SLOTS}:
        sizes = [group.size_bytes(found.layers) for group in cache.groups]
        a_request = ceil_div(sum(count * size for count, size in zip(pinned, sizes, strict=True)), sizes[0])
    else:
        a_request = sum(pinned)
    return blocks * context_tokens // a_request
