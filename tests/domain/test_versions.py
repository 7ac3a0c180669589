from __future__ import annotations

import pytest

from v4deploy.domain.versions import is_older, version_numbers


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0.32.6", (0, 32, 6)), ("v0.33.0-rc2", (0, 33, 0)), ("b11434", (11434,)), ("580.95.05", (580, 95, 5))],
)
def test_versions_are_their_leading_numbers(text: str, numbers: tuple[int, ...]) -> None:
    assert version_numbers(text) == numbers


def test_what_has_no_number_is_no_version() -> None:
    with pytest.raises(ValueError, match="is not a version"):
        version_numbers("unknown")


def test_order() -> None:
    assert is_older("0.9", "0.10")
    assert is_older("9840", "11434")
    assert not is_older("0.30", "0.30.0")
    assert not is_older("1.0", "0.33.0")
