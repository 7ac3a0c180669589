"""An engine's log: its end, and what comes after it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from v4deploy.commands.served import choose_record, served_directory
from v4deploy.commands.workspace import Workspace
from v4deploy.domain.errors import LaunchError, UsageError
from v4deploy.serve.identity import lives
from v4deploy.serve.log import tail
from v4deploy.serve.managed import ManagedTarget
from v4deploy.serve.record import read_records

_TICK_SECONDS = 0.2
_BLOCK_BYTES = 256 * 1024


def logs(workspace: Workspace, name: str | None, *, lines: int, follow: bool) -> Iterator[str]:
    """The last lines, then each piece as it is written, until the serve ends.

    Raises:
        UsageError: nothing or several have that name, or the log is gone.
    """
    record = choose_record(read_records(served_directory(workspace.environ)), name)
    path = Path(record.log)
    if not path.exists():
        raise UsageError(f"the log {path} is gone")
    # Where to go on from is noted first: nothing that is written meanwhile may be lost.
    position = path.stat().st_size
    for line in tail(path, lines):
        yield f"{line}\n"
    if follow:
        yield from followed(path, position, goes_on=lambda: lives(record.owner))


def managed_logs(workspace: Workspace, target: ManagedTarget, *, lines: int, follow: bool) -> int:
    """Become the other supervisor's own command, which knows where its logs are. Returns only when that failed.

    Raises:
        LaunchError: it is not on this machine.
    """
    argv = target.logs_argv(lines=lines, follow=follow)
    program = workspace.system.which(argv[0])
    if program is None:
        raise LaunchError(f"there is no `{argv[0]}` on this machine", hint="run this where the engine runs")
    os.execv(program, argv)  # noqa: S606 - no shell is wanted


def followed(path: Path, position: int, *, goes_on: Callable[[], bool]) -> Iterator[str]:
    """What is written behind a position. A file that became shorter was cut, and is read from its front."""
    while True:
        is_last = not goes_on()
        try:
            with path.open("rb") as log:
                size = os.fstat(log.fileno()).st_size
                position = 0 if size < position else position
                log.seek(position)
                while block := log.read(_BLOCK_BYTES):
                    position += len(block)
                    yield block.decode("utf-8", "replace")
        except FileNotFoundError:
            position = 0
        if is_last:
            return
        time.sleep(_TICK_SECONDS)
