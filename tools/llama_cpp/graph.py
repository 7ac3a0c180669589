"""The graph that llama.cpp reserves memory for, read out of its memory, and the allocator's work on it.

Tensors are read by the layout of `struct ggml_tensor` (ggml.h) and `struct ggml_cgraph` (ggml-impl.h) of build 11434;
that the allocator's peak equals the size in the log shows that both are still so.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tools.llama_cpp.library import Library
from v4deploy.planning.graph_arena import Arena

_TENSOR_BYTES, _GRAPH_BYTES = 328, 48
_INPUT, _OUTPUT = 1, 2
_NO_OPERATION = 0

ROTATION = "attn_inp_k_rot"
INDEX_DIMENSION = 128
"""Of V4's index keys; no probe shape has heads of this width."""


@dataclass(eq=False, slots=True, kw_only=True)
class Tensor:
    """A tensor of the graph. `is_external`: it lies in a buffer of weights or cache."""

    name: str
    operation: str
    operation_number: int
    kind: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    size_bytes: int
    flags: int
    is_external: bool
    view_offset: int
    view_of: Tensor | None = None
    sources: list[Tensor] = field(default_factory=list)
    # The allocator's own notes.
    children: int = 0
    views: int = 0
    is_live: bool = False
    block: tuple[int, int] = (0, 0)

    @property
    def is_input(self) -> bool:
        return bool(self.flags & _INPUT)

    @property
    def is_output(self) -> bool:
        return bool(self.flags & _OUTPUT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Nodes in the order of execution; leaves are constants and inputs."""

    nodes: tuple[Tensor, ...]
    leaves: tuple[Tensor, ...]
    reuses_memory: Callable[[int], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What the allocator did while `node` was its turn (-1: before the first): placed a tensor, freed one, or let it
    take over the place of `instead_of`.
    """

    node: int
    tensor: Tensor
    placed: bool = False
    freed: bool = False
    instead_of: Tensor | None = None
    used: bool = False


def read_graph(library: Library, context: int, *, tokens: int, slots: int, outputs: int) -> Graph:
    """The graph of a full batch, as the context reserves it."""
    dll = library.dll
    reserve = dll._Z19llama_graph_reserveP13llama_contextjjj  # noqa: SLF001 - the name of a C++ function
    reserve.argtypes = [ctypes.c_void_p, *([ctypes.c_uint32] * 3)]
    reserve.restype = ctypes.c_void_p
    dll.ggml_nbytes.argtypes = [ctypes.c_void_p]
    dll.ggml_nbytes.restype = ctypes.c_size_t
    dll.ggml_op_can_inplace.restype = ctypes.c_bool
    for name in (dll.ggml_op_name, dll.ggml_type_name):
        name.restype = ctypes.c_char_p
    address = reserve(context, tokens, slots, outputs)
    _, nodes, leaves, node_list, _, _, leaf_list = struct.unpack("<3i4x4Q", ctypes.string_at(address, _GRAPH_BYTES))
    reader = _Reader(library)
    found = tuple(map(reader.tensor, _pointers(node_list, nodes)))
    _tell_rotations_apart(found)
    return Graph(
        nodes=found,
        leaves=tuple(map(reader.tensor, _pointers(leaf_list, leaves))),
        reuses_memory=dll.ggml_op_can_inplace,
    )


def _tell_rotations_apart(nodes: Iterable[Tensor]) -> None:
    """Every quantised cache has a rotation of its own, all of one name: they are told apart by what is rotated."""
    for node in nodes:
        for rotation in node.sources:
            if rotation.name == ROTATION:
                rotated = node.sources[1].name
                cache = next((word for word in ("csa", "hca") if rotated.startswith(f"{word}_state")), "raw")
                rotation.name = f"{'lid' if rotation.shape[0] == INDEX_DIMENSION else cache}_rotation"


def _pointers(address: int, count: int) -> tuple[int, ...]:
    return struct.unpack(f"<{count}Q", ctypes.string_at(address, 8 * count))


class _Reader:
    def __init__(self, library: Library) -> None:
        self._dll = library.dll
        self._known: dict[int, Tensor] = {}

    def tensor(self, address: int) -> Tensor:
        if address in self._known:
            return self._known[address]
        raw = ctypes.string_at(address, _TENSOR_BYTES)
        kind, buffer, *numbers = struct.unpack_from("<i4xQ4q4Qi", raw)
        shape, strides, operation = tuple(numbers[:4]), tuple(numbers[4:8]), numbers[8]
        flags, *sources, view_of, view_offset, data = struct.unpack_from("<i10Q3Q", raw, 148)
        found = Tensor(
            name=raw[256:320].split(b"\0")[0].decode(errors="replace"),
            operation=self._dll.ggml_op_name(operation).decode(),
            operation_number=operation,
            kind=self._dll.ggml_type_name(kind).decode(),
            shape=shape,
            strides=strides,
            size_bytes=int(self._dll.ggml_nbytes(address)),
            flags=flags,
            is_external=bool(buffer or data),
            view_offset=view_offset,
        )
        self._known[address] = found
        found.sources = [self.tensor(source) for source in sources if source]
        found.view_of = self.tensor(view_of) if view_of else None
        return found


class Allocation:
    """ggml's graph allocation (`ggml_gallocr_alloc_graph_impl`), with what it did."""

    def __init__(self, graph: Graph, alignment_bytes: int) -> None:
        self.events: list[Event] = []
        self._graph = graph
        self._arena = Arena(alignment_bytes)
        self._node = -1
        self._run()

    @property
    def peak_bytes(self) -> int:
        return self._arena.peak_bytes

    def _run(self) -> None:
        graph = self._graph
        self._place_all(graph.leaves)
        for node in graph.nodes:
            if node.view_of is not None and node.operation_number != _NO_OPERATION:
                node.view_of.views += 1
            self._place_all([node] if node.is_input else [])
            for source in node.sources:
                source.children += 1
                self._place_all([source] if source.is_input else [])
        for self._node, node in enumerate(graph.nodes):
            self._place_all([*node.sources, node])
            for source in node.sources:
                source.children -= 1
                self._used(source)

    def _place_all(self, tensors: Iterable[Tensor]) -> None:
        for tensor in tensors:
            if not (tensor.is_live or tensor.is_external or tensor.view_of is not None):
                self._place(tensor)

    def _place(self, tensor: Tensor) -> None:
        tensor.is_live = True
        parent = self._taken_over(tensor) if self._graph.reuses_memory(tensor.operation_number) else None
        if parent is not None:
            tensor.block = parent.block
            self.events.append(Event(node=self._node, tensor=tensor, instead_of=parent))
            if parent.size_bytes != tensor.size_bytes:
                raise AssertionError(f"{tensor.name} takes over a larger place: the parts have no step for that")
            return
        tensor.block = self._arena.allocate(tensor.size_bytes)
        self.events.append(Event(node=self._node, tensor=tensor, placed=True))

    def _taken_over(self, tensor: Tensor) -> Tensor | None:
        """The parent whose place the tensor takes; it is no longer live then. Views are never live themselves."""
        for parent in tensor.sources:
            alike = (parent.kind, parent.shape, parent.strides) == (tensor.kind, tensor.shape, tensor.strides)
            alone = parent.children == 1 and parent.views == 0
            if parent.is_live and not parent.is_output and alike and alone:
                parent.is_live = False
                return parent
        return None

    def _used(self, tensor: Tensor) -> None:
        owner = tensor.view_of or tensor
        if owner.is_input:
            self.events.append(Event(node=self._node, tensor=owner, used=True))
        if tensor.children or tensor.views:
            return
        if owner is not tensor:
            owner.views -= 1
            if owner.views or owner.children:
                return
        if owner.is_live and not owner.is_output:
            self._arena.release(owner.block)
            owner.is_live = False
            self.events.append(Event(node=self._node, tensor=owner, freed=True))
