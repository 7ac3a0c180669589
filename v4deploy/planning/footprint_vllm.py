"""vLLM and vLLM-Ascend: what a candidate needs on each rank, and in host memory."""

from __future__ import annotations

from dataclasses import dataclass

from v4deploy.domain.engine import EngineId
from v4deploy.domain.hardware import HOST_POOL_ID, ComputeApi
from v4deploy.domain.plan import Basis, Candidate, FootprintPart, FootprintRow
from v4deploy.planning import margins
from v4deploy.planning.attention import shares_kv_stream
from v4deploy.planning.attention_vllm import (
    BF16_BF16_INDEX,
    FP8_FP4_INDEX,
    FP8_FP8_INDEX,
    MXFP8_FP4_INDEX,
    EntrySizes,
    Load,
    paged_cache,
)
from v4deploy.planning.case import Case
from v4deploy.planning.pools import host_budget
from v4deploy.planning.weights import (
    EXPERT_WIDTH_MULTIPLE,
    LARGEST_EXPERT_WIDTH_MULTIPLE,
    CheckpointParts,
    checkpoint_parts,
    rank_bytes,
)

FP4_INDEX_ARCHITECTURES = frozenset({"sm_100", "sm_103"})
"""Where vLLM 0.33 has FP4 index keys for V4, and mxfp8 pages for V4.1; its gate refuses every other one."""

MEASURED_RUN = (margins.VLLM_ACTIVATION_HIDDEN_SIZE, 4)
"""Hidden size and tensor parallel size of the run whose activations and graphs were published."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankRow:
    """A row that every rank of the layout has alike."""

    part: FootprintPart
    what: str
    size_bytes: int
    basis: Basis
    note: str | None = None


def footprint(candidate: Candidate, case: Case) -> tuple[FootprintRow, ...] | None:
    """Every row of every pool. None where the checkpoint's size is neither known nor told by its quant's name."""
    known = checkpoint_parts(candidate.checkpoint, case.model.architecture, case.release.draft)
    if known is None:
        return None
    ranks = (*_weight_rows(candidate, case, known), _cache_row(candidate, case), *_engine_rows(candidate, case))
    rows = tuple(
        FootprintRow(
            part=row.part,
            what=row.what,
            pool_id=device.pool_id,
            size_bytes=row.size_bytes,
            basis=row.basis,
            note=row.note,
        )
        for device in case.devices(candidate.layout.device_indices)
        for row in ranks
    )
    return (*rows, *_host_rows(candidate, case, known))


def entry_sizes(candidate: Candidate, case: Case) -> EntrySizes:
    """Bytes of a cached state and an index key, by the device and by what the engine does there."""
    if candidate.engine is EngineId.MINDIE:
        return BF16_BF16_INDEX
    architectures = {device.arch for device in case.devices(candidate.layout.device_indices)}
    if not architectures <= FP4_INDEX_ARCHITECTURES:
        return FP8_FP8_INDEX
    return MXFP8_FP4_INDEX if shares_kv_stream(case.model.architecture) else FP8_FP4_INDEX


def _weight_rows(candidate: Candidate, case: Case, known: CheckpointParts) -> tuple[RankRow, ...]:
    loaded = _rank_bytes(candidate, case, known, EXPERT_WIDTH_MULTIPLE)
    basis, note = known.basis, known.note
    if candidate.compute_api is ComputeApi.ROCM:
        least, loaded = loaded, _rank_bytes(candidate, case, known, LARGEST_EXPERT_WIDTH_MULTIPLE)
        if loaded != least:
            basis, note = (
                Basis.ASSUMED,
                f"{note}; experts padded to {LARGEST_EXPERT_WIDTH_MULTIPLE}, as some kernels do",
            )
    was_logged = candidate.compute_api is ComputeApi.CUDA and candidate.checkpoint.quant == "native"
    rows = (
        RankRow(
            part=FootprintPart.WEIGHTS,
            what="weights of one rank, with draft stages" if candidate.use_draft else "weights of one rank",
            size_bytes=loaded,
            basis=basis,
            note=note,
        ),
        RankRow(
            part=FootprintPart.WEIGHTS,
            what=f"loading surplus, {margins.VLLM_LOADED_WEIGHTS_SURPLUS_PERCENT} %",
            size_bytes=-(-loaded * margins.VLLM_LOADED_WEIGHTS_SURPLUS_PERCENT // 100),
            basis=Basis.MEASURED if was_logged else Basis.ASSUMED,
            note="logs of native weights loaded on CUDA devices lie 0.9 to 3.2 % above the shapes",
        ),
    )
    return (*rows, _engram_row(candidate, known)) if candidate.engram_on_devices else rows


def _rank_bytes(candidate: Candidate, case: Case, known: CheckpointParts, width_multiple: int) -> int:
    return rank_bytes(
        known.parts,
        case.model.architecture,
        candidate.layout,
        with_draft=candidate.use_draft,
        width_multiple=width_multiple,
    )


def _engram_row(candidate: Candidate, known: CheckpointParts) -> RankRow:
    return RankRow(
        part=FootprintPart.WEIGHTS,
        what="Engram tables",
        size_bytes=-(-known.parts.engram // candidate.layout.tensor_parallel),
        basis=Basis.FORMULA,
        note="divided over the ranks of a tensor parallel group",
    )


def _host_rows(candidate: Candidate, case: Case, known: CheckpointParts) -> tuple[FootprintRow, ...]:
    """What host memory holds. On a unified machine the device's margin holds the processes."""
    rows = []
    if known.parts.engram and not candidate.engram_on_devices:
        rows.append(
            FootprintRow(
                part=FootprintPart.WEIGHTS,
                what="Engram tables",
                pool_id=HOST_POOL_ID,
                size_bytes=known.parts.engram,
                basis=Basis.FORMULA,
                note="the engine's default: pinned in host memory, a few kilobytes are read for each token",
            )
        )
    indices = candidate.layout.device_indices
    # Nothing could be weighed against memory of unknown size; the plan says instead that this is not counted.
    if host_budget(case.host.memory) is not None and not case.is_unified(indices):
        rows.append(
            FootprintRow(
                part=FootprintPart.OVERHEAD,
                what=f"{len(indices)} worker process{'' if len(indices) == 1 else 'es'}",
                pool_id=HOST_POOL_ID,
                size_bytes=len(indices) * margins.VLLM_WORKER_BYTES,
                basis=Basis.ASSUMED,
                note="no figure is published",
            )
        )
    return tuple(rows)


