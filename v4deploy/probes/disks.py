"""The file systems that matter: room, kind and limits of each, and what of that stands in the way of weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.hardware import Disk
from v4deploy.domain.units import GIB, format_gib
from v4deploy.probes.mounts import MOUNTINFO, Mount, mount_of
from v4deploy.system.base import DiskUsage

SHARED_MEMORY = "/dev/shm"  # noqa: S108 - it is examined, not written to
# Docker gives 64 MB; the smallest value in published vLLM manifests is 2 GiB (llm-d), so anything near that is fine.
_SMALL_SHARED_MEMORY_BYTES = GIB
# The catalogue's largest checkpoint has 76 files; parts, manifests and hub caches multiply that.
_FEW_FILES = 1000
_NETWORK_FILE_SYSTEMS = re.compile(r"nfs\d*|cifs|smb\d*|smbfs|9p|fuse\..+|lustre|gpfs|ceph|glusterfs")
_FAT = frozenset({"vfat", "msdos", "umsdos"})
_ELSEWHERE = "set V4DEPLOY_WEIGHTS_DIR to a directory on a local disk or a mounted volume"


def disk_paths(system: str, weights_dir: str) -> tuple[str, ...]:
    """What is examined on an operating system (`Linux`, `Darwin`): the weights' place, the root, shared memory."""
    return tuple(dict.fromkeys((weights_dir, "/", *((SHARED_MEMORY,) if system == "Linux" else ()))))


def mount_points(usages: Mapping[str, DiskUsage], mounts: tuple[Mount, ...]) -> frozenset[str]:
    """The mounts that hold the examined paths: they answer where the path itself does not exist yet."""
    holders = (mount_of(usage.resolved_path or path, mounts) for path, usage in usages.items())
    return frozenset(mount.mount_point for mount in holders if mount)


def parse_disks(paths: tuple[str, ...], usages: Mapping[str, DiskUsage], mounts: tuple[Mount, ...]) -> tuple[Disk, ...]:
    """One disk a path, in the order given."""
    disks = []
    for path in paths:
        usage = usages[path]
        mount = mount_of(usage.resolved_path or path, mounts)
        if usage.total_bytes is None and mount is not None:
            usage = usages.get(mount.mount_point, usage)
        disks.append(
            Disk(
                path=path,
                mount_point=mount.mount_point if mount else None,
                filesystem=mount.filesystem if mount else None,
                total_bytes=usage.total_bytes,
                free_bytes=usage.free_bytes,
                free_files=usage.free_files,
                read_only=mount.read_only if mount else None,
            )
        )
    return tuple(disks)


def disk_findings(disks: tuple[Disk, ...], weights_dir: str) -> tuple[Finding, ...]:
    """Shared memory that is too small, and a weights directory that cannot hold weights or not for long."""
    shared = next((disk for disk in disks if disk.path == SHARED_MEMORY), None)
    weights = next((disk for disk in disks if disk.path == weights_dir), None)
    found = list(_shared_memory(shared)) if shared else []
    if weights is not None:
        found += [finding for check in _WEIGHTS_CHECKS for finding in check(weights)]
    return tuple(found)


def _shared_memory(disk: Disk) -> Iterator[Finding]:
    if disk.total_bytes is not None and disk.total_bytes < _SMALL_SHARED_MEMORY_BYTES:
        yield Finding(
            id="host.shm-small",
            severity=Severity.WARN,
            summary=f"{disk.path} holds only {format_gib(disk.total_bytes)}",
            evidence=(Evidence(source=f"statvfs {disk.path}", value=str(disk.total_bytes)),),
            why="vLLM on several GPUs and NCCL exchange data there and fail to start when it is too small",
            fix="start the container with `--ipc=host` or `--shm-size=16g`",
        )


def _kind(disk: Disk) -> Iterator[Finding]:
    fault = _fault_of(disk.filesystem) if disk.filesystem else None
    if fault is not None:
        name, what, why = fault
        yield Finding(
            id=f"storage.weights-on-{name}",
            severity=Severity.WARN,
            summary=f"the weights directory lies on {what}",
            evidence=(Evidence(source=f"{MOUNTINFO} {disk.mount_point}", value=disk.filesystem),),
            why=why,
            fix=_ELSEWHERE,
        )


def _fault_of(filesystem: str) -> tuple[str, str, str] | None:
    """Name, description and consequence of a file system that is no place for weights."""
    if filesystem in {"tmpfs", "ramfs"}:
        return (
            "tmpfs",
            f"{filesystem}, which is RAM",
            "weights stored there take the memory that the engine needs to load them",
        )
    if filesystem == "overlay":
        return (
            "overlay",
            "overlay, the container's own layer",
            "a download of hundreds of gigabytes is gone with the container",
        )
    if filesystem in _FAT:
        return (
            "fat",
            f"{filesystem}, where no file may have 4 GiB or more",
            "most shards of V4 are larger, and their download fails at that size",
        )
    if _NETWORK_FILE_SYSTEMS.fullmatch(filesystem):
        return (
            "network",
            f"{filesystem}, a network or pass-through file system",
            "loading by mmap is slow there, file locks may not hold, and start-up can outlast an engine's time limit",
        )
    return None


def _read_only(disk: Disk) -> Iterator[Finding]:
    if disk.read_only:
        yield Finding(
            id="storage.weights-read-only",
            severity=Severity.WARN,
            summary="the weights directory lies on a file system that is mounted read-only",
            evidence=(Evidence(source=f"{MOUNTINFO} {disk.mount_point}", value="ro"),),
            why="weights that are there can be served, but none can be fetched or repaired",
            fix=f"{_ELSEWHERE} that can be written, or `mount -o remount,rw {disk.mount_point}`",
        )


def _free_files(disk: Disk) -> Iterator[Finding]:
    if disk.free_files is not None and disk.free_files < _FEW_FILES and not disk.read_only:
        yield Finding(
            id="storage.few-inodes",
            severity=Severity.WARN,
            summary=f"only {disk.free_files} more files can be made where the weights go",
            evidence=(Evidence(source=f"statvfs {disk.mount_point or disk.path}", value=str(disk.free_files)),),
            why="a download then fails with `no space left on device` although there is room",
            fix="`df -i` shows it; remove small files there, or set V4DEPLOY_WEIGHTS_DIR to another disk",
        )


_WEIGHTS_CHECKS: tuple[Callable[[Disk], Iterator[Finding]], ...] = (_kind, _read_only, _free_files)
