"""The bytes of a compute graph: its parts put together for an architecture, and given to the graph allocator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

from v4deploy.domain.compute_graph import ComputeGraph, GraphPart, Size
from v4deploy.domain.model import Architecture
from v4deploy.planning.attention import CSA_RATIO, HCA_RATIO, LLAMA_CPP_BLOCK_BYTES, attention_kinds, padded_cells
from v4deploy.planning.graph_arena import Arena
from v4deploy.planning.weights import expert_bytes

EXPERT_MATRICES = 3
"""Gate, up and down."""

_Block = tuple[int, int]
_Left = tuple[tuple[_Block, ...], int, list[_Block]]
"""Free blocks, peak in bytes and live tensors where a part ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphSettings:
    """What the graph of one prompt batch depends on beside the architecture.

    Attributes:
        context_tokens: of one slot.
        micro_batch_tokens: of all slots together.
        outputs: tokens whose logits are computed; a server asks for one a slot.
    """

    context_tokens: int
    micro_batch_tokens: int
    slots: int
    kv_cache_type: str
    outputs: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphBytes:
    """What the allocator reserves for the graph of a full prompt batch.

    Attributes:
        whole: with all experts on devices.
        with_copy: while routed experts are computed with a matrix copied from host memory, one after another.
        copied: of that matrix, in its native type.
    """

    whole: int
    with_copy: int
    copied: int


