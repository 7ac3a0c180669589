"""Hashes as hubs keep them: SHA-256 of the content, or git's blob SHA-1 for small files."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from v4deploy.pull.manifest import FilePlan

# Large enough that hashlib runs without the interpreter's lock nearly all the time, small enough for the CPU's cache.
READ_BYTES = 1024 * 1024


class Digest(Protocol):
    """What hashlib's objects do."""

    def update(self, data: bytes | memoryview, /) -> None: ...

    def hexdigest(self) -> str: ...

    def copy(self) -> Digest: ...


class StoppedError(Exception):
    """The user or another worker asked to stop. Never leaves this package."""


def new_digest(file: FilePlan) -> Digest:
    """An empty digest of the kind that the file is checked with."""
    if file.sha256 is not None:
        return hashlib.sha256()
    # Git hashes a header in front of the content (gitformat-loose: "blob <size>\0").
    return hashlib.sha1(f"blob {file.size_bytes}\0".encode(), usedforsecurity=False)


def hashing_workers() -> int:
    """Files to hash at once: one a core that this process may run on; more than 64 only wait for the disk."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 64)


def hash_file(
    path: Path,
    file: FilePlan,
    *,
    limit_bytes: int | None = None,
    stop: threading.Event,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> Digest:
    """Hash a file from its beginning, the first `limit_bytes` or all of it; `on_bytes` hears the running sum.

    Raises:
        StoppedError: `stop` was set.
        OSError: the file cannot be read.
    """
    digest = new_digest(file)
    buffer = memoryview(bytearray(READ_BYTES))
    done_bytes = 0
    with path.open("rb", buffering=0) as stream:
        while limit_bytes is None or done_bytes < limit_bytes:
            if stop.is_set():
                raise StoppedError
            wanted = READ_BYTES if limit_bytes is None else min(READ_BYTES, limit_bytes - done_bytes)
            count = stream.readinto(buffer[:wanted])
            if not count:
                break
            digest.update(buffer[:count])
            done_bytes += count
            on_bytes(done_bytes)
    return digest
