from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import struct
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.pull_builders import (
    gguf_bytes,
    gguf_head,
    gguf_tensor,
    number_key,
    safetensors_bytes,
    text_key,
)
from v4deploy.pull.headers.ggml_types import block_of
from v4deploy.pull.headers.gguf import GgufHeader, gguf_problem, read_gguf
from v4deploy.pull.headers.reader import BytesSource, HeaderError
from v4deploy.pull.headers.safetensors import read_index, read_safetensors, safetensors_problem
from v4deploy.pull.headers.sets import index_problems, split_set_problems
from v4deploy.shapes.write import write_tiny


def gguf_verdict(data: bytes, size_bytes: int | None = None) -> str | None:
    try:
        header = read_gguf(BytesSource(data))
    except HeaderError as error:
        return str(error)
    return gguf_problem(header, len(data) if size_bytes is None else size_bytes)


def safetensors_verdict(data: bytes) -> str | None:
    try:
        header = read_safetensors(BytesSource(data))
    except HeaderError as error:
        return str(error)
    return safetensors_problem(header, len(data))


def safetensors(header: object, body_bytes: int = 0) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(body_bytes)


def tensor(begin: int, end: int, *, dtype: str = "U8", shape: list[int] | None = None) -> dict[str, object]:
    return {"dtype": dtype, "shape": [end - begin] if shape is None else shape, "data_offsets": [begin, end]}


def test_a_gguf_header_is_read() -> None:
    header = read_gguf(BytesSource(gguf_bytes(seed=1, body_bytes=100, part=2, parts=3)))
    assert (header.version, header.architecture, header.alignment_bytes) == (3, "deepseek4", 32)
    assert (header.split_count, header.split_number, header.split_tensors) == (3, 1, 3)
    assert [(tensor.name, tensor.size_bytes) for tensor in header.tensors] == [("blk.2.ffn", 100)]


def test_what_the_real_writer_writes_is_true(tmp_path: Path) -> None:
    headers = {}
    for path in write_tiny(tmp_path, seed=1):
        data = path.read_bytes()
        assert gguf_verdict(data) is None
        assert gguf_verdict(data[:-1000]) is not None
        headers[path.name] = read_gguf(BytesSource(data))
    assert list(split_set_problems(headers)) == []
    first, second = headers.values()
    assert (first.architecture, first.split_tensors) == ("deepseek4", len(first.tensors) + len(second.tensors))


def test_type_sizes_are_those_of_ggml() -> None:
    gguf = pytest.importorskip("gguf")
    assert {int(kind): block_of(int(kind)) for kind in gguf.GGML_QUANT_SIZES} == {
        int(kind): sizes for kind, sizes in gguf.GGML_QUANT_SIZES.items()
    }


