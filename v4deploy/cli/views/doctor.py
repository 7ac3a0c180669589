"""How `doctor` looks: the machine, then findings by group, then one line of verdict."""

from __future__ import annotations

from itertools import groupby

from rich.console import Console
from rich.markup import escape

from v4deploy.cli.views.common import describe_pool, print_finding, table
from v4deploy.commands.doctor import CheckList, DoctorReport
from v4deploy.domain.counting import counted
from v4deploy.domain.finding import Severity, group_of
from v4deploy.domain.hardware import Host, OperatingSystem
from v4deploy.domain.units import format_gb, format_gib


def view_doctor(console: Console, report: DoctorReport) -> None:
    _print_host(console, report.host)
    for group, findings in groupby(report.findings, key=lambda finding: group_of(finding.id)):
        console.print(f"\n[bold]{group}[/bold]")
        for finding in findings:
            print_finding(console, finding)
    console.print(f"\n{count_words(report)}")
    if report.recorded_in:
        console.print(f"recorded in {escape(report.recorded_in)}")


def view_checks(console: Console, listed: CheckList) -> None:
    """`--list`: what `--only` and `--skip` can name."""
    for group, lines in groupby(listed.checks, key=lambda line: line.group):
        console.print(f"[bold]{group}[/bold]")
        rows = table("  id", "needs", "what")
        rows.show_header = False
        for line in lines:
            others = [id_ for id_ in line.findings if id_ != line.id]
            gives = f" [dim](gives {', '.join(others)})[/dim]" if others else ""
            rows.add_row(f"  {line.id}", line.needs, f"{escape(line.title)}{gives}")
        console.print(rows)
        console.print()


def count_words(report: DoctorReport) -> str:
    """`5 ok, 2 notes, 1 warning, 0 failed`."""
    count = {severity: sum(f.severity is severity for f in report.findings) for severity in Severity}
    notes, warnings = count[Severity.INFO], count[Severity.WARN]
    text = (
        f"{count[Severity.OK]} ok, {counted(notes, 'note')}, "
        f"{counted(warnings, 'warning')}, {count[Severity.FAIL]} failed"
    )
    return f"{text}, {count[Severity.SKIP]} not checked" if count[Severity.SKIP] else text


def _print_host(console: Console, host: Host) -> None:
    cpu = host.cpu
    kinds = ", ".join(f"{kind.physical_cores} {kind.name}" for kind in cpu.core_kinds)
    cores = f"{cpu.usable_cores or '?'} usable of {cpu.physical_cores or '?'} physical cores"
    cores += f" ({escape(kinds)})" if kinds else ""
    system = (
        f"macOS {host.os_version or ''}".rstrip() if host.os is OperatingSystem.MACOS else host.os_version or host.os
    )
    console.print(f"[bold]{escape(system)}[/bold], kernel {escape(host.kernel or 'unknown')}")
    console.print(f"{escape(cpu.model or 'unknown processor')} ({cpu.architecture}), {cores}")
    if host.container or host.kubernetes:
        console.print(f"inside {host.container or 'a container'}{', Kubernetes' if host.kubernetes else ''}")
    console.print()
    pools = table("memory", "kind", "total", "may use", "free", "source", right=(2, 3, 4))
    for pool in host.pools:
        pools.add_row(
            escape(describe_pool(host, pool)),
            pool.kind,
            format_gib(pool.total.size_bytes),
            format_gib(pool.ceiling.size_bytes),
            format_gib(pool.free.size_bytes),
            escape(pool.total.source),
        )
    console.print(pools)
    if host.devices:
        _print_devices(console, host)
    if host.software:
        console.print()
        software = table("software", "version", "built for", "path")
        for part in host.software:
            software.add_row(part.name, part.version or "unknown", part.built_for or "", escape(part.path))
        console.print(software)
    if host.disks:
        console.print()
        disks = table("path", "file system", "free", "total", right=(2, 3))
        for disk in host.disks:
            disks.add_row(
                escape(disk.path), disk.filesystem or "unknown", format_gb(disk.free_bytes), format_gb(disk.total_bytes)
            )
        console.print(disks)


def _print_devices(console: Console, host: Host) -> None:
    console.print()
    devices = table("#", "device", "architecture", "chip", "driver", "api", "bus")
    for device in host.devices:
        devices.add_row(
            str(device.index),
            escape(device.name) + ("" if device.usable else " [fail](not usable)[/fail]"),
            device.arch or "unknown",
            device.chip or "not in the catalogue",
            device.driver_version or "unknown",
            f"{device.compute_api} {device.compute_api_version or ''}".strip(),
            device.pci_address or "",
        )
    console.print(devices)
