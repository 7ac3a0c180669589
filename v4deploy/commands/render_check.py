"""What `render` wrote before, held against its lock and against a plan."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from v4deploy.commands.render import RenderRequest, prepare
from v4deploy.commands.result import Result
from v4deploy.commands.weights import locate_weights
from v4deploy.commands.workspace import Workspace
from v4deploy.domain.counting import counted
from v4deploy.domain.errors import CheckFailedError
from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.model import WeightFile
from v4deploy.domain.plan import Plan
from v4deploy.pull.manifest import role_of
from v4deploy.render.agreement import Disagreement, Mismatch, file_mismatches, plan_mismatches
from v4deploy.render.lock import LOCK_NAME, Lock, Pins, read_lock


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """Files and lock of a directory, held against each other.

    Attributes:
        checked_files: as many files the lock names.
        with_plan: the lock was also held against what would be rendered now.
    """

    directory: str
    lock: Lock
    checked_files: int
    with_plan: bool
    mismatches: tuple[Mismatch, ...]
    findings: tuple[Finding, ...] = ()


def check_files(workspace: Workspace, directory: Path, request: RenderRequest | None) -> Result[CheckReport]:
    """Hold the files of a directory against their lock, and the lock against a plan where one is given.

    Raises:
        CheckFailedError: there is no lock.
        ProfileError: the lock is broken.
        UsageError: it cannot be read; or as for `render`.
    """
    lock = read_lock(directory)
    if lock is None:
        raise CheckFailedError(
            f"there is no {LOCK_NAME} in {directory}",
            hint="name the directory of rendered files: `--output DIRECTORY`; `v4deploy render` writes the lock",
        )
    mismatches = file_mismatches(lock, directory)
    if request is not None:
        mismatches += plan_mismatches(lock, prepare(workspace, _as_locked(workspace, request, lock)).sets)
    findings = tuple(_finding(mismatch) for mismatch in mismatches)
    report = CheckReport(
        directory=str(directory),
        lock=lock,
        checked_files=sum(len(one.files) for one in lock.sets),
        with_plan=request is not None,
        mismatches=mismatches,
        findings=findings,
    )
    error = None
    if mismatches:
        error = CheckFailedError(
            f"files and lock disagree in {counted(len(mismatches), 'place')}",
            hint="each finding above says how they agree again",
        )
    return Result(kind="render-check", data=report, findings=findings, error=error)


def _as_locked(workspace: Workspace, request: RenderRequest, lock: Lock) -> RenderRequest:
    """The request for the targets of the lock, with what this machine does not have as the lock names it: a CI image
    has neither the weights nor the engine, and that is no disagreement.

    Raises:
        ProfileError: the manifest of an earlier pull is broken.
    """
    plan = request.plan
    locked = [one for one in lock.sets if (one.engine, one.release) == (plan.chosen.engine, plan.release.id)]
    if not request.targets:
        request = replace(request, targets=tuple(one.target for one in locked))
    pins = next((one.pins for one in locked if one.pins is not None), None)
    if pins is None:
        return request
    program = pins.arguments[0]
    if Path(program).is_absolute() and workspace.system.which(Path(program).name) is None:
        request = replace(request, options=replace(request.options, executable=program))
    if not locate_weights(workspace, plan, request.weights_dir).findings:
        return request
    return replace(
        request, plan=_with_locked_weights(plan, pins), weights_dir=request.weights_dir or Path(pins.weights_dir)
    )


def _with_locked_weights(plan: Plan, pins: Pins) -> Plan:
    checkpoint = plan.chosen.checkpoint
    if checkpoint.id != pins.checkpoint:
        return plan
    files = tuple(
        WeightFile(path=one.path, role=role_of(one.path), size_bytes=one.size_bytes, sha256=one.sha256)
        for one in pins.weights
    )
    pinned = replace(checkpoint, files=files, revision=pins.revision)
    return replace(plan, chosen=replace(plan.chosen, checkpoint=pinned))


def _finding(mismatch: Mismatch) -> Finding:
    sayings = {
        Disagreement.MISSING: "is in the lock and not there",
        Disagreement.EDITED: "is not what was rendered",
        Disagreement.MODE: "may be run where it should not be, or the other way round",
        Disagreement.OUTDATED: "would be rendered otherwise now",
        Disagreement.UNLOCKED: "is not in the lock",
    }
    seen = [("lock", mismatch.locked), ("found", mismatch.found)]
    return Finding(
        id=f"config.lock-{mismatch.kind}",
        severity=Severity.FAIL,
        summary=f"{mismatch.name} {sayings[mismatch.kind]}",
        evidence=tuple(Evidence(source=source, value=value) for source, value in seen if value),
        fix=_FIXES[mismatch.kind],
    )


_FIXES = {
    Disagreement.MISSING: "render again with `v4deploy render`",
    Disagreement.EDITED: "take the edit back (`v4deploy render --diff` shows it), or `v4deploy render --force`",
    Disagreement.MODE: "render again with `v4deploy render`",
    Disagreement.OUTDATED: "render again; or give `--check` the options with which they were rendered",
    Disagreement.UNLOCKED: "name what was rendered (`--target`, the model), or render it",
}
