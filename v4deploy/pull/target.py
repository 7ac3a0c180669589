"""What the file system that weights go to can hold, looked at before the first byte comes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from v4deploy.domain.errors import DownloadError
from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.units import format_gb
from v4deploy.pull.manifest import FilePlan

# FAT keeps a file's length in 32 bits.
_LARGEST_ON_FAT_BYTES = 2**32 - 1
_FAT = frozenset({"vfat", "msdos", "umsdos"})
_IN_MEMORY = frozenset({"tmpfs", "ramfs"})
# The manifest, the lock, who holds it, and the new version of each while it replaces the old one; and directories.
_OWN_FILES = 16
_ELSEWHERE = "set V4DEPLOY_WEIGHTS_DIR to a directory on ext4, XFS, APFS or ZFS, and pull again; nothing was fetched"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A directory's file system, as far as it tells.

    Attributes:
        filesystem: `ext4`, `tmpfs`, ...; None where it cannot be told.
        free_files: files that can still be made; None where it sets no number.
        largest_file_bytes: what the shell's limit on the size of files allows; None without a limit.
    """

    filesystem: str | None
    free_files: int | None
    largest_file_bytes: int | None


def look_at(directory: Path) -> Target:
    """Ask the system about a directory that exists."""
    return Target(
        filesystem=filesystem_of(directory), free_files=_free_files(directory), largest_file_bytes=_limit_of_shell()
    )


def check(target: Target, directory: Path, incomplete: Sequence[FilePlan]) -> tuple[Finding, ...]:
    """What the user should know of the target.

    Raises:
        DownloadError: it cannot hold these files, however much is free.
    """
    largest = max(incomplete, key=lambda file: file.size_bytes, default=None)
    if largest is None:
        return ()
    if target.filesystem in _FAT and largest.size_bytes > _LARGEST_ON_FAT_BYTES:
        raise DownloadError(
            f"{directory} is on {target.filesystem}, where no file can have 4 GiB; {largest.path} has "
            f"{format_gb(largest.size_bytes)}",
            hint=_ELSEWHERE,
        )
    if target.largest_file_bytes is not None and largest.size_bytes > target.largest_file_bytes:
        raise DownloadError(
            f"this shell allows no file beyond {format_gb(target.largest_file_bytes)} (ulimit -f); {largest.path} has "
            f"{format_gb(largest.size_bytes)}",
            hint="`ulimit -f unlimited`, or LimitFSIZE=infinity in the service; then pull again; nothing was fetched",
        )
    # A file and its journal.
    needed = 2 * len(incomplete) + _OWN_FILES
    if target.free_files is not None and needed > target.free_files:
        raise DownloadError(
            f"the file system of {directory} has room for {target.free_files} more files (inodes), {needed} are needed",
            hint="remove small files there (see `df -i`), or set V4DEPLOY_WEIGHTS_DIR to another disk; "
            "nothing was fetched",
        )
    return (_in_memory(target.filesystem, directory),) if target.filesystem in _IN_MEMORY else ()


def _in_memory(filesystem: str | None, directory: Path) -> Finding:
    return Finding(
        id="storage.weights-on-tmpfs",
        severity=Severity.WARN,
        summary=f"{directory} is in memory ({filesystem}): it is gone after a reboot",
        evidence=(Evidence(source=f"file system of {directory}", value=filesystem),),
        why="weights stored there take the memory that the engine needs to load them",
        fix="set V4DEPLOY_WEIGHTS_DIR to a directory on a disk",
    )


def filesystem_of(directory: Path) -> str | None:
    """`ext4`, `nfs4`, `tmpfs`, ...; None where it cannot be told."""
    import psutil

    real = directory.resolve()
    with contextlib.suppress(OSError, RuntimeError):
        mounts = {Path(mount.mountpoint): str(mount.fstype) for mount in psutil.disk_partitions(all=True)}
        return next((mounts[place] for place in (real, *real.parents) if place in mounts), None)
    return None


def _free_files(directory: Path) -> int | None:
    """Btrfs and others make inodes as they need them, and report none at all."""
    with contextlib.suppress(OSError):
        status = os.statvfs(directory)
        return status.f_favail if status.f_files else None
    return None


def _limit_of_shell() -> int | None:
    import resource

    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return None if limit == resource.RLIM_INFINITY else limit
