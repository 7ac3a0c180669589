"""Reads /proc/self/mountinfo: which file system stands behind a path."""

from __future__ import annotations

import re
from dataclasses import dataclass

MOUNTINFO = "/proc/self/mountinfo"
# mount ID, parent ID, device, then the fields that we use; optional fields end with a lone dash (man 5 proc).
_LINE = re.compile(
    r"\d+ \d+ \S+ (?P<root>\S+) (?P<mount_point>\S+) (?P<options>\S+) (?:\S+ )*?- "
    r"(?P<filesystem>\S+) (?P<source>\S*) ?(?P<super_options>\S*)"
)
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One mount. `root` is the directory of the file system that is mounted, "/" for all of it."""

    mount_point: str
    root: str
    filesystem: str
    source: str
    options: tuple[str, ...]
    super_options: tuple[str, ...]

    @property
    def read_only(self) -> bool:
        """Whether this mount, or the file system below all of its mounts, takes no writes."""
        return "ro" in self.options or "ro" in self.super_options


def parse_mountinfo(text: str | None) -> tuple[Mount, ...]:
    """All mounts in the order given; lines that are cut off or foreign are skipped."""
    mounts = []
    for line in (text or "").splitlines():
        match = _LINE.fullmatch(line.strip())
        if match:
            mounts.append(
                Mount(
                    mount_point=_unescape(match["mount_point"]),
                    root=_unescape(match["root"]),
                    filesystem=match["filesystem"],
                    source=_unescape(match["source"]),
                    options=tuple(match["options"].split(",")),
                    super_options=tuple(match["super_options"].split(",")),
                )
            )
    return tuple(mounts)


def mount_of(path: str, mounts: tuple[Mount, ...]) -> Mount | None:
    """The mount that holds `path`: the longest mount point in front of it, of equals the last, which lies on top."""
    found: Mount | None = None
    for mount in mounts:
        prefix = mount.mount_point.rstrip("/") + "/"
        covers = path == mount.mount_point or path.startswith(prefix)
        if covers and (found is None or len(mount.mount_point) >= len(found.mount_point)):
            found = mount
    return found


def _unescape(text: str) -> str:
    """The kernel writes blank, tab, newline and backslash as octal numbers."""
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)
