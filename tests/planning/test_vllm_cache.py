"""vLLM's KV cache: block and start-up bytes by release, against figures of its own code and of published tables."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.planning.support import FLASH, FLASH_41, PRO
from tests.planning.support_vllm_cache import ONE_DRAFT_LAYER, THREE_DRAFT_LAYERS, form, memory, need, pool_of
from v4deploy.domain.engine import EngineId
from v4deploy.domain.model import Architecture
from v4deploy.domain.units import GIB
from v4deploy.planning.attention_vllm import NO_DRAFTING, Drafting, Load, layout_of, pool
from v4deploy.planning.weights_ranks import stages

K = 1024
VERSIONS = ("0.20.2", "0.22.1", "0.25.1", "0.26.0", "0.27.0", "0.28.0", "0.29.0", "0.33.0")


@pytest.mark.parametrize(
    ("architecture", "arch", "version", "drafting", "block_bytes", "startup_bytes"),
    [
        # What each release's own code answers at 131,072 tokens and 8,192 batched ones; from 0.29 with the null block.
        (FLASH, "sm_90", "0.22.1", NO_DRAFTING, 1_051_776, 4_066_166_016),
        (FLASH, "sm_100", "0.22.1", NO_DRAFTING, 963_072, 5_698_497_024),  # FP4 index keys cut a group in two
        (FLASH, "sm_90", "0.22.1", THREE_DRAFT_LAYERS, 1_099_584, 4_250_991_744),
        (PRO, "sm_90", "0.22.1", NO_DRAFTING, 1_482_048, 5_729_597_568),
        (FLASH, "sm_90", "0.25.1", NO_DRAFTING, 1_039_680, 4_066_166_016),
        (FLASH, "sm_100", "0.25.1", NO_DRAFTING, 955_008, 5_698_497_024),
        (PRO, "sm_90", "0.25.1", THREE_DRAFT_LAYERS, 1_510_848, 5_914_423_296),
        (FLASH, "sm_90", "0.26.0", THREE_DRAFT_LAYERS, 1_077_120, 7_910_407_296),
        (FLASH, "sm_100", "0.26.0", NO_DRAFTING, 955_008, 10_875_972_096),
        (PRO, "sm_90", "0.26.0", NO_DRAFTING, 1_473_408, 10_661_853_312),
        (FLASH, "sm_90", "0.27.0", NO_DRAFTING, 1_002_240, 7_566_476_544),
        (FLASH, "sm_100", "0.28.0", NO_DRAFTING, 917_568, 6_928_339_968),
        (PRO, "sm_90", "0.28.0", THREE_DRAFT_LAYERS, 1_435_968, 11_005_784_064),
        (FLASH, "sm_90", "0.29.0", NO_DRAFTING, 1_002_240, 7_210_114_560 + 1_002_240),
        (FLASH, "sm_90", "0.32.0", THREE_DRAFT_LAYERS, 1_002_240, 7_210_114_560 + 1_002_240),
        (FLASH, "sm_100", "0.32.0", ONE_DRAFT_LAYER, 917_568, 6_600_984_192 + 917_568),
        (PRO, "sm_100", "0.32.0", THREE_DRAFT_LAYERS, 1_315_008, 9_460_167_552 + 1_315_008),
        (FLASH_41, "sm_100", "0.32.0", NO_DRAFTING, 191_488, 592_272_384 + 191_488),
        (FLASH_41, "sm_100", "0.32.0", THREE_DRAFT_LAYERS, 191_488, 592_272_384 + 191_488),
        (FLASH_41, "sm_120", "0.32.0", THREE_DRAFT_LAYERS, 230_400, 712_627_200 + 230_400),
    ],
)
def test_blocks_and_startup_of_each_release(  # noqa: PLR0913, PLR0917 - one column each
    architecture: Architecture, arch: str, version: str, drafting: Drafting, block_bytes: int, startup_bytes: int
) -> None:
    cache = need(architecture, version, context_tokens=128 * K, batch_tokens=8 * K, drafting=drafting, arch=arch)
    assert (cache.block_bytes, cache.startup_bytes) == (block_bytes, startup_bytes)


@pytest.mark.parametrize(
    ("architecture", "drafting", "batch", "context", "gib"),
    [
        # The table of start-up needs for 0.32, by tokens in flight.
        (FLASH, NO_DRAFTING, 1024, 8 * K, 0.83),
        (FLASH, NO_DRAFTING, 2048, 128 * K, 2.06),
        (FLASH, THREE_DRAFT_LAYERS, 4096, 1024 * K, 6.95),
        (FLASH, NO_DRAFTING, 8192, 256 * K, 7.19),
        (FLASH, NO_DRAFTING, 16384, 1024 * K, 16.27),
        (PRO, NO_DRAFTING, 1024, 64 * K, 1.49),
        (PRO, NO_DRAFTING, 4096, 256 * K, 5.85),
        (PRO, THREE_DRAFT_LAYERS, 8192, 1024 * K, 14.41),
        (PRO, NO_DRAFTING, 16384, 8 * K, 4.50),
    ],
)
def test_startup_needs_of_the_newest_layout(
    architecture: Architecture, drafting: Drafting, batch: int, context: int, gib: float
) -> None:
    cache = need(architecture, "0.32.0", context_tokens=context, batch_tokens=batch, drafting=drafting)
    assert abs(cache.startup_bytes / GIB - gib) <= 0.0101


def test_a_decoding_sequence_pins_its_tokens_and_26_blocks() -> None:
    one, two = (
        need(FLASH, "0.33.0", context_tokens=128 * K, batch_tokens=8 * K, sequences=sequences) for sequences in (1, 2)
    )
    assert two.blocks - one.blocks == 128 * K // 256 + 26


def test_tokens_in_flight_are_shared_by_short_sequences() -> None:
    """One short sequence cannot hold them all; several together can."""
    one, many = (
        need(FLASH, "0.33.0", context_tokens=4 * K, batch_tokens=8 * K, sequences=sequences) for sequences in (1, 16)
    )
    assert one.blocks < 2000
    assert many.blocks > 6000


def test_a_version_older_than_all_takes_the_first_layout() -> None:
    layouts = memory().cache_layouts
    assert layout_of(layouts, "0.19.0") is layouts[0]
    assert layout_of(layouts, "0.25.1rc1") is layouts[1]
    assert layout_of(layouts, "0.33.0") is layouts[-1]


def test_stages_of_a_pipeline_pay_for_their_own_layers() -> None:
    """The engine's own answers for two stages of 22 and 21 layers: blocks are counted for the whole model."""
    whole = need(FLASH, "0.32.0", context_tokens=128 * K, batch_tokens=4 * K)
    parts = [
        pool_of(FLASH, "0.32.0", batch_tokens=4 * K, stage_layers=layers, stages=2).need(Load(context_tokens=128 * K))
        for layers in stages(FLASH.layers, 2)
    ]
    assert all(part.block_bytes < whole.block_bytes for part in parts)
    assert {part.blocks for part in parts} == {
        need(FLASH, "0.32.0", context_tokens=128 * K, batch_tokens=6 * K).blocks  # three batches in flight
    }


