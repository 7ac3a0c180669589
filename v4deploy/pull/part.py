"""A file that is being downloaded: `<name>.part`, filled at several places at once, and its journal."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

from v4deploy.pull import journal
from v4deploy.pull.blocks import Blocks
from v4deploy.pull.journal import Beginning, Journal
from v4deploy.pull.manifest import FilePlan
from v4deploy.pull.spotcheck import spot_check

PART_SUFFIX = ".part"
JOURNAL_SUFFIX = ".part.journal"
# A file that is taken over from elsewhere on the machine and not yet known to be right.
ADOPTING_SUFFIX = ".adopting"
_NEW_SUFFIX = ".new"
# What an interrupted pull may leave beside its destination.
LEFTOVER_SUFFIXES = (PART_SUFFIX, JOURNAL_SUFFIX, JOURNAL_SUFFIX + _NEW_SUFFIX, ADOPTING_SUFFIX)
# What is fetched again where the disk has lost bytes, and what `kill -9` may cost a connection at the very most: a line
# is written for every megabyte, or half a second, so mostly far less.
BLOCK_BYTES = 8 * 1024 * 1024
_READ_BYTES = 1024 * 1024


def part_path(destination: Path) -> Path:
    return destination.with_name(destination.name + PART_SUFFIX)


def journal_path(destination: Path) -> Path:
    return destination.with_name(destination.name + JOURNAL_SUFFIX)


def resumable_bytes(destination: Path, file: FilePlan) -> int:
    """How much of an interrupted download the journal vouches for and the part file still has.

    It is read and hashed again before it counts; until then this is a promise, good for reckoning space and progress.
    """
    found = _read_journal(destination, file)
    return sum(beginning.filled_bytes for beginning in found.blocks.values()) if found else 0


def _read_journal(destination: Path, file: FilePlan) -> Journal | None:
    try:
        on_disk_bytes = part_path(destination).stat().st_size
        content = journal_path(destination).read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    return journal.parse(content, file, on_disk_bytes)


class Part:
    """The growing file. Each block is written by one thread at a time; any thread may read what has arrived.

    Attributes:
        blocks: what has arrived; guarded by the owner's lock.
        kept: the checksums of whole blocks from an earlier run, which nobody in this run has seen.
    """

    def __init__(self, destination: Path, file: FilePlan, *, block_bytes: int = BLOCK_BYTES) -> None:
        """Open the part file with what the journal vouches for.

        Raises:
            OSError: the directory is not writable, or the part not readable.
        """
        self._destination = destination
        self._file = file
        found = _read_journal(destination, file) or Journal(block_bytes=block_bytes, blocks={})
        path = part_path(destination)
        self._stream = path.open("r+b" if path.exists() else "x+b", buffering=0)
        try:
            blocks = self._checked(found)
            self.blocks = Blocks(file.size_bytes, found.block_bytes, _filled(blocks))
            # What nobody vouches for is not even left lying there.
            self._stream.truncate(max((self.blocks.arrived_end(index) for index in blocks), default=0))
            self._checksums = {index: beginning.checksum for index, beginning in blocks.items()}
            self.kept = {index: block.checksum for index, block in blocks.items() if self._is_whole(index)}
            self._write_journal(Journal(block_bytes=found.block_bytes, blocks=blocks))
        except BaseException:
            self._stream.close()
            raise

    def _checked(self, found: Journal) -> dict[int, Beginning]:
        """Blocks with a beginning go on from it, so it is read at once; whole ones, when the hash gets there."""
        probe = Blocks(self._file.size_bytes, found.block_bytes, _filled(found.blocks))
        good = dict(found.blocks)
        for index in probe.partly_filled():
            if self._checksum(probe.start(index), good[index].filled_bytes) != good[index].checksum:
                del good[index]
        return good

    def _checksum(self, offset: int, count: int) -> int:
        checksum = 0
        buffer = memoryview(bytearray(min(_READ_BYTES, count)))
        while count:
            read = self.read_into(offset, buffer[:count])
            if not read:
                return -1
            checksum = spot_check(buffer[:read], offset, checksum)
            offset, count = offset + read, count - read
        return checksum

    def _is_whole(self, index: int) -> bool:
        return self.blocks.arrived_end(index) == self.blocks.end(index)

    def _write_journal(self, content: Journal) -> None:
        path = journal_path(self._destination)
        write_atomically(path, journal.text(self._file, content), flush=False)
        self._journal = path.open("ab", buffering=0)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Read bytes from `offset`; how many there were, 0 at the end of the file.

        Raises:
            OSError: the disk does not give them back.
        """
        return os.preadv(self._stream.fileno(), [buffer], offset)

    def write(self, offset: int, data: memoryview) -> None:
        """Write bytes of one block and note them; the owner says afterwards that they have arrived.

        Raises:
            OSError: the disk is full or broken.
        """
        index = self.blocks.index(offset)
        checksum = 0 if offset == self.blocks.start(index) else self._checksums[index]
        written = 0
        while written < len(data):
            written += os.pwrite(self._stream.fileno(), data[written:], offset + written)
        self._checksums[index] = spot_check(data, offset, checksum)
        filled_bytes = offset + len(data) - self.blocks.start(index)
        text = journal.line(index, Beginning(filled_bytes=filled_bytes, checksum=self._checksums[index]))
        self._journal.write(text.encode("ascii"))

    def flush(self) -> None:
        """Bring what was written to the disk, so that less is to do at the end and a power cut costs little.

        Raises:
            OSError: the disk is full or broken.
        """
        os.fsync(self._stream.fileno())

    def restart(self) -> None:
        """Throw all bytes away."""
        self._journal.close()
        self._stream.truncate(0)
        self.blocks = Blocks(self._file.size_bytes, self.blocks.block_bytes, {})
        self._checksums.clear()
        self.kept = {}
        self._write_journal(Journal(block_bytes=self.blocks.block_bytes, blocks={}))

    def finish(self) -> FilePlan:
        """Give the file its name; the entry with its modification time.

        Raises:
            OSError: the disk is full or broken.
        """
        os.fsync(self._stream.fileno())
        self._stream.close()
        self._journal.close()
        part_path(self._destination).replace(self._destination)
        sync_directory(self._destination.parent)
        return settled(self._file, self._destination)

    def close(self) -> None:
        """Leave a part that a later run can go on from. Harmless after `finish`."""
        if self._stream.closed:
            return
        self._journal.close()
        self._stream.close()


def _filled(blocks: Mapping[int, Beginning]) -> dict[int, int]:
    return {index: beginning.filled_bytes for index, beginning in blocks.items()}


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


def discard_part(destination: Path) -> None:
    """Throw away what was begun for a destination."""
    for suffix in LEFTOVER_SUFFIXES:
        destination.with_name(destination.name + suffix).unlink(missing_ok=True)


def settled(file: FilePlan, destination: Path) -> FilePlan:
    """The entry of a file that lies complete and checked at its place; clears away what its download left."""
    discard_part(destination)
    return dataclasses.replace(file, modified_nanoseconds=destination.stat().st_mtime_ns)


def write_atomically(path: Path, text: str, *, flush: bool = True) -> None:
    """Replace a small file so that a reader or a crash sees the old or the new one, never half of either.

    Without `flush` a power cut may leave an empty one.

    Raises:
        OSError: it cannot be written.
    """
    new = path.with_name(path.name + _NEW_SUFFIX)
    with new.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        if flush:
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
