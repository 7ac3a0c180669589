"""An engine's log file: one a run, the runs before kept beside it, cut when it grows too long."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

KEPT = 3
"""So many older files stay, `<name>.1` the newest."""

MOST_BYTES = 64 * 1024 * 1024
_TAIL_BYTES = 64 * 1024
_BEGINNING_BYTES = 4 * 1024 * 1024


def rotate(path: Path) -> None:
    """Make way for a new file.

    Raises:
        OSError: the directory may not be written.
    """
    if path.exists():
        _make_way(path)
        path.replace(_numbered(path, 1))


def cut(path: Path, *, most_bytes: int = MOST_BYTES) -> bool:
    """Move what was written to `<name>.1` when it is too long, while the engine goes on writing; tells whether it was.

    The engine holds the file open to append, so it is copied and emptied rather than renamed: what it writes between
    the two is lost. It keeps writing by itself, so that it never waits for us, and its last words outlive us.

    Raises:
        OSError: the copy cannot be written.
    """
    if path.stat().st_size <= most_bytes:
        return False
    _make_way(path)
    shutil.copyfile(path, _numbered(path, 1))
    os.truncate(path, 0)
    return True


def tail(path: Path, lines: int) -> tuple[str, ...]:
    """The last lines that are not empty. At most 64 KiB are read, however long the log is."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - _TAIL_BYTES))
            text = log.read().decode("utf-8", "replace")
    except OSError as error:
        return (f"(the log {path} cannot be read: {error})",)
    # Progress bars rewrite their line with carriage returns; the last state of each line is what one would see.
    shown = (line.rstrip().rsplit("\r", 1)[-1].rstrip() for line in text.split("\n"))
    return tuple(line for line in shown if line)[-lines:]


def beginning(path: Path) -> tuple[str, ...]:
    """The lines of its first 4 MiB: all that an engine says while it starts. Empty where it cannot be read."""
    try:
        with path.open("rb") as log:
            return tuple(log.read(_BEGINNING_BYTES).decode("utf-8", "replace").splitlines())
    except OSError:
        return ()


def _make_way(path: Path) -> None:
    for number in range(KEPT, 1, -1):
        older = _numbered(path, number - 1)
        if older.exists():
            older.replace(_numbered(path, number))


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")
