"""Numbers of things, in words."""

from __future__ import annotations

import pytest

from v4deploy.domain.counting import counted


@pytest.mark.parametrize(
    ("count", "words", "text"),
    [
        (0, ("file",), "0 files"),
        (1, ("file",), "1 file"),
        (2, ("file",), "2 files"),
        (1, ("try", "tries"), "1 try"),
        (3, ("try", "tries"), "3 tries"),
    ],
)
def test_one_is_singular_and_all_else_plural(count: int, words: tuple[str, ...], text: str) -> None:
    assert counted(count, *words) == text
