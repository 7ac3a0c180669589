"""Pieces that several views share."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, JustifyMethod
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.hardware import Device, Host, HostOrigin, Pool
from v4deploy.domain.units import format_gib

_WORDS = {
    Severity.OK: "ok  ",
    Severity.INFO: "info",
    Severity.WARN: "warn",
    Severity.FAIL: "fail",
    Severity.SKIP: "skip",
}


_MOST_EVIDENCE = 4
_INDENT = " " * 8


def table(*columns: str, right: Iterable[int] = (), folding: Iterable[int] = ()) -> Table:
    """A table without boxes; `right` gives the numbers of the columns with figures.

    In a narrow terminal the last column folds, and those with words in `folding`: a quant or a number in two lines
    cannot be read, and a last column that alone has to yield to long words is gone.
    """
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    aligned, folded = set(right), {*folding, len(columns) - 1}
    for number, column in enumerate(columns):
        justify: JustifyMethod = "right" if number in aligned else "left"
        made.add_column(column, justify=justify, overflow="fold", no_wrap=number not in folded)
    return made


def print_hanging(console: Console, text: str, *, first: str, style: str = "") -> None:
    """Text with markup behind `first`; in a narrow terminal what does not fit goes on below the text, not below it."""
    head = Text.from_markup(first)
    for line in Text.from_markup(text, style=style).wrap(console, max(1, console.width - head.cell_len)):
        console.print(Text.assemble(head, line), soft_wrap=True)
        head = Text(" " * head.cell_len)


def print_finding(console: Console, finding: Finding, *, detailed: bool = True) -> None:
    """A finding in one line, then why it matters, its evidence and its fix."""
    print_hanging(console, escape(finding.summary), first=f"  [{finding.severity}]{_WORDS[finding.severity]}[/]  ")
    if not detailed or finding.severity is Severity.OK:
        return
    if finding.why:
        print_hanging(console, escape(finding.why), first=_INDENT, style="dim")
    for evidence in finding.evidence[:_MOST_EVIDENCE]:
        print_hanging(console, escape(_evidence_words(evidence)), first=_INDENT, style="dim")
    if len(finding.evidence) > _MOST_EVIDENCE:
        more = len(finding.evidence) - _MOST_EVIDENCE
        console.print(f"{_INDENT}and {more} more, which `--json` shows", style="dim")
    if finding.fix:
        print_hanging(console, escape(finding.fix), first=f"{_INDENT}[hint]fix:[/hint] ")


def _evidence_words(evidence: Evidence) -> str:
    """`seen: VALUE (SOURCE)`, or why the source gave none; a source that is only cited stands alone."""
    if evidence.value is not None:
        return f"seen: {evidence.value.strip()[:200]}  ({evidence.source})"
    if evidence.error is not None:
        return f"could not be read: {evidence.error.strip()[:200]}  ({evidence.source})"
    return f"source: {evidence.source}"


def describe_host(host: Host) -> str:
    """A machine in one line: `8 x NVIDIA H200 (sm_90), 2.0 TiB host memory`."""
    groups: dict[str, int] = {}
    for device in host.devices:
        state = "" if device.usable else ", not usable"
        name = f"{device.name} ({device.arch or 'architecture unknown'}{state})"
        groups[name] = groups.get(name, 0) + 1
    devices = ", ".join(f"{count} x {name}" for name, count in groups.items()) or "no accelerator"
    memory = format_gib(host.memory.total.size_bytes)
    prefix = {HostOrigin.LIVE: "", HostOrigin.RECORDING: "recorded: ", HostOrigin.HYPOTHETICAL: "planned for: "}
    return f"{prefix[host.origin]}{devices}, {memory} host memory"


def describe_pool(host: Host, pool: Pool) -> str:
    """What a pool is called for people: its devices, or the host's memory."""
    devices = [device for device in host.devices if device.pool_id == pool.id]
    if not devices:
        return "host memory"
    return _names(devices) + (" (shared with the host)" if pool.id == host.memory.id else "")


def _names(devices: list[Device]) -> str:
    indices = ", ".join(str(device.index) for device in devices)
    return f"{devices[0].name} #{indices}"
