"""Writes the parts of a bundle: streamed from the weights, hashed on the way, one finished part after the other."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from v4deploy import __version__
from v4deploy.bundle.index import (
    INDEX_NAME,
    UNFINISHED_NAME,
    BundleIndex,
    MemberEntry,
    PartEntry,
    bundle_id,
    from_json,
    part_names,
    to_json,
)
from v4deploy.bundle.layout import Layout, Member, Piece, lay_out, part_ranges, parts_of
from v4deploy.domain.errors import DownloadError
from v4deploy.domain.units import format_gb
from v4deploy.pull import manifest as manifests
from v4deploy.pull import store
from v4deploy.pull.hashing import READ_BYTES, Digest, hash_file, new_digest
from v4deploy.pull.manifest import MANIFEST_NAME, FilePlan, Manifest
from v4deploy.pull.part import sync_directory, write_atomically
from v4deploy.pull.request import SPARE_BYTES
from v4deploy.pull.store import Pulled

WEIGHTS_FOLDER = "weights"
_NEW_SUFFIX = ".new"
OnBytes = Callable[[str, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A bundle that is laid out and not written.

    Attributes:
        sources: the weight files on this disk, by their path in the archive.
    """

    index: BundleIndex
    layout: Layout
    sources: dict[str, tuple[Path, FilePlan]]


def draft_bundle(pulled: Pulled, checkpoint: str, part_size_bytes: int) -> Draft:
    """Lay out the weights of a complete pull."""
    manifest = _portable(pulled, checkpoint)
    # The same names below the weights' directory as on any machine, so that unpacking by hand makes a usable one.
    home = f"{WEIGHTS_FOLDER}/{manifest.repo.replace('/', '--')}/{manifest.revision}"
    text = manifests.to_json(manifest).encode()
    newest = max((file.modified_nanoseconds or 0 for file in pulled.files), default=0) // 10**9
    first = Member(path=f"{home}/{MANIFEST_NAME}", size_bytes=len(text), modified_seconds=newest, content=text)
    files = [
        (
            file,
            Member(
                path=f"{home}/{file.path}",
                size_bytes=file.size_bytes,
                modified_seconds=(file.modified_nanoseconds or 0) // 10**9,
            ),
        )
        for file in pulled.files
    ]
    layout = lay_out([first, *(member for _, member in files)])
    entries = tuple(
        MemberEntry(path=file.path, offset_bytes=offset, size_bytes=file.size_bytes)
        for (file, _), offset in zip(files, layout.offsets[1:], strict=True)
    )
    identity = bundle_id(manifest, entries, layout.stream_bytes, part_size_bytes)
    ranges = part_ranges(layout.stream_bytes, part_size_bytes)
    names = part_names(checkpoint, identity, len(ranges))
    index = BundleIndex(
        id=identity,
        made_with=__version__,
        checkpoint=checkpoint,
        part_size_bytes=part_size_bytes,
        stream_bytes=layout.stream_bytes,
        parts=tuple(
            PartEntry(name=name, size_bytes=end - start) for name, (start, end) in zip(names, ranges, strict=True)
        ),
        members=entries,
        manifest=manifest,
    )
    sources = {member.path: (pulled.directory / file.path, file) for file, member in files}
    return Draft(index=index, layout=layout, sources=sources)


def _portable(pulled: Pulled, checkpoint: str) -> Manifest:
    """The manifest of these files alone, none of them finished: where they arrive they have to be hashed first."""
    files = tuple(replace(file, modified_nanoseconds=None) for file in pulled.files)
    selection = pulled.manifest.selection(checkpoint)
    roles = selection.roles if selection else ()
    return replace(pulled.manifest, files=(), selections=()).with_selection(checkpoint, roles, files)


def with_kept_parts(draft: Draft, output: Path) -> Draft:
    """The draft with the parts that an earlier run finished in this directory.

    Raises:
        DownloadError: the directory holds another bundle.
        ProfileError: its index is damaged.
    """
    for name in (INDEX_NAME, UNFINISHED_NAME):
        path = output / name
        with contextlib.suppress(FileNotFoundError):
            before = from_json(path.read_text(encoding="utf-8", errors="replace"), name=str(path))
            if before.id != draft.index.id:
                size = format_gb(before.part_size_bytes)
                raise DownloadError(
                    f"{output} holds another bundle: {before.checkpoint} in parts of {size}",
                    hint="choose another directory with `--output`, or remove what is there",
                )
            kept = [part if _is_there(output, part) else replace(part, sha256=None) for part in before.parts]
            return replace(draft, index=replace(draft.index, parts=tuple(kept)))
    return draft


def _is_there(output: Path, part: PartEntry) -> bool:
    with contextlib.suppress(OSError):
        return part.sha256 is not None and (output / part.name).stat().st_size == part.size_bytes
    return False


def missing_bytes(draft: Draft, output: Path) -> int:
    """How many bytes the directory lacks for what is still to be written; 0 when it has room, or cannot be asked."""
    needed = sum(part.size_bytes for part in draft.index.parts if part.sha256 is None)
    free = store.free_bytes(output)
    return 0 if free is None or not needed else max(0, needed + SPARE_BYTES - free)


