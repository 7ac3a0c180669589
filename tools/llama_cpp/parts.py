"""The allocator's work on whole graphs, cut into the parts of a model, with sizes as products of named dimensions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from math import prod

from tools.llama_cpp.graph import Event, Graph, Tensor

PART_END = "DSV4_HC_POST"
"""The operation that closes attention and, a second time, the experts of every layer."""
BEGIN_END = "REPEAT"
"""The operation that makes the streams of hyper-connections out of the embeddings."""

_MOST_FACTOR = 4096
_MOST_DIMENSIONS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class RawStep:
    """A step with the tensor itself.

    Attributes:
        number: what the part calls the tensor that it frees.
        instead_of: the input whose place the tensor took; in earlier parts of a kind it gets a place of its own.
    """

    placed: Tensor | None = None
    number: int | None = None
    last_use: str | None = None
    instead_of: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RawPart:
    """`inputs`: inputs that it needs and leaves of its own, in the order in which the allocator places them."""

    inputs: tuple[Tensor, ...]
    steps: tuple[RawStep, ...]


def cut(graph: Graph, events: Sequence[Event]) -> tuple[RawPart, ...]:
    """Beginning, attention and experts of every layer in turn, end.

    Raises:
        AssertionError: inputs and leaves are not placed in the order of the parts that first need them.
    """
    ends = [index for index, node in enumerate(graph.nodes) if node.operation == PART_END]
    begin = next(index for index, node in enumerate(graph.nodes) if node.operation == BEGIN_END)
    placed_first = [event.tensor for event in events if event.node < 0]
    used = {id(event.tensor) for event in events if event.used} | {id(event.instead_of) for event in events}
    # An input that no node reads takes its place all the same.
    unused = [tensor for tensor in placed_first if id(tensor) not in used]
    parts: list[RawPart] = []
    live: list[Tensor] = []
    first = 0
    for bound in (begin, *ends, len(graph.nodes)):
        chosen = [event for event in events if first <= event.node <= bound]
        part, live = _part(chosen, live, placed_first, () if parts else unused)
        parts.append(part)
        first = bound + 1
    in_order = dict.fromkeys(id(tensor) for part in parts for tensor in part.inputs)
    assert list(in_order) == list(map(id, placed_first)), "inputs are placed in another order than the parts use them"
    return tuple(parts)


def _part(
    events: Sequence[Event], live: list[Tensor], placed_first: Sequence[Tensor], unused: Sequence[Tensor]
) -> tuple[RawPart, list[Tensor]]:
    needed = {id(event.tensor) for event in events if event.used} | {id(tensor) for tensor in unused}
    needed |= {id(event.instead_of) for event in events}
    inputs = tuple(tensor for tensor in placed_first if id(tensor) in needed)
    leaves = [tensor for tensor in inputs if not tensor.is_input]
    last = {id(event.tensor): index for index, event in enumerate(events) if event.used}
    tensors = dict(enumerate((*live, *leaves)))
    numbers = {id(tensor): number for number, tensor in tensors.items()}
    steps: list[RawStep] = []
    for index, event in enumerate(events):
        tensor = event.tensor
        if event.used:
            if last[id(tensor)] == index:
                steps.append(RawStep(last_use=input_name(tensor)))
        elif event.instead_of is not None and not event.instead_of.is_input:
            number = numbers.pop(id(event.instead_of))
            numbers[id(tensor)], tensors[number] = number, tensor
        elif not event.freed:
            number = len(tensors)
            numbers[id(tensor)], tensors[number] = number, tensor
            over = None if event.instead_of is None else input_name(event.instead_of)
            steps.append(RawStep(placed=tensor, instead_of=over))
        elif not tensor.is_input:
            steps.append(RawStep(number=numbers.pop(id(tensor))))
    whole = RawPart(inputs=inputs, steps=tuple(steps))
    return whole, [tensors[number] for number in sorted(numbers.values())]


def input_name(tensor: Tensor) -> str:
    """llama.cpp's own name; one input has none."""
    return "raw_write_idxs" if tensor.name.startswith("leaf_") else tensor.name.removeprefix("dsv4_")


def outline(part: RawPart) -> tuple[object, ...]:
    """What has to be the same in every part of a kind, whatever its sizes."""
    steps = tuple((step.placed is not None, step.number, step.last_use) for step in part.steps)
    return (frozenset(input_name(tensor) for tensor in part.inputs if tensor.is_input), steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A size as a product: factor, names, divisor."""

    factor: int
    dimensions: tuple[str, ...]
    divisor: int = 1

    def __str__(self) -> str:
        words = [*self.dimensions, *([str(self.factor)] if self.factor != 1 or not self.dimensions else [])]
        return "*".join(words) + (f"/{self.divisor}" if self.divisor != 1 else "")


class SizeNames:
    """Finds the product that gives a tensor's size in every run."""

    def __init__(self, dimensions: Sequence[Mapping[str, int]]) -> None:
        self._runs = dimensions
        names = [name for name in dimensions[0] if name != "cache_block"]
        self._products = [
            (chosen, tuple(prod(run[name] for name in chosen) for run in dimensions))
            for count in range(_MOST_DIMENSIONS + 1)
            for chosen in combinations_with_replacement(names, count)
        ]
        self._known: dict[tuple[int, ...], tuple[int, tuple[str, ...]]] = {}

    def of(self, tensors: Sequence[Tensor]) -> Named:
        """The product for one tensor as it came out in each run.

        Raises:
            LookupError: no product of known dimensions has these values.
        """
        factor = 1
        names: list[str] = []
        for axis in range(4):
            part_factor, part_names = self._axis(tuple(tensor.shape[axis] for tensor in tensors), tensors[0].name)
            factor *= part_factor
            names += part_names
        bytes_by_run = [tensor.size_bytes for tensor in tensors]
        elements = [prod(tensor.shape) for tensor in tensors]
        widths = {size / count for size, count in zip(bytes_by_run, elements, strict=True)}
        if len(widths) == 1 and widths <= {1.0, 2.0, 4.0, 8.0} and len({t.kind for t in tensors}) == 1:
            return Named(factor=factor * int(widths.pop()), dimensions=tuple(names))
        blocks = [run["cache_block"] for run in self._runs]
        if all(size == count * block // 32 for size, count, block in zip(bytes_by_run, elements, blocks, strict=True)):
            return Named(factor=factor, dimensions=(*names, "cache_block"), divisor=32)
        raise LookupError(f"`{tensors[0].name}` has {bytes_by_run} bytes for {elements} elements")

    def _axis(self, values: tuple[int, ...], name: str) -> tuple[int, tuple[str, ...]]:
        if values not in self._known:
            self._known[values] = self._found(values, name)
        return self._known[values]

    def _found(self, values: tuple[int, ...], name: str) -> tuple[int, tuple[str, ...]]:
        fits = list(self._fits(values))
        if not fits:
            raise LookupError(f"`{name}` has an axis of {values}, which no product of dimensions gives")
        return min(fits, key=lambda fit: (len(fit[1]) + (fit[0] != 1), fit[0]))

    def _fits(self, values: tuple[int, ...]) -> Iterator[tuple[int, tuple[str, ...]]]:
        for names, products in self._products:
            factor = values[0] // products[0]
            if 1 <= factor <= _MOST_FACTOR and all(
                factor * product == value for product, value in zip(products, values, strict=True)
            ):
                yield factor, names
