"""Which bytes of a file have arrived, and who fetches which of the rest. Arithmetic only; its owner holds the lock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What one connection fetches: bytes `first_byte` to before `end_byte`.

    Attributes:
        is_whole: all of the file in one answer, from a server that ignores ranges; what is there already is skipped.
    """

    first_byte: int
    end_byte: int
    is_whole: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Appetite:
    """How much one request may ask for.

    Attributes:
        most_bytes: keeps the connections close together, so that the hash follows them while the bytes are in memory.
        least_bytes: below this a request costs more than it brings.
        sharers: connections that may want a share of what is left.
    """

    most_bytes: int
    least_bytes: int
    sharers: int


class Blocks:
    """A file in blocks of equal length. A block fills from its beginning, through one connection at a time."""

    def __init__(self, size_bytes: int, block_bytes: int, filled: Mapping[int, int]) -> None:
        """`filled` says how many bytes of which blocks are there already."""
        self.size_bytes = size_bytes
        self.block_bytes = block_bytes
        count = -(-size_bytes // block_bytes)
        self._filled = [filled.get(index, 0) for index in range(count)]
        self._claimed = bytearray(count)
        self._spans = 0
        self._lowest_free = 0
        self._front = 0
        self.arrived_bytes = sum(self._filled)

    @property
    def is_complete(self) -> bool:
        """Whether every byte has arrived."""
        return self.arrived_bytes == self.size_bytes

    @property
    def spans(self) -> int:
        """Connections at work on this file."""
        return self._spans

    def index(self, offset: int) -> int:
        """The block that a byte belongs to."""
        return offset // self.block_bytes

    def start(self, index: int) -> int:
        """The first byte of a block."""
        return index * self.block_bytes

    def end(self, index: int) -> int:
        """The byte behind a block."""
        return min(self.start(index) + self.block_bytes, self.size_bytes)

    def arrived_end(self, index: int) -> int:
        """The byte behind what has arrived of a block."""
        return self.start(index) + self._filled[index]

    def partly_filled(self) -> tuple[int, ...]:
        """The blocks of which a beginning has arrived."""
        return tuple(
            index for index, count in enumerate(self._filled) if 0 < count < self.end(index) - self.start(index)
        )

    def front(self) -> int:
        """The first byte that has not arrived; the size when all have."""
        while self._front < len(self._filled) and self.arrived_end(self._front) == self.end(self._front):
            self._front += 1
        return self.size_bytes if self._front == len(self._filled) else self.arrived_end(self._front)

    def claim(self, appetite: Appetite) -> Span | None:
        """The first stretch that nobody fetches yet, cut to a fair share; None when there is none."""
        first = self._next_free(self._lowest_free)
        self._lowest_free = first
        if first == len(self._filled):
            return None
        share_bytes = -(-(self.size_bytes - self.arrived_bytes) // (2 * appetite.sharers))
        wanted_bytes = min(appetite.most_bytes, max(appetite.least_bytes, share_bytes))
        end = first + 1
        most_blocks = max(1, wanted_bytes // self.block_bytes)
        # A block that has a beginning already starts a request of its own: its first bytes are not asked for again.
        while (
            end < len(self._filled) and end - first < most_blocks and not self._filled[end] and not self._claimed[end]
        ):
            end += 1
        for index in range(first, end):
            self._claimed[index] = 1
        self._spans += 1
        return Span(first_byte=self.arrived_end(first), end_byte=self.end(end - 1))

    def claim_whole(self) -> Span | None:
        """All of the file, for one connection alone; None while others are at work, or when nothing is missing."""
        if self._spans or self.is_complete:
            return None
        self._spans = 1
        self._claimed = bytearray(b"\1" * len(self._filled))
        return Span(first_byte=0, end_byte=self.size_bytes, is_whole=True)

    def release(self, span: Span) -> None:
        """The connection has ended; what it did not bring is free again."""
        self._spans -= 1
        for index in range(self.index(span.first_byte), self.index(span.end_byte - 1) + 1):
            self._claimed[index] = 0
        self._lowest_free = min(self._lowest_free, self.index(span.first_byte))

    def widen(self, span: Span) -> Span | None:
        """A claim turned into one on all of the file; None where others are at work on it."""
        if self._spans != 1:
            return None
        self.release(span)
        return self.claim_whole()

    def arrived(self, index: int, count: int) -> None:
        """The next `count` bytes of a block are there."""
        self._filled[index] += count
        self.arrived_bytes += count

    def discard(self, index: int) -> None:
        """A block has turned out to be wrong."""
        self.arrived_bytes -= self._filled[index]
        self._filled[index] = 0
        self._lowest_free = min(self._lowest_free, index)
        self._front = min(self._front, index)

    def _next_free(self, index: int) -> int:
        while index < len(self._filled) and (self._claimed[index] or self.arrived_end(index) == self.end(index)):
            index += 1
        return index
