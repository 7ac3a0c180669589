"""The form of profiles/compute_graphs/<engine>.yaml, which tools/read_compute_graphs.py writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from v4deploy.catalogue.yaml_source import YamlDocument, parse_profile
from v4deploy.domain.compute_graph import ComputeGraph, GraphPart, GraphStep, Size, StepKind
from v4deploy.domain.engine import MemoryModel
from v4deploy.domain.source import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class PartEntry:
    """Words with spaces between them.

    Attributes:
        inputs: names of inputs; `+tokens*1024` is a constant of that size.
        steps: `+tokens*1024` allocates, `+tokens*1024=name` takes an input's place where it can, `-3` frees tensor 3,
            `?name` uses an input for the last time here.
    """

    inputs: str
    steps: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphEntry:
    """As ComputeGraph documents it."""

    cache_types: tuple[str, ...]
    input_sizes: Mapping[str, str]
    begin: PartEntry
    attention: Mapping[str, PartEntry]
    experts: Mapping[str, PartEntry]
    end: PartEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphFile:
    """Graphs of one memory model, by cache type."""

    memory_model: MemoryModel
    build: str
    hyper_connections: int
    index_dim: int
    alignment_bytes: int
    source: str
    as_of: str
    graphs: tuple[GraphEntry, ...]


def graphs_of(document: YamlDocument) -> tuple[MemoryModel, tuple[ComputeGraph, ...]]:
    """The graphs and the memory model that they belong to.

    Raises:
        ProfileError: the file has not the form of GraphFile, or a word of it cannot be read.
    """
    file = parse_profile(GraphFile, document)
    graphs = []
    for index, entry in enumerate(file.graphs):
        try:
            graphs.append(_graph(entry, file))
        except ValueError as error:
            raise document.error(("graphs", index), str(error)) from error
    return file.memory_model, tuple(graphs)


def _graph(entry: GraphEntry, file: GraphFile) -> ComputeGraph:
    return ComputeGraph(
        build=file.build,
        cache_types=entry.cache_types,
        hyper_connections=file.hyper_connections,
        index_dim=file.index_dim,
        alignment_bytes=file.alignment_bytes,
        input_sizes=tuple((name, size_of(words)) for name, words in entry.input_sizes.items()),
        begin=_part(entry.begin),
        attention=tuple((kind, _part(part)) for kind, part in entry.attention.items()),
        experts=tuple((kind, _part(part)) for kind, part in entry.experts.items()),
        end=_part(entry.end),
        source=Source(source=file.source, as_of=file.as_of, confidence="A"),
    )


def _part(entry: PartEntry) -> GraphPart:
    return GraphPart(
        inputs=tuple(size_of(word[1:]) if word.startswith("+") else word for word in entry.inputs.split()),
        steps=tuple(map(_step, entry.steps.split())),
    )


@cache
def _step(word: str) -> GraphStep:
    sign, rest = word[0], word[1:]
    match sign:
        case "+":
            words, _, name = rest.partition("=")
            return GraphStep(kind=StepKind.ALLOCATE, size=size_of(words), name=name or None)
        case "-":
            return GraphStep(kind=StepKind.FREE, tensor=int(rest))
        case "?":
            return GraphStep(kind=StepKind.LAST_USE, name=rest)
        case _:
            raise ValueError(f"`{word}` is no step of a graph")


def size_of(words: str) -> Size:
    """A size as it is written: `tokens*hidden*4`, `head*raw*cache_block/32`.

    Raises:
        ValueError: a factor or divisor is no number.
    """
    product, _, divisor = words.partition("/")
    factors = product.split("*")
    numbers = [int(factor) for factor in factors if factor.isdigit()]
    if len(numbers) > 1:
        raise ValueError(f"`{words}` has several numbers")
    return Size(
        factor=numbers[0] if numbers else 1,
        dimensions=tuple(factor for factor in factors if not factor.isdigit()),
        divisor=int(divisor or 1),
    )
