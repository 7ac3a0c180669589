"""The files that lie beside the parts as they are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from v4deploy.bundle.index import PlainFile


def plain_files(directory: Path, folders: Iterable[str]) -> tuple[PlainFile, ...]:
    """What these folders of a bundle hold, hashed; hidden records are left out.

    Raises:
        OSError: one cannot be read.
    """
    paths = (path for folder in folders for path in sorted((directory / folder).rglob("*")) if path.is_file())
    names = ((path, path.relative_to(directory)) for path in paths)
    return tuple(_hashed(path, name) for path, name in names if not any(part.startswith(".") for part in name.parts))


def _hashed(path: Path, name: Path) -> PlainFile:
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    return PlainFile(path=name.as_posix(), size_bytes=path.stat().st_size, sha256=sha256)
