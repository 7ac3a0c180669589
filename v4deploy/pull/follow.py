"""Hashes a file from its front while it grows behind it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from v4deploy.pull.hashing import READ_BYTES, new_digest
from v4deploy.pull.manifest import FilePlan
from v4deploy.pull.part import Part
from v4deploy.pull.spotcheck import spot_check


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """How the hash keeps in step with those who fetch.

    Attributes:
        wait_beyond: the end of what has arrived without a gap, once it is beyond an offset; raises what ends the file.
        discard: a block has to be fetched again.
        checked: so many bytes are hashed; raises StoppedError.
    """

    wait_beyond: Callable[[int], int]
    discard: Callable[[int], None]
    checked: Callable[[int], None]


class Follower:
    """Reads every byte back from the file, so that the hash is of what lies there: from memory while it has just
    arrived, from the disk once where an earlier run left it.

    What such a run left has to add up to its checksum, block by block, so that a block which the disk has lost is
    fetched again instead of the whole file.
    """

    def __init__(self, file: FilePlan, part: Part, watch: Watch) -> None:
        self._part = part
        self._watch = watch
        self._digest = new_digest(file)
        self._buffer = memoryview(bytearray(READ_BYTES))

    def content_hash(self) -> str:
        """The hash of the whole file, once it is complete.

        Raises:
            OSError: the disk does not give back what was written.
            BaseException: what the watch raises.
        """
        blocks = self._part.blocks
        offset = 0
        while offset < blocks.size_bytes:
            front = self._watch.wait_beyond(offset)
            if blocks.index(offset) in self._part.kept:
                offset = self._kept_block(blocks.index(offset))
            else:
                offset += self._fresh(offset, min(front, blocks.end(blocks.index(offset))))
            self._watch.checked(offset)
        return self._digest.hexdigest()

    def _fresh(self, offset: int, end: int) -> int:
        count = self._part.read_into(offset, self._buffer[: end - offset])
        if not count:
            raise OSError(0, "bytes that were just written cannot be read back")
        self._digest.update(self._buffer[:count])
        return count

    def _kept_block(self, index: int) -> int:
        """Hash a block that an earlier run left; its end, or its beginning where it has to be fetched again."""
        blocks = self._part.blocks
        begin, end = blocks.start(index), blocks.end(index)
        before, checksum, offset = self._digest.copy(), 0, begin
        while offset < end and (count := self._part.read_into(offset, self._buffer[: end - offset])):
            checksum = spot_check(self._buffer[:count], offset, checksum)
            self._digest.update(self._buffer[:count])
            offset += count
        expected = self._part.kept.pop(index)
        if offset == end and checksum == expected:
            return end
        self._digest = before
        self._watch.discard(index)
        return begin
