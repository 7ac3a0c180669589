"""Reads a header forward from bytes or a file, in bounded pieces: a length that lies costs nothing."""

from __future__ import annotations

import os
import struct
from typing import Any, Protocol

_WINDOW_BYTES = 256 * 1024
_FORMS = {kind: struct.Struct(f"<{kind}") for kind in "BbHhIif?Qqd"}


class HeaderError(ValueError):
    """The file is not what its name says. The message goes on where the file's name ends. Never leaves this package."""


class Source(Protocol):
    """Bytes that can be read anywhere."""

    @property
    def size_bytes(self) -> int: ...

    def read_at(self, offset: int, most_bytes: int) -> bytes:
        """Up to `most_bytes`, fewer only at the end."""
        ...


class BytesSource:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size_bytes = len(data)

    def read_at(self, offset: int, most_bytes: int) -> bytes:
        return self._data[offset : offset + most_bytes]


class FileSource:
    """An open file. Read, not mapped: one that is cut while it is mapped kills the process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.size_bytes = os.fstat(descriptor).st_size

    def read_at(self, offset: int, most_bytes: int) -> bytes:
        return os.pread(self._descriptor, most_bytes, offset)


class Reader:
    """Takes one value after the other. Nothing beyond `limit_bytes` is a header any more.

    Attributes:
        offset: where the next value begins.
    """

    def __init__(self, source: Source, *, limit_bytes: int) -> None:
        self.offset = 0
        self._source = source
        self._limit_bytes = limit_bytes
        self._window = b""
        self._window_offset = 0

    def take(self, count: int) -> bytes:
        """The next `count` bytes.

        Raises:
            HeaderError: there are not so many.
        """
        start = self.offset - self._window_offset
        if start + count > len(self._window):
            self._check(count)
            self._window = self._source.read_at(self.offset, max(count, _WINDOW_BYTES))
            self._window_offset, start = self.offset, 0
            if len(self._window) < count:
                raise HeaderError("ends inside its own header")
        self.offset += count
        return self._window[start : start + count]

    def skip(self, count: int) -> None:
        """Step over bytes without reading them.

        Raises:
            HeaderError: there are not so many.
        """
        self._check(count)
        self.offset += count

    def number(self, kind: str) -> Any:
        """A little-endian number of one of the struct module's kinds."""
        form = _FORMS[kind]
        return form.unpack(self.take(form.size))[0]

    def text(self, *, most_bytes: int) -> str:
        """A string with its length in front.

        Raises:
            HeaderError: it is longer than `most_bytes`.
        """
        length = self.number("Q")
        if length > most_bytes:
            raise HeaderError(f"has a text of {length} bytes at byte {self.offset}, where {most_bytes} are the most")
        return self.take(length).decode(errors="replace")

    def _check(self, count: int) -> None:
        end = self.offset + count
        if end > self._source.size_bytes:
            raise HeaderError("ends inside its own header")
        if end > self._limit_bytes:
            raise HeaderError(f"has a header of more than {self._limit_bytes} bytes")
