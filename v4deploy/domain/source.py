"""Where a fact of the profiles comes from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a fact comes from and when it was read. `confidence`: A two sources, B one good, C derived, D existence."""

    source: str
    as_of: str
    confidence: str | None = None
