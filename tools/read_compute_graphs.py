"""Read the graphs that llama.cpp (the installed `xllamacpp` wheel) reserves memory for, as parts of any V4 shape.

Three small shapes whose dimensions all differ are loaded without weights. For each the wheel's own graph is read out of
its memory, the allocator's work on it is repeated, and the peak compared with the size that the engine says. What all
runs have in common is written as data: the planner puts it together for a model's layers, and gets the engine's bytes
for every context, batch, number of slots and cache type.

    python -m tools.read_compute_graphs            compare with profiles/compute_graphs/; exit status 1 if it differs
    python -m tools.read_compute_graphs --write    write it
"""

from __future__ import annotations

import argparse
import datetime as dt
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

from tools.llama_cpp.derive import ALIGNMENT_BYTES, derive, runs
from tools.llama_cpp.graph import INDEX_DIMENSION
from tools.llama_cpp.library import Library
from tools.llama_cpp.shapes import HYPER_CONNECTIONS, probe_requests, probe_shapes
from v4deploy.catalogue.load import load_catalogue

PROFILES = Path(__file__).parents[1] / "profiles"
GRAPHS = PROFILES / "compute_graphs" / "llama.cpp.yaml"

CACHE_TYPES = (("f16", "bf16"), ("f32",), ("q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"))
"""Types whose graphs differ in sizes only: a quantised cache is rotated, and one of f32 is cast for flash attention."""

_READ = (("f16", "bf16"), ("f32",), ("q8_0", "q4_0"))
"""Of each group those that are read; two types show which sizes depend on the type."""

_HEAD = """\
# What llama.cpp's graph allocator places and frees while it reserves the graph of a prompt batch, for each part of a V4
# model. Written by tools/read_compute_graphs.py (`make read-graphs`). Keys: GraphFile in
# v4deploy/catalogue/wire_graphs.py. Sizes are bytes, as products of dimensions of
# v4deploy/planning/graph_memory.py.
memory_model: llama.cpp
"""


def read(library: Library) -> list[dict[str, object]]:
    """The graphs, each for a group of cache types."""
    models = {model.id: model for model in load_catalogue([PROFILES], with_graphs=False).models}
    shapes = probe_shapes(models["v4-flash"].architecture)
    found = []
    for group, types in zip(CACHE_TYPES, _READ, strict=True):
        requests = {kind: probe_requests(kind) for kind in types}
        with tempfile.TemporaryDirectory() as directory:
            graph = derive(tuple(runs(library, shapes, requests, Path(directory))))
        found.append({"cache_types": group, **graph})
    return found


def text_of(build: str, graphs: list[dict[str, object]], as_of: str) -> str:
    """The profile."""
    lines = [
        f'{_HEAD}build: "{build}"',
        f"hyper_connections: {HYPER_CONNECTIONS}",
        f"index_dim: {INDEX_DIMENSION}",
        f"alignment_bytes: {ALIGNMENT_BYTES}",
        f"source: graphs of llama.cpp b{build} (xllamacpp wheel, CPU, flash attention), read from its memory",
        f"as_of: {as_of}",
        "graphs:",
    ]
    for graph in graphs:
        lines += _entry(graph)
    return "\n".join(lines) + "\n"


def _entry(graph: Mapping[str, object]) -> Iterator[str]:
    types = graph["cache_types"]
    assert isinstance(types, tuple)
    yield f"  - cache_types: [{', '.join(types)}]"
    for key, value in graph.items():
        if key == "cache_types":
            continue
        assert isinstance(value, dict)
        yield f"    {key}:"
        yield from _mapping(value, 6)


def _mapping(values: Mapping[str, object], indent: int) -> Iterator[str]:
    space = " " * indent
    for key, value in values.items():
        if isinstance(value, dict):
            yield f"{space}{key}:"
            yield from _mapping(value, indent + 2)
        elif len(str(value)) + len(key) + indent < 100:  # noqa: PLR2004 - a line
            yield f'{space}{key}: "{value}"'
        else:
            yield f"{space}{key}: >-"
            yield from textwrap.wrap(
                str(value),
                118,
                initial_indent=space + "  ",
                subsequent_indent=space + "  ",
                break_long_words=False,
                break_on_hyphens=False,
            )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"write {GRAPHS.relative_to(PROFILES.parent)}")
    write = parser.parse_args().write
    library = Library()
    today = dt.datetime.now(dt.UTC).date().isoformat()
    graphs = read(library)
    text = text_of(library.build, graphs, today)
    if write:
        GRAPHS.parent.mkdir(exist_ok=True)
        GRAPHS.write_text(text, encoding="utf-8")
        return 0
    kept = GRAPHS.read_text(encoding="utf-8")
    as_of = next(line.removeprefix("as_of: ") for line in kept.splitlines() if line.startswith("as_of: "))
    if text_of(library.build, graphs, as_of) == kept:
        return 0
    sys.stderr.write(f"{GRAPHS} differs from the graphs of build {library.build}: run with --write\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
