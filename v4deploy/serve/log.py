"""An engine's log file: one a run, the runs before kept beside it, cut when it grows too long."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import BinaryIO

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
    # Whole before older ones make way: on a full disk each try would cost one of them.
    copy = path.with_name(f".{path.name}.cut")
    try:
        shutil.copyfile(path, copy)
    except OSError:
        copy.unlink(missing_ok=True)
        raise
    _make_way(path)
    copy.replace(older(path))
    os.truncate(path, 0)
    return True


def older(path: Path) -> Path:
    """Where the newest of the older files is: the run before, or what was cut from this one."""
    return _numbered(path, 1)


def tail(path: Path, lines: int) -> tuple[str, ...]:
    """The last lines that are not empty. At most 64 KiB are read, however long the log is."""
    try:
        with path.open("rb") as log:
            size_bytes = os.fstat(log.fileno()).st_size
            return last_lines(log, lines, end=size_bytes, most_bytes=_TAIL_BYTES)
    except OSError as error:
        return (f"(the log {path} cannot be read: {error})",)


def last_lines(log: BinaryIO, lines: int, *, end: int, most_bytes: int = MOST_BYTES) -> tuple[str, ...]:
    """So many lines before a position, without empty ones; fewer where there are no more within `most_bytes`."""
    if not lines:
        return ()
    window = min(end, most_bytes, _TAIL_BYTES)
    while True:
        log.seek(end - window)
        text = log.read(window).decode("utf-8", "replace")
        # Progress bars rewrite their line with carriage returns; the last state of each line is what one would see.
        shown = (line.rstrip().rsplit("\r", 1)[-1].rstrip() for line in text.split("\n"))
        found = tuple(line for line in shown if line)
        # One more than was asked for: the first may have begun before the window.
        if len(found) > lines or window >= min(end, most_bytes):
            return found[-lines:]
        window = min(end, most_bytes, window * 8)


def beginning(path: Path) -> tuple[str, ...]:
    """The lines of its first 4 MiB: all that an engine says while it starts. Empty where it cannot be read."""
    try:
        with path.open("rb") as log:
            return tuple(log.read(_BEGINNING_BYTES).decode("utf-8", "replace").splitlines())
    except OSError:
        return ()


def _make_way(path: Path) -> None:
    for number in range(KEPT, 1, -1):
        kept = _numbered(path, number - 1)
        if kept.exists():
            kept.replace(_numbered(path, number))


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")
