"""What the hub's own client left of downloads that were killed: their beginnings are taken over, and fetching goes on.

Its `.incomplete` files carry the hash of the whole file in their names, and no record of what in them is right. So only
bytes before the first hole count, and the hash at the end decides; a beginning that was wrong costs a second download.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from v4deploy.pull import store
from v4deploy.pull.adopt.adopt import Adopted
from v4deploy.pull.adopt.places import Origin, Places
from v4deploy.pull.adopt.take import Method
from v4deploy.pull.holes import first_hole
from v4deploy.pull.manifest import FilePlan
from v4deploy.pull.part import Part, discard_part, resumable_bytes

# huggingface_hub 2.4: `blobs/<hash>.<8 digits>.incomplete` in the cache, `<hash of the name>.<hash>.<8 digits>
# .incomplete` below `.cache/huggingface/download` of a local directory; older clients leave the digits out.
_SUFFIX = ".incomplete"
_READ_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class _Beginning:
    path: Path
    origin: Origin
    usable_bytes: int


def adopt_beginnings(
    files: Sequence[FilePlan], directory: Path, places: Places, *, block_bytes: int
) -> tuple[Adopted, ...]:
    """Copy the beginnings of these files into parts of `directory`, where that is more than what is here.

    Raises:
        OSError: the directory cannot be written.
    """
    left = tuple(_left_by_the_client(places))
    adopted: list[Adopted] = []
    for file in files:
        best = _longest(left, file, block_bytes)
        destination = directory / file.path
        if best is None or best.usable_bytes <= resumable_bytes(destination, file) or not _has_room(directory, file):
            continue
        copied_bytes = _copy(best, destination, file, block_bytes)
        if copied_bytes:
            adopted.append(
                Adopted(
                    path=file.path,
                    size_bytes=copied_bytes,
                    source=str(best.path),
                    origin=best.origin,
                    method=Method.BEGINNING,
                )
            )
    return tuple(adopted)


def _has_room(directory: Path, file: FilePlan) -> bool:
    """Where the whole file does not fit, the pull is about to say so; no need to fill the disk before."""
    free_bytes = store.free_bytes(directory)
    return free_bytes is None or free_bytes > file.size_bytes


def _longest(left: Sequence[tuple[Path, Origin]], file: FilePlan, block_bytes: int) -> _Beginning | None:
    beginnings = (
        _Beginning(path=path, origin=origin, usable_bytes=_usable_bytes(path, file, block_bytes))
        for path, origin in left
        if file.sha256 is not None and file.sha256 in path.name
    )
    return max(beginnings, key=lambda one: one.usable_bytes, default=None)


def _left_by_the_client(places: Places) -> Iterator[tuple[Path, Origin]]:
    if places.hub_cache is not None:
        for path in sorted(places.hub_cache.glob(f"models--*/blobs/*{_SUFFIX}")):
            yield path, Origin.HUB_CACHE
    for directory in places.given:
        for path in sorted(directory.rglob(f"*{_SUFFIX}")):
            yield path, Origin.GIVEN


def _usable_bytes(path: Path, file: FilePlan, block_bytes: int) -> int:
    """Whole blocks before the first hole; 0 for what cannot be read, or is longer than the file."""
    with contextlib.suppress(OSError), path.open("rb", buffering=0) as stream:
        size_bytes = os.fstat(stream.fileno()).st_size
        if size_bytes <= file.size_bytes:
            hole = first_hole(stream.fileno(), size_bytes)
            return (size_bytes if hole is None else hole) // block_bytes * block_bytes
    return 0


def _copy(beginning: _Beginning, destination: Path, file: FilePlan, block_bytes: int) -> int:
    """The bytes that were copied; fewer than asked for when the source ends or cannot be read."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    discard_part(destination)
    buffer = memoryview(bytearray(_READ_BYTES))
    offset = 0
    with closing(Part(destination, file, block_bytes=block_bytes)) as part:
        while offset < beginning.usable_bytes:
            index = part.blocks.index(offset)
            count = _read(beginning.path, offset, buffer[: part.blocks.end(index) - offset])
            if not count:
                break
            part.write(offset, buffer[:count])
            part.blocks.arrived(index, count)
            offset += count
    return offset


def _read(source: Path, offset: int, buffer: memoryview) -> int:
    """Bytes read; 0 at the end and where it cannot be read: what is not taken over will be fetched."""
    with contextlib.suppress(OSError), source.open("rb", buffering=0) as stream:
        return os.preadv(stream.fileno(), [buffer], offset)
    return 0
