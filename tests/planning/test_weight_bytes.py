"""Weights by component, on a rank, and divided for offload, against published figures."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.planning.support import FLASH, FLASH_41, FLASH_41_DSPARK, FLASH_DSPARK, MTP, PRO, PRO_DSPARK, catalogue
from v4deploy.domain.model import Architecture, Checkpoint, Draft
from v4deploy.domain.plan import Basis, Layout
from v4deploy.domain.units import GIB, MIB
from v4deploy.planning.weights import WeightParts, checkpoint_parts, expert_bytes, main_parts, native_parts
from v4deploy.planning.weights_gguf import dense_bytes, gguf_parts
from v4deploy.planning.weights_ranks import (
    orphaned_layer,
    padded_expert_width,
    rank_weights,
    stages,
    standing_buffer_bytes,
)


def layout(tensor: int = 1, data: int = 1, *, expert_parallel: bool = False) -> Layout:
    indices = tuple(range(tensor * data))
    return Layout(device_indices=indices, tensor_parallel=tensor, data_parallel=data, expert_parallel=expert_parallel)


def rank_bytes(
    parts: WeightParts, architecture: Architecture, layout: Layout, *, with_draft: bool, stage: int = 0
) -> int:
    """What one rank holds, its experts padded as CUDA's kernels do."""
    return rank_weights(parts, architecture, layout, with_draft=with_draft, width_multiple=128, stage=stage).total_bytes


def checkpoint(checkpoint_id: str) -> Checkpoint:
    return next(c for model in catalogue().models for c in model.checkpoints if c.id == checkpoint_id)


@pytest.mark.parametrize(
    ("architecture", "draft", "payload_bytes"),
    [
        (FLASH, MTP, 159_609_485_896),
        (FLASH, FLASH_DSPARK, 166_878_536_440),
        (PRO, MTP, 864_704_792_696),
        (PRO, PRO_DSPARK, 892_727_580_904),
    ],
)
def test_native_payloads_to_the_byte(architecture: Architecture, draft: Draft, payload_bytes: int) -> None:
    assert native_parts(architecture, draft).total_bytes == payload_bytes


def test_v41_queries_its_index_in_eight_layers_and_keeps_keys_in_four() -> None:
    model, _ = catalogue().model_and_release("v4.1-flash")
    assert model.architecture.index_source_layers == (2, 8, 14, 20, 24, 28, 32, 36)
    assert model.architecture.kv_source_layers == (2, 8, 14, 20)
    without = native_parts(replace(model.architecture, index_source_layers=()), None).replicated
    # 0.04 GiB of indexer, by the component table; four layers would have half of it.
    assert round((native_parts(model.architecture, None).replicated - without) / GIB, 2) == 0.04


def test_v41_payload_within_a_thousandth() -> None:
    total = native_parts(FLASH_41, FLASH_41_DSPARK).total_bytes
    assert abs(total - 510_286_023_000) / 510_286_023_000 < 0.001


@pytest.mark.parametrize(
    ("architecture", "one_expert"), [(FLASH, 13_369_344), (PRO, 35_094_528), (FLASH_41, 18_800_640)]
)
def test_one_routed_expert(architecture: Architecture, one_expert: int) -> None:
    assert expert_bytes(architecture) == one_expert


@pytest.mark.parametrize(
    ("architecture", "draft", "tensor", "with_draft", "without"),
    [
        (FLASH, FLASH_DSPARK, 1, 155.4, 145.3),
        (FLASH, FLASH_DSPARK, 2, 78.4, 73.3),
        (FLASH, FLASH_DSPARK, 4, 39.9, 37.3),
        (FLASH, FLASH_DSPARK, 8, 20.7, 19.2),
        (FLASH, FLASH_DSPARK, 16, 11.1, 10.2),
        (PRO, PRO_DSPARK, 2, 417.6, 397.8),
        (PRO, PRO_DSPARK, 4, 210.7, 200.6),
        (PRO, PRO_DSPARK, 8, 107.2, 101.9),
        (PRO, PRO_DSPARK, 16, 72.2, 68.6),
        (FLASH_41, FLASH_41_DSPARK, 2, 143.9, None),
        (FLASH_41, FLASH_41_DSPARK, 4, 80.5, None),
        (FLASH_41, FLASH_41_DSPARK, 8, 48.8, None),
    ],
)
def test_ranks_under_tensor_parallelism(
    architecture: Architecture, draft: Draft, tensor: int, with_draft: float, without: float | None
) -> None:
    parts = native_parts(architecture, draft)
    assert rank_bytes(parts, architecture, layout(tensor), with_draft=True) / GIB == pytest.approx(with_draft, abs=0.1)
    if without is not None:
        assert rank_bytes(parts, architecture, layout(tensor), with_draft=False) / GIB == pytest.approx(
            without, abs=0.1
        )


