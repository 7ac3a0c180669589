"""What a download is told, what it tells, and how it ends badly."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from v4deploy.domain.errors import DownloadError
from v4deploy.pull import failures
from v4deploy.pull.hashing import StoppedError
from v4deploy.pull.manifest import FilePlan
from v4deploy.pull.part import BLOCK_BYTES
from v4deploy.pull.rate import SLOW_BYTES, SLOW_SECONDS, Throttle
from v4deploy.pull.retry import RetryPolicy
from v4deploy.pull.transport import Transport

# Eight connections of 128 MiB each keep what has arrived within a gigabyte of what has been hashed, so that the hash
# finds its bytes in memory; 5000 such requests bring the largest checkpoint, far below any hub's limit on requests.
LONGEST_REQUEST_BYTES = 128 * 1024 * 1024
# Over a line of 100 ms, a shorter request spends more time waiting for its answer than for its bytes.
SHORTEST_REQUEST_BYTES = 32 * 1024 * 1024
_FULL = {errno.ENOSPC, errno.EDQUOT}


class Progress(Protocol):
    """Hears how a pull goes, from several threads at once; must return quickly and not raise."""

    def advanced(self, path: str, done_bytes: int, size_bytes: int) -> None:
        """`done_bytes` of the file are on disk; falls back when bytes turn out to be wrong."""
        ...

    def checking(self, path: str, done_bytes: int, size_bytes: int) -> None:
        """All of the file is on disk, and `done_bytes` of it have been hashed."""
        ...

    def finished(self, path: str, size_bytes: int) -> None:
        """The file is in place and right."""
        ...

    def waiting(self, path: str, reason: str, wait_seconds: float) -> None:
        """A try for a file (or for the `file list`) failed; the next one comes after this pause."""
        ...


class OneFileError(DownloadError):
    """This file cannot be had, but others of the same pull may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """How to behave.

    Attributes:
        stop: set to end all work at the next chunk.
        pause: waits; by default until the time is over or `stop` is set.
        throttle: None lets bytes come as fast as they can.
        block_bytes: what is checked, and fetched again, as one.
        slow_seconds, slow_bytes: a connection that brings less than this in so long is opened again.
    """

    stop: threading.Event = field(default_factory=threading.Event)
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    pause: Callable[[float], None] | None = None
    clock: Callable[[], float] = time.monotonic
    throttle: Throttle | None = None
    block_bytes: int = BLOCK_BYTES
    longest_request_bytes: int = LONGEST_REQUEST_BYTES
    shortest_request_bytes: int = SHORTEST_REQUEST_BYTES
    slow_seconds: float = SLOW_SECONDS
    slow_bytes: int = SLOW_BYTES

    def wait(self, wait_seconds: float) -> None:
        if self.pause is None:
            self.stop.wait(wait_seconds)
        else:
            self.pause(wait_seconds)

    def check(self) -> None:
        if self.stop.is_set():
            raise StoppedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One place that a file can be fetched from: a hub, or a mirror of it."""

    transport: Transport
    url: str

    @property
    def host(self) -> str:
        """As messages name it."""
        return self.transport.access.host


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One file, where it comes from and where it goes.

    Attributes:
        sources: in the order in which they are tried.
        is_distrusted: what lies at the destination is known to be wrong.
    """

    file: FilePlan
    repo: str
    sources: tuple[Source, ...]
    destination: Path
    is_distrusted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A file that is in place and right. `fetched_bytes` came over the network, 0 where it was there already."""

    file: FilePlan
    fetched_bytes: int


def disk_error(error: OSError, path: Path) -> DownloadError:
    """The words for a disk that is full, read-only or broken."""
    if error.errno in _FULL:
        what = "your quota on the disk" if error.errno == errno.EDQUOT else "the disk"
        return DownloadError(
            f"{what} of {path.parent} is full",
            hint="free space there, or set V4DEPLOY_WEIGHTS_DIR to a larger disk and move the directory; "
            f"then {failures.GO_ON}",
        )
    if error.errno == errno.EFBIG:
        return DownloadError(
            f"the file system of {path.parent}, or a limit of this shell, forbids a file as large as {path.name}",
            hint="see `ulimit -f`, or set V4DEPLOY_WEIGHTS_DIR to a directory on ext4, XFS, APFS or ZFS; pull again",
        )
    if error.errno == errno.EROFS:
        return DownloadError(
            f"{path.parent} is on a file system that is mounted read-only",
            hint=f"mount it writable, or set V4DEPLOY_WEIGHTS_DIR to a directory on another; then {failures.GO_ON}",
        )
    return DownloadError(
        f"cannot write {path}: {error.strerror or error}",
        hint=f"repair it, or set V4DEPLOY_WEIGHTS_DIR to a directory that you may write to; then {failures.GO_ON}",
    )
