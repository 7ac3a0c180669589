"""The header of a safetensors file, and the index that names the file of each tensor."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from v4deploy.pull.headers.reader import HeaderError, Reader, Source

# The format's own bound (safetensors, MAX_HEADER_SIZE).
_MOST_HEADER_BYTES = 100_000_000
_LENGTH_BYTES = 8
_METADATA = "__metadata__"
_MOST_DIMENSIONS = 32
# Bits of an element (safetensors 0.6, Dtype); a type that is not here is not checked against its shape.
_BITS = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SafetensorsHeader:
    """Tensor names with begin and end, counted from the start of the file; in the order in which they lie."""

    data_begin_bytes: int
    tensors: tuple[tuple[str, int, int], ...]

    @property
    def names(self) -> frozenset[str]:
        return frozenset(name for name, _, _ in self.tensors)


def read_safetensors(source: Source) -> SafetensorsHeader:
    """Read the header: its length (8 bytes, little endian), JSON, then the tensors without a gap.

    Raises:
        HeaderError: it is no safetensors file, or its header contradicts itself.
    """
    size_bytes = source.size_bytes
    if size_bytes < _LENGTH_BYTES:
        raise HeaderError("is empty" if not size_bytes else "is too short for a header")
    reader = Reader(source, limit_bytes=_LENGTH_BYTES + _MOST_HEADER_BYTES)
    header_bytes = reader.number("Q")
    if header_bytes > min(size_bytes - _LENGTH_BYTES, _MOST_HEADER_BYTES):
        raise HeaderError(f"claims a header of {header_bytes} bytes")
    entries = _parse(reader.take(header_bytes))
    begin_bytes = _LENGTH_BYTES + header_bytes
    placed = sorted(
        ((begin_bytes + begin, begin_bytes + end, name) for name, (begin, end) in entries), key=lambda entry: entry[:2]
    )
    return SafetensorsHeader(
        data_begin_bytes=begin_bytes, tensors=tuple((name, begin, end) for begin, end, name in placed)
    )


def safetensors_problem(header: SafetensorsHeader, size_bytes: int) -> str | None:
    """What is wrong with the tensors' places in a file of this size; None when they fill it exactly."""
    expected = header.data_begin_bytes
    for name, begin, end in header.tensors:
        if begin != expected:
            what = "overlaps the one before it" if begin < expected else f"leaves a gap of {begin - expected} bytes"
            return f"has tensor `{name}` at byte {begin}, which {what}"
        expected = end
    return None if expected == size_bytes else f"has tensors up to byte {expected}, but {size_bytes} bytes"


def read_index(data: bytes) -> dict[str, str]:
    """The `weight_map` of `model.safetensors.index.json`: the file of each tensor.

    `metadata.total_size` is not looked at: re-quantized repositories copy the original's.

    Raises:
        HeaderError: it is no such index.
    """
    index = _json(data)
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise HeaderError("has no `weight_map` of names")
    return weight_map


class _Object(list[tuple[str, Any]]):
    """The pairs of a JSON object, told from a JSON list, and with the names that it has twice."""


def _parse(text: bytes) -> list[tuple[str, tuple[int, int]]]:
    """Names and data offsets, checked against type and shape.

    Each entry is boiled down as soon as it is read: shards may have 100,000 of them.
    """
    header = _json(text, object_pairs_hook=_boiled)
    if not isinstance(header, _Object):
        raise HeaderError("has a header that is no JSON object")
    entries: list[tuple[str, tuple[int, int]]] = []
    for name, value in header:
        if name == _METADATA:
            continue
        if not isinstance(value, tuple):
            raise HeaderError(f"has an entry `{name}` that is no tensor")
        begin, end, bits = value
        if bits is not None and bits != (end - begin) * 8:
            raise HeaderError(f"gives tensor `{name}` {end - begin} bytes; its type and shape take {-(-bits // 8)}")
        entries.append((name, (begin, end)))
    if len({name for name, _ in entries}) != len(entries):
        raise HeaderError("names a tensor twice")
    return entries


def _boiled(pairs: list[tuple[str, Any]]) -> Any:
    """A tensor's entry becomes begin, end and the bits that its type and shape take (None: an unknown type).

    Any other object stays as the pairs that it has.
    """
    if {name for name, _ in pairs} != {"dtype", "shape", "data_offsets"}:
        return _Object(pairs)
    entry = dict(pairs)
    offsets, shape, dtype = entry["data_offsets"], entry["shape"], entry["dtype"]
    if not _are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:  # noqa: PLR2004 - begin and end
        raise HeaderError("has a tensor with impossible data offsets")
    if not _are_counts(shape) or len(shape) > _MOST_DIMENSIONS or not isinstance(dtype, str):
        raise HeaderError("has a tensor with an impossible shape or type")
    bits = _BITS.get(dtype)
    return (*offsets, None if bits is None else math.prod(shape) * bits)


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 2**64 for value in values)


def _json(text: bytes, **options: Any) -> Any:
    try:
        return json.loads(text, **options)
    except HeaderError:
        raise
    except (ValueError, RecursionError) as error:
        raise HeaderError(f"has a header that cannot be read ({error})") from error
