"""Splitting layers over devices: fewest offloaded experts, nothing over budget, every layer placed once."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from v4deploy.domain.units import GIB, MIB
from v4deploy.planning.layer_split import LayerLoads, Split, best_split, even_split


def load_of(*, experts_bytes: list[int], cache_bytes: int, **others: int) -> LayerLoads:
    count = len(experts_bytes)
    return LayerLoads(experts_bytes=tuple(experts_bytes), cache_bytes=(cache_bytes,) * count, **others)


loads = st.builds(
    load_of,
    dense_bytes=st.integers(1, 300).map(lambda mib: mib * MIB),
    experts_bytes=st.lists(st.integers(1, 4000).map(lambda mib: mib * MIB), min_size=1, max_size=61),
    cache_bytes=st.integers(0, 200).map(lambda mib: mib * MIB),
    output_bytes=st.integers(0, 1000).map(lambda mib: mib * MIB),
    fixed_bytes=st.integers(0, 4000).map(lambda mib: mib * MIB),
)
budgets = st.lists(st.integers(0, 200).map(lambda gib: gib * GIB), min_size=1, max_size=8).map(tuple)


def held(load: LayerLoads, split: Split) -> list[int]:
    """Bytes on each device, counted anew from the split."""
    layers = [
        load.dense_bytes + load.cache_bytes[n] + (load.experts_bytes[n] if n >= split.host_expert_layers else 0)
        for n in range(load.layers)
    ]
    sizes, first = [], 0
    for device, count in enumerate(split.counts):
        mine = sum(layers[first : first + count]) + (load.output_bytes if device == split.output_device else 0)
        sizes.append(mine + (load.fixed_bytes if mine else 0))
        first += count
    return sizes


@given(load=loads, budget=budgets, may_offload=st.booleans())
def test_a_split_places_every_layer_within_budget(
    load: LayerLoads,
    budget: tuple[int, ...],
    may_offload: bool,  # noqa: FBT001
) -> None:
    split = best_split(load, budget, may_offload=may_offload)
    assume(split is not None)
    assert split is not None
    assert sum(split.counts) == load.layers
    assert all(size <= limit for size, limit in zip(held(load, split), budget, strict=True))
    assert may_offload or split.host_expert_layers == 0


@given(load=loads, budget=budgets)
def test_more_memory_never_offloads_more(load: LayerLoads, budget: tuple[int, ...]) -> None:
    before = best_split(load, budget, may_offload=True)
    assume(before is not None)
    assert before is not None
    after = best_split(load, tuple(size + GIB for size in budget), may_offload=True)
    assert after is not None
    assert after.host_expert_layers <= before.host_expert_layers


def test_equal_cards_get_about_equal_shares() -> None:
    load = LayerLoads(
        dense_bytes=100 * MIB,
        experts_bytes=(3 * GIB,) * 43,
        cache_bytes=(0,) * 43,
        output_bytes=0,
        fixed_bytes=GIB,
    )
    split = best_split(load, (80 * GIB,) * 4, may_offload=True)
    assert split is not None
    assert max(split.counts) - min(split.counts) <= 1
    assert split.host_expert_layers == 0


def test_a_card_too_small_for_its_buffers_is_left_out() -> None:
    load = LayerLoads(
        dense_bytes=100 * MIB, experts_bytes=(GIB,) * 10, cache_bytes=(0,) * 10, output_bytes=MIB, fixed_bytes=2 * GIB
    )
    split = best_split(load, (GIB, 24 * GIB), may_offload=True)
    assert split is not None
    assert split.counts == (0, 10)


def test_no_split_where_the_dense_part_does_not_fit() -> None:
    load = LayerLoads(dense_bytes=GIB, experts_bytes=(GIB,) * 10, cache_bytes=(0,) * 10, output_bytes=0, fixed_bytes=0)
    assert best_split(load, (9 * GIB,), may_offload=True) is None
    assert even_split(load, 3, host_expert_layers=10).counts == (3, 3, 4)
