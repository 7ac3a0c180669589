"""Files to write: rendered text with its path and mode."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


def sha256_of(content: bytes) -> str:
    """As hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefact:
    """One file. `path` is relative with forward slashes; `mode` as in chmod."""

    path: str
    text: str
    mode: int = 0o644

    @property
    def sha256(self) -> str:
        return sha256_of(self.text.encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtefactSet:
    """All files of one engine and target."""

    engine: str
    target: str
    artefacts: tuple[Artefact, ...]
