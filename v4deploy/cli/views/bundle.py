"""How `bundle create` and `bundle install` look."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from v4deploy.cli.views.common import print_finding
from v4deploy.cli.views.render import view_render
from v4deploy.commands.bundle import BundleReport, InstallReport
from v4deploy.domain.counting import counted
from v4deploy.domain.units import format_gb


def view_created(console: Console, report: BundleReport) -> None:
    console.print(f"[bold]{escape(report.checkpoint)}[/bold]  {escape(report.repo)} @ {report.revision}")
    count = len(report.parts)
    parts = f"{count} part{'s' if count > 1 else ''} of at most {format_gb(report.part_size_bytes)}"
    names = report.parts[0] if count == 1 else f"{report.parts[0]} to {report.parts[-1]}"
    console.print(f"{parts}, {format_gb(report.stream_bytes)}: {escape(names)}")
    if not report.is_written:
        console.print(f"to write to {escape(report.directory)}: {format_gb(report.to_write_bytes)}")
        return
    wheels = sum(1 for path in report.files if path.endswith(".whl"))
    console.print(f"beside them: {wheels} wheels, {len(report.files) - wheels} launch files and plan")
    for finding in report.findings:
        print_finding(console, finding)
    console.print(
        f"{format_gb(report.to_write_bytes)} written to {escape(report.directory)}; its README.txt says how on"
    )


def view_installed(console: Console, report: InstallReport) -> None:
    done = report.installed
    console.print(f"[bold]{escape(done.repo)}[/bold] @ {done.revision}")
    console.print(
        f"{counted(len(done.files), 'file')}, {format_gb(done.total_bytes)} ({format_gb(done.installed_bytes)} out of "
        f"the bundle, each file's hash right), in {escape(done.directory)}"
    )
    if report.rendered is None:
        console.print("no launch files were written", style="dim")
        return
    view_render(console, report.rendered)
    console.print(f"the plan: {escape(report.rendered.directory)}/plan.json, for `v4deploy serve --plan`", style="dim")
