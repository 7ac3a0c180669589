"""Control group limits, version 1 and 2: the least of what any ancestor of this process allows.

A pod or a systemd slice may allow far less than the machine has, and whoever plans with MemTotal is killed while
loading. Page cache counts as used in a group but is given back on demand, so it is added back (`inactive_file`).
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass

from v4deploy.probes.mounts import Mount
from v4deploy.system.base import FileRead

SELF_CGROUP = "/proc/self/cgroup"
_V2_FILES = ("memory.max", "memory.high", "memory.current", "memory.stat", "cpu.max")
_V1_FILES = {
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat"),
    "cpu": ("cpu.cfs_quota_us", "cpu.cfs_period_us"),
}
# Where these hierarchies are mounted when mountinfo does not say.
_USUAL_V2, _USUAL_V1 = "/sys/fs/cgroup", "/sys/fs/cgroup/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One directory of a control group hierarchy. `controller` is "" for version 2."""

    path: str
    controller: str

    @property
    def files(self) -> tuple[str, ...]:
        names = _V1_FILES[self.controller] if self.controller else _V2_FILES
        return tuple(posixpath.join(self.path, name) for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLimit:
    """What one group allows, and of it what is free; `free_bytes` None where its use could not be read."""

    source: str
    limit_bytes: int
    free_bytes: int | None


def groups_of(cgroup_text: str | None, mounts: tuple[Mount, ...]) -> tuple[Group, ...]:
    """The groups of this process and all their visible ancestors, memory and CPU, deepest first."""
    groups: dict[Group, None] = {}
    for line in (cgroup_text or "").splitlines():
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if not path.startswith("/"):
            continue
        if number == "0" and not names:
            base, relative = _place(path, mounts, "cgroup2", "")
            groups.update(dict.fromkeys(_ancestors(base or _USUAL_V2, relative, "")))
        for controller in _V1_FILES:
            if controller in names.split(","):
                base, relative = _place(path, mounts, "cgroup", controller)
                groups.update(dict.fromkeys(_ancestors(base or _USUAL_V1 + controller, relative, controller)))
    return tuple(groups)


def memory_limits(groups: tuple[Group, ...], files: Mapping[str, FileRead]) -> tuple[MemoryLimit, ...]:
    """Every memory limit that any of the groups sets. "Unlimited" spelled as a huge number is left to the caller."""
    limits: list[MemoryLimit] = []
    for group in groups:
        if group.controller == "cpu":
            continue
        read = _Reader(group=group, files=files)
        if group.controller:
            used = read.used("memory.usage_in_bytes", "total_inactive_file")
            found = (read.number("memory.limit_in_bytes"), read.stat("hierarchical_memory_limit"))
            names = ("memory.limit_in_bytes", "memory.stat")
        else:
            used = read.used("memory.current", "inactive_file")
            found = (read.number("memory.max"), read.number("memory.high"))
            names = ("memory.max", "memory.high")
        limits += [
            MemoryLimit(
                source=posixpath.join(group.path, name),
                limit_bytes=limit,
                # More may be used than the limit says: memory.high throttles, and a limit can be lowered under load.
                free_bytes=None if used is None else max(0, limit - used),
            )
            for name, limit in zip(names, found, strict=True)
            if limit is not None
        ]
    return tuple(limits)


def cpu_limit(groups: tuple[Group, ...], files: Mapping[str, FileRead]) -> float | None:
    """The CPUs that the tightest quota leaves; None where no group sets one."""
    quotas = []
    for group in groups:
        read = _Reader(group=group, files=files)
        if group.controller == "cpu":
            quota, period = read.number("cpu.cfs_quota_us"), read.number("cpu.cfs_period_us")
        elif not group.controller:
            words = (read.text("cpu.max") or "").split()
            quota, period = (_number(words[0]), _number(words[1])) if len(words) == 2 else (None, None)  # noqa: PLR2004
        else:
            continue
        if quota is not None and period:
            quotas.append(quota / period)
    return min(quotas, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reader:
    group: Group
    files: Mapping[str, FileRead]

    def text(self, name: str) -> str | None:
        read = self.files.get(posixpath.join(self.group.path, name))
        return read.text if read else None

    def number(self, name: str) -> int | None:
        return _number(self.text(name) or "")

    def stat(self, key: str) -> int | None:
        for line in (self.text("memory.stat") or "").splitlines():
            name, _, value = line.partition(" ")
            if name == key:
                return _number(value)
        return None

    def used(self, usage_file: str, cache_key: str) -> int | None:
        usage, cache = self.number(usage_file), self.stat(cache_key)
        return None if usage is None else usage - (cache or 0)


def _number(text: str) -> int | None:
    """A count; None for `max`, for -1 (both mean: no limit) and for anything that is no number."""
    return int(text) if text.strip().isdecimal() else None


def _place(path: str, mounts: tuple[Mount, ...], filesystem: str, controller: str) -> tuple[str | None, str]:
    """Mount point of a hierarchy, and the group's path below it.

    A container sees the host's path in /proc/self/cgroup while only its own group is mounted: the part that is the
    mount's root is taken off. A path that leads out of the mount (`/../..`) leaves the mount point itself.
    """
    for mount in mounts:
        if mount.filesystem == filesystem and (not controller or controller in mount.super_options):
            root = mount.root.rstrip("/")
            inside = path == root or path.startswith(root + "/")
            relative = path[len(root) :] if inside else "/"
            return mount.mount_point, "/" if ".." in relative.split("/") else relative or "/"
    return None, "/" if ".." in path.split("/") else path


def _ancestors(base: str, relative: str, controller: str) -> list[Group]:
    parts = [part for part in relative.split("/") if part]
    paths = [posixpath.join(base, *parts[:length]) for length in range(len(parts), -1, -1)]
    return [Group(path=path, controller=controller) for path in paths]
