"""llama.cpp's compute buffer: sizes that the engine itself printed, and what holds for every size."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.planning.support import FLASH, FLASH_41, PRO, catalogue
from v4deploy.domain.engine import EngineId
from v4deploy.domain.model import Architecture
from v4deploy.domain.plan import Basis
from v4deploy.domain.units import MIB
from v4deploy.planning.compute_buffers import ComputeBuffer, compute_buffer
from v4deploy.planning.graph_arena import Arena
from v4deploy.planning.graph_memory import GraphSettings

K = 1024
LOG_MIB = 0.011
"""The engine prints hundredths of a MiB."""


def buffer(
    architecture: Architecture, context: int, micro_batch: int = 512, slots: int = 1, kind: str = "f16"
) -> ComputeBuffer | None:
    settings = GraphSettings(context_tokens=context, micro_batch_tokens=micro_batch, slots=slots, kv_cache_type=kind)
    return compute_buffer(catalogue().engine(EngineId.LLAMA_CPP).compute_graphs, architecture, settings)


def mib(architecture: Architecture, context: int, micro_batch: int = 512, slots: int = 1, kind: str = "f16") -> float:
    found = buffer(architecture, context, micro_batch, slots, kind)
    assert found is not None
    return found.size_bytes / MIB


@pytest.mark.parametrize(
    ("case", "printed"),
    [
        # Log lines of the CPU build b11549; not monotone, as what is freed does not always fit what comes.
        ((FLASH, 4 * K, 512, 1, "f16"), 261.59),
        ((FLASH, 64 * K, 512, 1, "f16"), 347.84),
        ((FLASH, 96 * K, 512, 1, "f16"), 332.13),
        ((FLASH, 128 * K, 512, 1, "f16"), 413.13),
        ((FLASH, 1024 * K, 512, 1, "f16"), 1780.84),
        ((FLASH, 1024 * K, 128, 8, "f16"), 2434.83),
        ((FLASH, 1024 * K, 512, 4, "f16"), 2551.10),
        ((FLASH, 256 * K, 512, 3, "f32"), 1127.07),
        ((FLASH, 256 * K, 512, 4, "bf16"), 737.13),
        ((FLASH, 256 * K, 512, 4, "q8_0"), 618.73),
        ((FLASH, 256 * K, 512, 4, "iq4_nl"), 553.98),
        ((FLASH, 1024 * K, 4096, 1, "f16"), 12120.59),
        ((PRO, 96 * K, 512, 1, "f16"), 545.59),
        ((PRO, 128 * K, 512, 1, "f16"), 633.89),
        ((PRO, 256 * K, 512, 3, "f32"), 1391.08),
        ((PRO, 256 * K, 512, 4, "q8_0"), 776.24),
        ((PRO, 1024 * K, 4096, 8, "q4_0"), 13457.22),
    ],
)
def test_what_the_engine_prints(case: tuple[Architecture, int, int, int, str], printed: float) -> None:
    assert mib(*case) == pytest.approx(printed, abs=LOG_MIB)


def test_layers_that_no_graph_knows_have_no_buffer() -> None:
    assert buffer(replace(FLASH, hyper_connections=2), 4096) is None
    assert buffer(replace(FLASH, index_dim=64), 4096) is None
    assert buffer(FLASH_41, 4096) is None
    assert buffer(FLASH, 4096, kind="q2_k") is None


@pytest.mark.parametrize(("architecture", "layer_mib"), [(FLASH, 3264), (PRO, 12852)])
def test_a_matrix_of_offloaded_experts_is_copied_whole(architecture: Architecture, layer_mib: int) -> None:
    # However small the batch: another model's buffer took 7 GB with batches of 32 and of 2,048 (llama.cpp#24175).
    graphs = catalogue().engine(EngineId.LLAMA_CPP).compute_graphs
    settings = GraphSettings(context_tokens=8 * K, micro_batch_tokens=32, slots=1, kv_cache_type="f16")

    def with_layer(mib: int) -> float:
        found = compute_buffer(graphs, architecture, settings, offloaded_layer_bytes=mib * MIB)
        assert found is not None
        return found.size_bytes / MIB

    assert layer_mib / 3 <= with_layer(layer_mib) <= layer_mib / 3 + 100
    assert with_layer(layer_mib // 2) < with_layer(layer_mib) < with_layer(2 * layer_mib)
    assert with_layer(1) >= mib(architecture, 8 * K, 32)


def test_copied_experts_fit_where_attention_leaves_room() -> None:
    graphs = catalogue().engine(EngineId.LLAMA_CPP).compute_graphs
    settings = GraphSettings(context_tokens=1024 * K, micro_batch_tokens=4096, slots=1, kv_cache_type="f16")
    found = compute_buffer(graphs, FLASH, settings, offloaded_layer_bytes=3264 * MIB)
    assert found is not None
    assert found.size_bytes / MIB == pytest.approx(mib(FLASH, 1024 * K, 4096), rel=0.01)


def test_the_basis_is_the_engines_own_allocation() -> None:
    found = buffer(FLASH, 4096)
    assert found is not None
    assert found.basis is Basis.FORMULA
    assert "b11549" in found.note


@given(
    architecture=st.sampled_from([FLASH, PRO]),
    context=st.integers(1, 1024 * K),
    micro_batch=st.integers(1, 2048),
    slots=st.integers(1, 16),
    kind=st.sampled_from(["f16", "q8_0", "q4_0"]),
)
def test_holds_at_least_the_largest_tensor_and_grows_with_the_batch(
    architecture: Architecture, context: int, micro_batch: int, slots: int, kind: str
) -> None:
    here = mib(architecture, context, micro_batch, slots, kind)
    tokens = min(context * slots, micro_batch)
    assert here * MIB >= tokens * 4 * architecture.hidden_size * 4
    # Twice the batch needs more, though the allocator's gaps differ.
    assert mib(architecture, context, micro_batch * 2, slots, kind) >= here * 0.8


@given(st.lists(st.tuples(st.integers(1, 5000), st.booleans()), max_size=60))
def test_the_arena_never_gives_out_a_byte_twice(requests: list[tuple[int, bool]]) -> None:
    arena = Arena(64)
    held: list[tuple[int, int]] = []
    for size, frees in requests:
        block = arena.allocate(size)
        assert all(block[0] + block[1] <= start or start + length <= block[0] for start, length in held)
        assert block[0] % 64 == 0
        assert block[1] >= size
        held.append(block)
        if frees:
            arena.release(held.pop(len(held) // 2))
    for block in held:
        arena.release(block)
    assert len(arena.free) == 1
