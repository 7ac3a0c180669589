"""A file that is being downloaded: `<name>.part`, and a journal of how much of it is safely on disk."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import threading
from pathlib import Path
from typing import Any

from v4deploy.pull.hashing import hash_file, new_digest
from v4deploy.pull.manifest import FilePlan

PART_SUFFIX = ".part"
JOURNAL_SUFFIX = ".part.json"
# A file that is taken over from elsewhere on the machine and not yet known to be right.
ADOPTING_SUFFIX = ".adopting"
_NEW_SUFFIX = ".new"
# What an interrupted pull may leave beside its destination.
LEFTOVER_SUFFIXES = (PART_SUFFIX, JOURNAL_SUFFIX, JOURNAL_SUFFIX + _NEW_SUFFIX, ADOPTING_SUFFIX)
# Seldom enough that flushing does not slow the disk down, often enough that a power cut costs little.
JOURNAL_EVERY_BYTES = 64 * 1024 * 1024


def part_path(destination: Path) -> Path:
    return destination.with_name(destination.name + PART_SUFFIX)


def journal_path(destination: Path) -> Path:
    return destination.with_name(destination.name + JOURNAL_SUFFIX)


def resumable_bytes(destination: Path, file: FilePlan) -> int:
    """How much of an interrupted download can be kept: what the journal vouches for and the part file still has.

    The part file alone is not trusted: after a power cut its tail may be zeros.
    """
    try:
        journal: Any = json.loads(journal_path(destination).read_text(encoding="utf-8"))
        on_disk_bytes = part_path(destination).stat().st_size
    except (OSError, ValueError):
        return 0
    if not isinstance(journal, dict) or journal.get("hash") != file.expected_hash:
        return 0
    verified_bytes = journal.get("verified_bytes")
    if not isinstance(verified_bytes, int) or not 0 <= verified_bytes <= min(on_disk_bytes, file.size_bytes):
        return 0
    return verified_bytes


class Part:
    """The growing file. Bytes are hashed as they are written; a resumed beginning is read once to hash it again.

    Attributes:
        offset: bytes written and hashed.
        fetched_bytes: bytes that came over the network during this run, thrown away ones included.
    """

    def __init__(
        self,
        destination: Path,
        file: FilePlan,
        *,
        stop: threading.Event,
        journal_every_bytes: int = JOURNAL_EVERY_BYTES,
    ) -> None:
        """Open the part file, at the point up to which the journal vouches for it.

        Raises:
            OSError: the directory is not writable, or the part not readable.
            StoppedError: `stop` was set while the beginning was hashed.
        """
        self._destination = destination
        self._file = file
        self._journal_every_bytes = journal_every_bytes
        self.fetched_bytes = 0
        self.offset = resumable_bytes(destination, file)
        path = part_path(destination)
        self._digest = hash_file(path, file, limit_bytes=self.offset, stop=stop) if self.offset else new_digest(file)
        self._stream = path.open("r+b" if path.exists() else "x+b", buffering=0)
        self._stream.truncate(self.offset)
        self._stream.seek(self.offset)
        self._journalled = self.offset

    def append(self, data: bytes) -> None:
        """Write and hash the next bytes.

        Raises:
            OSError: the disk is full or broken; what was journalled stays usable.
        """
        view = memoryview(data)
        while view:
            view = view[self._stream.write(view) :]
        self._digest.update(data)
        self.offset += len(data)
        self.fetched_bytes += len(data)
        if self.offset - self._journalled >= self._journal_every_bytes:
            self.journal()

    def journal(self) -> None:
        """Bring the bytes to the disk, then say so; in this order, or the journal would vouch for lost bytes."""
        os.fsync(self._stream.fileno())
        text = json.dumps({"hash": self._file.expected_hash, "verified_bytes": self.offset})
        write_atomically(journal_path(self._destination), text)
        self._journalled = self.offset

    def restart(self) -> None:
        """Throw all bytes away."""
        journal_path(self._destination).unlink(missing_ok=True)
        self._stream.truncate(0)
        self._stream.seek(0)
        self._digest = new_digest(self._file)
        self.offset = self._journalled = 0

    def content_hash(self) -> str:
        """The hash of what was written so far."""
        return self._digest.hexdigest()

    def finish(self) -> FilePlan:
        """Give the file its name; the entry with its modification time."""
        os.fsync(self._stream.fileno())
        self._stream.close()
        part_path(self._destination).replace(self._destination)
        sync_directory(self._destination.parent)
        return settled(self._file, self._destination)

    def close(self) -> None:
        """Leave a part that a later run can go on from. Harmless after `finish`."""
        if self._stream.closed:
            return
        # On a full disk even the journal may not fit; the last one that did stays true.
        with contextlib.suppress(OSError):
            if self.offset > self._journalled:
                self.journal()
        self._stream.close()


def move_part(old: Path, new: Path) -> None:
    """Give an interrupted download another destination, in place of what was begun for that one.

    Raises:
        OSError: it cannot be moved.
    """
    new.parent.mkdir(parents=True, exist_ok=True)
    # The bytes come last: a part without a journal is worthless, a journal without its part is ignored.
    for suffix in reversed(LEFTOVER_SUFFIXES):
        new.with_name(new.name + suffix).unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            old.with_name(old.name + suffix).rename(new.with_name(new.name + suffix))


def settled(file: FilePlan, destination: Path) -> FilePlan:
    """The entry of a file that lies complete and checked at its place; clears away what its download left."""
    for suffix in LEFTOVER_SUFFIXES:
        destination.with_name(destination.name + suffix).unlink(missing_ok=True)
    return dataclasses.replace(file, modified_nanoseconds=destination.stat().st_mtime_ns)


def write_atomically(path: Path, text: str) -> None:
    """Replace a small file so that a reader or a crash sees the old or the new one, never half of either.

    Raises:
        OSError: it cannot be written.
    """
    new = path.with_name(path.name + _NEW_SUFFIX)
    with new.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    new.replace(path)


def sync_directory(directory: Path) -> None:
    """Make a rename survive a power cut, where the file system can do that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
