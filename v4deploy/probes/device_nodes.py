"""Whether this user may open a vendor's device nodes, with the numbers that a container or an administrator needs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from v4deploy.system.base import CommandRun, System

_TIMEOUT_SECONDS = 3.0
_LINE = re.compile(r"(open|shut) (/\S+) ([0-7]+) (\d+) (\d+) (\S+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceNode:
    """A character device. `is_open`: this process may read and write it, access lists included.

    `group` is the group's name where one is known here, else its number again; numbers differ between host and image.
    """

    path: str
    is_open: bool
    mode: str
    owner_id: int
    group_id: int
    group: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeQuery:
    """Character devices in `folders` (or a node itself) whose name is like the shell pattern `name`."""

    folders: tuple[str, ...]
    name: str = "*"

    @property
    def argv(self) -> tuple[str, ...]:
        """Asks `find`, which uses access(2): opening a render node would wake its GPU, and reading one would hang."""
        wanted = ("-maxdepth", "1", "-type", "c", "-name", self.name)
        tail = "%p %m %U %G %g\\n"
        may_open = ("-readable", "-writable", "-printf", f"open {tail}")
        return ("find", *self.folders, *wanted, "(", *may_open, "-o", "-printf", f"shut {tail}", ")")


def collect_nodes(system: System, query: NodeQuery) -> dict[str, CommandRun]:
    """The one command that answers the query, by its command line."""
    run = system.run(query.argv, timeout_seconds=_TIMEOUT_SECONDS)
    return {" ".join(run.argv): run}


def parse_nodes(commands: Mapping[str, CommandRun], query: NodeQuery) -> tuple[DeviceNode, ...] | None:
    """The nodes found; None where `find` could not be asked. A folder that is missing has none."""
    run = commands.get(" ".join(query.argv))
    if run is None or run.failure is not None:
        return None
    matches = (_LINE.fullmatch(line) for line in run.stdout.splitlines())
    return tuple(
        DeviceNode(
            path=match[2],
            is_open=match[1] == "open",
            mode=match[3],
            owner_id=int(match[4]),
            group_id=int(match[5]),
            group=match[6],
        )
        for match in matches
        if match
    )
