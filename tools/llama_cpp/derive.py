"""From llama.cpp's graphs of the probe shapes to the parts that profiles/compute_graphs/ holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.llama_cpp.graph import Allocation, read_graph
from tools.llama_cpp.library import ContextRequest, Library
from tools.llama_cpp.parts import RawPart, SizeNames, cut, input_name, outline
from v4deploy.domain.model import Architecture
from v4deploy.planning.attention import attention_kinds
from v4deploy.planning.graph_memory import GraphSettings, graph_dimensions
from v4deploy.shapes.write import write_sparse

ALIGNMENT_BYTES = 64
"""Of ggml's CPU buffers."""

_MOST_DIFFERENCE_BYTES = 1 << 14
"""The log has hundredths of a MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One graph, cut: `parts` in order, with the kind of each and the dimensions that it was made for."""

    kinds: tuple[str, ...]
    parts: tuple[RawPart, ...]
    dimensions: Mapping[str, int]
    begins_with: str


def runs(
    library: Library,
    architectures: Iterable[Architecture],
    requests: Mapping[str, Sequence[ContextRequest]],
    files: Path,
) -> Iterator[Run]:
    """Every request on every shape; its file is written to `files`.

    Raises:
        AssertionError: the allocator's work is not what it was.
    """
    for architecture in architectures:
        path = files / f"{architecture.id}.gguf"
        write_sparse(path, architecture, expert_type="MXFP4", dense_type="Q8_0")
        with library.model(path) as model:
            for request in (request for group in requests.values() for request in group):
                with model.context(request) as (context, sizes):
                    graph = read_graph(
                        library,
                        context,
                        tokens=request.micro_batch_tokens,
                        slots=request.slots,
                        outputs=request.outputs or request.slots,
                    )
                    allocation = Allocation(graph, ALIGNMENT_BYTES)
                    difference = abs(allocation.peak_bytes - sizes.compute_bytes)
                    assert difference < _MOST_DIFFERENCE_BYTES, f"{request}: {allocation.peak_bytes} is not {sizes}"
                    yield _run(architecture, request, cut(graph, allocation.events))
        path.unlink()


def _run(architecture: Architecture, request: ContextRequest, parts: tuple[RawPart, ...]) -> Run:
    kinds = ["begin"]
    for layer, kind in enumerate(attention_kinds(architecture)):
        kinds += [kind.value, "hashed" if layer < architecture.hash_layers else "scored"]
    return Run(
        kinds=(*kinds, "end"),
        parts=parts,
        dimensions=graph_dimensions(architecture, settings_of(request)),
        begins_with=kinds[1],
    )


def settings_of(request: ContextRequest) -> GraphSettings:
    """The same request in the planner's words."""
    return GraphSettings(
        context_tokens=request.context_tokens,
        micro_batch_tokens=request.micro_batch_tokens,
        slots=request.slots,
        kv_cache_type=request.cache_type,
        outputs=request.outputs,
    )


def derive(found: Sequence[Run]) -> dict[str, object]:
    """The graph that all runs have in common, in the words of the profile.

    Raises:
        AssertionError: two parts of a kind differ in more than sizes.
        LookupError: a size is no product of the dimensions.
    """
    names = SizeNames([run.dimensions for run in found])
    kinds = dict.fromkeys(kind for run in found for kind in run.kinds)
    parts = {kind: _part(kind, found, names) for kind in kinds}
    return {
        "input_sizes": dict(_input_sizes(found, names)),
        "begin": parts["begin"],
        "attention": {kind: parts[kind] for kind in ("window", "csa", "hca")},
        "experts": {kind: parts[kind] for kind in ("hashed", "scored")},
        "end": parts["end"],
    }


def _part(kind: str, found: Sequence[Run], names: SizeNames) -> dict[str, str]:
    every = [part for run in found for name, part in zip(run.kinds, run.parts, strict=True) if name == kind]
    assert len({outline(part) for part in every}) == 1, f"the parts `{kind}` differ in more than sizes"
    firsts = [next(part for name, part in zip(run.kinds, run.parts, strict=True) if name == kind) for run in found]
    # Where a shape begins with this kind, the allocator meets all inputs of the part in it.
    fullest = next((part for run, part in zip(found, firsts, strict=True) if run.begins_with == kind), firsts[0])
    steps = []
    for index, step in enumerate(firsts[0].steps):
        if step.placed is not None:
            placed = [part.steps[index].placed for part in firsts]
            over = next((f"={step.instead_of}" for part in every if (step := part.steps[index]).instead_of), "")
            steps.append(f"+{names.of([tensor for tensor in placed if tensor is not None])}{over}")
        else:
            steps.append(f"-{step.number}" if step.last_use is None else f"?{step.last_use}")
    leaves = [[tensor for tensor in part.inputs if not tensor.is_input] for part in firsts]
    constants = iter([f"+{names.of(found_leaves)}" for found_leaves in zip(*leaves, strict=True)])
    inputs = [input_name(tensor) if tensor.is_input else next(constants) for tensor in fullest.inputs]
    return {"inputs": " ".join(inputs), "steps": " ".join(steps)}


def _input_sizes(found: Sequence[Run], names: SizeNames) -> Iterator[tuple[str, str]]:
    inputs = [
        {input_name(tensor): tensor for part in run.parts for tensor in part.inputs if tensor.is_input} for run in found
    ]
    for name in inputs[0]:
        yield name, str(names.of([tensors[name] for tensors in inputs]))
