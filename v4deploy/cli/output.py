"""The one place that prints. stdout is data, stderr is talk; `--json` prints one document, `--quiet` no talk."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import sys
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, NoReturn, TextIO, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.theme import Theme

from v4deploy.cli.pace import Pace
from v4deploy.commands.result import Result, Step, StepState, Transfer
from v4deploy.documents import to_data
from v4deploy.domain.errors import ExitCode, UsageError, V4DeployError

T = TypeVar("T")
SCHEMA_VERSION = 1
THEME = Theme({"ok": "green", "info": "cyan", "warn": "yellow", "fail": "bold red", "skip": "dim", "hint": "cyan"})


class Mode(StrEnum):
    HUMAN = "human"
    JSON = "json"
    QUIET = "quiet"


class _Console(Console):
    def on_broken_pipe(self) -> NoReturn:
        """Rich would end the process with 1, which means a defect; here a reader that went away is nobody's fault."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


class Output:
    """A command's voice in one of the three modes."""

    def __init__(self, mode: Mode, *, stdout: TextIO | None = None, stderr: TextIO | None = None) -> None:
        self.mode = mode
        self._stdout = _usable(stdout or sys.stdout)
        talk = _usable(stderr or sys.stderr)
        width = _width(self._stdout)
        self.data = _Console(file=self._stdout, theme=THEME, highlight=False, soft_wrap=False, width=width)
        self.talk = _talk(talk, quiet=mode is Mode.QUIET)
        self._pace = Pace(step_percent=5, pause_seconds=10) if self.talk.is_terminal else Pace()

    def finish(self, result: Result[T], view: Callable[[Console, T], None]) -> ExitCode:
        """Print a result in this mode and give its exit code.

        Raises:
            UsageError: stdout cannot take it (a full disk behind `> FILE`).
        """

        def write() -> None:
            if self.mode is Mode.JSON:
                self._write_json(_envelope(result.kind, to_data(result.data), result.findings, result.error))
            else:
                view(self.data, result.data)
                if result.error is not None:
                    self._print_error(result.error)

        self._guarded(write)
        return result.exit_code

    def fail(self, error: V4DeployError, kind: str = "error") -> ExitCode:
        """Print a failure that left no data."""

        def write() -> None:
            if self.mode is Mode.JSON:
                self._write_json(_envelope(kind, None, (), error))
            else:
                self._print_error(error)

        self._guarded(write)
        return error.exit_code

    def report(self, event: Step | Transfer) -> None:
        """Talk about a long command's progress; silent with `--quiet` and `--json`.

        Talk that finds no taker (a full disk, a reader that went away) is no reason to leave work half done.
        """
        if self.mode is Mode.HUMAN:
            with contextlib.suppress(OSError):
                self._tell(event)

    def _tell(self, event: Step | Transfer) -> None:
        match event:
            case Step(state=StepState.STARTED):
                self.talk.print(f"[bold]{event.name}[/bold]  {escape(event.message)}")
            case Step(state=StepState.DONE):
                self.talk.print(f"[ok]{_mark(self.talk, '✓', 'ok')}[/ok] {event.name}  {escape(event.message)}")
            case Step():
                self.talk.print(f"  {event.message}", style="dim", markup=False)
            case Transfer():
                self._report_transfer(event)

    def _report_transfer(self, event: Transfer) -> None:
        if event.total_bytes and (words := self._pace.words(event.done_bytes, event.total_bytes, time.monotonic())):
            self.talk.print(f"  {words}", style="dim")

    def _guarded(self, write: Callable[[], None]) -> None:
        try:
            write()
            self._stdout.flush()
        except BrokenPipeError:
            _discard(self._stdout)
        except OSError as error:
            _discard(self._stdout)
            unwritten = UsageError(f"the output cannot be written: {error.strerror}", hint="write it elsewhere")
            if self.mode is Mode.JSON:
                # The document has nowhere to go, so this once the talk has to say it.
                self._print_error(unwritten)
            raise unwritten from error

    def _print_error(self, error: V4DeployError) -> None:
        """Say it on stderr. Where that takes nothing, the exit code has to tell."""
        with contextlib.suppress(OSError):
            self._say_error(error)

    def _say_error(self, error: V4DeployError) -> None:
        console = self.talk if self.mode is not Mode.QUIET else _talk(self.talk.file, quiet=False)
        if error.exit_code is not ExitCode.INTERRUPTED:
            console.print("[fail]error[/fail]: ", end="")
        console.print(error.message, markup=False)
        for line in error.details:
            console.print(f"  {line}", markup=False, style="dim")
        if error.hint:
            console.print("\n[hint]hint[/hint]: ", end="")
            console.print(error.hint, markup=False)

    def _write_json(self, document: dict[str, Any]) -> None:
        # ASCII, because the stream's encoding may carry nothing else and JSON loses nothing by it.
        self._stdout.write(json.dumps(document, indent=2, ensure_ascii=True) + "\n")


def _envelope(kind: str, data: object, findings: tuple[Any, ...], error: V4DeployError | None) -> dict[str, Any]:
    return {
        "schema": f"v4deploy.{kind}/{SCHEMA_VERSION}",
        "ok": error is None,
        "data": data,
        "findings": [to_data(finding) for finding in findings],
        "error": error
        and {"code": error.code, "message": error.message, "hint": error.hint, "details": list(error.details)},
    }


def _talk(stream: IO[str], *, quiet: bool) -> _Console:
    """Lines are left as they are: a command in a hint that was folded could not be pasted."""
    return _Console(file=stream, theme=THEME, highlight=False, soft_wrap=True, quiet=quiet)


def _mark(console: Console, symbol: str, plain: str) -> str:
    """A symbol where the stream can carry it: a CI log in ASCII must not crash us."""
    try:
        symbol.encode(console.encoding)
    except (UnicodeEncodeError, LookupError):
        return plain
    return symbol


def _width(stream: TextIO) -> int | None:
    """Wide tables in files and pipes: rich would fold them to 80 columns."""
    return None if stream.isatty() else 160


def _usable(stream: TextIO | None) -> TextIO:
    """The stream, made to replace what its encoding cannot carry; a closed one (`>&-`) swallows everything."""
    if stream is None:
        return Path(os.devnull).open("w", encoding="utf-8")
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")
    return stream


def _discard(stream: TextIO) -> None:
    """Send what is left in the stream's buffer nowhere, or the interpreter complains about it while it exits."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
