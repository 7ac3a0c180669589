"""How a speed estimate looks: a range and its basis, or unknown and why."""

from __future__ import annotations

from datetime import timedelta

from rich.console import Console
from rich.markup import escape

from v4deploy.cli.views.common import print_hanging, table
from v4deploy.domain.speed import SpeedEstimate, SpeedFigure
from v4deploy.domain.units import format_gb

_LEAST_WITHOUT_DECIMAL = 10
"""Below this a figure has one decimal: 1.4 and 1.9 tokens a second are not the same."""


def print_speed(console: Console, speed: SpeedEstimate, concurrency: int) -> None:
    """One line a figure."""
    console.print("[bold]speed[/bold]")
    lines = table("", "", "")
    lines.show_header = False
    lines.add_row("  decoding", *_cells(speed.single_tokens_per_second))
    if concurrency > 1:
        lines.add_row(f"  each of {concurrency:,}", *_cells(speed.each_tokens_per_second))
        lines.add_row(f"  all {concurrency:,}", *_cells(speed.all_tokens_per_second))
    lines.add_row("  prefill", *_cells(speed.prefill_tokens_per_second))
    if speed.token_read_bytes is not None:
        lines.add_row("  one token", format_gb(speed.token_read_bytes), "[dim]of weights are read for it[/dim]")
    lines.add_row("  start", *_cells(speed.load_seconds, is_time=True))
    lines.add_row("  download", *_cells(speed.download_seconds, is_time=True))
    console.print(lines)
    for note in speed.notes:
        print_hanging(console, escape(note), first="  ", style="dim")


def _cells(figure: SpeedFigure, *, is_time: bool = False) -> tuple[str, str]:
    if figure.low is None or figure.high is None:
        bound = "" if figure.at_most is None else f"; its memory allows at most {_number(figure.at_most)} tokens/s"
        return "unknown", f"[dim]{escape(figure.reason or '')}{bound}[/dim]"
    low, high = (_time(figure.low), _time(figure.high)) if is_time else (_number(figure.low), _number(figure.high))
    text = low if low == high else f"{low} to {high}"
    return text if is_time else f"{text} tokens/s", f"[dim]{figure.basis}: {escape(figure.source or '')}[/dim]"


def _number(value: float) -> str:
    return f"{value:,.1f}" if value < _LEAST_WITHOUT_DECIMAL else f"{value:,.0f}"


def _time(seconds: float) -> str:
    return str(timedelta(seconds=max(1, round(seconds))))
