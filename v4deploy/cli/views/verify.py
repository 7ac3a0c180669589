"""How verify looks: one line a problem, then what was proven and by what."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from v4deploy.domain.units import format_gb
from v4deploy.pull.proof.report import Basis, FileState, VerifyReport

_BASES = {
    Basis.MANIFEST: "against the manifest of the pull",
    Basis.HUB_CACHE: "against the hashes in the hub's cache",
    Basis.HUB_DOWNLOAD: "against what `hf download` wrote down",
    Basis.CATALOGUE: "against hashes of the catalogue",
    Basis.NONE: "by nothing",
}


def view_verify(console: Console, report: VerifyReport) -> None:
    console.print(f"[bold]{escape(report.repo or report.directory)}[/bold]", end="")
    console.print(f" @ {report.revision}" if report.revision else "", highlight=False)
    for problem in report.problems:
        style = "warn" if problem.kind.is_harmless else "fail"
        line = f"  [{style}]{problem.kind}[/]  {escape(problem.path)}: {escape(problem.summary)}"
        # One line each, whatever the width: hashes are searched for and copied.
        console.print(line, soft_wrap=True)
    for path in report.repaired:
        console.print(f"  [ok]repaired[/]  {escape(path)}", soft_wrap=True)
    states = [file.state for file in report.files]
    proven, not_proven = states.count(FileState.PROVEN), states.count(FileState.NOT_PROVEN)
    if proven or report.checked_files:
        console.print(f"{proven} of {len(states)} files proven {_BASES[report.basis]}{_pace(report)}")
    if not_proven:
        console.print(
            f"{not_proven} of {len(states)} files not proven: headers and what is known of sizes are right, the bytes "
            "were not compared",
            soft_wrap=True,
        )


def _pace(report: VerifyReport) -> str:
    if not report.checked_bytes or not report.elapsed_seconds:
        return ""
    rate = format_gb(round(report.checked_bytes / report.elapsed_seconds))
    return f"; {format_gb(report.checked_bytes)} hashed in {report.elapsed_seconds:.1f} s, {rate}/s"
