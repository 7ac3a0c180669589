"""Numbers of things, in words."""

from __future__ import annotations


def counted(count: int, one: str, many: str | None = None) -> str:
    """`1 file`, `2 files`. `many` None: `one` with an s."""
    return f"{count} {one if count == 1 else many or f'{one}s'}"
