"""The one place that prints. stdout is data, stderr is talk; `--json` prints one document, `--quiet` no talk."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from enum import StrEnum
from typing import Any, TextIO, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.theme import Theme

from v4deploy.commands.result import Result, Step, StepState, Transfer
from v4deploy.documents import to_data
from v4deploy.domain.errors import ExitCode, V4DeployError
from v4deploy.domain.units import format_gb

T = TypeVar("T")
SCHEMA_VERSION = 1
_THEME = Theme({"ok": "green", "info": "cyan", "warn": "yellow", "fail": "bold red", "skip": "dim", "hint": "cyan"})


class Mode(StrEnum):
    HUMAN = "human"
    JSON = "json"
    QUIET = "quiet"


class Output:
    """A command's voice in one of the three modes."""

    def __init__(self, mode: Mode, *, stdout: TextIO | None = None, stderr: TextIO | None = None) -> None:
        self.mode = mode
        self._stdout = stdout or sys.stdout
        self.data = Console(file=self._stdout, theme=_THEME, highlight=False, soft_wrap=False, width=_width(stdout))
        self.talk = Console(
            file=stderr or sys.stderr, theme=_THEME, highlight=False, soft_wrap=True, quiet=mode is Mode.QUIET
        )
        self._progress_percent = -1

    def finish(self, result: Result[T], view: Callable[[Console, T], None]) -> ExitCode:
        """Print a result in this mode and give its exit code."""
        if self.mode is Mode.JSON:
            self._write_json(_envelope(result.kind, to_data(result.data), result.findings, result.error))
        else:
            view(self.data, result.data)
            if result.error is not None:
                self._print_error(result.error)
        return result.exit_code

    def fail(self, error: V4DeployError, kind: str = "error") -> ExitCode:
        """Print a failure that left no data."""
        if self.mode is Mode.JSON:
            self._write_json(_envelope(kind, None, (), error))
        else:
            self._print_error(error)
        return error.exit_code

    def report(self, event: Step | Transfer) -> None:
        """Talk about a long command's progress; silent with `--quiet` and `--json`."""
        if self.mode is not Mode.HUMAN:
            return
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
        if not event.total_bytes:
            return
        percent = event.done_bytes * 100 // event.total_bytes
        step = 5 if self.talk.is_terminal else 25
        if percent // step != self._progress_percent // step or percent < self._progress_percent:
            self._progress_percent = percent
            done = f"{format_gb(event.done_bytes)} of {format_gb(event.total_bytes)}"
            self.talk.print(f"  {percent:3d} %  {done}", style="dim")

    def _print_error(self, error: V4DeployError) -> None:
        console = self.talk if self.mode is not Mode.QUIET else Console(file=self.talk.file, theme=_THEME)
        if error.exit_code is not ExitCode.INTERRUPTED:
            console.print("[fail]error[/fail]: ", end="")
        console.print(error.message, markup=False)
        for line in error.details:
            console.print(f"  {line}", markup=False, style="dim")
        if error.hint:
            console.print("\n[hint]hint[/hint]: ", end="")
            console.print(error.hint, markup=False)

    def _write_json(self, document: dict[str, Any]) -> None:
        self._stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def _envelope(kind: str, data: object, findings: tuple[Any, ...], error: V4DeployError | None) -> dict[str, Any]:
    return {
        "schema": f"v4deploy.{kind}/{SCHEMA_VERSION}",
        "ok": error is None,
        "data": data,
        "findings": [to_data(finding) for finding in findings],
        "error": error
        and {"code": error.code, "message": error.message, "hint": error.hint, "details": list(error.details)},
    }


def _mark(console: Console, symbol: str, plain: str) -> str:
    """A symbol where the stream can carry it: a CI log in ASCII must not crash us."""
    try:
        symbol.encode(console.encoding)
    except (UnicodeEncodeError, LookupError):
        return plain
    return symbol


def _width(stream: TextIO | None) -> int | None:
    """Wide tables in files and pipes: rich would fold them to 80 columns."""
    target = stream or sys.stdout
    return None if target.isatty() else 160
