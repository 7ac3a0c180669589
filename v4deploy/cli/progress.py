"""One display for a transfer: bars on a terminal, lines without one, JSON lines for programs. All of it on stderr."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from v4deploy.cli.bars import Rows, file_name, row_of
from v4deploy.cli.meter import Meter
from v4deploy.cli.options import ProgressMode
from v4deploy.cli.output import Mode, Output
from v4deploy.commands.result import Report, Step, Transfer

SCHEMA = "v4deploy.progress/1"
_REFRESHES_PER_SECOND = 4
_MOST_ROWS = 8
_LINE_SECONDS = 1.0


@contextmanager
def shown(output: Output, mode: ProgressMode, *, clock: Callable[[], float] = time.monotonic) -> Iterator[Report]:
    """What a command reports to while it transfers; the display is gone when the block ends, however it ends."""
    if mode is ProgressMode.AUTO:
        can_redraw = output.talk.is_terminal and not output.talk.is_dumb_terminal
        mode = ProgressMode.BAR if output.mode is Mode.HUMAN and can_redraw else ProgressMode.PLAIN
    match mode:
        case ProgressMode.PLAIN | ProgressMode.AUTO:
            yield output.report
        case ProgressMode.NONE:
            yield lambda event: None if isinstance(event, Transfer) else output.report(event)
        case ProgressMode.JSON:
            yield JsonLines(output.talk, clock).report
        case ProgressMode.BAR:
            bars = Bars(output, clock)
            with Live(
                get_renderable=bars.render,
                console=output.talk,
                refresh_per_second=_REFRESHES_PER_SECOND,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            ):
                yield bars.report


class Bars:
    """A row for each file under way, and one for all; drawn by a thread of its own, so that events cost nothing."""

    def __init__(self, output: Output, clock: Callable[[], float]) -> None:
        self._output = output
        self._clock = clock
        self._meter = Meter()
        self._lock = threading.Lock()

    def report(self, event: Step | Transfer) -> None:
        """Take an event; steps are printed above the bars."""
        if isinstance(event, Step):
            self._output.report(event)
            return
        with self._lock:
            self._meter.note(event, self._clock())

    def render(self) -> RenderableType:
        """The rows as they stand."""
        with self._lock:
            now = self._clock()
            overall, files = self._meter.overall(now), self._meter.under_way(now)
            finished, known = self._meter.counts()
        if overall is None:
            return Text()
        more = len(files) - _MOST_ROWS
        count = f"{finished} of {known} files" + (f", {more} more under way" if more > 0 else "")
        rows = (row_of(file_name(reading.path), reading) for reading in files[:_MOST_ROWS])
        return Rows((*rows, row_of(count, overall)))


class JsonLines:
    """Events for programs: every step, every file that is finished, and about one line a second in between."""

    def __init__(self, console: Console, clock: Callable[[], float]) -> None:
        self._file = console.file
        self._clock = clock
        self._meter = Meter()
        self._lock = threading.Lock()
        self._told_at = float("-inf")

    def report(self, event: Step | Transfer) -> None:
        """Write an event, if it is time for one."""
        with self._lock:
            if isinstance(event, Step):
                self._write({"event": "step", "name": event.name, "state": event.state, "message": event.message})
                return
            now = self._clock()
            self._meter.note(event, now)
            if event.is_file_finished or now - self._told_at >= _LINE_SECONDS:
                self._told_at = now
                self._write(self._transfer(event, now))

    def _transfer(self, event: Transfer, now: float) -> dict[str, object]:
        overall, file = self._meter.overall(now), self._meter.file(event.path, now)
        assert overall is not None, "an event has just been noted"
        return {
            "event": "transfer",
            "done_bytes": overall.done_bytes,
            "total_bytes": overall.total_bytes,
            "bytes_per_second": _rounded(overall.bytes_per_second),
            "seconds_left": _rounded(overall.seconds_left),
            "file": file
            and {
                "path": file.path,
                "done_bytes": file.done_bytes,
                "size_bytes": file.total_bytes,
                "checked_bytes": file.checked_bytes,
                "bytes_per_second": _rounded(file.bytes_per_second),
                "seconds_left": _rounded(file.seconds_left),
                "finished": event.is_file_finished,
            },
        }

    def _write(self, event: dict[str, object]) -> None:
        # As for all talk: what finds no taker ends no transfer.
        with contextlib.suppress(OSError):
            self._file.write(json.dumps({"schema": SCHEMA, **event}, ensure_ascii=True) + "\n")
            self._file.flush()


def _rounded(value: float | None) -> int | None:
    return None if value is None else round(value)