def graph_bytes(graph: ComputeGraph, architecture: Architecture, settings: GraphSettings) -> GraphBytes:
    """Work through the graph as the allocator does.

    Raises:
        ValueError: the architecture has attention that the graph does not know.
    """
    run = _Run(graph, graph_dimensions(architecture, settings), tuple(_parts(graph, architecture)))
    return run.peaks(architecture.routed_experts * expert_bytes(architecture) // EXPERT_MATRICES)


class _Run:
    """One graph with its sizes."""

    def __init__(self, graph: ComputeGraph, dimensions: Mapping[str, int], parts: tuple[GraphPart, ...]) -> None:
        self._alignment_bytes = graph.alignment_bytes
        self._dimensions = dimensions
        self._sizes: dict[Size, int] = {}
        self._input_sizes = dict(graph.input_sizes)
        self._parts = parts
        self._experts = {id(part) for _, part in graph.experts}
        self._inputs: dict[str, _Block] = {}
        self._ready: dict[int, list[tuple[int | None, int | None, str]]] = {}

    def peaks(self, copied_bytes: int) -> GraphBytes:
        """Inputs and constants of all parts first, then the parts.

        A part that finds the buffer as an earlier layer of its kind found it leaves it in the same way, so it is
        walked once.
        """
        last_part = {name: index for index, part in enumerate(self._parts) for name in part.inputs}
        arena = Arena(self._alignment_bytes)
        constants = [self._place_inputs(part, arena) for part in self._parts]
        peak, free, with_copy = arena.peak_bytes, arena.free, 0
        live: list[_Block] = []
        walked: dict[tuple[object, ...], _Left] = {}
        for index, part in enumerate(self._parts):
            done = frozenset(name for name in part.inputs if isinstance(name, str) and last_part[name] == index)
            found = (*live, *constants[index])
            key = (id(part), free, found, done)
            if key not in walked:
                arena = Arena(self._alignment_bytes, free)
                left = self._walk(arena, part, list(found), set(done))
                if id(part) in self._experts:
                    # Gate, up and down follow each other so closely that it makes no difference which one is there.
                    beside = Arena(self._alignment_bytes, free)
                    beside.allocate(copied_bytes)
                    self._walk(beside, part, list(found), set(done))
                    with_copy = max(with_copy, beside.peak_bytes)
                walked[key] = (arena.free, arena.peak_bytes, left)
            free, reached, live = walked[key]
            peak = max(peak, reached)
        return GraphBytes(whole=peak, with_copy=with_copy, copied=copied_bytes)

    def _place_inputs(self, part: GraphPart, arena: Arena) -> list[_Block]:
        """Place what no earlier part has placed; the part's own constants."""
        constants = []
        for wanted in part.inputs:
            if isinstance(wanted, Size):
                constants.append(arena.allocate(self._bytes(wanted)))
            elif wanted not in self._inputs:
                self._inputs[wanted] = arena.allocate(self._bytes(self._input_sizes[wanted]))
        return constants

    def _walk(self, arena: Arena, part: GraphPart, live: list[_Block], done: set[str]) -> list[_Block]:
        """What the part does, and the tensors that it leaves."""
        tensors: list[_Block | None] = [*live]
        for size_bytes, tensor, name in self._steps(part):
            if size_bytes is not None:
                if name in done:
                    done.remove(name)
                    tensors.append(self._inputs[name])
                else:
                    tensors.append(arena.allocate(size_bytes))
            elif tensor is not None:
                block, tensors[tensor] = tensors[tensor], None
                assert block is not None
                arena.release(block)
            elif name in done:
                arena.release(self._inputs[name])
        return [block for block in tensors if block is not None]

    def _steps(self, part: GraphPart) -> list[tuple[int | None, int | None, str]]:
        """The part's steps with their bytes, worked out once for all layers."""
        if id(part) not in self._ready:
            self._ready[id(part)] = [
                (None if step.size is None else self._bytes(step.size), step.tensor, step.name or "")
                for step in part.steps
            ]
        return self._ready[id(part)]

    def _bytes(self, size: Size) -> int:
        if size not in self._sizes:
            self._sizes[size] = size.factor * prod(self._dimensions[name] for name in size.dimensions) // size.divisor
        return self._sizes[size]


def graph_dimensions(architecture: Architecture, settings: GraphSettings) -> dict[str, int]:
    """The dimensions that sizes of a graph are made of, by name. Tokens are rounded up to whole ones a slot."""
    context, slots = settings.context_tokens, settings.slots
    batch = min(context * slots, settings.micro_batch_tokens)
    slot_tokens = -(-batch // slots)
    raw = padded_cells(min(context, architecture.window_tokens + settings.micro_batch_tokens))
    csa, hca = padded_cells(-(-context // CSA_RATIO)), padded_cells(-(-context // HCA_RATIO))
    tokens = slot_tokens * slots
    return {
        "tokens": tokens,
        "slot_tokens": slot_tokens,
        "slots": slots,
        "outputs": min(batch, settings.outputs or slots),
        "raw": raw,
        "csa": csa,
        "hca": hca,
        "raw_and_csa": raw + csa,
        "raw_and_hca": raw + hca,
        "topk": min(architecture.index_topk, csa),
        "csa_writes": tokens // CSA_RATIO + slots,
        "hca_writes": tokens // HCA_RATIO + slots,
        "csa_rows": tokens + 2 * CSA_RATIO * slots,
        "csa_rows_and_one": tokens + 2 * CSA_RATIO * slots + 1,
        "hca_rows": tokens + HCA_RATIO * slots,
        "hidden": architecture.hidden_size,
        "heads": architecture.heads,
        "head": architecture.head_dim,
        "q_rank": architecture.q_lora_rank,
        "o_rank": architecture.o_lora_rank,
        "o_groups": architecture.o_groups,
        "index_heads": architecture.index_heads,
        "experts": architecture.routed_experts,
        "active": architecture.active_experts,
        "expert_width": architecture.expert_width,
        "shared_width": architecture.shared_experts * architecture.expert_width,
        "vocabulary": architecture.vocabulary,
        "cache_block": LLAMA_CPP_BLOCK_BYTES[settings.kv_cache_type],
    }


def _parts(graph: ComputeGraph, architecture: Architecture) -> Iterator[GraphPart]:
    attention, experts = dict(graph.attention), dict(graph.experts)
    yield graph.begin
    for layer, kind in enumerate(attention_kinds(architecture)):
        if kind.value not in attention:
            raise ValueError(f"no graph is known for the attention of {architecture.id}")
        yield attention[kind.value]
        yield experts["hashed" if layer < architecture.hash_layers else "scored"]
    yield graph.end
