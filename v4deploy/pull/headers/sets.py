"""Whether the parts of one model agree: the parts of a split GGUF, and safetensors files with their index."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from v4deploy.pull.headers.gguf import GgufHeader
from v4deploy.pull.manifest import split_name

Problem = tuple[str, str]
"""A path, and a sentence that goes on where it ends."""


def place_problem(path: str, header: GgufHeader) -> str | None:
    """Whether a GGUF file is the part that its name says: loaders derive the other parts from the name."""
    part = split_name(path)
    named = (part.count, part.number - 1) if part else (1, 0)
    found = (header.split_count or 1, header.split_number or 0)
    if found == named:
        return None
    return f"says it is part {found[1] + 1} of {found[0]}, its name says part {named[1] + 1} of {named[0]}"


def split_set_problems(headers: Mapping[str, GgufHeader]) -> Iterator[Problem]:
    """What the parts of each whole split set say against each other; sets with a part missing are passed over."""
    sets: dict[tuple[str, int], dict[int, str]] = {}
    for path in headers:
        if (part := split_name(path)) is not None:
            sets.setdefault((part.stem, part.count), {})[part.number] = path
    for (_, count), paths in sets.items():
        if set(paths) == set(range(1, count + 1)):
            yield from _set_problems([(paths[number], headers[paths[number]]) for number in sorted(paths)])


def _set_problems(parts: list[tuple[str, GgufHeader]]) -> Iterator[Problem]:
    first_path, first = parts[0]
    for path, header in parts[1:]:
        if header.split_tensors != first.split_tensors:
            yield path, f"promises {header.split_tensors} tensors in all parts, part 1 promises {first.split_tensors}"
        if header.architecture not in {None, first.architecture}:
            yield path, f"has the architecture {header.architecture}, part 1 has {first.architecture}"
    names = [tensor.name for _, header in parts for tensor in header.tensors]
    if first.split_tensors is not None and len(names) != first.split_tensors:
        yield first_path, f"promises {first.split_tensors} tensors, its {len(parts)} parts hold {len(names)}"
    if len(set(names)) != len(names):
        yield first_path, "and its other parts hold a tensor twice"


def index_problems(
    index_path: str, weight_map: Mapping[str, str], held: Mapping[str, frozenset[str]]
) -> Iterator[Problem]:
    """What an index says against the files beside it; `held` has the tensors of each file that could be read.

    Files that the index does not name are passed over: loaders that go by the index never open them.
    """
    folder = index_path.rpartition("/")[0]
    promised: dict[str, set[str]] = {}
    for tensor, name in weight_map.items():
        promised.setdefault(f"{folder}/{name}" if folder else name, set()).add(tensor)
    for path, tensors in sorted(promised.items()):
        if path not in held:
            continue
        if lacking := tensors - held[path]:
            yield path, f"lacks {len(lacking)} of the tensors that {index_path} promises, for example `{min(lacking)}`"
        if unnamed := held[path] - tensors:
            yield path, f"holds {len(unnamed)} tensors that {index_path} does not name, for example `{min(unnamed)}`"


def indexed_paths(index_path: str, weight_map: Mapping[str, str]) -> frozenset[str]:
    """The files that an index names."""
    folder = index_path.rpartition("/")[0]
    return frozenset(f"{folder}/{name}" if folder else name for name in weight_map.values())
