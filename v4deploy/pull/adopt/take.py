"""Takes one file over: blocks shared where the file system can, else the inode, else copied; hashed in each case."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import threading
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

from v4deploy.pull.hashing import READ_BYTES, StoppedError, hash_file, new_digest
from v4deploy.pull.manifest import FilePlan
from v4deploy.pull.part import ADOPTING_SUFFIX, sync_directory

# linux/fs.h: _IOW(0x94, 9, int). Shares the blocks of a whole file; each side gets its own copy of what it changes.
_FICLONE = 0x40049409


class Method(StrEnum):
    """How a file came over. MOVE: the unfinished download of an earlier pull, which goes on here. BEGINNING: copied
    from what the hub's own client left of a download that was killed; the hash at the end proves it.
    """

    REFLINK = "reflink"
    HARD_LINK = "hard-link"
    COPY = "copy"
    MOVE = "move"
    BEGINNING = "beginning"


class SourceError(Exception):
    """The source cannot be read, or is not what it was thought to be. Never leaves this package.

    Attributes:
        found: the hash that its content has; None where it could not be read.
    """

    def __init__(self, reason: str, *, found: str | None = None) -> None:
        super().__init__(reason)
        self.found = found


def take(
    source: Path, destination: Path, file: FilePlan, *, stop: threading.Event, on_bytes: Callable[[int], None]
) -> Method:
    """Put the content of `source` at `destination`, if its hash is right; `source` itself is never changed.

    The hash is taken of what will lie at the destination, after it was linked or while it was copied, so that a source
    that is replaced meanwhile cannot slip in.

    Raises:
        SourceError: another content, or none that can be read; the destination is as it was.
        StoppedError: `stop` was set; likewise.
        OSError: the destination cannot be written.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    waiting = destination.with_name(destination.name + ADOPTING_SUFFIX)
    waiting.unlink(missing_ok=True)
    try:
        if _reflink(source, waiting):
            method, found = Method.REFLINK, _hash(waiting, file, stop, on_bytes)
        elif _hard_link(source, waiting):
            method, found = Method.HARD_LINK, _hash(waiting, file, stop, on_bytes)
        else:
            method, found = Method.COPY, _copy(source, waiting, file, stop, on_bytes)
        if found != file.expected_hash:
            raise SourceError(f"has hash {found} instead of {file.expected_hash}", found=found)
        waiting.replace(destination)
    finally:
        waiting.unlink(missing_ok=True)
    sync_directory(destination.parent)
    return method


def _reflink(source: Path, new: Path) -> bool:
    if sys.platform != "linux":
        return False
    import fcntl

    try:
        with source.open("rb") as origin, new.open("xb") as stream:
            fcntl.ioctl(stream.fileno(), _FICLONE, origin.fileno())
            os.fsync(stream.fileno())
    except OSError:
        # No such file system, another file system, no permission: what comes next says which of them matters.
        new.unlink(missing_ok=True)
        return False
    return True


def _hard_link(source: Path, new: Path) -> bool:
    """Share the inode, unless another user could change it behind our back.

    Nothing here ever writes into a finished file, so that neither side changes under the other.
    """
    if may_be_shared(source):
        with contextlib.suppress(OSError):
            new.hardlink_to(source)
            return True
    return False


def may_be_shared(source: Path) -> bool:
    """Whether nobody else may write to a file, so that a hard link to it is as good as a copy."""
    with contextlib.suppress(OSError):
        status = source.stat()
        return status.st_uid == os.geteuid() and not status.st_mode & stat.S_IWOTH
    return False


def _hash(path: Path, file: FilePlan, stop: threading.Event, on_bytes: Callable[[int], None]) -> str:
    try:
        return hash_file(path, file, stop=stop, on_bytes=on_bytes).hexdigest()
    except OSError as error:
        raise SourceError(f"cannot be read: {error.strerror or error}") from error


def _copy(source: Path, new: Path, file: FilePlan, stop: threading.Event, on_bytes: Callable[[int], None]) -> str:
    digest = new_digest(file)
    buffer = memoryview(bytearray(READ_BYTES))
    done_bytes = 0
    try:
        origin = source.open("rb", buffering=0)
    except OSError as error:
        raise SourceError(f"cannot be read: {error.strerror or error}") from error
    with origin, new.open("xb", buffering=0) as stream:
        while True:
            if stop.is_set():
                raise StoppedError
            try:
                count = origin.readinto(buffer)
            except OSError as error:
                raise SourceError(f"cannot be read: {error.strerror or error}") from error
            if not count:
                break
            digest.update(buffer[:count])
            view = buffer[:count]
            while view:
                view = view[stream.write(view) :]
            done_bytes += count
            on_bytes(done_bytes)
        os.fsync(stream.fileno())
    return digest.hexdigest()
