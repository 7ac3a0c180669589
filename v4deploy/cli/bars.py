"""The bars of a transfer: a row a file and one for all, fitted to the terminal so that no number is cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import PurePosixPath

from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from v4deploy.cli.meter import Reading
from v4deploy.domain.units import format_gb

_MOST_NAME_COLUMNS = 44
# The end of a shard's name, with its number; where even percentages leave less, there is no bar, and a shorter name.
_LEAST_NAME_COLUMNS = 20
_BAR_COLUMNS = 24
# A shorter bar tells less than the name that it takes the room of.
_LEAST_BAR_COLUMNS = 8
_GAP_COLUMNS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What a line says; `share` stands for `size` where there is no room for that."""

    name: str
    reading: Reading
    size: str
    share: str
    rate: str
    left: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """How wide names and bars are, 0 for no bar; `is_short` says percentages for sizes."""

    name: int
    bar: int
    is_short: bool


@dataclass(frozen=True, slots=True)
class Rows:
    """All rows, drawn as wide as the terminal is at that moment."""

    rows: tuple[Row, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns = fitted(self.rows, options.max_width)
        grid = Table.grid(padding=(0, _GAP_COLUMNS, 0, 0))
        for justify in ("left", *(("left",) if columns.bar else ()), "right", "right", "right"):
            grid.add_column(justify=justify, no_wrap=True)
        for row in self.rows:
            reading = row.reading
            bar = ProgressBar(total=reading.total_bytes or None, completed=reading.done_bytes, width=columns.bar)
            words = (row.share if columns.is_short else row.size, row.rate, row.left)
            name = Text(_cropped(row, columns.name))
            grid.add_row(name, *((bar,) if columns.bar else ()), *map(Text, words))
        yield grid


def row_of(name: str, reading: Reading) -> Row:
    """The words for a reading."""
    total = reading.total_bytes
    if reading.checked_bytes is not None and total:
        checked = f"checking {reading.checked_bytes * 100 // total} %"
        return Row(name=name, reading=reading, size=format_gb(total), share="", rate="", left=checked)
    return Row(
        name=name,
        reading=reading,
        size=format_gb(reading.done_bytes) + (f" of {format_gb(total)}" if total else ""),
        share=f"{reading.done_bytes * 100 // total} %" if total else format_gb(reading.done_bytes),
        rate=_rate_words(reading),
        left=_left_words(reading),
    )


def file_name(path: str) -> str:
    """What a file is called in its row."""
    return PurePosixPath(path).name


def fitted(rows: Sequence[Row], width: int) -> Columns:
    """Numbers first, then the end of the name, then the bar."""
    numbers = _numbers_columns(rows, is_short=False)
    is_short = width - numbers < _LEAST_NAME_COLUMNS
    room = width - (_numbers_columns(rows, is_short=True) if is_short else numbers)
    name = min(_MOST_NAME_COLUMNS, max((len(row.name) for row in rows), default=0))
    bar = min(_BAR_COLUMNS, max(_LEAST_BAR_COLUMNS, room - name - _GAP_COLUMNS))
    if room - bar - _GAP_COLUMNS < _LEAST_NAME_COLUMNS:
        bar = 0
    left = room - bar - (_GAP_COLUMNS if bar else 0)
    return Columns(name=max(1, min(name, left)), bar=bar, is_short=is_short)


def _numbers_columns(rows: Sequence[Row], *, is_short: bool) -> int:
    """What sizes, rates and times take, with a gap before each."""
    sizes = (row.share if is_short else row.size for row in rows)
    columns = (sizes, (row.rate for row in rows), (row.left for row in rows))
    return sum(max(map(len, words), default=0) + _GAP_COLUMNS for words in columns)


def _cropped(row: Row, columns: int) -> str:
    """Of a long file name the end, where the number of the shard is; of the words for all files the beginning."""
    name, cut = row.name, len(row.name) - columns + 1
    if len(name) <= columns:
        return name
    return f"…{name[cut:]}" if row.reading.path else f"{name[:-cut]}…"


def _rate_words(reading: Reading) -> str:
    """`812.0 MB/s`; empty until it is known."""
    return "" if reading.bytes_per_second is None else f"{format_gb(round(reading.bytes_per_second))}/s"


def _left_words(reading: Reading) -> str:
    """`0:12:40 left`; empty until it is known."""
    return "" if reading.seconds_left is None else f"{timedelta(seconds=round(reading.seconds_left))} left"
