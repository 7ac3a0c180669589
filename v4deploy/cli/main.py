"""The program's entry: runs the Typer app, and turns every ending into one exit code."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from v4deploy.domain.errors import ExitCode, InterruptedRunError, UsageError, V4DeployError
from v4deploy.serve.signals import ignored, raised_as_interrupt

if TYPE_CHECKING:
    from typer import Typer


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; the exit code is returned for tests and given to the shell by the script."""
    # Modules and the catalogue are many objects that all stay: looking for garbage among them every 700 of them takes a
    # tenth of a short command.
    gc.set_threshold(50_000, 20, 20)
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        with raised_as_interrupt():
            return _ended(arguments)
    except KeyboardInterrupt:
        with ignored():
            return _fail(arguments, InterruptedRunError("interrupted"))
    finally:
        _drop_unheard_talk()


def _drop_unheard_talk() -> None:
    """What stderr could not take stays in its buffer, and the interpreter would end with 120 for it."""
    talk: TextIO | None = sys.stderr  # None where it was closed before the start (`2>&-`)
    if talk is None or talk.closed:
        return
    try:
        talk.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), talk.fileno())


def _ended(arguments: list[str]) -> int:
    try:
        return _run(arguments)
    except V4DeployError as error:
        return _fail(arguments, error)
    except BrokenPipeError:
        # The reader went away (`| head`): point stdout elsewhere, or the interpreter complains while it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except Exception as error:  # noqa: BLE001  the last line of defence: a report instead of a bare traceback
        from v4deploy.cli.report import unexpected

        return _fail(arguments, unexpected(error, arguments))


def _run(arguments: list[str]) -> int:
    import typer

    from v4deploy.cli.app import app

    try:
        outcome = app(args=arguments, prog_name="v4deploy", standalone_mode=False)
    except typer.TyperException as error:
        if not arguments:
            sys.stderr.write(f"{error}\n")
            return ExitCode.USAGE
        words = [word for word in arguments if not word.startswith("-")]
        command = f" {words[0]}" if words and "No such command" not in str(error) else ""
        shown = error.format_message() if hasattr(error, "format_message") else str(error)
        raise UsageError(shown, hint=f"see `v4deploy{command} --help`") from error
    if outcome == ExitCode.INTERRUPTED and not isinstance(outcome, ExitCode):
        # Typer makes a plain 130 of Ctrl-C; a command that was interrupted with something to say gives an ExitCode.
        raise KeyboardInterrupt
    return int(outcome or 0)


def _fail(arguments: list[str], error: V4DeployError) -> int:
    from v4deploy.cli.app import app
    from v4deploy.cli.output import Mode, Output

    mode = Mode.JSON if "--json" in arguments else Mode.HUMAN
    return Output(mode).fail(error, kind=_kind(arguments, app))


def _kind(arguments: list[str], app: Typer) -> str:
    """The schema's middle word for a failure: the command's name, with its group's in front."""
    words = [word for word in arguments if not word.startswith("-")]
    known = {command.callback.__name__ for command in app.registered_commands if command.callback}
    for group in app.registered_groups:
        if (inner := group.typer_instance) is not None:
            callbacks = (command.callback for command in inner.registered_commands)
            known |= {f"{inner.info.name}-{callback.__name__}" for callback in callbacks if callback}
    return next((kind for kind in ("-".join(words[:2]), *words[:1]) if kind in known), "error")


if __name__ == "__main__":
    sys.exit(main())
