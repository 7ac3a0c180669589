"""What `render` wrote before: held against its lock, or taken back."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from v4deploy.commands.render import RenderRequest, prepare
from v4deploy.commands.result import Result
from v4deploy.commands.workspace import Workspace
from v4deploy.domain.counting import counted
from v4deploy.domain.errors import CheckFailedError
from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.render.history import undo as undo_step
from v4deploy.render.lock import LOCK_NAME, Disagreement, Lock, Mismatch, file_mismatches, plan_mismatches, read_lock


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


class UndoOutcome(StrEnum):
    RESTORED = "restored"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoneFile:
    path: str
    outcome: UndoOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoReport:
    """The files as they were before the last render; `is_done` is false in a dry run."""

    directory: str
    files: tuple[UndoneFile, ...]
    is_done: bool


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
        mismatches += plan_mismatches(lock, prepare(workspace, request).sets)
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
            hint="render again, or take your edits back; `--diff` shows them",
        )
    return Result(kind="render-check", data=report, findings=findings, error=error)


def undo(directory: Path, *, force: bool, dry_run: bool) -> Result[UndoReport]:
    """Bring back the files as they were before the last render.

    Raises:
        UsageError: there is nothing to undo, or a file was edited since.
        ProfileError: the record is broken.
    """
    step = undo_step(directory, force=force, dry_run=dry_run)
    files = tuple(
        UndoneFile(path=file.path, outcome=UndoOutcome.REMOVED if file.content is None else UndoOutcome.RESTORED)
        for file in step.files
    )
    return Result(kind="render-undo", data=UndoReport(directory=str(directory), files=files, is_done=not dry_run))


def _finding(mismatch: Mismatch) -> Finding:
    sayings = {
        Disagreement.MISSING: "is in the lock and not there",
        Disagreement.EDITED: "is not what was rendered",
        Disagreement.MODE: "may be run where it should not be, or the other way round",
        Disagreement.OUTDATED: "would be rendered otherwise now",
    }
    seen = [("lock", mismatch.locked), ("found", mismatch.found)]
    return Finding(
        id=f"config.lock-{mismatch.kind}",
        severity=Severity.FAIL,
        summary=f"{mismatch.name} {sayings[mismatch.kind]}",
        evidence=tuple(Evidence(source=source, value=value) for source, value in seen if value),
        fix="render again with `v4deploy render`",
    )