architectures = st.sampled_from([FLASH, PRO, FLASH_41])
contexts = st.integers(256, 1024 * K)
batches = st.sampled_from([512, 1024, 2048, 4096, 8192])
versions = st.sampled_from(VERSIONS)
archs = st.sampled_from(["sm_90", "sm_100", "sm_120"])
drafts = st.sampled_from([NO_DRAFTING, ONE_DRAFT_LAYER, THREE_DRAFT_LAYERS])


@given(
    architecture=architectures,
    version=versions,
    arch=archs,
    drafting=drafts,
    context=contexts,
    further=st.integers(0, 100_000),
    batch=batches,
    sequences=st.integers(1, 64),
)
def test_the_cache_grows_with_context_batch_and_sequences(  # noqa: PLR0913, PLR0917
    architecture: Architecture,
    version: str,
    arch: str,
    drafting: Drafting,
    context: int,
    further: int,
    batch: int,
    sequences: int,
) -> None:
    def size(context_tokens: int, batch_tokens: int, count: int) -> int:
        return need(
            architecture,
            version,
            context_tokens=context_tokens,
            batch_tokens=batch_tokens,
            drafting=drafting,
            arch=arch,
            sequences=count,
        ).size_bytes

    here = size(context, batch, sequences)
    assert size(context + further, batch, sequences) >= here
    assert size(context, batch * 2, sequences) >= here
    assert size(context, batch, sequences + 1) >= here
    assert size(context, batch, sequences + 64) > here


