"""How pull, serve, up and demo look: what was done, and where it is."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape

from v4deploy.cli.views.common import print_finding, table
from v4deploy.commands.demo import DemoReport
from v4deploy.commands.pull import PullReport
from v4deploy.commands.serve import ServeReport
from v4deploy.commands.up import UpReport
from v4deploy.domain.counting import counted
from v4deploy.domain.units import format_gb
from v4deploy.pull.adopt.adopt import Adopted
from v4deploy.pull.adopt.places import Origin
from v4deploy.pull.adopt.take import Method


def view_pull(console: Console, report: PullReport) -> None:
    preview, done = report.preview, report.done
    if report.alias:
        console.print(f"`{report.alias.name}` means {report.alias.quant}: {escape(report.alias.reason)}")
    revision = (done.revision if done else preview.revision) or "the hub's newest commit"
    console.print(f"[bold]{escape(preview.repo)}[/bold]  {escape(preview.quant)}  @ {revision}")
    if report.others:
        console.print(f"also offered by {escape(', '.join(report.others))}; `--repo` chooses one", style="dim")
    if done is None:
        _print_preview(console, report)
        return
    for file in done.files:
        console.print(f"  {escape(file.path)}  {format_gb(file.size_bytes)}", highlight=False)
    _print_adopted(console, done.adopted)
    for finding in done.findings:
        print_finding(console, finding)
    came = f"{format_gb(done.fetched_bytes)} fetched, {format_gb(done.kept_bytes)} were on this machine"
    console.print(
        f"{counted(len(done.files), 'file')}, {format_gb(done.total_bytes)} ({came}), in {escape(done.directory)}"
    )


_METHODS = {
    Method.REFLINK: "cloned",
    Method.HARD_LINK: "linked",
    Method.COPY: "copied",
    Method.MOVE: "unfinished, moved",
    Method.BEGINNING: "unfinished, copied",
}
_ORIGINS = {
    Origin.EARLIER_PULL: "an earlier pull",
    Origin.HUB_CACHE: "the hub's cache",
    Origin.GIVEN: "a directory that was named",
}


def _print_adopted(console: Console, adopted: tuple[Adopted, ...]) -> None:
    """One line a place: what was taken from where; `--json` has every file."""
    groups: dict[tuple[str, Origin, Method], list[Adopted]] = {}
    for file in adopted:
        groups.setdefault((str(Path(file.source).parent), file.origin, file.method), []).append(file)
    for (folder, origin, method), files in groups.items():
        size = format_gb(sum(file.size_bytes for file in files))
        console.print(
            f"  adopted {counted(len(files), 'file')}, {size}, {_METHODS[method]} from {_ORIGINS[origin]}: "
            f"{escape(folder)}",
            style="dim",
        )


def _print_preview(console: Console, report: PullReport) -> None:
    preview = report.preview
    for file in preview.files:
        console.print(f"  {escape(file.path)}  {format_gb(file.size_bytes)}", highlight=False)
    rows = table("", "", right=(1,))
    rows.show_header = False
    rows.add_row("in all", format_gb(preview.total_bytes))
    rows.add_row("there already", format_gb(preview.kept_bytes))
    if preview.adoptable is not None:
        rows.add_row("elsewhere on this machine", format_gb(preview.adoptable.size_bytes))
    rows.add_row("free on the target", format_gb(preview.free_bytes))
    if preview.missing_bytes:
        rows.add_row("[fail]too little by[/fail]", format_gb(preview.missing_bytes))
    console.print(rows)
    console.print(f"target: {escape(preview.directory)}")


def view_serve(console: Console, report: ServeReport) -> None:
    seconds = f"{report.elapsed_seconds:.0f} s"
    if report.first_answer is None:
        console.print(f"{escape(report.model)} never answered; it was stopped after {seconds}")
    else:
        console.print(f"{escape(report.model)} was served at {report.base_url} for {seconds}")
    console.print(f"log: {escape(report.log)}", style="dim")


def view_up(console: Console, report: UpReport) -> None:
    if report.answer is None:
        console.print(f"{escape(report.model)} never answered; it was stopped before")
        return
    console.print(f"{escape(report.model)} was served at {report.base_url}")
    console.print(f"first answer: {escape(report.answer.strip())}", style="dim")


def view_demo(console: Console, report: DemoReport) -> None:
    tokens = report.answer.completion_tokens
    console.print(f"\n[bold]The model answered[/bold] with {tokens} tokens of noise, as its weights are random:")
    console.print(f"  {report.answer.text!r}", markup=False)
    console.print(
        "\nThe same path with real weights: `v4deploy plan v4-flash`, then `v4deploy up v4-flash`", style="dim"
    )
    if report.kept_in:
        console.print(f"kept in {escape(report.kept_in)}")
