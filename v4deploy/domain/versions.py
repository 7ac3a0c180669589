"""Comparing version texts of engines and drivers: dotted numbers, build numbers, with or without a leading letter."""

from __future__ import annotations

import re
from functools import lru_cache


@lru_cache(maxsize=1024)
def version_numbers(text: str) -> tuple[int, ...]:
    """The leading dotted numbers: "v0.32.6-rc1" -> (0, 32, 6), "b11434" -> (11434,).

    Raises:
        ValueError: the text has no number in front.
    """
    match = re.match(r"\s*[a-zA-Z]?(\d+(?:\.\d+)*)", text)
    if match is None:
        raise ValueError(f"`{text}` is not a version")
    return tuple(int(part) for part in match[1].split("."))


def is_older(version: str, than: str) -> bool:
    """Whether `version` comes before `than`; missing places count as zero (0.30 equals 0.30.0)."""
    left, right = version_numbers(version), version_numbers(than)
    width = max(len(left), len(right))
    return left + (0,) * (width - len(left)) < right + (0,) * (width - len(right))