_ARCHITECTURE = text_key("general.architecture", "deepseek4")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"GG", "begins with b'GG'"),
        (b"<html>", "begins with b'<htm'"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version 1"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 1), "claims 1 keys and 1152921504606846976 tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**60), "claims"),
        (gguf_head(1, struct.pack("<Q", 2**63) + b"x"), "text of 9223372036854775808 bytes"),
        (gguf_head(1, struct.pack("<Q", 1) + b"x" + struct.pack("<I", 99)), "value of unknown type 99"),
        (gguf_head(1, struct.pack("<Q", 1) + b"x" + struct.pack("<IIQ", 9, 9, 4)), "array of unknown type 9"),
        (
            gguf_head(1, struct.pack("<Q", 1) + b"x" + struct.pack("<IIQ", 9, 8, 2**62)),
            "array of 4611686018427387904 texts",
        ),
        (gguf_head(1, struct.pack("<Q", 1) + b"x" + struct.pack("<IIQ", 9, 4, 2**62)), "ends inside its own header"),
        (gguf_head(2, _ARCHITECTURE * 2), "key `general.architecture` twice"),
        (gguf_head(1, text_key("split.count", "3")), "'3' as `split.count`"),
        (gguf_head(1, number_key("general.alignment", 24)), "alignment of 24"),
        (gguf_head(1, number_key("general.alignment", 0)), "alignment of 0"),
        (gguf_head(1, _ARCHITECTURE, [gguf_tensor("a", (1, 1, 1, 1, 1))]), "`a` with 5 dimensions"),
        (gguf_head(1, _ARCHITECTURE, [gguf_tensor("a", (31, 2), kind=39)]), "rows of 31"),
        (gguf_head(1, _ARCHITECTURE, [gguf_tensor("a", (64,))]) + bytes(63), "`a` up to byte"),
        (gguf_head(1, _ARCHITECTURE, [gguf_tensor("a", (2**63, 2**63))]) + bytes(63), "`a` up to byte"),
        (gguf_head(1, _ARCHITECTURE, [gguf_tensor("a", (8,), offset=32)]) + bytes(64), "`a` at byte"),
        (gguf_head(1, _ARCHITECTURE, [gguf_tensor("a", (8,), offset=2**63)]) + bytes(64), "`a` at byte"),
        (
            gguf_head(1, _ARCHITECTURE, [gguf_tensor("a", (64,)), gguf_tensor("b", (64,), offset=32)]) + bytes(128),
            "`b` at byte",
        ),
        (
            gguf_head(1, _ARCHITECTURE, [gguf_tensor("a", (8,)), gguf_tensor("a", (8,), offset=32)]) + bytes(64),
            "a tensor twice",
        ),
        (gguf_head(1, _ARCHITECTURE, [gguf_tensor("a", (8,), kind=250, offset=0)])[:-1], "`a` up to byte"),
    ],
)
def test_a_gguf_that_cannot_be_true(data: bytes, words: str) -> None:
    assert words in (gguf_verdict(data) or "nothing")


def test_a_type_of_a_fork_is_no_problem_and_hides_no_other() -> None:
    tensors = [
        gguf_tensor("a", (64,)),
        gguf_tensor("b", (7,), kind=250, offset=64),
        gguf_tensor("c", (64,), offset=4096),
        gguf_tensor("d", (64,), offset=4160),
    ]
    data = gguf_head(1, _ARCHITECTURE, tensors)
    assert gguf_verdict(data, len(data) + 4160 + 64) is None
    assert "`d` up to byte" in (gguf_verdict(data, len(data) + 4160) or "")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"1234567", "too short"),
        (struct.pack("<Q", 2**63) + b"{}", "claims a header of 9223372036854775808 bytes"),
        (safetensors(b"{"), "cannot be read"),
        (safetensors(b"\xff\xfe{}"), "cannot be read"),
        (safetensors(b"[" * 200_000), "cannot be read"),
        (safetensors(b'{"a":' * 200_000), "cannot be read"),
        (safetensors([]), "no JSON object"),
        (safetensors({"a": 5}), "`a` that is no tensor"),
        (safetensors({"a": {"dtype": "U8"}}), "`a` that is no tensor"),
        (safetensors({"a": tensor(5, 2, shape=[3])}), "impossible data offsets"),
        (safetensors({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1.0]}}), "impossible data offsets"),
        (safetensors({"a": {"dtype": "U8", "shape": [1], "data_offsets": [True, 1]}}), "impossible data offsets"),
        (safetensors({"a": {"dtype": "U8", "shape": [-1], "data_offsets": [0, 1]}}, 1), "impossible shape"),
        (safetensors({"a": {"dtype": 3, "shape": [1], "data_offsets": [0, 1]}}, 1), "impossible shape"),
        (safetensors({"a": tensor(0, 4, dtype="BF16", shape=[3])}, 4), "gives tensor `a` 4 bytes; its type and shape"),
        (safetensors({"a": tensor(0, 4), "b": tensor(2, 6)}, 6), "`b` at byte"),
        (safetensors({"a": tensor(0, 4), "b": tensor(6, 8)}, 8), "leaves a gap of 2 bytes"),
        (safetensors({"a": tensor(2, 4)}, 4), "leaves a gap of 2 bytes"),
        (safetensors({"a": tensor(0, 4)}, 3), "up to byte"),
        (safetensors({"a": tensor(0, 4)}, 5), "up to byte"),
        (safetensors(b'{"a":%b,"a":%b}' % ((json.dumps(tensor(0, 4)).encode(),) * 2), 4), "names a tensor twice"),
    ],
)
def test_a_safetensors_file_that_cannot_be_true(data: bytes, words: str) -> None:
    assert words in (safetensors_verdict(data) or "nothing")


