"""Weights and standing buffers on one rank of a layout: slices under tensor parallelism, whole experts, stages."""

from __future__ import annotations

from dataclasses import dataclass, replace

from v4deploy.domain.model import Architecture, Draft
from v4deploy.domain.plan import Layout
from v4deploy.planning.weights import WeightParts, main_parts

USUAL_WIDTH_MULTIPLE = 128
"""What every MXFP4 kernel that was read pads a slice of an expert to at least (vLLM 0.32)."""

_BF16, _FP32, _INT32 = 2, 4, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class RankWeights:
    """Bytes on one rank.

    Attributes:
        experts: routed experts, padded where they are sliced.
        dense: its share of projections, shared experts, embedding and output, and all of what every rank holds.
        vision: tower and aligner.
        draft: draft stages with their experts.
    """

    experts: int
    dense: int
    vision: int
    draft: int

    @property
    def total_bytes(self) -> int:
        return self.experts + self.dense + self.vision + self.draft


def stages(layers: int, count: int) -> tuple[range, ...]:
    """Layers of each pipeline stage, as vLLM cuts them: what is left over goes to the stages before the last one.

    Raises:
        ValueError: there are more stages than layers.
    """
    if not 1 <= count <= layers:
        raise ValueError(f"{layers} layers cannot be cut into {count} stages")
    sizes = [layers // count] * count
    for extra in range(layers % count):
        sizes[-2 - extra] += 1
    starts = [sum(sizes[:stage]) for stage in range(count)]
    return tuple(range(start, start + size) for start, size in zip(starts, sizes, strict=True))


def orphaned_layer(architecture: Architecture, count: int) -> int | None:
    """The first layer of a stage that reads a KV stream which an earlier stage stores; None where there is none.

    V4.1's layers read the latest source before them, and vLLM refuses a cut between the two.

    Raises:
        ValueError: there are more stages than layers.
    """
    sources = architecture.kv_source_layers
    reading = [stage.start for stage in stages(architecture.layers, count)[1:] if stage.start > min(sources, default=0)]
    return next((layer for layer in reading if sources and layer not in sources), None)


def rank_weights(  # noqa: PLR0913 - what decides a rank's share
    parts: WeightParts,
    architecture: Architecture,
    layout: Layout,
    *,
    with_draft: bool,
    width_multiple: int,
    stage: int = 0,
) -> RankWeights:
    """Weights on one rank of a pipeline stage, without Engram tables.

    Experts are divided over all ranks of the stage: whole ones with expert parallelism, else slices of their width,
    padded to `width_multiple`. Under data parallel attention every rank group holds all that is not an expert. Draft
    stages lie on the last pipeline stage.
    """
    layers = stages(architecture.layers, layout.pipeline_parallel)[stage]
    here = _stage_parts(parts, architecture, layers)
    tensor = layout.tensor_parallel
    is_last = layers[-1] == architecture.layers - 1
    draft = 0
    if with_draft and is_last:
        experts = _experts_share(parts.draft_experts, architecture, layout, width_multiple)
        draft = experts + -(-parts.draft_sharded // tensor) + parts.draft_replicated
    return RankWeights(
        experts=_experts_share(here.experts, architecture, layout, width_multiple),
        dense=-(-here.sharded // tensor) + here.replicated,
        vision=here.vision,
        draft=draft,
    )


def standing_buffer_bytes(architecture: Architecture, draft: Draft | None, batch_tokens: int) -> int:
    """What vLLM allocates while it loads, beside the weights (models/deepseek_v4 and deepseek_v41 of 0.32).

    Rotary tables in fp32 for every position, one for compressed layers and one for those with a window only; the
    chosen entries of each batched token, once more for the draft; and the hidden states that a draft starts from.
    `draft` None means no drafting. The same on every stage, which is too much on the first ones of a pipeline.
    """
    a = architecture
    has_window_layers = 0 in a.compress_ratios or draft is not None
    rotary = (1 + has_window_layers) * a.max_context_tokens * a.rope_dim * _FP32
    chosen = batch_tokens * a.index_topk * _INT32
    if draft is None:
        return rotary + chosen
    return rotary + 2 * chosen + batch_tokens * a.hyper_connections * a.hidden_size * _BF16


def padded_expert_width(architecture: Architecture, tensor_parallel: int, multiple: int = USUAL_WIDTH_MULTIPLE) -> int:
    """The expert width that a rank really holds under tensor parallelism without expert parallelism."""
    width = -(-architecture.expert_width // tensor_parallel)
    return width if tensor_parallel == 1 else -(-width // multiple) * multiple


def _stage_parts(parts: WeightParts, architecture: Architecture, layers: range) -> WeightParts:
    """The stage's share of a checkpoint that differs from the native one in its experts only."""
    native = main_parts(architecture, layers)
    return replace(native, experts=parts.experts * len(layers) // architecture.layers)


def _experts_share(experts: int, architecture: Architecture, layout: Layout, width_multiple: int) -> int:
    tensor, ranks = layout.tensor_parallel, layout.tensor_parallel * layout.data_parallel
    if layout.expert_parallel or ranks == 1:
        return -(-experts // ranks)
    return experts * padded_expert_width(architecture, tensor, width_multiple) // architecture.expert_width