def _cache_row(candidate: Candidate, case: Case) -> RankRow:
    draft = case.release.draft
    cache = paged_cache(
        case.model.architecture,
        entry_sizes(candidate, case),
        Load(
            context_tokens=candidate.context_tokens,
            # Each data parallel rank has a cache and sequences of its own.
            sequences=-(-candidate.concurrency // candidate.layout.data_parallel),
            batch_tokens=candidate.batch_tokens,
        ),
        engine_version=case.engine_version,
        draft_stages=draft.stages if candidate.use_draft and draft else 0,
    )
    basis, note = Basis.FORMULA, "replicated on every rank of a tensor parallel group"
    if candidate.engine is EngineId.MINDIE:
        basis, note = Basis.ASSUMED, "no figure is published for this engine: vLLM's blocks with bf16 entries"
    elif shares_kv_stream(case.model.architecture):
        basis, note = Basis.ASSUMED, "read in the code of vLLM 0.32; no published log to check against"
    elif candidate.concurrency > candidate.layout.data_parallel:
        note = "first sequence by vLLM's start-up rule, further ones by what they pin while decoding"
    return RankRow(part=FootprintPart.KV_CACHE, what="KV cache", size_bytes=cache.size_bytes, basis=basis, note=note)


def _engine_rows(candidate: Candidate, case: Case) -> tuple[RankRow, ...]:
    architecture = case.model.architecture
    width = max(architecture.hidden_size, margins.VLLM_ACTIVATION_HIDDEN_SIZE)
    is_cuda = candidate.compute_api is ComputeApi.CUDA
    is_measured = is_cuda and (architecture.hidden_size, candidate.layout.tensor_parallel) == MEASURED_RUN
    basis = Basis.MEASURED if is_measured else Basis.ASSUMED
    rows = (
        RankRow(
            part=FootprintPart.COMPUTE,
            what="peak activations",
            size_bytes=margins.VLLM_ACTIVATION_BYTES * width // margins.VLLM_ACTIVATION_HIDDEN_SIZE,
            basis=basis,
            note="one published run of Flash on CUDA with TP4; for wider models in proportion",
        ),
        RankRow(
            part=FootprintPart.COMPUTE,
            what="captured graphs",
            size_bytes=margins.VLLM_GRAPHS_BYTES,
            basis=basis,
            note="51 sizes in one published run of Flash on CUDA with TP4",
        ),
        RankRow(
            part=FootprintPart.OVERHEAD,
            what="device context and communication",
            size_bytes=margins.VLLM_CONTEXT_BYTES,
            basis=Basis.ASSUMED,
        ),
    )
    if not shares_kv_stream(architecture):
        return rows
    logits = RankRow(
        part=FootprintPart.COMPUTE,
        what="indexer logits",
        size_bytes=candidate.batch_tokens * candidate.context_tokens * margins.INDEXER_LOGIT_BYTES,
        basis=Basis.MEASURED if is_cuda else Basis.ASSUMED,
        note="batched tokens times context; 32 GiB were seen on CUDA at 16,384 tokens",
    )
    return (*rows, logits)
