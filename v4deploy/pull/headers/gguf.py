"""The header of a GGUF file: its keys, its tensors, and where they lie."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

from v4deploy.pull.headers.ggml_types import block_of
from v4deploy.pull.headers.reader import HeaderError, Reader, Source

# ggml's docs/gguf.md: magic, version, tensor count, key count; keys; tensors. Versions 2 and 3 have this layout.
_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_FIXED_KINDS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_DEFAULT_ALIGNMENT_BYTES = 32
_MOST_DIMENSIONS = 4
# docs/gguf.md: a key has at most 65535 bytes. The rest are bounds far above what V4 files have (a tokenizer of 10 MB,
# 1,500 tensors): beyond them a number was misread, and following it would take for ever.
_MOST_KEY_BYTES = 65_535
_MOST_HEADER_BYTES = 32 * 1024 * 1024
_MOST_KEYS = 10_000
_MOST_TENSORS = 200_000
_MOST_TENSOR_NAME_BYTES = 1024
_MOST_KEPT_BYTES = 256
_MOST_ARRAY_TEXTS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufTensor:
    """A tensor's place. `begin_bytes` counts from the start of the file; `size_bytes` None for an unknown type."""

    name: str
    begin_bytes: int
    size_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufHeader:
    """What a GGUF file says.

    Attributes:
        architecture: None where the file does not say (all parts of a split model but the first).
        split_count, split_number (from 0), split_tensors: the place in a split model; None in a file that is whole.
        data_begin_bytes: where the tensors begin.
    """

    version: int
    architecture: str | None
    split_count: int | None
    split_number: int | None
    split_tensors: int | None
    alignment_bytes: int
    data_begin_bytes: int
    tensors: tuple[GgufTensor, ...]


def read_gguf(source: Source) -> GgufHeader:
    """Read keys and tensors.

    Raises:
        HeaderError: it is not GGUF (a git-LFS pointer or an error page saved under this name), or it is cut off.
    """
    reader = Reader(source, limit_bytes=_MOST_HEADER_BYTES)
    if not source.size_bytes:
        raise HeaderError("is empty")
    magic = reader.take(min(4, source.size_bytes))
    if magic != _MAGIC:
        raise HeaderError(f"begins with {magic!r} instead of {_MAGIC!r}")
    _check_version(version := reader.number("I"))
    tensors, keys = reader.number("Q"), reader.number("Q")
    if keys > _MOST_KEYS or tensors > _MOST_TENSORS:
        raise HeaderError(f"claims {keys} keys and {tensors} tensors")
    values = _read_keys(reader, keys)
    alignment_bytes = values.get("general.alignment", _DEFAULT_ALIGNMENT_BYTES)
    if not _is_count(alignment_bytes) or alignment_bytes < 1 or alignment_bytes & (alignment_bytes - 1):
        raise HeaderError(f"has an alignment of {alignment_bytes!r}, which is no power of two")
    infos = [_read_tensor(reader) for _ in range(tensors)]
    data_begin_bytes = _aligned(reader.offset, alignment_bytes)
    architecture = values.get("general.architecture")
    return GgufHeader(
        version=version,
        architecture=architecture if isinstance(architecture, str) else None,
        split_count=_count(values, "split.count"),
        split_number=_count(values, "split.no"),
        split_tensors=_count(values, "split.tensors.count"),
        alignment_bytes=alignment_bytes,
        data_begin_bytes=data_begin_bytes,
        tensors=tuple(
            GgufTensor(name=name, begin_bytes=data_begin_bytes + offset, size_bytes=size_bytes)
            for name, size_bytes, offset in infos
        ),
    )


def gguf_problem(header: GgufHeader, size_bytes: int) -> str | None:
    """What is wrong with the tensors' places in a file of this size; None when they can be true.

    Loaders want the tensors in order, each at the next multiple of the alignment, and all inside the file.
    """
    names = {tensor.name for tensor in header.tensors}
    if len(names) != len(header.tensors):
        return "names a tensor twice"
    expected: int | None = header.data_begin_bytes
    for tensor in header.tensors:
        if expected is not None and tensor.begin_bytes != expected:
            return f"has tensor `{tensor.name}` at byte {tensor.begin_bytes} instead of {expected}"
        end_bytes = tensor.begin_bytes + (tensor.size_bytes or 0)
        if end_bytes > size_bytes:
            return f"has tensor `{tensor.name}` up to byte {end_bytes}, but {size_bytes} bytes"
        # The place after a tensor of unknown type is not known either; the one after the next is again.
        expected = None if tensor.size_bytes is None else _aligned(end_bytes, header.alignment_bytes)
    return None


def _check_version(version: int) -> None:
    if version in _VERSIONS:
        return
    if version and not version & 0xFFFF:
        raise HeaderError("is GGUF for big-endian machines")
    raise HeaderError(f"is GGUF version {version}, which is not known")


def _read_keys(reader: Reader, keys: int) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for _ in range(keys):
        name = reader.text(most_bytes=_MOST_KEY_BYTES)
        if name in values:
            raise HeaderError(f"has the key `{name}` twice")
        values[name] = _value(reader, reader.number("I"))
    return values


def _value(reader: Reader, kind: int) -> Any:
    """A number or a short text; arrays and long texts are stepped over and come out as None."""
    if kind == _ARRAY:
        return _skip_array(reader, reader.number("I"), reader.number("Q"))
    if kind == _STRING:
        return _text_or_none(reader)
    if kind not in _FIXED_KINDS:
        raise HeaderError(f"has a value of unknown type {kind}")
    return reader.number(_FIXED_KINDS[kind])


def _text_or_none(reader: Reader) -> str | None:
    length = reader.number("Q")
    if length > _MOST_KEPT_BYTES:
        reader.skip(length)
        return None
    return reader.take(length).decode(errors="replace")


def _skip_array(reader: Reader, kind: int, count: int) -> None:
    if kind in _FIXED_KINDS:
        reader.skip(count * struct.calcsize(f"<{_FIXED_KINDS[kind]}"))
    elif kind == _STRING:
        if count > _MOST_ARRAY_TEXTS:
            raise HeaderError(f"claims an array of {count} texts")
        for _ in range(count):
            reader.skip(reader.number("Q"))
    else:
        raise HeaderError(f"has an array of unknown type {kind}")


def _read_tensor(reader: Reader) -> tuple[str, int | None, int]:
    """Name, size and offset after the beginning of the data."""
    name = reader.text(most_bytes=_MOST_TENSOR_NAME_BYTES)
    dimensions = reader.number("I")
    if dimensions > _MOST_DIMENSIONS:
        raise HeaderError(f"has tensor `{name}` with {dimensions} dimensions")
    shape = [reader.number("Q") for _ in range(dimensions)]
    kind, offset = reader.number("I"), reader.number("Q")
    block = block_of(kind)
    if block is None:
        return name, None, offset
    elements, block_bytes = block
    if shape and shape[0] % elements:
        raise HeaderError(f"has tensor `{name}` with rows of {shape[0]}, which are no multiple of {elements}")
    return name, math.prod(shape) // elements * block_bytes, offset


def _count(values: dict[str, Any], name: str) -> int | None:
    value = values.get(name)
    if value is not None and not _is_count(value):
        raise HeaderError(f"has {value!r} as `{name}`")
    return value


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _aligned(offset: int, alignment_bytes: int) -> int:
    return -(-offset // alignment_bytes) * alignment_bytes