@pytest.mark.parametrize(
    ("architecture", "draft", "ranks", "gib"),
    [
        (FLASH, FLASH_DSPARK, 4, 45.5),
        (FLASH, FLASH_DSPARK, 8, 27.1),
        (PRO, PRO_DSPARK, 4, 229.0),
        (PRO, PRO_DSPARK, 8, 128.6),
    ],
)
def test_ranks_under_data_parallel_attention(architecture: Architecture, draft: Draft, ranks: int, gib: float) -> None:
    size = rank_bytes(
        native_parts(architecture, draft), architecture, layout(data=ranks, expert_parallel=True), with_draft=True
    )
    assert size / GIB == pytest.approx(gib, abs=0.1)


def test_padding_is_what_expert_parallelism_avoids() -> None:
    assert padded_expert_width(FLASH_41, 8, 128) == 384
    assert padded_expert_width(PRO, 16, 128) == 256
    assert padded_expert_width(FLASH, 8, 128) == FLASH.expert_width // 8
    parts = native_parts(FLASH_41, None)
    plain = rank_bytes(parts, FLASH_41, layout(8), with_draft=False)
    whole = rank_bytes(parts, FLASH_41, layout(8, expert_parallel=True), with_draft=False)
    assert plain - whole == pytest.approx(parts.experts / 8 / 3, rel=0.001)


@pytest.mark.parametrize(
    ("architecture", "mib"),
    # What llama.cpp b11549 reports for a file of these shapes, less the MXFP4 experts (3,264 and 12,852 MiB a layer).
    [(FLASH, 147_991 - 43 * 3264), (PRO, 810_636 - 61 * 12_852)],
)
def test_dense_part_of_a_gguf_in_q8_0(architecture: Architecture, mib: int) -> None:
    assert abs(dense_bytes(architecture) / MIB - mib) < 1


def test_one_layers_experts_are_the_unit_that_was_measured() -> None:
    parts = gguf_parts(checkpoint("v4-flash-0731-ud-q8_k_xl"), FLASH)
    assert parts is not None
    assert round(parts.layer_experts_bytes[0] / MIB) == 3264
    assert parts.basis is Basis.FILE_SIZES


def test_an_unknown_dense_part_is_assumed_and_says_so() -> None:
    known = checkpoint("v4-flash-0731-ud-q8_k_xl")
    assumed = gguf_parts(replace(known, dense_bytes=None), FLASH)
    small = gguf_parts(replace(known, dense_bytes=None, size_bytes=90_926_928_288), FLASH)
    assert assumed is not None
    assert small is not None
    # 162 GB cannot be native experts with a Q8_0 rest: more of it must be dense.
    assert assumed.basis is Basis.ASSUMED
    assert assumed.experts_bytes == native_parts(FLASH, None).experts
    assert small.total_bytes - small.experts_bytes == dense_bytes(FLASH)


def test_weights_smaller_than_the_dense_part_are_not_this_model() -> None:
    known = checkpoint("v4-flash-0731-ud-q8_k_xl")
    assert gguf_parts(replace(known, dense_bytes=None, size_bytes=4_000_000_000), FLASH) is None
    assert gguf_parts(replace(known, size_bytes=None), FLASH) is None


def test_a_requant_without_a_size_is_estimated_by_its_name_only() -> None:
    unknown = replace(checkpoint("v4-flash-0731-native"), size_bytes=None, official=False)
    estimated = checkpoint_parts(replace(unknown, quant="w8a8"), FLASH, MTP)
    assert estimated is not None
    assert estimated.basis is Basis.ASSUMED
    assert 0.29e12 < estimated.parts.total_bytes < 0.30e12
    assert checkpoint_parts(replace(unknown, quant="nvfp4"), FLASH, MTP) is None


def test_what_a_larger_file_has_more_is_experts() -> None:
    native = checkpoint("v4-flash-0731-native")
    larger = checkpoint_parts(replace(native, size_bytes=175_550_000_000), FLASH, FLASH_DSPARK)
    exact = checkpoint_parts(replace(native, size_bytes=166_878_536_440), FLASH, FLASH_DSPARK)
    assert larger is not None
    assert exact is not None
    assert exact.parts == native_parts(FLASH, FLASH_DSPARK)
    assert larger.parts.dense_bytes == exact.parts.dense_bytes
    assert larger.parts.total_bytes == 175_550_000_000


