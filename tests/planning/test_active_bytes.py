"""Bytes that a forward pass reads, against the published table of components and against counting."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.planning.support import FLASH, FLASH_41, PRO, catalogue
from v4deploy.domain.model import Architecture, Checkpoint
from v4deploy.domain.plan import Layout
from v4deploy.planning.active_bytes import (
    Reads,
    busiest_rank_experts,
    cache_read_bytes,
    distinct_experts,
    matrix_flops,
    native_reads,
    reads_of,
)
from v4deploy.planning.forward_pass import Load, layers_span, rank_span

READS = Reads(
    sharded=6_470_000_000,
    replicated=1_300_000_000,
    head=1_059_000_000,
    expert=13_369_344,
    layers=43,
    routed_experts=256,
    active_experts=6,
)


def reads(checkpoint_id: str) -> Reads:
    model = next(m for m in catalogue().models if any(c.id == checkpoint_id for c in m.checkpoints))
    checkpoint: Checkpoint = next(c for c in model.checkpoints if c.id == checkpoint_id)
    found = reads_of(checkpoint, model.architecture, model.release(checkpoint.release).draft)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("architecture", "gigabytes"),
    [
        (FLASH, (3.45, 1.08, 4.60, 0.53, 0.28, 0.23, 1.06, 11.2)),
        (PRO, (12.84, 4.03, 18.29, 1.34, 0.63, 0.68, 1.85, 39.7)),
    ],
)
def test_one_token_reads_what_the_table_of_components_says(
    architecture: Architecture, gigabytes: tuple[float, ...]
) -> None:
    found = native_reads(architecture)
    parts = (found.routed, found.shared, found.attention, found.compressor, found.indexer, found.rest, found.head)
    assert [part / 1e9 for part in (*parts, found.total)] == pytest.approx(gigabytes, abs=0.051, rel=0.01)


def test_v41_reads_three_per_cent_less_than_the_table_says() -> None:
    # The table has 0.6 GB of routers and hyper connections; the shapes of the checkpoint's own headers have half of it.
    found = native_reads(FLASH_41)
    assert found.total / 1e9 == pytest.approx(13.0, rel=0.03)
    assert (found.routed / 1e9, found.attention / 1e9) == pytest.approx((4.51, 5.07), abs=0.01)


@pytest.mark.parametrize(
    ("checkpoint_id", "gigabytes", "tolerance"),
    [
        ("v4-flash-0731-native", 11.2, 0.01),
        ("v4-pro-0813-native", 39.7, 0.01),
        ("v4-flash-0731-ds4-q2-0731", 9.5, 0.03),
        # 11.4 in the table, which takes all that is dense for Q8_0; this file says how large its dense part is.
        ("v4-flash-0731-ud-q4_k_xl", 11.4, 0.06),
        # 14.9 in the table, which is less than the file's own sizes give with bf16 beside MXFP4 experts.
        ("v4-flash-0731-ud-q8_k_xl", 17.1, 0.01),
    ],
)
def test_checkpoints_read_what_their_sizes_say(checkpoint_id: str, gigabytes: float, tolerance: float) -> None:
    assert reads(checkpoint_id).token / 1e9 == pytest.approx(gigabytes, rel=tolerance)


@pytest.mark.parametrize(
    ("checkpoint_id", "architecture"),
    [("v4-flash-0731-native", FLASH), ("v4-pro-0813-native", PRO), ("v4.1-flash-1017-native", FLASH_41)],
)
def test_the_official_files_read_what_their_components_sum_to(checkpoint_id: str, architecture: Architecture) -> None:
    assert reads(checkpoint_id).token == pytest.approx(native_reads(architecture).total, rel=0.002)


def test_the_replicated_part_is_what_every_rank_reads() -> None:
    assert reads("v4.1-flash-1017-native").replicated / 1e9 == pytest.approx(0.8, abs=0.05)
    assert reads("v4-flash-0731-native").replicated / 1e9 == pytest.approx(1.3, abs=0.02)
    assert reads("v4-pro-0813-native").replicated / 1e9 == pytest.approx(3.54, abs=0.02)


@pytest.mark.parametrize(("tokens", "experts"), [(1, 6), (6, 33.9), (48, 174), (192, 253)])
def test_tokens_of_one_pass_share_experts(tokens: int, experts: float) -> None:
    assert distinct_experts(READS, tokens) == pytest.approx(experts, abs=0.5)


@pytest.mark.parametrize(("experts", "ranks"), [(2, 2), (3, 4), (4, 4), (5, 3), (6, 4)])
def test_the_busiest_rank_has_at_most_so_many(experts: int, ranks: int) -> None:
    counted = [max(map(place.count, range(ranks))) for place in product(range(ranks), repeat=experts)]
    mean_of_largest = sum(counted) / len(counted)
    assert mean_of_largest <= busiest_rank_experts(experts, ranks) <= experts


@given(experts=st.integers(1, 384), ranks=st.sampled_from([1, 2, 4, 8, 16]))
def test_the_busiest_rank_has_between_its_share_and_all(experts: int, ranks: int) -> None:
    assert experts / ranks <= busiest_rank_experts(experts, ranks) <= experts


def test_the_cache_is_a_small_part_until_a_million_tokens() -> None:
    short = cache_read_bytes(FLASH, 4096, entry_bytes=584, index_bytes=132)
    long = cache_read_bytes(FLASH, 1_048_576, entry_bytes=584, index_bytes=132)
    # Window 3.2 MB, chosen entries 6.3 MB, index keys 726 MB, heavily compressed stream 96 MB.
    assert long / 1e6 == pytest.approx(3.2 + 6.3 + 726 + 96, rel=0.01)
    assert 0.0005 < short / native_reads(FLASH).total < 0.002 < long / native_reads(FLASH).total < 0.08
    assert cache_read_bytes(FLASH_41, 1_048_576, entry_bytes=584, index_bytes=132) > 0


@pytest.mark.parametrize(("architecture", "gigaflops"), [(FLASH, 26), (PRO, 98)])
def test_arithmetic_is_twice_the_active_parameters(architecture: Architecture, gigaflops: float) -> None:
    assert matrix_flops(architecture) / 1e9 == pytest.approx(gigaflops, rel=0.02)


@given(
    tokens=st.integers(1, 256),
    ranks=st.sampled_from([1, 2, 4, 8]),
    data=st.booleans(),
    smaller=st.floats(0.1, 1.0),
)
def test_a_rank_reads_less_of_smaller_experts_and_never_less_than_its_dense_part(
    tokens: int, ranks: int, *, data: bool, smaller: float
) -> None:
    layout = Layout(
        device_indices=tuple(range(ranks)),
        tensor_parallel=1 if data else ranks,
        data_parallel=ranks if data else 1,
        expert_parallel=data,
    )
    load = Load(sequences=tokens, cache_bytes=1000)
    whole = rank_span(READS, FLASH, layout, load)
    less = rank_span(replace(READS, expert=READS.expert * smaller), FLASH, layout, load)
    assert whole.low <= whole.high
    assert less.low <= whole.low
    assert less.high <= whole.high
    assert whole.low >= READS.replicated


@given(cuts=st.lists(st.integers(0, 43), max_size=3), host_layers=st.integers(0, 43))
def test_layers_on_devices_in_turn_read_what_one_device_would(cuts: list[int], host_layers: int) -> None:
    edges = sorted({0, *cuts, 43})
    load = Load(sequences=2, cache_bytes=500)
    total = 0.0
    for first, last in pairwise(edges):
        resident = len([layer for layer in range(first, last) if layer >= host_layers])
        total += layers_span(READS, load, layers=last - first, resident=resident, holds_head=last == 43).high
    one = layers_span(READS, load, layers=43, resident=43 - host_layers, holds_head=True).high
    assert total == pytest.approx(one)
