"""llama.cpp's compute buffer: what its graph allocator reserves, worked out step by step as the engine does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from v4deploy.domain.compute_graph import ComputeGraph
from v4deploy.domain.model import Architecture
from v4deploy.domain.plan import Basis
from v4deploy.planning.attention import attention_kinds
from v4deploy.planning.graph_memory import GraphSettings, graph_bytes
from v4deploy.planning.weights import expert_bytes

_EXPERT_MATRICES = 3
"""Gate, up and down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeBuffer:
    """The buffer of one device; each device of a layer split has its own, of the same size."""

    size_bytes: int
    basis: Basis
    note: str


@lru_cache(maxsize=4096)
def compute_buffer(
    graphs: tuple[ComputeGraph, ...], architecture: Architecture, settings: GraphSettings
) -> ComputeBuffer | None:
    """The buffer that the engine reserves when it starts. None where no graph is known for these layers or this cache.

    It is the CPU build's own figure to the byte, with flash attention. A GPU build's can differ: one CUDA run of Flash
    with a micro batch of 4,096 and about 200K to 256K tokens reserved 3,948 MiB.
    """
    graph = next((graph for graph in graphs if settings.kv_cache_type in graph.cache_types), None)
    if graph is None or not _covers(graph, architecture):
        return None
    return ComputeBuffer(
        size_bytes=graph_bytes(graph, architecture, settings),
        basis=Basis.FORMULA,
        note=f"the graph of llama.cpp b{graph.build} (CPU build, flash attention), allocated as it does",
    )


def offload_buffer(
    graphs: tuple[ComputeGraph, ...], architecture: Architecture, settings: GraphSettings, layer_experts_bytes: int
) -> ComputeBuffer | None:
    """The same where experts of some layers lie in host memory. `layer_experts_bytes` are those of one layer.

    From 32 tokens on CUDA and ROCm builds compute such layers on a device: they copy the gate, up and down matrices of
    all experts into the buffer, one after another (ggml-backend.cpp and ggml-cuda.cu of b11434). Of another model
    7 GB were seen with any batch of 32 tokens or more, and 42 MB with one of 16 (ggml-org/llama.cpp#24175).
    """
    without = compute_buffer(graphs, architecture, settings)
    # Worked out for matrices in their native type only: dozens of quants would take as many walks of the graph.
    native = architecture.routed_experts * expert_bytes(architecture) // _EXPERT_MATRICES
    beside = compute_buffer(graphs, architecture, replace(settings, copied_bytes=native))
    if without is None or beside is None:
        return None
    matrix = -(-layer_experts_bytes // _EXPERT_MATRICES)
    size = max(without.size_bytes, beside.size_bytes - native + matrix)
    return replace(without, size_bytes=size, note=f"{without.note}, with a matrix of experts copied from host memory")


def _covers(graph: ComputeGraph, architecture: Architecture) -> bool:
    known = {kind for kind, _ in graph.attention}
    return (
        architecture.hyper_connections == graph.hyper_connections
        and architecture.index_dim == graph.index_dim
        and all(kind.value in known for kind in attention_kinds(architecture))
    )
