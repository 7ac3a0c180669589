"""One pull at a time in a directory, on any file system and from any machine that mounts it.

Two locks, because neither is enough. The kernel's (flock) ends with its process, however that ends, but on network file
systems it may hold on one machine only, or not exist. So who has it also puts down a lease: a file that only one can
make, whose time of change moves while its holder lives. Another machine's lease is dead when it has not moved for a
while by our own clock, which nobody can set; the time in it is never compared with anything but itself.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from v4deploy import documents
from v4deploy.domain.errors import DownloadError, ProfileError
from v4deploy.pull.target import filesystem_of

LOCK_NAME = ".v4deploy.lock"
LEASE_NAME = ".v4deploy.lock.holder"
# File systems that several machines may have mounted.
_SHARED = re.compile(
    r"nfs\d*|cifs|smb\w*|9p|fuse.*|virtiofs|lustre|gpfs|ceph|glusterfs|beegfs\w*|afs|afpfs|webdav|gfs2|ocfs2"
)
_SCHEMA = "v4deploy.lease/1"
_BEAT_SECONDS = 5.0
# Six beats: a machine under load, or a file server that answers late, is not dead.
_DEAD_SECONDS = 30.0
_LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Who works in a directory.

    Attributes:
        kernel: tells running systems apart, through containers and reboots; empty where the system has no such name.
        token: tells this lease from any other, also of the same process.
    """

    process: int
    host: str
    kernel: str
    since: str
    token: str

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}, since {self.since}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """How patiently another machine's lease is looked at; tests are in more of a hurry."""

    beat_seconds: float = _BEAT_SECONDS
    dead_seconds: float = _DEAD_SECONDS
    look_seconds: float = _LOOK_SECONDS
    tell: Callable[[str, float], None] = lambda _reason, _seconds: None
    clock: Callable[[], float] = time.monotonic


def our_lease(since: str) -> Lease:
    """A lease for this process."""
    return Lease(
        process=os.getpid(), host=socket.gethostname(), kernel=_kernel(), since=since, token=secrets.token_hex(8)
    )


@contextmanager
def locked(directory: Path, *, since: str, lease: Lease | None = None, watch: Watch | None = None) -> Iterator[None]:
    """Hold a directory for this process.

    Raises:
        DownloadError: another process holds it; the message says which.
        OSError: the directory is not writable.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(directory / LOCK_NAME, timeout=0)
    path, ours, patience = directory / LEASE_NAME, lease or our_lease(since), watch or Watch()
    try:
        with contextlib.suppress(NotImplementedError):
            # Without flock (some Lustre mounts) the lease alone has to do.
            lock.acquire()
    except Timeout:
        raise _busy(directory, _read(path)) from None
    try:
        _take(path, ours, directory, patience)
        with _beating(path, patience):
            yield
    finally:
        if _read(path) == ours:
            path.unlink(missing_ok=True)
        lock.release()


def _take(path: Path, ours: Lease, directory: Path, watch: Watch) -> None:
    """Make the lease, after the death of the one that lies there."""
    while not _make(path, ours):
        before = _read(path)
        if not _is_ours_to_judge(before, ours, directory) and _is_alive(path, before, watch):
            raise _busy(directory, before)
        path.unlink(missing_ok=True)


def _make(path: Path, ours: Lease) -> bool:
    """Whether it is ours now. Exclusive creation holds on every file system that we know of."""
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(documents.to_json(_SCHEMA, ours))
    except FileExistsError:
        return False
    return True


def _is_ours_to_judge(before: Lease | None, ours: Lease, directory: Path) -> bool:
    """Whether the kernel's lock, which we hold, has the last word: then whoever made this lease is gone."""
    filesystem = filesystem_of(directory)
    if filesystem is not None and not _SHARED.fullmatch(filesystem):
        return True
    if before is None:
        return False
    return before.kernel == ours.kernel if ours.kernel else before.host == ours.host


def _is_alive(path: Path, holder: Lease | None, watch: Watch) -> bool:
    """Whether a lease moves while we look at it. One that is given back meanwhile is not alive."""
    first, begun = _changed(path), watch.clock()
    watch.tell(f"looking whether {holder or 'its last user'} still works there", watch.dead_seconds)
    while watch.clock() - begun < watch.dead_seconds:
        time.sleep(watch.look_seconds)
        now = _changed(path)
        if now is None:
            return False
        if now != first:
            return True
    return False


def _changed(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


@contextmanager
def _beating(path: Path, watch: Watch) -> Iterator[None]:
    over = threading.Event()

    def beat() -> None:
        while not over.wait(watch.beat_seconds):
            with contextlib.suppress(OSError):
                os.utime(path)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _read(path: Path) -> Lease | None:
    """Who holds it; None where nobody does, or the words cannot be read."""
    with contextlib.suppress(OSError, ProfileError):
        return documents.from_json(Lease, _SCHEMA, path.read_text(encoding="utf-8", errors="replace"), name=str(path))
    return None


def _busy(directory: Path, holder: Lease | None) -> DownloadError:
    return DownloadError(
        f"another pull into {directory} is running: {holder or 'another process'}",
        hint="wait until it has ended, or stop it; what it has fetched is kept",
    )


def _kernel() -> str:
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""
