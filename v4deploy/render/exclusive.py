"""One render or undo at a time in a directory: two at once would take each other's staged files, and mix their sets."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from v4deploy.domain.errors import UsageError
from v4deploy.render.files import remove_empty

_LOCK_FILE = ".v4deploy/lock"
_PATIENCE_SECONDS = 30.0
"""A render writes for milliseconds; a choice of this project."""

_LOOK_SECONDS = 0.05


@contextmanager
def alone_in(directory: Path, *, patience_seconds: float = _PATIENCE_SECONDS) -> Iterator[None]:
    """Hold the directory, which is made where it is not there, against other renders.

    Raises:
        UsageError: another process has held it for too long, or the lock cannot be made.
    """
    path = directory / _LOCK_FILE
    try:
        descriptor = _acquired(path, directory, patience_seconds)
    except OSError as error:
        raise UsageError(
            f"cannot write {path}: {error.strerror}", hint="choose another directory: `--output DIRECTORY`"
        ) from error
    try:
        yield
    finally:
        # Those who wait for it see that it is gone, and make a new one.
        path.unlink(missing_ok=True)
        os.close(descriptor)
        remove_empty(path.parent)


def _acquired(path: Path, directory: Path, patience_seconds: float) -> int:
    deadline = time.monotonic() + patience_seconds
    while True:
        descriptor = _opened(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise UsageError(
                    f"another render has been writing to {directory} for {patience_seconds:g} s",
                    hint="let it end, or choose another directory: `--output DIRECTORY`",
                ) from None
            time.sleep(_LOOK_SECONDS)
        except OSError:
            # Some network file systems have no locks: there the last of two renders at once wins.
            return descriptor
        else:
            if _is_still(path, descriptor):
                return descriptor
        # Who held it took it away, and another may already hold a new one.
        os.close(descriptor)


def _opened(path: Path) -> int:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            # Between the two lines another may have taken the directory away.
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
