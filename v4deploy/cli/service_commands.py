"""`v4deploy status`, `logs` and `stop`: their options, and the calls that grant them."""

from __future__ import annotations

import io
import os
import select
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from v4deploy.cli import options
from v4deploy.cli.sink import output_for

if TYPE_CHECKING:
    from v4deploy.serve.managed import ManagedTarget

_Name = Annotated[
    str | None,
    typer.Argument(metavar="[NAME]", help="port, model or address; default: the only serve", show_default=False),
]
_Compose = Annotated[
    Path | None,
    typer.Option(
        "--compose", parser=options.path, metavar="FILE", help="ask Docker Compose about this file", show_default=False
    ),
]
_Unit = Annotated[
    str | None, typer.Option("--unit", metavar="NAME", help="ask systemd about this unit", show_default=False)
]
_User = Annotated[bool, typer.Option("--user", help="the unit is one of your own systemd")]


def status(
    name: _Name = None,
    compose: _Compose = None,
    unit: _Unit = None,
    user: _User = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """What `serve` started on this machine, and how it is. Exit code 7 when the one that was named is not ready.

    With --compose or --unit what another supervisor says; only `v4deploy smoke URL` tells whether that answers.
    """
    from v4deploy.cli.views.services import view_status
    from v4deploy.commands.status import managed_status
    from v4deploy.commands.status import status as run
    from v4deploy.commands.workspace import open_workspace

    target = _managed(name, compose, unit, user)
    workspace, output = open_workspace(os.environ), output_for(json, quiet)
    return output.finish(managed_status(workspace, target) if target else run(workspace, name), view_status)


def logs(
    name: _Name = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on until the serve ends, or Ctrl-C")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="so many of its last lines")] = 40,
    compose: _Compose = None,
    unit: _Unit = None,
    user: _User = False,
) -> int:
    """The engine's own output: the end of it, and with --follow what comes."""
    from v4deploy.commands.logs import logs as run
    from v4deploy.commands.logs import managed_logs
    from v4deploy.commands.workspace import open_workspace

    target = _managed(name, compose, unit, user)
    workspace = open_workspace(os.environ)
    if target is not None:
        return managed_logs(workspace, target, lines=lines, follow=follow)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        for text in run(workspace, name, lines=lines, follow=follow, is_wanted=is_read):
            typer.echo(text, nl=False)
    except BrokenPipeError:
        # Caught here: Typer would end with 1, which means a defect. What is left in the buffer goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def is_read() -> bool:
    """Whether somebody still reads what is written to stdout; yes where that cannot be told."""
    try:
        watch = select.poll()
        watch.register(sys.stdout, 0)
        return not watch.poll(0)
    except (AttributeError, OSError, TypeError, ValueError):
        return True


def stop(
    name: _Name = None,
    drain: Annotated[
        float, typer.Option("--drain", min=0, metavar="SECONDS", help="longest wait for requests being answered")
    ] = 30.0,
    now: Annotated[bool, typer.Option("--now", help="kill the engine at once")] = False,
    compose: _Compose = None,
    unit: _Unit = None,
    user: _User = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """End what `serve` started, once its requests are answered; new ones are answered until then.

    Never ends a process that `serve` did not start: a number that was given away again is told by when it began.
    """
    from v4deploy.cli.views.services import view_stop
    from v4deploy.commands.stop import managed_stop
    from v4deploy.commands.stop import stop as run
    from v4deploy.commands.workspace import open_workspace

    target = _managed(name, compose, unit, user)
    workspace, output = open_workspace(os.environ), output_for(json, quiet)
    if target is not None:
        return output.finish(managed_stop(workspace, target), view_stop)
    done = run(workspace, name, drain_seconds=drain, at_once=now, report=output.report)
    return output.finish(done, view_stop)


def _managed(name: str | None, compose: Path | None, unit: str | None, user: bool) -> ManagedTarget | None:
    from v4deploy.domain.errors import UsageError
    from v4deploy.serve.managed import ManagedTarget, Manager

    if sum(given is not None for given in (name, compose, unit)) > 1:
        raise UsageError("NAME, `--compose` and `--unit` name three different things", hint="give one of them")
    if user and unit is None:
        raise UsageError("`--user` belongs to `--unit`", hint="give `--unit NAME --user`")
    if compose is not None:
        return ManagedTarget(manager=Manager.COMPOSE, name=str(compose))
    if unit is not None and (not unit or unit.startswith("-")):
        raise UsageError(f"`{unit}` is no unit's name", hint="give its name: `--unit v4deploy.service`")
    return None if unit is None else ManagedTarget(manager=Manager.SYSTEMD, name=unit, is_user=user)
