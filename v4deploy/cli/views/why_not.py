"""How the answer to `plan --why-not` looks."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from v4deploy.cli.views.common import table
from v4deploy.domain.units import format_gib
from v4deploy.planning.why_not import WhyNot

_SHOWN = 12


def view_why_not(console: Console, answer: WhyNot) -> None:
    taken = "" if answer.meant == answer.asked else f", which means {answer.meant}"
    console.print(f"[bold]{escape(answer.asked)}[/bold] ({answer.subject}{escape(taken)})")
    if answer.is_chosen:
        console.print(f"is what the plan chose: {escape(answer.chosen or '')}")
    elif answer.chosen is not None:
        console.print(f"the plan chose {escape(answer.chosen)}", style="dim")
    else:
        console.print("nothing at all fits this machine", style="dim")
    console.print()
    rows = table("  quant", "engine", "layout", "missing", "why", right=(3,))
    fates = list({(item.quant, item.engine, item.layout, item.reasons): item for item in answer.answers}.values())
    for item in fates[:_SHOWN]:
        missing = format_gib(item.missing_bytes) if item.missing_bytes else ""
        rows.add_row(f"  {escape(item.quant)}", item.engine, item.layout, missing, escape("; ".join(item.reasons)))
    console.print(rows)
    if len(fates) > _SHOWN:
        console.print(f"  and {len(fates) - _SHOWN} more, with `--json`", style="dim")
    if answer.fix and not answer.is_chosen:
        console.print(f"\nto plan it all the same: `{escape(answer.fix)}`")