def with_types(architecture: Architecture, entry_bytes: int, index_bytes: int, context: int, batch: int) -> int:
    stored = replace(
        form("sm_90", architecture),
        entry_bytes=entry_bytes,
        window_entry_bytes=max(entry_bytes, 528),
        index_bytes=index_bytes,
    )
    found = pool(architecture, stored, memory().cache_layouts[-1], batch_tokens=batch)
    return found.need(Load(context_tokens=context)).size_bytes


@given(
    architecture=st.sampled_from([FLASH, PRO]),
    context=contexts,
    batch=batches,
    entry=st.sampled_from([288, 528, 584, 1024]),
    index=st.sampled_from([68, 132, 256]),
)
def test_a_smaller_type_never_needs_more(
    architecture: Architecture, context: int, batch: int, entry: int, index: int
) -> None:
    here = with_types(architecture, entry, index, context, batch)
    assert all(with_types(architecture, less, index, context, batch) <= here for less in (288, 528) if less < entry)
    assert all(with_types(architecture, entry, less, context, batch) <= here for less in (68, 132) if less < index)


def test_two_places_where_a_smaller_type_does_need_more() -> None:
    """Both are the engine's own: window pages that no longer fit side by side make more groups, each with its blocks.

    V4.1 loses by it at short contexts only. Up to 0.26, V4's index states were padded to the next larger page, which
    with FP4 index keys is that of the entries.
    """
    assert with_types(FLASH_41, 288, 68, 4 * K, 2 * K) > with_types(FLASH_41, 528, 68, 4 * K, 2 * K)
    assert with_types(FLASH_41, 288, 68, 256 * K, 2 * K) < with_types(FLASH_41, 528, 68, 256 * K, 2 * K)
    fp4, fp8 = (
        need(FLASH, "0.26.0", context_tokens=64 * K, batch_tokens=8 * K, arch=arch).startup_bytes
        for arch in ("sm_100", "sm_90")
    )
    assert fp4 > 1.4 * fp8


@given(architecture=architectures, version=versions, arch=archs, drafting=drafts, context=contexts, batch=batches)
def test_what_is_planned_passes_the_startup_check(  # noqa: PLR0913, PLR0917
    architecture: Architecture, version: str, arch: str, drafting: Drafting, context: int, batch: int
) -> None:
    cache = need(architecture, version, context_tokens=context, batch_tokens=batch, drafting=drafting, arch=arch)
    assert cache.size_bytes >= cache.startup_bytes
    # The blocks of one sequence and the one that is never used are there too.
    assert cache.size_bytes // cache.block_bytes >= cache.blocks


@given(architecture=architectures, version=versions, pipeline=st.integers(1, 8), context=contexts)
def test_no_stage_needs_more_than_the_whole_model_would(
    architecture: Architecture, version: str, pipeline: int, context: int
) -> None:
    load = Load(context_tokens=context)
    whole = pool_of(architecture, version, batch_tokens=2048, stages=pipeline).need(load)
    for layers in stages(architecture.layers, pipeline):
        stage = pool_of(architecture, version, batch_tokens=2048, stage_layers=layers, stages=pipeline).need(load)
        assert stage.blocks == whole.blocks
        assert stage.size_bytes <= whole.size_bytes


@pytest.mark.parametrize(
    ("arch", "entries", "index_keys"),
    # Its table of padded pages: block size 128 on A2, 32 on A3, 32 on 950.
    [("ascend-a2", 131_072, 16_640), ("ascend-a3", 32_768, 4_160), ("ascend-950", 20_480, 4_224)],
)
def test_ascends_pages_are_those_of_its_own_table(arch: str, entries: int, index_keys: int) -> None:
    cache = pool_of(FLASH, "0.25.1", batch_tokens=8192, arch=arch, engine=EngineId.MINDIE).cache
    assert {page.size_bytes for group in cache.groups for page in group.pages} == {entries, index_keys}
    # CSA, HCA, window in two groups, states of both.
    assert [len(group.pages) for group in cache.groups] == [42, 20, 22, 21, 42, 20]
    assert cache.block_bytes(range(FLASH.layers)) == 22 * (entries + index_keys)


def test_ascend_counts_each_block_table_for_itself() -> None:
    """133,120 tokens in blocks of 512 and 16,384, and 8,192 in flight: the recipe on A2."""
    found = pool_of(FLASH, "0.25.1", batch_tokens=8192, arch="ascend-a2", engine=EngineId.MINDIE)
    blocks = found.need(Load(context_tokens=133_120)).blocks - 1
    assert blocks == 260 + 9 + 2 * 66 + 1026 + 261
