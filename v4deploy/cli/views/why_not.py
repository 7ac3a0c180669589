"""How the answer to `plan --why-not` looks."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from v4deploy.cli.views.weighed import print_weighed
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
    if more := print_weighed(console, answer.answers, most=_SHOWN, reasons=None):
        console.print(f"  and {more} more, with `--json`", style="dim")
    if answer.fix and not answer.is_chosen:
        console.print(f"\nto plan it all the same: `{escape(answer.fix)}`")
