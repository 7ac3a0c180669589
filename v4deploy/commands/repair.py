"""Verify, then fetch what is wrong again, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from v4deploy.commands.pull import Totals, places_of
from v4deploy.commands.result import Report, Result, Step, StepState
from v4deploy.commands.verify import VerifyRequest, judged, verify
from v4deploy.commands.workspace import Workspace
from v4deploy.domain.counting import counted
from v4deploy.domain.errors import DownloadError, InterruptedRunError, UsageError
from v4deploy.domain.units import format_gb
from v4deploy.pull import store
from v4deploy.pull.access import access_from
from v4deploy.pull.proof.report import Basis, CheckedFile, FileState, ProblemKind, VerifyReport
from v4deploy.pull.repair import repair_directory

# A right hash under a wrong header was published so: fetching it again brings the same bytes.
_REPAIRABLE = {ProblemKind.MISSING, ProblemKind.WRONG_SIZE, ProblemKind.CORRUPT, ProblemKind.UNREADABLE}


def repair(
    workspace: Workspace, request: VerifyRequest, *, report: Report, adopt_from: tuple[Path, ...] = ()
) -> Result[VerifyReport]:
    """Check a pulled directory and replace what is wrong in it, from this machine or from the hub.

    Raises:
        DownloadError: nothing was pulled there, or not all could be had.
        UsageError: sizes and headers alone do not say what is wrong.
        InterruptedRunError: Ctrl-C; the next repair goes on from there.
    """
    if request.quick:
        raise UsageError("`--quick` reads no hashes, so it cannot say what to repair", hint="leave one of them out")
    checked = verify(workspace, request, report=report)
    before = checked.data
    bad = {problem.path for problem in before.problems if problem.kind in _REPAIRABLE}
    if before.basis is not Basis.MANIFEST:
        return _left_alone(checked)
    if not bad & {file.path for file in before.files}:
        return checked
    manifest = store.read_manifest(Path(before.directory))
    if manifest is None:
        raise DownloadError(f"the manifest of {before.directory} has gone", hint="v4deploy pull MODEL")
    total_bytes = sum(file.size_bytes for file in manifest.files if file.path in bad)
    message = f"{len(bad)} of {len(before.files)} files, {format_gb(total_bytes)}, of {before.repo}"
    report(Step(name="repair", state=StepState.STARTED, message=message))
    try:
        done = repair_directory(
            Path(before.directory),
            bad,
            access=access_from(workspace.environ, manifest.hub),
            fetched_at=datetime.now(UTC).isoformat(timespec="seconds"),
            places=places_of(workspace, manifest.repo, adopt_from),
            progress=Totals(report, total_bytes),
        )
    except KeyboardInterrupt:
        raise InterruptedRunError(
            f"interrupted; what has arrived in {before.directory} is kept, the bad files too",
            hint="run the same command again: it goes on from there",
        ) from None
    came = f"{format_gb(done.fetched_bytes)} fetched"
    if done.adopted:
        came += f", {format_gb(sum(adopted.size_bytes for adopted in done.adopted))} adopted from this machine"
    report(Step(name="repair", state=StepState.DONE, message=f"{counted(len(done.paths), 'file')} replaced ({came})"))
    now = verify(workspace, replace(request, quick=True))
    hashes = {file.path: file.expected_hash for file in manifest.files if file.path in done.paths}
    return replace(judged(_after(before, now.data, hashes), quick=False), findings=done.findings)


def _left_alone(checked: Result[VerifyReport]) -> Result[VerifyReport]:
    """What somebody else put down is not written to: the error says so, and its hint how to come by right files."""
    error = checked.error
    if error is None:
        return checked
    why = "nothing was repaired: `--repair` writes only where `v4deploy pull` has put the weights"
    return replace(checked, error=DownloadError(error.message, hint=error.hint, details=(*error.details, why)))


def _after(before: VerifyReport, now: VerifyReport, repaired: dict[str, str]) -> VerifyReport:
    """Sizes and headers as they are now; what was hashed before, or on its way to the disk just now, is proven."""
    hashes = {file.path: file.found_hash for file in before.files if file.state is FileState.PROVEN} | repaired

    def proven(file: CheckedFile) -> CheckedFile:
        if file.state is not FileState.NOT_PROVEN or file.path not in hashes:
            return file
        return replace(file, found_hash=hashes[file.path], state=FileState.PROVEN)

    return replace(before, files=tuple(map(proven, now.files)), problems=now.problems, repaired=tuple(sorted(repaired)))
