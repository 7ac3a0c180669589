"""vLLM and vLLM-Ascend: what a candidate needs on each rank, and in host memory."""

from __future__ import annotations

from dataclasses import dataclass

from v4deploy.domain.counting import counted
from v4deploy.domain.engine_memory import CacheFormat, EngineMemory, ExpertPadding, MemoryFigure
from v4deploy.domain.hardware import HOST_POOL_ID, Device
from v4deploy.domain.model import Draft
from v4deploy.domain.plan import Basis, Candidate, FootprintPart, FootprintRow
from v4deploy.planning import weight_sums
from v4deploy.planning.attention import shares_kv_stream
from v4deploy.planning.attention_vllm import Drafting, Load, layout_of, pool
from v4deploy.planning.case import Case
from v4deploy.planning.pools import host_budget
from v4deploy.planning.weights import CheckpointParts, checkpoint_parts
from v4deploy.planning.weights_ranks import rank_weights, stages, standing_buffer_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RankRow:
    """A row that every rank of a pipeline stage has alike."""

    part: FootprintPart
    what: str
    size_bytes: int
    basis: Basis
    note: str | None = None
    arithmetic: str | None = None

    def on(self, pool_id: str) -> FootprintRow:
        return FootprintRow(
            part=self.part,
            what=self.what,
            pool_id=pool_id,
            size_bytes=self.size_bytes,
            basis=self.basis,
            note=self.note,
            arithmetic=self.arithmetic,
        )