def test_true_safetensors_files_pass() -> None:
    assert safetensors_verdict(safetensors_bytes(seed=3, body_bytes=0)) is None
    header = {
        "__metadata__": {"format": "pt", "dtype": "x", "shape": "y", "data_offsets": "z"} | {"more": "1"},
        "second": tensor(4, 10, dtype="F8_E8M0"),
        "first": tensor(0, 4, dtype="F32", shape=[]),
        "nothing": tensor(10, 10, shape=[0, 5]),
        "packed": tensor(10, 12, dtype="F4", shape=[4]),
        "new": tensor(12, 13, dtype="F2_NEW", shape=[4]),
    }
    assert safetensors_verdict(safetensors(header, 13)) is None


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"weight_map": 3}', b'{"weight_map": {"a": 3}}', b"\xff"])
def test_an_index_that_is_none(data: bytes) -> None:
    with pytest.raises(HeaderError):
        read_index(data)


def test_an_index_is_held_against_the_files() -> None:
    weight_map = {"a": "m-1.safetensors", "b": "m-1.safetensors", "c": "m-2.safetensors"}
    right = {"q/m-1.safetensors": frozenset("ab"), "q/m-2.safetensors": frozenset("c")}
    assert list(index_problems("q/i.json", weight_map, right)) == []
    wrong = right | {"q/m-1.safetensors": frozenset("ax")}
    assert list(index_problems("q/i.json", weight_map, wrong)) == [
        ("q/m-1.safetensors", "lacks 1 of the tensors that q/i.json promises, for example `b`"),
        ("q/m-1.safetensors", "holds 1 tensors that q/i.json does not name, for example `x`"),
    ]


def test_parts_that_contradict_each_other() -> None:
    paths = [f"m-{part:05d}-of-00003.gguf" for part in (1, 2, 3)]
    parts = [
        read_gguf(BytesSource(gguf_bytes(seed=1, body_bytes=9, part=part, parts=3) + bytes(23))) for part in (1, 2, 3)
    ]
    assert list(split_set_problems(dict(zip(paths, parts, strict=True)))) == []
    assert list(split_set_problems(dict(zip(paths[:2], parts[:2], strict=True)))) == []
    swapped = dataclasses.replace(parts[2], tensors=())
    other = dataclasses.replace(parts[1], split_tensors=7, architecture="qwen3")
    twice = dataclasses.replace(parts[2], tensors=parts[0].tensors)

    def said(*headers: GgufHeader) -> str:
        return "\n".join(
            f"{path}: {words}" for path, words in split_set_problems(dict(zip(paths, headers, strict=True)))
        )

    assert said(parts[0], parts[1], swapped) == f"{paths[0]}: promises 3 tensors, its 3 parts hold 2"
    assert f"{paths[1]}: promises 7 tensors in all parts, part 1 promises 3" in said(parts[0], other, parts[2])
    assert f"{paths[1]}: has the architecture qwen3, part 1 has deepseek4" in said(parts[0], other, parts[2])
    assert "hold a tensor twice" in said(parts[0], parts[1], twice)


_TRUE_GGUF = gguf_head(
    3,
    _ARCHITECTURE + number_key("split.count", 2) + text_key("x" * 300, "y" * 3000),
    [gguf_tensor("a", (64, 2)), gguf_tensor("b", (256,), offset=128, kind=12)],
) + bytes(128 + 144)
_TRUE_SAFETENSORS = safetensors({"a": tensor(0, 4), "b": tensor(4, 8, dtype="BF16", shape=[2])}, 8)


@given(st.integers(0, len(_TRUE_GGUF) - 1))
def test_a_gguf_cut_anywhere_is_wrong(cut: int) -> None:
    assert gguf_verdict(_TRUE_GGUF) is None
    assert gguf_verdict(_TRUE_GGUF[:cut]) is not None


@given(st.integers(0, len(_TRUE_SAFETENSORS) - 1))
def test_a_safetensors_file_cut_anywhere_is_wrong(cut: int) -> None:
    assert safetensors_verdict(_TRUE_SAFETENSORS) is None
    assert safetensors_verdict(_TRUE_SAFETENSORS[:cut]) is not None


