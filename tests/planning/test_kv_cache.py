"""KV cache arithmetic against published and measured figures."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.planning.support import FLASH, FLASH_41, PRO
from v4deploy.domain.model import Architecture, AttentionKind
from v4deploy.domain.units import GIB, MIB
from v4deploy.planning.attention import (
    LLAMA_CPP_BLOCK_BYTES,
    CacheSettings,
    attention_kinds,
    ideal_bytes_per_token,
    llama_cpp_cache_bytes,
    llama_cpp_layer_bytes,
)

K = 1024


@pytest.mark.parametrize(
    ("architecture", "entry", "index", "published"),
    [
        (FLASH, 584, 132, 3850.25),
        (FLASH, 584, 68, 3514.25),
        (FLASH, 1024, 256, 6880),
        (FLASH, 2048, 512, 13760),
        (PRO, 584, 132, 5511.4375),
        (PRO, 584, 68, 5031.4375),
        (PRO, 1024, 256, 9848),
        (PRO, 2048, 512, 19696),
        (FLASH_41, 288, 68, 890),
        (FLASH_41, 528, 68, 1490),
        (FLASH_41, 584, 132, 1790),
    ],
)
def test_bytes_a_token_without_pages(architecture: Architecture, entry: int, index: int, published: float) -> None:
    assert ideal_bytes_per_token(architecture, entry_bytes=entry, index_bytes=index) == published


def test_pro_in_bf16_at_a_million_tokens_is_what_the_vllm_blog_printed() -> None:
    slope = ideal_bytes_per_token(PRO, entry_bytes=1024, index_bytes=256)
    assert round(float(slope * 2**20) / GIB, 2) == 9.62


@pytest.mark.parametrize(
    ("architecture", "context", "micro_batch", "kind", "slots", "mib"),
    [
        # The memory report of llama.cpp b11434 and b11549 on files of the true shapes, in whole MiB.
        (FLASH, 8 * K, 512, "f16", 1, 101),
        (FLASH, 64 * K, 512, "f16", 1, 473),
        (FLASH, 128 * K, 512, "f16", 1, 903),
        (FLASH, 256 * K, 512, "f16", 1, 1763),
        (FLASH, 1024 * K, 512, "f16", 1, 6923),
        (PRO, 8 * K, 512, "f16", 1, 146),
        (PRO, 64 * K, 512, "f16", 1, 679),
        (PRO, 128 * K, 512, "f16", 1, 1294),
        (PRO, 256 * K, 512, "f16", 1, 2525),
        (PRO, 1024 * K, 512, "f16", 1, 9911),
        (FLASH, 32 * K, 512, "f16", 1, 258),
        (FLASH, 32 * K, 512, "q8_0", 1, 142),
        (FLASH, 128 * K, 512, "q8_0", 1, 485),
        (FLASH, 256 * K, 512, "q8_0", 1, 942),
        (FLASH, 1024 * K, 512, "q8_0", 1, 3683),
        (FLASH, 128 * K, 512, "q4_0", 1, 262),
        (FLASH, 1024 * K, 512, "q4_0", 1, 1955),
        (FLASH, 128 * K, 512, "f16", 4, 3615),
        (FLASH, 128 * K, 512, "q8_0", 4, 1942),
        (FLASH, 1024 * K, 512, "f16", 4, 27695),
        (FLASH, 1024 * K, 512, "q8_0", 4, 14735),
        (PRO, 1024 * K, 512, "f16", 4, 39646),
        (PRO, 1024 * K, 512, "q8_0", 1, 5273),
        (FLASH, 4 * K, 4096, "f16", 1, 214),
        (FLASH, 256 * K, 2048, "f16", 1, 1828),
        (PRO, 128 * K, 2048, "f16", 16, 22177),
    ],
)
def test_llama_cpp_allocates_what_its_report_says(  # noqa: PLR0913, PLR0917 - one column each
    architecture: Architecture, context: int, micro_batch: int, kind: str, slots: int, mib: int
) -> None:
    settings = CacheSettings(context_tokens=context, micro_batch_tokens=micro_batch, kv_cache_type=kind)
    # The report cuts or rounds to whole MiB, and collected tables mix both.
    assert abs(llama_cpp_cache_bytes(architecture, settings, slots=slots) / MIB - mib) < 1


def test_llama_cpp_window_cells_are_those_of_a_published_log() -> None:
    """ggml-org/llama.cpp#27680: 4,352 cells, 182.75 MiB."""
    settings = CacheSettings(context_tokens=64_000, micro_batch_tokens=4096, kv_cache_type="bf16")
    assert FLASH.layers * llama_cpp_layer_bytes(FLASH, AttentionKind.WINDOW, settings) / MIB == 182.75


def test_llama_cpp_has_no_layout_for_a_shared_stream() -> None:
    settings = CacheSettings(context_tokens=4096, micro_batch_tokens=512, kv_cache_type="f16")
    with pytest.raises(ValueError, match=r"v4\.1-flash"):
        llama_cpp_cache_bytes(FLASH_41, settings, slots=1)


def test_an_unknown_ratio_is_an_error_and_not_a_guess() -> None:
    with pytest.raises(ValueError, match="16"):
        attention_kinds(replace(FLASH, compress_ratios=(*FLASH.compress_ratios[:-1], 16)))


contexts = st.integers(min_value=256, max_value=1024 * K)


@given(
    architecture=st.sampled_from([FLASH, PRO]),
    context=contexts,
    further=st.integers(0, 100_000),
    batch=st.sampled_from([512, 1024, 2048, 4096]),
    kind=st.sampled_from(sorted(LLAMA_CPP_BLOCK_BYTES)),
    slots=st.integers(1, 16),
)
def test_llama_cpp_cache_grows_with_context_batch_and_slots(  # noqa: PLR0913, PLR0917
    architecture: Architecture, context: int, further: int, batch: int, kind: str, slots: int
) -> None:
    def size(context_tokens: int, micro_batch: int, count: int) -> int:
        settings = CacheSettings(context_tokens=context_tokens, micro_batch_tokens=micro_batch, kv_cache_type=kind)
        return llama_cpp_cache_bytes(architecture, settings, slots=count)

    here = size(context, batch, slots)
    assert size(context + further, batch, slots) >= here
    assert size(context, batch * 2, slots) >= here
    assert size(context, batch, slots + 1) * slots == here * (slots + 1)
