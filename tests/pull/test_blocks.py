"""Blocks, journals, rates: the arithmetic of a download, without files and network."""

from __future__ import annotations

import random
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.pull_builders import listed
from v4deploy.domain.errors import UsageError
from v4deploy.pull import journal
from v4deploy.pull.blocks import Appetite, Blocks, Span
from v4deploy.pull.journal import Beginning, Journal
from v4deploy.pull.rate import Pulse, Throttle, parse_rate
from v4deploy.pull.retry import TransferError
from v4deploy.pull.spotcheck import STRETCH_BYTES, spot_check

SIZES = st.integers(1, 5000)


def appetite(most: int, *, least: int = 1, sharers: int = 3) -> Appetite:
    return Appetite(most_bytes=most, least_bytes=least, sharers=sharers)


def take(blocks: Blocks, span: Span, count: int) -> None:
    """Let the first bytes of a span arrive, as its connection would."""
    position = span.first_byte
    while position < min(span.end_byte, span.first_byte + count):
        index = blocks.index(position)
        step = min(blocks.end(index), span.first_byte + count) - position
        blocks.arrived(index, step)
        position += step


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 500), st.integers(1, 90), st.integers(1, 200), st.randoms(use_true_random=False))
def test_every_byte_is_fetched_once_whatever_breaks(size: int, block: int, most: int, dice: random.Random) -> None:
    blocks = Blocks(size, block, {})
    seen = bytearray(size)
    working: list[Span] = []
    while not blocks.is_complete:
        span = blocks.claim(appetite(most)) if len(working) < 3 else None
        if span is not None:
            working.append(span)
        ended = working.pop(dice.randrange(len(working)))
        count = dice.randint(1, ended.end_byte - ended.first_byte)
        fetched = slice(ended.first_byte, ended.first_byte + count)
        assert not any(seen[fetched])
        seen[fetched] = bytes([1]) * count
        take(blocks, ended, count)
        blocks.release(ended)
        assert blocks.front() == (seen.index(0) if 0 in seen else size)
        assert blocks.arrived_bytes == sum(seen)
    assert blocks.is_complete
    assert blocks.claim(appetite(most)) is None


@settings(max_examples=30, deadline=None)
@given(SIZES, st.integers(1, 700), st.integers(2, 8))
def test_claims_never_overlap(size: int, block: int, sharers: int) -> None:
    blocks = Blocks(size, block, {})
    spans = []
    while (span := blocks.claim(appetite(2000, sharers=sharers))) is not None:
        spans.append(span)
    assert spans[0].first_byte == 0
    assert [span.end_byte for span in spans] == [*(span.first_byte for span in spans[1:]), size]
    assert blocks.spans == len(spans)


def test_what_is_left_is_shared_fairly() -> None:
    blocks = Blocks(1000, 10, {})
    first = blocks.claim(appetite(10_000, sharers=5))
    assert first == Span(first_byte=0, end_byte=100)


def test_a_small_rest_is_not_cut_to_pieces() -> None:
    blocks = Blocks(1000, 10, {})
    assert blocks.claim(appetite(10_000, least=500, sharers=5)) == Span(first_byte=0, end_byte=500)


def test_a_block_goes_on_where_it_was() -> None:
    blocks = Blocks(100, 10, {0: 10, 1: 4, 3: 10})
    assert blocks.arrived_bytes == 24
    assert blocks.partly_filled() == (1,)
    assert blocks.front() == 14
    assert blocks.claim(appetite(1000, sharers=1)) == Span(first_byte=14, end_byte=30)
    assert blocks.claim(appetite(1000, sharers=1)) == Span(first_byte=40, end_byte=70)


def test_a_discarded_block_is_free_again() -> None:
    blocks = Blocks(100, 10, dict.fromkeys(range(10), 10))
    assert blocks.front() == 100
    blocks.discard(4)
    assert (blocks.front(), blocks.is_complete) == (40, False)
    assert blocks.claim(appetite(1000)) == Span(first_byte=40, end_byte=50)


def test_the_whole_file_is_given_to_one_connection_alone() -> None:
    blocks = Blocks(100, 10, {0: 10})
    span = blocks.claim(appetite(20, sharers=1))
    other = blocks.claim(appetite(20, sharers=1))
    assert span is not None
    assert other is not None
    assert blocks.claim_whole() is None
    assert blocks.widen(span) is None
    blocks.release(other)
    assert blocks.widen(span) == Span(first_byte=0, end_byte=100, is_whole=True)
    assert blocks.claim(appetite(20)) is None


