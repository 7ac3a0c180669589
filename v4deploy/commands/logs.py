"""An engine's log: its end, and what comes after it."""

from __future__ import annotations

import codecs
import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from v4deploy.commands.served import choose_record, served_directory
from v4deploy.commands.workspace import Workspace
from v4deploy.domain.errors import LaunchError, UsageError
from v4deploy.serve.identity import lives
from v4deploy.serve.log import last_lines, older
from v4deploy.serve.managed import ManagedTarget
from v4deploy.serve.record import read_records

_TICK_SECONDS = 0.2
_BLOCK_BYTES = 256 * 1024


def logs(
    workspace: Workspace, name: str | None, *, lines: int, follow: bool, is_wanted: Callable[[], bool]
) -> Iterator[str]:
    """The last lines, then each piece as it is written, until the serve ends.

    Args:
        workspace: for the state directory.
        name: port or model; None: the only one.
        lines: so many of the last ones that are not empty.
        follow: go on after them.
        is_wanted: asked while nothing is written; whether somebody still reads.

    Raises:
        UsageError: nothing or several have that name, or the log is gone or may not be read.
    """
    record = choose_record(read_records(served_directory(workspace.environ)), name)
    path, is_alive = Path(record.log), lives(record.owner)
    if not path.exists() and not (follow and is_alive):
        raise UsageError(f"the log {path} is {'not there yet' if is_alive else 'gone'}")
    try:
        position = 0
        if path.exists():
            # Where to go on from is noted first: nothing that is written meanwhile may be lost, or told twice.
            position = path.stat().st_size
            with path.open("rb") as log:
                last = last_lines(log, lines, end=position)
            yield from (f"{line}\n" for line in last)
        if follow:
            yield from followed(path, position, goes_on=lambda: lives(record.owner) and is_wanted())
    except PermissionError as error:
        raise UsageError(
            f"the log {path} may not be read: {error.strerror}", hint="read it as the user who serves"
        ) from error


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
    """What is written behind a position. A file that became shorter was cut: its rest is read beside it first."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    while True:
        is_last = not goes_on()
        try:
            with path.open("rb") as log:
                if os.fstat(log.fileno()).st_size < position:
                    yield from _rest(older(path), position, decoder)
                    position = 0
                log.seek(position)
                while block := log.read(_BLOCK_BYTES):
                    position += len(block)
                    yield decoder.decode(block)
        except FileNotFoundError:
            position = 0
        if is_last:
            return
        time.sleep(_TICK_SECONDS)


def _rest(path: Path, position: int, decoder: codecs.IncrementalDecoder) -> Iterator[str]:
    """What stands in a file behind a position; nothing where it is gone, or another one."""
    with contextlib.suppress(OSError), path.open("rb") as log:
        log.seek(position)
        while block := log.read(_BLOCK_BYTES):
            yield decoder.decode(block)
