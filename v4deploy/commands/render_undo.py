"""What `render` wrote last, taken back."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from v4deploy.commands.result import Result
from v4deploy.render.history import undo as undo_step


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