(FILE,) = listed("a.gguf", size_bytes=95)
BLOCKS = {0: Beginning(filled_bytes=10, checksum=zlib.crc32(b"x")), 9: Beginning(filled_bytes=5, checksum=7)}


def test_a_journal_survives_its_text() -> None:
    written = Journal(block_bytes=10, blocks=BLOCKS)
    assert journal.parse(journal.text(FILE, written), FILE, on_disk_bytes=95) == written


@given(st.integers(0, 200))
def test_a_journal_that_was_torn_keeps_its_whole_lines(cut: int) -> None:
    text = journal.text(FILE, Journal(block_bytes=10, blocks=BLOCKS))
    found = journal.parse(text[:cut], FILE, on_disk_bytes=95)
    assert found is None or found.blocks.items() <= BLOCKS.items()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\0\0\0\0",
        "[]",
        "{",
        '{"hash": "another", "size_bytes": 95, "block_bytes": 10}',
        journal.header(FILE, 10).replace("95", "96"),
        journal.header(FILE, 10).replace(": 10", ": 0"),
        journal.header(FILE, 10).replace(": 10", ': "10"'),
    ],
)
def test_a_journal_of_something_else_is_none(text: str) -> None:
    assert journal.parse(text, FILE, on_disk_bytes=95) is None


@pytest.mark.parametrize("line", ["9 6 00000000", "10 1 00000000", "0 11 00000000", "0 0 00000000", "0 10 0000000"])
def test_a_line_that_cannot_be_true_counts_for_nothing(line: str) -> None:
    found = journal.parse(journal.header(FILE, 10) + line + "\n", FILE, on_disk_bytes=95)
    assert found == Journal(block_bytes=10, blocks={})


def test_what_the_file_does_not_reach_is_not_there() -> None:
    found = journal.parse(journal.text(FILE, Journal(block_bytes=10, blocks=BLOCKS)), FILE, on_disk_bytes=94)
    assert found is not None
    assert set(found.blocks) == {0}


@given(st.binary(max_size=300), st.integers(0, 3), st.integers(1, 99))
def test_a_spot_check_does_not_depend_on_how_the_bytes_came(noise: bytes, stretch: int, step: int) -> None:
    data = memoryview(noise.ljust(300, b"x") * 700)
    offset = stretch * STRETCH_BYTES
    whole = spot_check(data, offset, 0)
    pieces = 0
    for start in range(0, len(data), step * 997):
        pieces = spot_check(data[start : start + step * 997], offset + start, pieces)
    assert pieces == whole


def test_a_spot_check_sees_a_stretch_of_zeros() -> None:
    data = random.Random(1).randbytes(5 * STRETCH_BYTES)
    before = spot_check(memoryview(data), 0, 0)
    for start in range(0, len(data) - STRETCH_BYTES, 4096):
        lost = data[:start] + bytes(STRETCH_BYTES) + data[start + STRETCH_BYTES :]
        assert spot_check(memoryview(lost), 0, 0) != before


@pytest.mark.parametrize(
    ("text", "rate"),
    [("50M", 50_000_000), ("1.5 GB/s", 1_500_000_000), ("800k", 800_000), ("2MiB", 2 * 1024**2), ("4000", 4000)],
)
def test_a_rate_is_read_as_people_write_it(text: str, rate: int) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "fast", "-5M", "0", "999", "5 Mbit", "1e9"])
def test_what_is_no_rate_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="is not a rate"):
        parse_rate(text)


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 2_000_000)), min_size=1, max_size=50))
def test_no_more_comes_than_the_limit_allows(reads: list[tuple[float, int]]) -> None:
    now = [0.0]
    throttle = Throttle(1_000_000, lambda: now[0])
    total = 0
    for idle, count in reads:
        now[0] += idle
        now[0] += throttle.delay_seconds(count)
        total += count
        assert total <= 1_000_000 * now[0] * (1 + 1e-9) + 1


def test_a_connection_that_only_drips_is_told_by_its_pulse() -> None:
    pulse = Pulse(window_seconds=60, least_bytes=1000)
    for _ in range(59):
        pulse.beat(1, 1.0)
    with pytest.raises(TransferError, match="only 60 bytes arrived in 60 seconds"):
        pulse.beat(1, 1.0)


def test_a_slow_line_that_lives_is_left_alone() -> None:
    pulse = Pulse(window_seconds=60, least_bytes=1000)
    for _ in range(1000):
        pulse.beat(20, 1.0)