def damaged(data: bytes) -> st.SearchStrategy[bytes]:
    """The file with a few stretches replaced by extreme numbers or noise."""
    stretch = st.tuples(
        st.integers(0, len(data)),
        st.sampled_from([b"\xff" * 8, b"\0" * 8, struct.pack("<Q", 2**31), struct.pack("<Q", 10**9)]) | st.binary(),
    )

    def apply(stretches: list[tuple[int, bytes]]) -> bytes:
        changed = bytearray(data)
        for place, new in stretches:
            changed[place : place + len(new)] = new
        return bytes(changed)

    return st.lists(stretch, min_size=1, max_size=3).map(apply)


@settings(max_examples=200)
@given(damaged(_TRUE_GGUF) | st.binary(max_size=400).map(lambda noise: b"GGUF\3\0\0\0" + noise))
def test_no_gguf_crashes_the_reader(data: bytes) -> None:
    verdict = gguf_verdict(data)
    if verdict is None:
        header = read_gguf(BytesSource(data))
        spans = sorted(
            (tensor.begin_bytes, tensor.begin_bytes + tensor.size_bytes)
            for tensor in header.tensors
            if tensor.size_bytes is not None
        )
        assert all(0 <= begin <= end <= len(data) for begin, end in spans)


@settings(max_examples=200)
@given(damaged(_TRUE_SAFETENSORS) | st.binary(max_size=400))
def test_no_safetensors_file_crashes_the_reader(data: bytes) -> None:
    if safetensors_verdict(data) is None:
        header = read_safetensors(BytesSource(data))
        assert sum(end - begin for _, begin, end in header.tensors) + header.data_begin_bytes == len(data)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
)
_ENTRY = st.fixed_dictionaries({"dtype": _JSON | st.just("U8"), "shape": _JSON, "data_offsets": _JSON})


@settings(max_examples=60)
@given(st.dictionaries(st.text(max_size=5), _ENTRY | _JSON, max_size=4))
def test_no_json_crashes_the_reader(header: dict[str, object]) -> None:
    safetensors_verdict(safetensors(header, 8))


@given(st.lists(st.integers(0, 100), max_size=6), st.randoms(use_true_random=False))
def test_tensors_that_fill_a_file_exactly_are_true_in_any_order(sizes: list[int], random: object) -> None:
    entries, begin = [], 0
    for number, size in enumerate(sizes):
        entries.append((f"t{number}", tensor(begin, begin + size)))
        begin += size
    random.shuffle(entries)  # type: ignore[attr-defined]
    assert safetensors_verdict(safetensors(dict(entries), begin)) is None


class Endless:
    """A file of 100 GB that has the same eight bytes everywhere behind its beginning; reading is counted."""

    def __init__(self, beginning: bytes, filling: bytes) -> None:
        self._beginning = beginning
        self._filling = filling
        self.size_bytes = 100 * 10**9
        self.read_bytes = 0

    def read_at(self, offset: int, most_bytes: int) -> bytes:
        assert most_bytes <= 100_000_000
        self.read_bytes += most_bytes
        body = self._filling * math.ceil((most_bytes + 8) / 8)
        return (self._beginning[offset:] + body[offset % 8 :])[:most_bytes]


@pytest.mark.parametrize("filling", [b"\0" * 8, b"\xff" * 8, struct.pack("<Q", 3)])
@pytest.mark.parametrize(
    "beginning",
    [
        struct.pack("<IQQ", 3, 199_999, 9_999),
        gguf_head(1, struct.pack("<Q", 1) + b"x" + struct.pack("<IIQ", 9, 8, 50_000))[4:49],
        gguf_head(1, struct.pack("<Q", 1) + b"x" + struct.pack("<IQ", 8, 90 * 10**9))[4:-1],
    ],
)
def test_a_lying_length_costs_neither_memory_nor_reading(beginning: bytes, filling: bytes) -> None:
    source = Endless(b"GGUF" + beginning, filling)
    tracemalloc.start()
    try:
        with contextlib.suppress(HeaderError):
            read_gguf(source)
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most_bytes < 20_000_000
    assert source.read_bytes < 40_000_000