@given(
    architecture=st.sampled_from([FLASH, PRO, FLASH_41]),
    tensor=st.sampled_from([1, 2, 4, 8, 16]),
    expert_parallel=st.booleans(),
    with_draft=st.booleans(),
)
def test_ranks_together_hold_at_least_the_model(
    architecture: Architecture,
    tensor: int,
    expert_parallel: bool,  # noqa: FBT001
    with_draft: bool,  # noqa: FBT001
) -> None:
    parts = native_parts(architecture, FLASH_DSPARK)
    rank = rank_bytes(parts, architecture, layout(tensor, expert_parallel=expert_parallel), with_draft=with_draft)
    draft = parts.draft_experts + parts.draft_sharded + parts.draft_replicated if with_draft else 0
    whole = parts.experts + parts.dense_bytes + draft
    assert rank * tensor >= whole
    assert rank <= whole


def test_stages_are_vllms_own() -> None:
    """What is left over goes to the stages before the last one (vllm/distributed/utils.py, get_pp_indices)."""
    assert [len(stage) for stage in stages(43, 2)] == [22, 21]
    assert [len(stage) for stage in stages(43, 4)] == [11, 11, 11, 10]
    assert [len(stage) for stage in stages(43, 8)] == [5, 5, 5, 5, 6, 6, 6, 5]
    assert [len(stage) for stage in stages(61, 3)] == [20, 21, 20]
    with pytest.raises(ValueError, match="43 layers"):
        stages(43, 44)


@given(
    architecture=st.sampled_from([FLASH, PRO, FLASH_41]),
    pipeline=st.integers(1, 12),
    tensor=st.sampled_from([1, 2, 4, 8]),
    with_draft=st.booleans(),
)
def test_stages_of_a_pipeline_hold_the_model_between_them(
    architecture: Architecture,
    pipeline: int,
    tensor: int,
    with_draft: bool,  # noqa: FBT001
) -> None:
    parts = native_parts(architecture, FLASH_DSPARK)
    cut = Layout(
        device_indices=tuple(range(tensor * pipeline)),
        tensor_parallel=tensor,
        pipeline_parallel=pipeline,
        expert_parallel=True,
    )
    by_stage = [rank_bytes(parts, architecture, cut, with_draft=with_draft, stage=stage) for stage in range(pipeline)]
    whole = rank_bytes(parts, architecture, layout(tensor, expert_parallel=True), with_draft=with_draft)
    # Nothing is held twice but what rounding up adds for each stage.
    assert whole <= sum(by_stage) <= whole + 3 * pipeline
    assert sum(main_parts(architecture, stage).total_bytes for stage in stages(architecture.layers, pipeline)) == (
        native_parts(architecture, None).total_bytes
    )


@given(batch=st.sampled_from([1024, 2048, 8192, 16384]))
def test_buffers_that_are_allocated_while_loading(batch: int) -> None:
    """Rotary tables of 2^20 positions by 64 values in fp32; a draft adds the streams' hidden states in bf16."""
    table = 256 * MIB
    assert standing_buffer_bytes(FLASH, None, batch) == 2 * table + batch * 512 * 4
    assert standing_buffer_bytes(PRO, None, batch) == table + batch * 1024 * 4
    assert standing_buffer_bytes(PRO, PRO_DSPARK, batch) == 2 * table + batch * (2 * 1024 * 4 + 4 * 7168 * 2)


def test_a_stage_of_v41_begins_where_a_stream_does() -> None:
    """Sources are layers 2, 8, 14 and 20 of 40: halves begin at one, thirds and quarters do not."""
    assert orphaned_layer(FLASH_41, 1) is None
    assert orphaned_layer(FLASH_41, 2) is None
    assert orphaned_layer(FLASH_41, 3) == 13
    assert orphaned_layer(FLASH_41, 4) == 10
    assert all(orphaned_layer(PRO, count) is None for count in range(1, 9))


@pytest.mark.parametrize("release", ["v4-flash-0731", "v4-flash-preview"])
def test_a_dynamic_quant_gives_some_layers_more(release: str) -> None:
    known = next(c for c in catalogue().models[0].checkpoints if c.quant == "UD-IQ2_XXS" and c.release == release)
    parts = gguf_parts(known, FLASH)
    assert parts is not None
    mib = [size // MIB for size in parts.layer_experts_bytes]
    assert (mib[0], mib[26], mib[42]) == (1840, 2400, 2144)
    assert parts.total_bytes == known.size_bytes
    assert parts.basis is Basis.FILE_SIZES
