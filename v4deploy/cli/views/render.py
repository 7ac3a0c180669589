"""How render looks: what was written, what would change, and whether files and lock agree."""

from __future__ import annotations

import shlex

from rich.console import Console
from rich.markup import escape

from v4deploy.cli.views.common import print_finding
from v4deploy.commands.render import RenderReport
from v4deploy.commands.render_check import CheckReport
from v4deploy.commands.render_undo import UndoReport
from v4deploy.domain.counting import counted
from v4deploy.render.write import Outcome


def view_render(console: Console, report: RenderReport) -> None:
    for file in report.files:
        if file.text is not None:
            console.print(f"[bold]# {escape(file.path)}[/bold]")
            console.print(file.text, markup=False, soft_wrap=True, end="")
            continue
        console.print(f"  {file.outcome:<9}  {escape(report.directory)}/{escape(file.path)}")
        if file.outcome is Outcome.KEPT:
            console.print("  you edited the file that is there; the new one stands beside it", style="dim")
            console.print(file.diff, markup=False, soft_wrap=True, style="dim")
    for finding in report.findings:
        print_finding(console, finding)
    if any(file.text is None for file in report.files):
        console.print(
            "each file's header says how to apply, check and undo it; this render is taken back by "
            f"`v4deploy render --undo --output {escape(shlex.quote(report.directory))}`",
            style="dim",
        )


def view_diff(console: Console, report: RenderReport) -> None:
    changed = [file for file in report.files if file.outcome is not Outcome.UNCHANGED]
    for file in changed:
        if file.outcome is Outcome.KEPT:
            console.print(f"edited, so the new one would be written as {escape(file.path)}:", style="dim")
        console.print(file.diff, markup=False, soft_wrap=True, end="")
    if not changed:
        console.print(f"nothing would change in {escape(report.directory)}")
    for finding in report.findings:
        print_finding(console, finding)


def view_check(console: Console, report: CheckReport) -> None:
    for one in report.lock.sets:
        console.print(f"[bold]{one.engine}[/bold] {one.target}: {counted(len(one.files), 'file')}", highlight=False)
        if one.pins is not None:
            pins = one.pins
            engine = pins.image or f"{one.engine} {pins.engine_version}"
            commit = pins.revision or "no commit pinned"
            hashed = sum(weight.sha256 is not None for weight in pins.weights)
            console.print(f"  {escape(pins.repo)} @ {commit}, {hashed} of its files by hash")
            console.print(f"  {escape(engine)}, written by v4deploy {pins.tool_version}")
    for finding in report.findings:
        print_finding(console, finding)
    if not report.mismatches:
        what = "files, lock and plan agree" if report.with_plan else "files and lock agree"
        console.print(f"{counted(report.checked_files, 'file')} checked: {what}")


def view_undo(console: Console, report: UndoReport) -> None:
    would = "" if report.is_done else "would be "
    for file in report.files:
        console.print(f"  {would}{file.outcome:<9}  {escape(report.directory)}/{escape(file.path)}")
