"""`doctor --report`: markdown for a bug report or a ticket, without what names a person, a machine or a secret."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby

from rich.console import Console

from v4deploy import __version__
from v4deploy.cli.views.common import describe_pool
from v4deploy.cli.views.doctor import count_words
from v4deploy.commands.doctor import DoctorReport
from v4deploy.domain.finding import Finding, Severity, group_of
from v4deploy.domain.hardware import Host
from v4deploy.domain.units import format_gb, format_gib
from v4deploy.system.redact import Redactor

# A host in an address; loopback names nobody, and of a file:// address nothing but the path is left.
_ADDRESS_HOST = re.compile(r"(?<=://)(?!127\.|localhost\b|\[::1\]|huggingface\.co\b)[^\s/:\"'`)]+")
_HEAD = "| --- "


def report_view(environ: Mapping[str, str]) -> Callable[[Console, DoctorReport], None]:
    """A view that prints the report; `environ` names the user and home to take out."""
    redactor = Redactor(
        host_name=platform.node(), user_name=environ.get("USER") or environ.get("LOGNAME"), home=environ.get("HOME")
    )

    def view(console: Console, report: DoctorReport) -> None:
        console.out(redacted(report_markdown(report), redactor), highlight=False, end="")

    return view


def redacted(text: str, redactor: Redactor) -> str:
    """The text without names, serial numbers, tokens, home paths, and the hosts of addresses in it."""
    return _ADDRESS_HOST.sub("redacted", redactor.text(text))


def report_markdown(report: DoctorReport) -> str:
    """Versions, machine, findings and timings as one markdown document."""
    host = report.host
    lines = ["# v4deploy doctor", "", count_words(report), "", *_machine(report), "", *_pools(host), ""]
    if host.devices:
        lines += [*_devices(host), ""]
    lines += [*_engines(host), ""]
    if host.software:
        lines += [*_software(host), ""]
    for group, findings in groupby(report.findings, key=lambda finding: group_of(finding.id)):
        lines += [f"## {group}", "", *(line for finding in findings for line in _finding(finding)), ""]
    lines += ["## timings", "", *_table(("part", "ms"), [(t.name, f"{t.milliseconds:.1f}") for t in report.timings])]
    return "\n".join(lines) + "\n"


def _machine(report: DoctorReport) -> list[str]:
    host, cpu = report.host, report.host.cpu
    inside = f"{host.container or 'none'}{', Kubernetes' if host.kubernetes else ''}"
    rows = [
        ("v4deploy", __version__),
        ("Python", platform.python_version()),
        ("checked for", report.release + (f" on {report.target}" if report.target else "")),
        ("machine", host.origin),
        ("system", f"{host.os_version or host.os}, kernel {host.kernel or 'unknown'}"),
        ("processor", f"{cpu.model or 'unknown'} ({cpu.architecture}), {cpu.usable_cores or 'unknown'} usable cores"),
        ("container", inside),
    ]
    return _table(("what", "value"), rows)


def _pools(host: Host) -> list[str]:
    rows = [
        (
            describe_pool(host, pool),
            pool.kind,
            *(format_gib(a.size_bytes) for a in (pool.total, pool.ceiling, pool.free)),
        )
        for pool in host.pools
    ]
    disks = [
        (d.path, d.filesystem or "unknown", format_gb(d.total_bytes), "", format_gb(d.free_bytes)) for d in host.disks
    ]
    return _table(("memory or disk", "kind", "total", "may use", "free"), [*rows, *disks])


def _devices(host: Host) -> list[str]:
    rows = [
        (
            str(device.index),
            device.name + ("" if device.usable else " (not usable)"),
            device.arch or "unknown",
            device.chip or "not in the catalogue",
            device.driver_version or "unknown",
            f"{device.compute_api} {device.compute_api_version or ''}".strip(),
        )
        for device in host.devices
    ]
    return _table(("#", "device", "architecture", "chip", "driver", "api"), rows)


def _engines(host: Host) -> list[str]:
    rows = [(engine.engine, engine.version or "unknown", engine.path) for engine in host.engines]
    return _table(("engine", "version", "path"), rows or [("none", "", "")])


def _software(host: Host) -> list[str]:
    rows = [(part.name, part.version or "unknown", part.built_for or "", part.path) for part in host.software]
    return _table(("software", "version", "built for", "path"), rows)


def _finding(finding: Finding) -> Iterator[str]:
    yield f"- **{finding.severity}** `{finding.id}`: {finding.summary}"
    if finding.severity is Severity.OK:
        return
    for evidence in finding.evidence:
        seen = " ".join((evidence.value or evidence.error or "").split())
        yield f"  - seen: {_code(seen)} ({evidence.source})" if seen else f"  - source: {evidence.source}"
    if finding.why:
        yield f"  - why: {finding.why}"
    if finding.fix:
        yield f"  - fix: {finding.fix}"


def _code(text: str) -> str:
    """Text as code; between double backticks where it holds one itself."""
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", _HEAD * len(head) + "|"]
    return lines + ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
