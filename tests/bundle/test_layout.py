"""The stream is a tar archive, and any stretch of it is the same bytes as of the whole."""

from __future__ import annotations

import io
import tarfile

from hypothesis import given
from hypothesis import strategies as st

from v4deploy.bundle.layout import Layout, Member, lay_out, part_ranges, parts_of

_names = st.text("abcdefghij/-._é", min_size=1, max_size=150).filter(lambda name: name.strip("/") == name)
_members = st.lists(st.tuples(_names, st.binary(max_size=3000)), max_size=5)


def layout_of(contents: list[tuple[str, bytes]]) -> tuple[Layout, dict[str, bytes]]:
    members = [
        Member(path=f"{number}/{name}", size_bytes=len(data), modified_seconds=number)
        for number, (name, data) in enumerate(contents)
    ]
    return lay_out(members), {member.path: data for member, (_, data) in zip(members, contents, strict=True)}


def read(layout: Layout, contents: dict[str, bytes], first: int, end: int) -> bytes:
    data = b""
    for piece in layout.pieces(first, end):
        if piece.member is None:
            data += piece.literal
        else:
            data += contents[piece.member.path][piece.offset_bytes : piece.offset_bytes + piece.size_bytes]
    return data


@given(_members)
def test_the_whole_is_an_archive_that_tar_reads(given_members: list[tuple[str, bytes]]) -> None:
    layout, contents = layout_of(given_members)
    stream = read(layout, contents, 0, layout.stream_bytes)
    assert len(stream) == layout.stream_bytes
    with tarfile.open(fileobj=io.BytesIO(stream), mode="r:") as archive:
        found = {entry.name: entry for entry in archive.getmembers()}
        assert list(found) == list(contents)
        for member, offset in zip(layout.members, layout.offsets, strict=True):
            extracted = archive.extractfile(found[member.path])
            assert extracted is not None
            assert extracted.read() == contents[member.path]
            assert found[member.path].offset_data == offset


@given(_members, st.integers(1, 4000), st.data())
def test_parts_in_any_order_make_up_the_whole(
    given_members: list[tuple[str, bytes]], part_bytes: int, data: st.DataObject
) -> None:
    layout, contents = layout_of(given_members)
    whole = read(layout, contents, 0, layout.stream_bytes)
    ranges = part_ranges(layout.stream_bytes, part_bytes)
    number = data.draw(st.integers(0, len(ranges) - 1))
    first, end = ranges[number]
    assert read(layout, contents, first, end) == whole[first:end]
    assert (ranges[0][0], ranges[-1][1]) == (0, layout.stream_bytes)
    for member, offset in zip(layout.members, layout.offsets, strict=True):
        touches = bool(member.size_bytes) and first < offset + member.size_bytes and offset < end
        assert touches == (number in parts_of(offset, member.size_bytes, part_bytes))


def test_a_file_of_900_gigabytes_has_its_place() -> None:
    big = Member(path="weights/big.gguf", size_bytes=900 * 10**9, modified_seconds=1)
    layout = lay_out([big, Member(path="weights/small", size_bytes=3, modified_seconds=1)])
    pieces = list(layout.pieces(899 * 10**9, layout.stream_bytes))
    assert pieces[0].member == big
    assert pieces[0].offset_bytes + pieces[0].size_bytes == big.size_bytes
    head = tarfile.TarInfo.frombuf(layout.members[1].head[-512:], "utf-8", "strict")
    assert (head.name, head.size) == ("weights/small", 3)