def footprint(candidate: Candidate, case: Case) -> tuple[FootprintRow, ...] | None:
    """Every row of every pool. None where the checkpoint's size is neither known nor told by its quant's name.

    Raises:
        ValueError: the engine's profile has no memory model.
    """
    known = checkpoint_parts(candidate.checkpoint, case.model.architecture, case.release.draft)
    if known is None:
        return None
    count = candidate.layout.pipeline_parallel
    by_stage = [
        (
            *_weight_rows(candidate, case, known, stage),
            _cache_row(candidate, case, stage),
            *_engine_rows(candidate, case),
        )
        for stage in range(count)
    ]
    devices = case.devices(candidate.layout.device_indices)
    rows = tuple(
        row.on(device.pool_id)
        for position, device in enumerate(devices)
        for row in by_stage[position * count // len(devices)]
    )
    return (*rows, *_host_rows(candidate, case, known))


def memory_of(case: Case) -> EngineMemory:
    """The memory model in the engine's profile.

    Raises:
        ValueError: it has none.
    """
    if case.profile.memory is None:
        raise ValueError(f"the profile of {case.profile.name} has no memory model")
    return case.profile.memory


def cache_format(case: Case, devices: tuple[Device, ...]) -> CacheFormat:
    """What the engine stores for the model on these devices; where they differ, the one that takes most."""
    formats = memory_of(case).cache_formats
    found = [next(row for row in formats if row.covers(device.arch, case.model.id)) for device in devices]
    return max(found, key=lambda form: form.entry_bytes + form.index_bytes)


def _weight_rows(candidate: Candidate, case: Case, known: CheckpointParts, stage: int) -> tuple[RankRow, ...]:
    memory, architecture, draft = memory_of(case), case.model.architecture, _draft(candidate, case)
    padding = _padding(candidate, memory)
    loaded, least = (
        rank_weights(
            known.parts,
            architecture,
            candidate.layout,
            with_draft=candidate.use_draft,
            width_multiple=multiple,
            stage=stage,
        )
        for multiple in (padding.largest_multiple, padding.multiple)
    )
    basis, note = known.basis, known.note
    if loaded != least:
        basis, note = Basis.ASSUMED, f"{note}; experts padded to {padding.largest_multiple}, as some kernels do"
    sizes = (
        ("routed experts of one rank", loaded.experts, weight_sums.experts(known.parts, candidate.layout)),
        ("other weights of one rank", loaded.dense, weight_sums.dense(known.parts, candidate.layout)),
        ("vision tower", loaded.vision, None),
        ("draft stages", loaded.draft, weight_sums.draft(known.parts, candidate.layout)),
    )
    weights = [
        RankRow(part=FootprintPart.WEIGHTS, what=what, size_bytes=size, basis=basis, note=note, arithmetic=arithmetic)
        for what, size, arithmetic in sizes
        if size
    ]
    surplus = memory.loaded_surplus_percent
    rows = (
        *weights,
        RankRow(
            part=FootprintPart.WEIGHTS,
            what="rotary tables and buffers for a batch",
            size_bytes=standing_buffer_bytes(architecture, draft, candidate.batch_tokens),
            basis=Basis.FORMULA,
            note="allocated while loading, so the engine's log counts them as weights",
        ),
        RankRow(
            part=FootprintPart.WEIGHTS,
            what=f"loading surplus, {surplus.value} %",
            size_bytes=-(-loaded.total_bytes * surplus.value // 100),
            basis=_basis(surplus, candidate, case),
            note=surplus.note,
            arithmetic=f"{loaded.total_bytes:,} B x {surplus.value} %",
        ),
    )
    return (*rows, _engram_row(candidate, known)) if candidate.engram_on_devices else rows


def _padding(candidate: Candidate, memory: EngineMemory) -> ExpertPadding:
    """The row of the compute API; where none was read, the first one."""
    found = (row for row in memory.expert_paddings if row.compute_api == candidate.compute_api.value)
    return next(found, memory.expert_paddings[0])


def _engram_row(candidate: Candidate, known: CheckpointParts) -> RankRow:
    return RankRow(
        part=FootprintPart.WEIGHTS,
        what="Engram tables",
        size_bytes=-(-known.parts.engram // candidate.layout.tensor_parallel),
        basis=Basis.FORMULA,
        note="divided over the ranks of a tensor parallel group",
        arithmetic=f"{known.parts.engram:,} B / {candidate.layout.tensor_parallel}",
    )


def _host_rows(candidate: Candidate, case: Case, known: CheckpointParts) -> tuple[FootprintRow, ...]:
    """What host memory holds. On a unified machine the device's margin holds the processes."""
    rows = []
    if known.parts.engram and not candidate.engram_on_devices:
        rows.append(
            RankRow(
                part=FootprintPart.WEIGHTS,
                what="Engram tables",
                size_bytes=known.parts.engram,
                basis=Basis.FORMULA,
                note="the engine's default: pinned in host memory, a few kilobytes are read for each token",
            )
        )
    indices, worker = candidate.layout.device_indices, memory_of(case).worker_bytes
    # Nothing could be weighed against memory of unknown size; the plan says instead that this is not counted.
    if host_budget(case.host.memory) is not None and not case.is_unified(indices):
        rows.append(
            RankRow(
                part=FootprintPart.OVERHEAD,
                what=counted(len(indices), "worker process", "worker processes"),
                size_bytes=len(indices) * worker.value,
                basis=Basis.ASSUMED,
                note=worker.note,
                arithmetic=f"{len(indices)} x {worker.value:,} B",
            )
        )
    return tuple(row.on(HOST_POOL_ID) for row in rows)


def _cache_row(candidate: Candidate, case: Case, stage: int) -> RankRow:
    architecture, layout, draft = case.model.architecture, candidate.layout, _draft(candidate, case)
    form = cache_format(case, case.devices(layout.device_indices))
    drafting = Drafting(layers=draft.stages, tokens=draft.block_tokens or draft.stages) if draft else Drafting()
    layers = stages(architecture.layers, layout.pipeline_parallel)[stage]
    if layers.stop == architecture.layers:
        layers = range(layers.start, architecture.layers + drafting.layers)
    cache = pool(
        architecture,
        form,
        layout_of(memory_of(case).cache_layouts, case.engine_version),
        batch_tokens=candidate.batch_tokens,
        drafting=drafting,
        stage_layers=layers,
        stages=layout.pipeline_parallel,
    ).need(
        Load(
            context_tokens=candidate.context_tokens,
            # Each data parallel rank has a cache and sequences of its own.
            sequences=-(-candidate.concurrency // layout.data_parallel),
        )
    )
    basis = Basis.ASSUMED if form.is_assumed else Basis.FORMULA
    note = form.note or "replicated on every rank of a tensor parallel group"
    if form.note is None and candidate.concurrency > layout.data_parallel:
        note = "first sequence by vLLM's start-up rule, further ones by what they pin while decoding"
    blocks = f"{cache.blocks:,} blocks x {cache.block_bytes:,} B"
    return RankRow(
        part=FootprintPart.KV_CACHE,
        what="KV cache",
        size_bytes=cache.size_bytes,
        basis=basis,
        note=note,
        arithmetic=f"{blocks}, and the start-up check asks for {cache.startup_bytes:,} B: the larger of both",
    )


def _engine_rows(candidate: Candidate, case: Case) -> tuple[RankRow, ...]:
    memory, architecture = memory_of(case), case.model.architecture
    activations, graphs, logits = memory.activation_bytes, memory.graph_bytes, memory.logit_bytes
    measured_width = activations.hidden_size or architecture.hidden_size
    rows = (
        RankRow(
            part=FootprintPart.COMPUTE,
            what="peak activations",
            size_bytes=activations.value * max(architecture.hidden_size, measured_width) // measured_width,
            basis=_basis(activations, candidate, case),
            note=activations.note,
            arithmetic=f"{activations.value:,} B x {max(architecture.hidden_size, measured_width)} / {measured_width}",
        ),
        RankRow(
            part=FootprintPart.COMPUTE,
            what="captured graphs",
            size_bytes=graphs.value,
            basis=_basis(graphs, candidate, case),
            note=graphs.note,
        ),
        RankRow(
            part=FootprintPart.OVERHEAD,
            what="device context and communication",
            size_bytes=memory.context_bytes.value,
            basis=Basis.ASSUMED,
            note=memory.context_bytes.note,
        ),
    )
    if not shares_kv_stream(architecture):
        return rows
    needed = RankRow(
        part=FootprintPart.COMPUTE,
        what="indexer logits",
        size_bytes=candidate.batch_tokens * candidate.context_tokens * logits.value,
        basis=_basis(logits, candidate, case),
        note=logits.note,
        arithmetic=f"{candidate.batch_tokens:,} batched x {candidate.context_tokens:,} tokens x {logits.value} B",
    )
    return (*rows, needed)


def _draft(candidate: Candidate, case: Case) -> Draft | None:
    return case.release.draft if candidate.use_draft else None


def _basis(figure: MemoryFigure, candidate: Candidate, case: Case) -> Basis:
    """MEASURED where the figure was measured on the same; a figure for everything else is an assumption."""
    same = (
        candidate.compute_api.value in figure.compute_apis
        and figure.hidden_size in {None, case.model.architecture.hidden_size}
        and figure.tensor_parallel in {None, candidate.layout.tensor_parallel}
        and figure.quant in {None, candidate.checkpoint.quant}
    )
    return Basis.MEASURED if same else Basis.ASSUMED
