"""Files to write: rendered text with its path and mode."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefact:
    """One file. `path` is relative with forward slashes; `mode` as in chmod."""

    path: str
    text: str
    mode: int = 0o644

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtefactSet:
    """All files of one engine and target."""

    engine: str
    target: str
    artefacts: tuple[Artefact, ...]
