"""llama.cpp's compute buffer: what its graph allocator reserves, worked out step by step as the engine does."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from v4deploy.domain.compute_graph import ComputeGraph
from v4deploy.domain.model import Architecture
from v4deploy.domain.plan import Basis
from v4deploy.planning.attention import attention_kinds
from v4deploy.planning.graph_memory import GraphSettings, graph_bytes


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


def _covers(graph: ComputeGraph, architecture: Architecture) -> bool:
    known = {kind for kind, _ in graph.attention}
    return (
        architecture.hyper_connections == graph.hyper_connections
        and architecture.index_dim == graph.index_dim
        and all(kind.value in known for kind in attention_kinds(architecture))
    )
