"""llama.cpp (and Ollama, which starts it): what a candidate needs in each pool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from v4deploy.domain.counting import counted
from v4deploy.domain.hardware import HOST_POOL_ID, ComputeApi
from v4deploy.domain.model import AttentionKind
from v4deploy.domain.plan import Basis, Candidate, FootprintPart, FootprintRow
from v4deploy.domain.split_memory import DeviceContext, SplitMemory
from v4deploy.domain.units import format_gib
from v4deploy.planning import split_sums
from v4deploy.planning.attention import CacheSettings, attention_kinds, llama_cpp_layer_bytes
from v4deploy.planning.case import Case
from v4deploy.planning.compute_buffers import ComputeBuffer, compute_buffer
from v4deploy.planning.graph_memory import GraphSettings
from v4deploy.planning.layer_split import LayerLoads
from v4deploy.planning.weights_gguf import GgufParts, gguf_parts


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """A candidate's sizes before they are placed.

    Attributes:
        kinds: of each layer.
        cache_bytes: of one layer and one slot, by kind.
    """

    parts: GgufParts
    compute: ComputeBuffer
    context: DeviceContext | None
    loads: LayerLoads
    kinds: tuple[AttentionKind, ...]
    cache_bytes: Mapping[AttentionKind, int]


def split_memory_of(case: Case) -> SplitMemory:
    """The figures that the loader guarantees for engines of this memory model."""
    assert case.profile.split_memory is not None, f"{case.profile.id} has no `split_memory`"
    return case.profile.split_memory


def needs(candidate: Candidate, case: Case, *, offloads: bool) -> Needs | None:
    """Sizes of a candidate. None where the checkpoint's size is not known, or no graph of its layers.

    `offloads`: experts of some layers lie in host memory, so that the compute buffer holds copies of them.

    Raises:
        ValueError: llama.cpp has no cache layout for the model's attention.
    """
    architecture = case.model.architecture
    parts = gguf_parts(candidate.checkpoint, architecture)
    if parts is None:
        return None
    compute = _reserved(candidate, case, max(parts.layer_experts_bytes) if offloads else None)
    if compute is None:
        return None
    settings = CacheSettings(
        context_tokens=candidate.context_tokens,
        micro_batch_tokens=candidate.batch_tokens,
        kv_cache_type=candidate.kv_cache_type,
    )
    kinds = attention_kinds(architecture)
    by_kind = {kind: llama_cpp_layer_bytes(architecture, kind, settings) for kind in set(kinds)}
    context = split_memory_of(case).context(candidate.compute_api)
    loads = LayerLoads(
        dense_bytes=parts.layer_dense_bytes,
        experts_bytes=parts.layer_experts_bytes,
        cache_bytes=tuple(candidate.concurrency * by_kind[kind] for kind in kinds),
        output_bytes=parts.output_bytes,
        fixed_bytes=compute.size_bytes + (0 if context is None else context.size_bytes),
    )
    return Needs(
        parts=parts,
        compute=compute,
        context=context,
        loads=loads,
        kinds=kinds,
        cache_bytes=by_kind,
    )


def footprint(candidate: Candidate, case: Case) -> tuple[FootprintRow, ...] | None:
    """Every row of every pool. None where `needs` knows no sizes."""
    sizes = needs(candidate, case, offloads=candidate.layout.host_expert_layers > 0)
    if sizes is None:
        return None
    placed = _Placed(candidate=candidate, sizes=sizes, memory=split_memory_of(case))
    indices = candidate.layout.device_indices
    if not indices or case.is_unified(indices):
        return placed.in_one_pool(in_process=not indices)
    rows: list[FootprintRow] = []
    first_layer = 0
    for device, count in zip(case.devices(indices), candidate.layout.device_layers, strict=True):
        rows += placed.on_device(device.pool_id, range(first_layer, first_layer + count))
        first_layer += count
    last = case.devices(indices)[-1].pool_id
    return (*rows, placed.output_head(last), *placed.on_host())


def _reserved(candidate: Candidate, case: Case, offloaded_layer_bytes: int | None) -> ComputeBuffer | None:
    """The compute buffer; it is known of a CPU build, so for any other it is an assumption.

    `offloaded_layer_bytes`: experts of a layer, None where none lies in host memory beside a device.
    """
    settings = GraphSettings(
        context_tokens=candidate.context_tokens,
        micro_batch_tokens=candidate.batch_tokens,
        slots=candidate.concurrency,
        kv_cache_type=candidate.kv_cache_type,
    )
    graphs, architecture = case.profile.compute_graphs, case.model.architecture
    buffer = compute_buffer(graphs, architecture, settings, offloaded_layer_bytes=offloaded_layer_bytes)
    if buffer is None or candidate.compute_api is ComputeApi.CPU:
        return buffer
    return replace(buffer, basis=Basis.ASSUMED, note=f"{buffer.note}; taken for {candidate.compute_api} too")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Placed:
    """The rows of a candidate."""

    candidate: Candidate
    sizes: Needs
    memory: SplitMemory

    def in_one_pool(self, *, in_process: bool) -> tuple[FootprintRow, ...]:
        """Without device pools everything lies in host memory; on a unified machine the margin holds the process."""
        parts = self.sizes.parts
        weights = FootprintRow(
            part=FootprintPart.WEIGHTS,
            what="weights",
            pool_id=HOST_POOL_ID,
            size_bytes=parts.total_bytes,
            basis=parts.size_basis,
            note=parts.size_note or "the sum of its files",
        )
        rows = (weights, self._cache(HOST_POOL_ID, range(self.sizes.loads.layers)), self._compute(HOST_POOL_ID))
        return (*rows, self._process()) if in_process else rows

    def on_device(self, pool_id: str, layers: range) -> list[FootprintRow]:
        """What a device holds of these layers."""
        parts, loads, context = self.sizes.parts, self.sizes.loads, self.sizes.context
        resident = [layer for layer in layers if layer >= self.candidate.layout.host_expert_layers]
        rows = [
            self._weights(
                f"dense weights of {counted(len(layers), 'layer')}",
                pool_id,
                len(layers) * loads.dense_bytes,
                split_sums.dense(parts, len(layers)),
            )
        ]
        if resident:
            rows.append(self._experts(pool_id, tuple(loads.experts_bytes[layer] for layer in resident)))
        rows += [self._cache(pool_id, layers), self._compute(pool_id)]
        if context is not None:
            rows.append(
                FootprintRow(
                    part=FootprintPart.OVERHEAD,
                    what="device context and pools",
                    pool_id=pool_id,
                    size_bytes=context.size_bytes,
                    basis=Basis.MEASURED if context.is_measured else Basis.ASSUMED,
                    note=context.note,
                )
            )
        return rows

    def output_head(self, pool_id: str) -> FootprintRow:
        parts = self.sizes.parts
        return self._weights("output head", pool_id, parts.output_bytes, split_sums.end(parts))

    def on_host(self) -> tuple[FootprintRow, ...]:
        """What stays in host memory beside devices: the token embedding, offloaded experts, the process."""
        parts, offloaded = self.sizes.parts, self.candidate.layout.host_expert_layers
        rows = [self._weights("token embedding", HOST_POOL_ID, parts.embedding_bytes, split_sums.end(parts))]
        if offloaded:
            rows.append(self._experts(HOST_POOL_ID, parts.layer_experts_bytes[:offloaded]))
        return (*rows, self._process())

    def _experts(self, pool_id: str, layer_bytes: tuple[int, ...]) -> FootprintRow:
        what = f"routed experts of {counted(len(layer_bytes), 'layer')}"
        return self._weights(what, pool_id, sum(layer_bytes), split_sums.experts(layer_bytes))

    def _weights(self, what: str, pool_id: str, size_bytes: int, arithmetic: str) -> FootprintRow:
        return FootprintRow(
            part=FootprintPart.WEIGHTS,
            what=what,
            pool_id=pool_id,
            size_bytes=size_bytes,
            basis=self.sizes.parts.basis,
            note=self.sizes.parts.note,
            arithmetic=arithmetic,
        )

    def _cache(self, pool_id: str, layers: range) -> FootprintRow:
        sizes = self.sizes
        kinds = sizes.kinds[layers.start : layers.stop]
        return FootprintRow(
            part=FootprintPart.KV_CACHE,
            what="KV cache",
            pool_id=pool_id,
            size_bytes=sum(sizes.loads.cache_bytes[layers.start : layers.stop]),
            basis=Basis.FORMULA,
            note="keys only, in cells by 256; every slot has the whole context to itself",
            arithmetic=split_sums.cache(kinds, sizes.cache_bytes, self.candidate.concurrency),
        )

    def _compute(self, pool_id: str) -> FootprintRow:
        compute = self.sizes.compute
        return FootprintRow(
            part=FootprintPart.COMPUTE,
            what="compute buffer",
            pool_id=pool_id,
            size_bytes=compute.size_bytes,
            basis=compute.basis,
            note=compute.note,
            arithmetic=split_sums.compute(self.candidate, self.sizes.loads),
        )

    def _process(self) -> FootprintRow:
        memory, weight_bytes = self.memory, self.sizes.parts.total_bytes
        return FootprintRow(
            part=FootprintPart.OVERHEAD,
            what="server process and prompt cache",
            pool_id=HOST_POOL_ID,
            size_bytes=memory.process_bytes_beside(weight_bytes),
            basis=Basis.ASSUMED,
            note=f"{format_gib(memory.process_bytes)} were seen beside {format_gib(memory.process_beside_bytes)} "
            "of weights; less in proportion",
            arithmetic=split_sums.process(memory, weight_bytes),
        )
