"""How `models --refresh` looks: one line a checkpoint that differs, then what could not be told."""

from __future__ import annotations

from collections import Counter

from rich.console import Console
from rich.markup import escape

from v4deploy.cli.views.common import print_finding
from v4deploy.commands.refresh import Change, ChangeKind, CheckpointChange, RefreshReport
from v4deploy.domain.units import format_gb

_STYLES = {
    ChangeKind.NEW: "ok",
    ChangeKind.CHANGED: "info",
    ChangeKind.UNCHANGED: "skip",
    ChangeKind.OWN: "skip",
    ChangeKind.GONE: "warn",
}
_NAMED = {"revision", "size_bytes", "shards"}


def view_refresh(console: Console, report: RefreshReport) -> None:
    counts: Counter[ChangeKind] = Counter()
    for repository in report.repositories:
        counts.update(one.kind for one in repository.checkpoints)
        different = [one for one in repository.checkpoints if one.kind is not ChangeKind.UNCHANGED]
        if not different:
            continue
        console.print(f"[bold]{escape(repository.repo)}[/bold] @ {(repository.revision or '')[:12]}")
        for checkpoint in different:
            _print_checkpoint(console, checkpoint)
    for finding in report.findings:
        # Many may be out of reach, or gone, for one reason: a line each will do.
        print_finding(console, finding, detailed=finding.id == "network.hub.unknown-weights")
    listed = sum(1 for repository in report.repositories if repository.problem is None)
    words = ", ".join(f"{counts[kind]} {kind}" for kind in ChangeKind if counts[kind]) or "no checkpoints"
    console.print(f"{listed} of {len(report.repositories)} repositories listed: {words}")
    for path in report.files:
        console.print(f"  written  {escape(path)}", highlight=False)
    if not report.files:
        console.print("nothing was written", style="dim")


def _print_checkpoint(console: Console, checkpoint: CheckpointChange) -> None:
    style, named = _STYLES[checkpoint.kind], {change.field: change for change in checkpoint.changes}
    details = [words for name in ("revision", "size_bytes", "shards") if (words := _words(named.get(name)))]
    others = len({change.field.split(" ")[0] for change in checkpoint.changes if change.field not in _NAMED})
    if others:
        details.append(f"{others} file{'s' if others > 1 else ''} with other names, sizes or hashes")
    if checkpoint.kind is ChangeKind.OWN:
        details.append("your own profile has it, so nothing is written")
    if checkpoint.kind is ChangeKind.GONE:
        details.append("not in the listing; see below")
    text = "; ".join(details)
    console.print(f"  [{style}]{checkpoint.kind:<9}[/]  {escape(checkpoint.quant)}  {escape(text)}", highlight=False)


def _words(change: Change | None) -> str | None:
    """`size 155.1 GB -> 155.2 GB`; a value that was not known before stands alone."""
    if change is None:
        return None
    before, after = _shown(change.field, change.before), _shown(change.field, change.after)
    name = change.field.removesuffix("_bytes")
    return f"{name} {before} -> {after}" if before else f"{name} {after}"


def _shown(field: str, value: str | int | None) -> str | None:
    if isinstance(value, int):
        # Two sizes that print alike are told apart by their bytes.
        return f"{format_gb(value)} ({value:,} bytes)" if field == "size_bytes" else str(value)
    return value[:12] if value else None