def write_parts(draft: Draft, output: Path, *, on_bytes: OnBytes) -> BundleIndex:
    """Write what is not there yet; the index with all hashes. Called again after any interruption, it goes on.

    `on_bytes` hears the part's name and the bytes of the stream that are written.

    Raises:
        DownloadError: a weight file is not what its manifest says; parts that hold it are written anew next time.
        OSError: the directory cannot be written to.
    """
    index = draft.index
    sources = _Sources(draft)
    done_bytes = sum(part.size_bytes for part in index.parts if part.sha256 is not None)
    for number, (part, (first, end)) in enumerate(zip(index.parts, index.ranges, strict=True)):
        if part.sha256 is not None:
            continue
        destination = output / part.name
        new = destination.with_name(destination.name + _NEW_SUFFIX)
        digest = hashlib.sha256()
        try:
            with new.open("wb", buffering=0) as stream:
                for chunk in sources.read(first, end):
                    _write_all(stream, chunk)
                    digest.update(chunk)
                    done_bytes += len(chunk)
                    on_bytes(part.name, done_bytes)
                os.fsync(stream.fileno())
        except _DamagedSourceError as damaged:
            _forget(index, damaged.file, output)
            raise _damaged(damaged) from None
        new.replace(destination)
        sync_directory(output)
        written = replace(part, sha256=digest.hexdigest())
        index = replace(index, parts=(*index.parts[:number], written, *index.parts[number + 1 :]))
        write_atomically(output / UNFINISHED_NAME, to_json(index))
    return index


def _write_all(stream: BinaryIO, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[stream.write(view) :]


class _DamagedSourceError(Exception):
    def __init__(self, path: Path, file: FilePlan, found: str) -> None:
        super().__init__(str(path))
        self.path = path
        self.file = file
        self.found = found


def _damaged(damaged: _DamagedSourceError) -> DownloadError:
    return DownloadError(
        f"{damaged.path} is not what was pulled: {damaged.found}",
        hint="check the weights with `v4deploy verify`, mend them, and run the same command again",
    )


def _forget(index: BundleIndex, file: FilePlan, output: Path) -> None:
    """Write down that no part with bytes of this file counts."""
    member = next(member for member in index.members if member.path == file.path)
    spoilt = set(parts_of(member.offset_bytes, member.size_bytes, index.part_size_bytes))
    parts = tuple(replace(part, sha256=None) if number in spoilt else part for number, part in enumerate(index.parts))
    write_atomically(output / UNFINISHED_NAME, to_json(replace(index, parts=parts)))


class _Sources:
    """Reads the stream; every weight file is hashed against its manifest as it goes by."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._path = ""
        self._digest: Digest | None = None
        self._hashed_bytes = 0

    def read(self, first: int, end: int) -> Iterator[bytes | memoryview]:
        for piece in self._draft.layout.pieces(first, end):
            if piece.member is None:
                yield piece.literal
            else:
                yield from self._read_file(piece.member, piece)

    def _read_file(self, member: Member, piece: Piece) -> Iterator[memoryview]:
        path, file = self._draft.sources[member.path]
        digest = self._digest_at(path, file, piece.offset_bytes)
        buffer = memoryview(bytearray(READ_BYTES))
        left = piece.size_bytes
        with path.open("rb", buffering=0) as stream:
            stream.seek(piece.offset_bytes)
            while left:
                count = stream.readinto(buffer[: min(left, READ_BYTES)])
                if not count:
                    raise _DamagedSourceError(path, file, f"it has fewer than {file.size_bytes} bytes")
                digest.update(buffer[:count])
                left -= count
                yield buffer[:count]
        self._hashed_bytes = piece.offset_bytes + piece.size_bytes
        if self._hashed_bytes == file.size_bytes and digest.hexdigest() != file.expected_hash:
            raise _DamagedSourceError(path, file, f"its hash is {digest.hexdigest()}, not {file.expected_hash}")

    def _digest_at(self, path: Path, file: FilePlan, offset_bytes: int) -> Digest:
        """The digest of all before `offset_bytes`; what an earlier run has written is read once more."""
        if self._digest is None or (self._path, self._hashed_bytes) != (str(path), offset_bytes):
            begun = offset_bytes > 0
            self._digest = (
                hash_file(path, file, limit_bytes=offset_bytes, stop=threading.Event()) if begun else new_digest(file)
            )
        self._path = str(path)
        return self._digest


def finish(index: BundleIndex, output: Path, readme: str, sums: Sequence[tuple[str, str]]) -> None:
    """Write what makes the directory a bundle: a page on how to use it, sums for `sha256sum -c`, and the index.

    Raises:
        OSError: the directory cannot be written to.
    """
    write_atomically(output / "README.txt", readme)
    write_atomically(output / "SHA256SUMS", "".join(f"{sha256}  {name}\n" for name, sha256 in sums))
    write_atomically(output / INDEX_NAME, to_json(index))
    (output / UNFINISHED_NAME).unlink(missing_ok=True)
    sync_directory(output)
