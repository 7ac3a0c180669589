"""Where each byte of a bundle lies: a tar stream, known to the last byte before the first is written, cut into parts.

As the whole stream follows from names and sizes, every part can be written, and written again, on its own; and
`cat PARTS | tar x` unpacks it without v4deploy.
"""

from __future__ import annotations

import tarfile
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

_BLOCK_BYTES = tarfile.BLOCKSIZE
# Two empty blocks end an archive; whole records keep old readers quiet (POSIX pax, interchange format).
_RECORD_BYTES = tarfile.RECORDSIZE


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A file of the archive.

    Attributes:
        path: in the archive.
        modified_seconds: what unpacking sets as its time.
        content: where it is not a file on the disk.
    """

    path: str
    size_bytes: int
    modified_seconds: int
    content: bytes | None = None

    @property
    def head(self) -> bytes:
        """What stands in front of its bytes. pax, as ustar ends at 8 GiB a file."""
        entry = tarfile.TarInfo(self.path)
        entry.size, entry.mtime, entry.mode = self.size_bytes, self.modified_seconds, 0o644
        return entry.tobuf(format=tarfile.PAX_FORMAT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A stretch of the stream: bytes given here, or `size_bytes` of a member's file from `offset_bytes` on."""

    literal: bytes = b""
    member: Member | None = None
    offset_bytes: int = 0
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The stream. `offsets` says where each member's own bytes begin, in the order of `members`."""

    members: tuple[Member, ...]
    offsets: tuple[int, ...]
    stream_bytes: int

    def offset_of(self, member: Member) -> int:
        """Where the bytes of a member begin in the stream."""
        return self.offsets[self.members.index(member)]

    def pieces(self, first: int, end: int) -> Iterator[Piece]:
        """The stretches from byte `first` to before byte `end`, in order."""
        for start, piece in self._all_pieces(first):
            if start >= end:
                return
            skipped = max(0, first - start)
            wanted = min(piece.size_bytes, end - start) - skipped
            if wanted > 0:
                yield Piece(
                    literal=piece.literal[skipped : skipped + wanted],
                    member=piece.member,
                    offset_bytes=skipped,
                    size_bytes=wanted,
                )

    def _all_pieces(self, first: int) -> Iterator[tuple[int, Piece]]:
        """Whole stretches with their places, from the member that holds `first` on."""
        begin = max(0, bisect_right(self.offsets, first) - 1)
        at = 0 if begin == 0 else self.offsets[begin] - len(self.members[begin].head)
        for member in self.members[begin:]:
            head, content = member.head, member.content
            padding = bytes(-member.size_bytes % _BLOCK_BYTES)
            body = Piece(
                literal=content or b"", member=None if content is not None else member, size_bytes=member.size_bytes
            )
            for piece in (Piece(literal=head, size_bytes=len(head)), body, _zeros(padding)):
                yield at, piece
                at += piece.size_bytes
        yield at, _zeros(bytes(self.stream_bytes - at))


def lay_out(members: Iterable[Member]) -> Layout:
    """The stream of these members, in this order."""
    placed, offsets, at = tuple(members), [], 0
    for member in placed:
        at += len(member.head)
        offsets.append(at)
        at += member.size_bytes + -member.size_bytes % _BLOCK_BYTES
    at += 2 * _BLOCK_BYTES
    return Layout(members=placed, offsets=tuple(offsets), stream_bytes=at + -at % _RECORD_BYTES)


def part_ranges(stream_bytes: int, part_size_bytes: int) -> tuple[tuple[int, int], ...]:
    """First byte and the one after the last, for each part. All but the last have the same size."""
    bounds = [*range(0, stream_bytes, part_size_bytes), stream_bytes]
    return tuple(pairwise(bounds))


def parts_of(offset_bytes: int, size_bytes: int, part_size_bytes: int) -> range:
    """The numbers, from 0, of the parts that hold these bytes; empty for none."""
    if not size_bytes:
        return range(0)
    return range(offset_bytes // part_size_bytes, (offset_bytes + size_bytes - 1) // part_size_bytes + 1)


def _zeros(zeros: bytes) -> Piece:
    return Piece(literal=zeros, size_bytes=len(zeros))
