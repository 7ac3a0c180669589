"""What one weight file says about itself, and the traces that an interrupted download leaves in it."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from v4deploy.domain.model import FileRole
from v4deploy.pull.headers.gguf import GgufHeader, gguf_problem, read_gguf
from v4deploy.pull.headers.reader import FileSource, HeaderError
from v4deploy.pull.headers.safetensors import read_safetensors, safetensors_problem
from v4deploy.pull.headers.sets import place_problem
from v4deploy.pull.holes import first_hole

# A run of zeros this long at a file's end is no weight: the last tensors of V4 files are dense or norms.
_SUSPECT_ZERO_BYTES = 64 * 1024
_LFS_POINTER = b"version https://git-lfs"
_PAGE_BEGINNINGS = (b"<!doctype html", b"<html")


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """A weight file's header, where it has one that can be read.

    Attributes:
        tensors: the names in a safetensors file; its offsets were judged and are not kept, V4-Pro has 150,000 of them.
        problem: what is wrong with it; None: nothing.
    """

    gguf: GgufHeader | None = None
    tensors: frozenset[str] | None = None
    problem: str | None = None


def header_truth(path: Path, name: str) -> Truth:
    """Read and judge the header of a weight file; other files have none. `name` is its path in the repository.

    Raises:
        OSError: it cannot be read.
    """
    if not name.endswith((".gguf", ".safetensors")):
        return Truth()
    with path.open("rb", buffering=0) as stream:
        source = FileSource(stream.fileno())
        try:
            if name.endswith(".safetensors"):
                header = read_safetensors(source)
                return Truth(tensors=header.names, problem=safetensors_problem(header, source.size_bytes))
            gguf = read_gguf(source)
        except HeaderError as error:
            return Truth(problem=str(error))
        return Truth(gguf=gguf, problem=place_problem(name, gguf) or gguf_problem(gguf, source.size_bytes))


def architecture_problem(header: GgufHeader, role: FileRole, architectures: Collection[str]) -> str | None:
    """Whether a main file is of another model than V4: look-alikes carry the name, and engines load them."""
    if role is not FileRole.MAIN or header.architecture is None or not architectures:
        return None
    if header.architecture in architectures:
        return None
    return f"is of architecture {header.architecture}, not {' or '.join(sorted(architectures))}"


def what_it_is_instead(path: Path) -> str | None:
    """What often lies under a weight file's name, by its first bytes; None for anything else.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb", buffering=0) as stream:
        beginning = stream.read(64) or b""
    if beginning.startswith(_LFS_POINTER):
        return "a git-LFS pointer: the repository was cloned without `git lfs pull`"
    if beginning.lstrip().lower().startswith(_PAGE_BEGINNINGS):
        return "a web page: an error or a login was saved under its name"
    return None


def unfinished_trace(path: Path) -> str | None:
    """What a preallocated or sparse download leaves that has the right length: holes, or zeros at its end.

    Loaders see nothing of it and answer with noise.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb", buffering=0) as stream:
        size_bytes = os.fstat(stream.fileno()).st_size
        # A file system may keep small runs of zeros as holes.
        hole = first_hole(stream.fileno(), size_bytes, least_bytes=_SUSPECT_ZERO_BYTES)
        if hole is not None:
            return f"was never written from byte {hole} on: a hole, as an interrupted download leaves it"
        if size_bytes >= _SUSPECT_ZERO_BYTES:
            tail = os.pread(stream.fileno(), _SUSPECT_ZERO_BYTES, size_bytes - _SUSPECT_ZERO_BYTES)
            if not any(tail):
                return f"ends in {_SUSPECT_ZERO_BYTES} zeros or more, as an interrupted download leaves it"
    return None
