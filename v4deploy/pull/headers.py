"""What the headers of weight files say about themselves: GGUF and safetensors, read from bytes."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any, Protocol

# gguf.md of ggml: magic, version, tensor count, key-value count; then the keys. Versions 2 and 3 have this layout.
_GGUF_MAGIC = b"GGUF"
_GGUF_VERSIONS = (2, 3)
_FIXED_VALUE_FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING_TYPE = 8
_ARRAY_TYPE = 9
# Keys of V4 files end within a few megabytes (the tokenizer's arrays); more means that a length was misread.
_MOST_KEYS = 100_000
_MOST_SAFETENSORS_HEADER_BYTES = 100_000_000


class HeaderError(ValueError):
    """The file is not what its name says. Never leaves this package."""


class Bytes(Protocol):
    """Bytes that can be sliced: `bytes`, or a file mapped into memory."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: slice, /) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufHeader:
    """The scalar keys of a GGUF file. `split_count` and `split_number` (from 0) are None in a file that is whole."""

    version: int
    tensors: int
    architecture: str | None
    split_count: int | None
    split_number: int | None


def read_gguf_header(data: Bytes) -> GgufHeader:
    """Read the keys of a GGUF file.

    Raises:
        HeaderError: it is not GGUF (a git-LFS pointer or an error page saved under this name), or it is cut off.
    """
    if data[:4] != _GGUF_MAGIC:
        raise HeaderError(f"begins with {data[:4]!r} instead of {_GGUF_MAGIC!r}")
    cursor = _Cursor(data, 4)
    version = cursor.number("I")
    if version not in _GGUF_VERSIONS:
        raise HeaderError(f"GGUF version {version} is not known")
    tensors, keys = cursor.number("Q"), cursor.number("Q")
    if keys > _MOST_KEYS:
        raise HeaderError(f"claims {keys} keys")
    values: dict[str, Any] = {}
    for _ in range(keys):
        name = cursor.text()
        values[name] = cursor.value(cursor.number("I"))
    architecture = values.get("general.architecture")
    return GgufHeader(
        version=version,
        tensors=tensors,
        architecture=architecture if isinstance(architecture, str) else None,
        split_count=values.get("split.count"),
        split_number=values.get("split.no"),
    )


class _Cursor:
    def __init__(self, data: Bytes, offset: int) -> None:
        self._data = data
        self._offset = offset

    def take(self, count: int) -> bytes:
        taken = self._data[self._offset : self._offset + count]
        if len(taken) != count:
            raise HeaderError("ends inside its own header")
        self._offset += count
        return taken

    def number(self, kind: str) -> Any:
        return struct.unpack(f"<{kind}", self.take(struct.calcsize(f"<{kind}")))[0]

    def text(self) -> str:
        return self.take(self.number("Q")).decode(errors="replace")

    def value(self, kind: int) -> Any:
        """A scalar or a string; arrays are stepped over and come out as None."""
        if kind == _STRING_TYPE:
            return self.text()
        if kind == _ARRAY_TYPE:
            return self._skip_array(self.number("I"), self.number("Q"))
        if kind not in _FIXED_VALUE_FORMATS:
            raise HeaderError(f"has a value of unknown type {kind}")
        return self.number(_FIXED_VALUE_FORMATS[kind])

    def _skip_array(self, kind: int, count: int) -> None:
        if kind in _FIXED_VALUE_FORMATS:
            self.take(count * struct.calcsize(f"<{_FIXED_VALUE_FORMATS[kind]}"))
            return
        for _ in range(count):
            self.value(kind)


def safetensors_problem(data: Bytes) -> str | None:
    """What is wrong with a safetensors file's header; None when its tensors fill the file exactly.

    The header's length (8 bytes, little endian), the header (JSON), then the tensors without a gap.
    """
    size_bytes = len(data)
    if size_bytes < 8:  # noqa: PLR2004 - the length field itself
        return "is too short for a header"
    header_bytes = struct.unpack("<Q", data[:8])[0]
    if header_bytes > min(size_bytes - 8, _MOST_SAFETENSORS_HEADER_BYTES):
        return f"claims a header of {header_bytes} bytes"
    try:
        header = json.loads(data[8 : 8 + header_bytes])
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        return f"has a header that cannot be read ({error})"
    end_bytes = 8 + header_bytes + max(ends, default=0)
    return None if end_bytes == size_bytes else f"has tensors up to byte {end_bytes}, but {size_bytes} bytes"
