from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from v4deploy.domain.units import GB, GIB, MIB, format_gb, format_gib, parse_bytes


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("80GiB", 80 * GIB),
        ("192 GB", 192 * GB),
        ("64g", 64 * GIB),
        ("1.5TB", 1_500_000_000_000),
        ("1024", 1024),
        ("512MiB", 512 * MIB),
    ],
)
def test_sizes_as_people_type_them(text: str, size_bytes: int) -> None:
    assert parse_bytes(text) == size_bytes


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "12 bananas", "1e9", "1,5GB"])
def test_what_is_not_a_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_bytes(text)


@given(st.integers(min_value=0, max_value=10**15))
def test_a_plain_number_of_bytes_is_read_back(size_bytes: int) -> None:
    assert parse_bytes(str(size_bytes)) == size_bytes


def test_unknown_prints_as_unknown() -> None:
    assert format_gib(None) == "unknown"
    assert format_gb(None) == "unknown"


def test_memory_is_binary_and_files_are_decimal() -> None:
    assert format_gib(155_095_240_320) == "144.4 GiB"
    assert format_gb(155_095_240_320) == "155.1 GB"
    assert format_gb(5_257_664) == "5.3 MB"
