"""llama.cpp's compute buffer: what its graph allocator reserves, worked out step by step as the engine does."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from v4deploy.domain.compute_graph import ComputeGraph
from v4deploy.domain.model import Architecture
from v4deploy.domain.plan import Basis
from v4deploy.planning.attention import attention_kinds
from v4deploy.planning.graph_memory import EXPERT_MATRICES, GraphBytes, GraphSettings, graph_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeBuffer:
    """The buffer of one device; each device of a layer split has its own, of the same size."""

    size_bytes: int
    basis: Basis
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    graph: ComputeGraph
    found: GraphBytes


@lru_cache(maxsize=4096)
def _known(graphs: tuple[ComputeGraph, ...], architecture: Architecture, settings: GraphSettings) -> _Known | None:
    graph = next((graph for graph in graphs if settings.kv_cache_type in graph.cache_types), None)
    if graph is None or not _covers(graph, architecture):
        return None
    return _Known(graph=graph, found=graph_bytes(graph, architecture, settings))


def compute_buffer(
    graphs: tuple[ComputeGraph, ...],
    architecture: Architecture,
    settings: GraphSettings,
    *,
    offloaded_layer_bytes: int | None = None,
) -> ComputeBuffer | None:
    """The buffer that the engine reserves when it starts. None where no graph is known for these layers or this cache.

    It is the CPU build's own figure to the byte, with flash attention. A GPU build's can differ: one CUDA run of Flash
    with a micro batch of 4,096 and about 200K to 256K tokens reserved 3,948 MiB.

    `offloaded_layer_bytes` are the experts of one layer where those of some layers lie in host memory; None where none
    do. From 32 tokens on CUDA and ROCm builds compute such layers on a device: they copy the gate, up and down matrices
    of all experts into the buffer, one after another (ggml-backend.cpp and ggml-cuda.cu of b11434). Of another model
    7 GB were seen with any batch of 32 tokens or more, and 42 MB with one of 16 (ggml-org/llama.cpp#24175).
    """
    known = _known(graphs, architecture, settings)
    if known is None:
        return None
    size, found = known.found.whole, known.found
    note = f"the graph of llama.cpp b{known.graph.build} (CPU build, flash attention), allocated as it does"
    if offloaded_layer_bytes is not None:
        # The graph is walked for matrices of the native type only: dozens of quants would take as many walks.
        matrix = -(-offloaded_layer_bytes // EXPERT_MATRICES)
        size, note = max(size, found.with_copy - found.copied + matrix), f"{note}, with experts copied from host memory"
    return ComputeBuffer(size_bytes=size, basis=Basis.FORMULA, note=note)


def _covers(graph: ComputeGraph, architecture: Architecture) -> bool:
    known = {kind for kind, _ in graph.attention}
    return (
        architecture.hyper_connections == graph.hyper_connections
        and architecture.index_dim == graph.index_dim
        and all(kind.value in known for kind in attention_kinds(architecture))
    )
