"""llama.cpp (and Ollama, which starts it): what a candidate needs in each pool."""

from __future__ import annotations

from dataclasses import dataclass, replace

from v4deploy.domain.hardware import HOST_POOL_ID, ComputeApi
from v4deploy.domain.plan import Basis, Candidate, FootprintPart, FootprintRow
from v4deploy.domain.split_memory import DeviceContext, SplitMemory
from v4deploy.planning.attention import CacheSettings, attention_kinds, llama_cpp_layer_bytes
from v4deploy.planning.case import Case
from v4deploy.planning.compute_buffers import ComputeBuffer, compute_buffer
from v4deploy.planning.graph_memory import GraphSettings
from v4deploy.planning.layer_split import LayerLoads
from v4deploy.planning.weights_gguf import GgufParts, gguf_parts


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """A candidate's sizes before they are placed."""

    parts: GgufParts
    compute: ComputeBuffer
    context: DeviceContext | None
    process_bytes: int
    loads: LayerLoads


def split_memory_of(case: Case) -> SplitMemory:
    """The figures that the loader guarantees for engines of this memory model."""
    assert case.profile.split_memory is not None, f"{case.profile.id} has no `split_memory`"
    return case.profile.split_memory


def needs(candidate: Candidate, case: Case) -> Needs | None:
    """Sizes of a candidate. None where the checkpoint's size is not known, or no graph of its layers.

    Raises:
        ValueError: llama.cpp has no cache layout for the model's attention.
    """
    architecture = case.model.architecture
    parts = gguf_parts(candidate.checkpoint, architecture)
    compute = _reserved(candidate, case)
    if parts is None or compute is None:
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
        process_bytes=split_memory_of(case).process_bytes_beside(parts.total_bytes),
        loads=loads,
    )


def footprint(candidate: Candidate, case: Case) -> tuple[FootprintRow, ...] | None:
    """Every row of every pool. None where `needs` knows no sizes."""
    sizes = needs(candidate, case)
    if sizes is None:
        return None
    indices = candidate.layout.device_indices
    if not indices or case.is_unified(indices):
        return _one_pool(sizes, in_process=not indices)
    rows: list[FootprintRow] = []
    first_layer = 0
    for device, count in zip(case.devices(indices), candidate.layout.device_layers, strict=True):
        layers = range(first_layer, first_layer + count)
        rows += _device_rows(sizes, device.pool_id, layers, candidate.layout.host_expert_layers)
        first_layer += count
    last = case.devices(indices)[-1].pool_id
    rows.append(_weights("output head", last, sizes.parts.output_bytes, sizes.parts))
    return (*rows, *_host_rows(sizes, candidate.layout.host_expert_layers))


def _reserved(candidate: Candidate, case: Case) -> ComputeBuffer | None:
    """The compute buffer; it is known of a CPU build, so for any other it is an assumption."""
    settings = GraphSettings(
        context_tokens=candidate.context_tokens,
        micro_batch_tokens=candidate.batch_tokens,
        slots=candidate.concurrency,
        kv_cache_type=candidate.kv_cache_type,
    )
    buffer = compute_buffer(case.profile.compute_graphs, case.model.architecture, settings)
    if buffer is None or candidate.compute_api is ComputeApi.CPU:
        return buffer
    return replace(buffer, basis=Basis.ASSUMED, note=f"{buffer.note}; taken for {candidate.compute_api} too")


def _one_pool(sizes: Needs, *, in_process: bool) -> tuple[FootprintRow, ...]:
    """Without device pools everything lies in host memory; on a unified machine the margin holds the process."""
    parts = sizes.parts
    weights = FootprintRow(
        part=FootprintPart.WEIGHTS,
        what="weights",
        pool_id=HOST_POOL_ID,
        size_bytes=parts.total_bytes,
        basis=parts.size_basis,
        note=parts.size_note,
    )
    rows = (weights, _cache(HOST_POOL_ID, sum(sizes.loads.cache_bytes)), _compute(HOST_POOL_ID, sizes.compute))
    return (*rows, _process(sizes)) if in_process else rows


def _device_rows(sizes: Needs, pool_id: str, layers: range, host_expert_layers: int) -> list[FootprintRow]:
    parts, loads = sizes.parts, sizes.loads
    resident = [layer for layer in layers if layer >= host_expert_layers]
    rows = [_weights(f"dense weights of {_layers(len(layers))}", pool_id, len(layers) * loads.dense_bytes, parts)]
    if resident:
        size = sum(loads.experts_bytes[layer] for layer in resident)
        rows.append(_weights(f"routed experts of {_layers(len(resident))}", pool_id, size, parts))
    rows.append(_cache(pool_id, sum(loads.cache_bytes[layer] for layer in layers)))
    rows.append(_compute(pool_id, sizes.compute))
    if sizes.context is not None:
        rows.append(
            FootprintRow(
                part=FootprintPart.OVERHEAD,
                what="device context and pools",
                pool_id=pool_id,
                size_bytes=sizes.context.size_bytes,
                basis=Basis.MEASURED if sizes.context.is_measured else Basis.ASSUMED,
                note=sizes.context.note,
            )
        )
    return rows


def _host_rows(sizes: Needs, host_expert_layers: int) -> tuple[FootprintRow, ...]:
    """What stays in host memory beside devices: the token embedding, offloaded experts, the process."""
    parts = sizes.parts
    rows = [_weights("token embedding", HOST_POOL_ID, parts.embedding_bytes, parts)]
    if host_expert_layers:
        size = sum(parts.layer_experts_bytes[:host_expert_layers])
        rows.append(_weights(f"routed experts of {_layers(host_expert_layers)}", HOST_POOL_ID, size, parts))
    return (*rows, _process(sizes))


def _weights(what: str, pool_id: str, size_bytes: int, parts: GgufParts) -> FootprintRow:
    return FootprintRow(
        part=FootprintPart.WEIGHTS,
        what=what,
        pool_id=pool_id,
        size_bytes=size_bytes,
        basis=parts.basis,
        note=parts.note,
    )


def _cache(pool_id: str, size_bytes: int) -> FootprintRow:
    return FootprintRow(
        part=FootprintPart.KV_CACHE, what="KV cache", pool_id=pool_id, size_bytes=size_bytes, basis=Basis.FORMULA
    )


def _compute(pool_id: str, compute: ComputeBuffer) -> FootprintRow:
    return FootprintRow(
        part=FootprintPart.COMPUTE,
        what="compute buffer",
        pool_id=pool_id,
        size_bytes=compute.size_bytes,
        basis=compute.basis,
        note=compute.note,
    )


def _layers(count: int) -> str:
    return f"{count} layer{'' if count == 1 else 's'}"


def _process(sizes: Needs) -> FootprintRow:
    return FootprintRow(
        part=FootprintPart.OVERHEAD,
        what="server process and prompt cache",
        pool_id=HOST_POOL_ID,
        size_bytes=sizes.process_bytes,
        basis=Basis.ASSUMED,
        note="8 GiB were seen beside 151 GiB of weights; in proportion, at most 8 GiB",
    )
