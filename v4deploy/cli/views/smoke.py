"""How a smoke test looks: a line a check, its evidence where it did not pass, and what was measured."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from v4deploy.cli.views.common import print_hanging
from v4deploy.serve.smoke.result import CheckResult, Figures, Outcome, SmokeReport

_STYLES = {
    Outcome.PASS: "ok",
    Outcome.FAIL: "fail",
    Outcome.NOT_SUPPORTED: "warn",
    Outcome.NOT_JUDGED: "skip",
    Outcome.NOT_RUN: "skip",
}
_INDENT = " " * 17


def view_smoke(console: Console, report: SmokeReport) -> None:
    console.print(f"[bold]{escape(report.model)}[/bold]  at {report.base_url}", highlight=False)
    for check in report.checks:
        print_check(console, check)
    _print_figures(console, report.figures)
    if not report.content_judged:
        console.print("random weights: the endpoint was tested, what the model says was not judged", style="dim")


def print_check(console: Console, check: CheckResult) -> None:
    """One check; what was asked and what came back only where somebody has to look into it."""
    style = _STYLES[check.outcome]
    print_hanging(
        console, f"[bold]{check.id}[/bold]  {escape(check.summary)}", first=f"  [{style}]{check.outcome:<13}[/]  "
    )
    if check.outcome in {Outcome.FAIL, Outcome.NOT_SUPPORTED}:
        if check.asked:
            print_hanging(console, escape(check.asked), first=f"{_INDENT}asked: ", style="dim")
        if check.answered:
            print_hanging(console, escape(check.answered), first=f"{_INDENT}came back: ", style="dim")
        if check.fix:
            print_hanging(console, escape(check.fix), first=f"{_INDENT}[hint]fix:[/hint] ")


def _print_figures(console: Console, figures: Figures) -> None:
    if figures.first_token_seconds is not None:
        console.print(f"measured: first token after {figures.first_token_seconds:.2f} s", highlight=False)
    if figures.decode_tokens_per_second is not None:
        rate = f"{figures.decode_tokens_per_second:.1f} tokens/s"
        console.print(f"measured: decoding {rate}, over {figures.decoded_tokens} tokens of one answer", highlight=False)
    if figures.prompt_tokens_per_second is not None:
        rate = f"{figures.prompt_tokens_per_second:.0f} tokens/s"
        console.print(f"measured: reading {rate}, over a prompt of {figures.prompt_tokens}", highlight=False)
    for reason in figures.missing:
        console.print(reason, style="dim", highlight=False)
