"""What an engine's graph allocator is asked to do while it reserves a V4 graph: steps by part of the model, as data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from v4deploy.domain.source import Source


class StepKind(StrEnum):
    """ALLOCATE: a tensor of `size` gets the next number of its part; where it comes from the last use of the input
    `name`, it takes that one's place. FREE: the tensor of that number is done.

    LAST_USE: this part needs an input for the last time; it is free then if no later part needs it.
    """

    ALLOCATE = "allocate"
    FREE = "free"
    LAST_USE = "last use"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A product: `factor` bytes times the dimensions, by their names, divided by `divisor`."""

    factor: int
    dimensions: tuple[str, ...]
    divisor: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphStep:
    """One step. `size` belongs to ALLOCATE, `tensor` to FREE, `name` to LAST_USE and sometimes to ALLOCATE."""

    kind: StepKind
    size: Size | None = None
    tensor: int | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GraphPart:
    """A piece of the graph. Its tensors are numbered from 0: what the part before left, its constants, then its own.

    Attributes:
        inputs: what it needs of the graph's inputs, by name, and constants of its own, by size. A name that an earlier
            part has too is the same tensor. All are allocated before the first part begins, in this order.
    """

    inputs: tuple[str | Size, ...]
    steps: tuple[GraphStep, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ComputeGraph:
    """The graph of one prompt batch, for some cache types. Graphs are compared by identity: they are keys of caches.

    Attributes:
        build: of the engine that it was read from.
        cache_types: what the KV cache may hold; a rotated (quantised) cache has more operations.
        hyper_connections, index_dim: of every V4 so far; sizes hold them as numbers.
        alignment_bytes: every tensor begins at a multiple of it.
        input_sizes: of the graph's inputs, by name.
        begin, end: before the first layer, and after the last.
        attention: by kind of attention (`window`, `csa`, `hca`).
        experts: by how tokens find their experts (`hashed`, `scored`).
    """

    build: str
    cache_types: tuple[str, ...]
    hyper_connections: int
    index_dim: int
    alignment_bytes: int
    input_sizes: tuple[tuple[str, Size], ...]
    begin: GraphPart
    attention: tuple[tuple[str, GraphPart], ...]
    experts: tuple[tuple[str, GraphPart], ...]
    end: GraphPart
    source: Source
