"""How candidates that are not the plan look: one line for each fate."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from v4deploy.cli.views.common import table
from v4deploy.domain.plan import Rejected
from v4deploy.domain.units import format_gib


def print_weighed(console: Console, weighed: Sequence[Rejected], *, most: int | None, reasons: int | None) -> int:
    """Print at most so many lines with so many reasons each (None: all), and give how many lines are left over.

    Several publishers offer the same quant; one line for each fate of it will do. What is missing has a column only
    where something is.
    """
    fates = list({(item.quant, item.engine, item.layout, item.reasons): item for item in weighed}.values())
    shown = fates[:most]
    lacking = any(item.missing_bytes for item in shown)
    heads = ("  quant", "engine", *(("missing",) if lacking else ()), "layout", "why not")
    rows = table(*heads, right=(2,) if lacking else (), folding=(len(heads) - 2,))
    for item in shown:
        missing = (format_gib(item.missing_bytes) if item.missing_bytes else "",) if lacking else ()
        why = escape("; ".join(item.reasons[:reasons]))
        rows.add_row(f"  {escape(item.quant)}", item.engine, *missing, item.layout, why)
    console.print(rows)
    return len(fates) - len(shown)
