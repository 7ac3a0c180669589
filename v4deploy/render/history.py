"""What the files of a directory were before each render, so that `--undo` can bring them back."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from v4deploy.documents import from_json, to_json
from v4deploy.domain.artefact import sha256_of
from v4deploy.domain.errors import UsageError
from v4deploy.render.exclusive import alone_in
from v4deploy.render.files import Write, read_file, remove_empty, replace_all, target_path

STEP_SCHEMA = "v4deploy.render-step/1"
HISTORY = ".v4deploy/history"
_IGNORE = ".v4deploy/.gitignore"
_STAGING = ".v4deploy/staged"
_MOST_STEPS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviousFile:
    """A file that a render wrote.

    Attributes:
        content: what was there before, in Base64 (an edited file need not be text); None where there was nothing.
        mode: of what was there.
        written_sha256: of what was written. Any other content means that it was edited since.
    """

    path: str
    content: str | None
    mode: int | None
    written_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderStep:
    """One render that changed something. A JSON document (`v4deploy.render-step/1`)."""

    files: tuple[PreviousFile, ...]


def commit(directory: Path, writes: Sequence[Write]) -> None:
    """Write all files or none, and keep what they replace.

    Raises:
        UsageError: they cannot be written; everything is as before.
    """
    step = RenderStep(files=tuple(_previous(directory, write) for write in writes))
    numbers = _numbers(directory)
    path = _step_path(directory, max(numbers, default=0) + 1)
    # What was there before may be anything, and is nobody's to commit.
    ignored = Write(path=target_path(directory, _IGNORE), content=b"*\n")
    # The step comes first: killed after it, the next render still knows which files are ours, and `--undo` works.
    staging = directory / _STAGING
    saved = Write(path=path, content=to_json(STEP_SCHEMA, step).encode(), mode=0o600)
    replace_all([ignored, saved], staging=staging)
    try:
        replace_all(writes, staging=staging, undo=_before(directory, step))
    except BaseException:
        path.unlink(missing_ok=True)
        _tidy(directory)
        raise
    for number in sorted(numbers)[: -_MOST_STEPS + 1]:
        _step_path(directory, number).unlink(missing_ok=True)


def newest(directory: Path) -> RenderStep | None:
    """The last render that has not been undone; None where there is none.

    Raises:
        ProfileError: its record is broken.
    """
    numbers = _numbers(directory)
    if not numbers:
        return None
    return _read_step(directory, max(numbers))


def written_before(directory: Path) -> frozenset[tuple[str, str]]:
    """Paths and hashes of all that the renders in the history wrote: ours, also where one was killed before its lock.

    Raises:
        ProfileError: the record of one is broken.
    """
    steps = (_read_step(directory, number) for number in _numbers(directory))
    return frozenset((file.path, file.written_sha256) for step in steps for file in step.files)


def undo(directory: Path, *, force: bool = False, dry_run: bool = False) -> RenderStep:
    """Bring back what was there before the last render. Edits made since are thrown away with `force` only.

    Raises:
        UsageError: there is nothing to undo, or a file was edited since; then nothing is touched.
        ProfileError: the record is broken.
    """
    _require_step(directory)
    if dry_run:
        return _undoable(directory, force=force)
    with alone_in(directory):
        step = _undoable(directory, force=force)
        replace_all(_before(directory, step), staging=directory / _STAGING)
        _step_path(directory, max(_numbers(directory))).unlink(missing_ok=True)
        _tidy(directory)
    return step


def _require_step(directory: Path) -> RenderStep:
    step = newest(directory)
    if step is None:
        raise UsageError(
            f"there is nothing to undo in {directory}", hint="name the directory of the files: `--output DIRECTORY`"
        )
    return step


def _undoable(directory: Path, *, force: bool) -> RenderStep:
    step = _require_step(directory)
    edited = [file.path for file in step.files if _is_edited(directory, file)]
    if edited and not force:
        raise UsageError(
            f"edited since they were written: {', '.join(edited)}",
            hint="`--undo --force` throws these edits away; nothing was touched",
        )
    return step


def _read_step(directory: Path, number: int) -> RenderStep:
    path = _step_path(directory, number)
    content = read_file(path) or b""
    return from_json(RenderStep, STEP_SCHEMA, content.decode(errors="replace"), name=str(path))


def _is_edited(directory: Path, file: PreviousFile) -> bool:
    """Neither what was written nor what was there before it (a render or an undo may have been killed half way)."""
    present = read_file(target_path(directory, file.path))
    if present is None:
        return False
    before = None if file.content is None else base64.b64decode(file.content)
    return sha256_of(present) != file.written_sha256 and present != before


def _previous(directory: Path, write: Write) -> PreviousFile:
    present = read_file(write.path)
    return PreviousFile(
        path=write.path.relative_to(directory).as_posix(),
        content=None if present is None else base64.b64encode(present).decode(),
        mode=None if present is None else write.path.stat().st_mode & 0o7777,
        written_sha256=sha256_of(write.content or b""),
    )


def _before(directory: Path, step: RenderStep) -> list[Write]:
    return [
        Write(
            path=target_path(directory, file.path),
            content=None if file.content is None else base64.b64decode(file.content),
            mode=file.mode or 0o644,
        )
        for file in step.files
    ]


def _numbers(directory: Path) -> list[int]:
    return [int(path.stem) for path in (directory / HISTORY).glob("*.json") if path.stem.isdecimal()]


def _step_path(directory: Path, number: int) -> Path:
    return target_path(directory, f"{HISTORY}/{number:04d}.json")


def _tidy(directory: Path) -> None:
    if not _numbers(directory):
        (directory / _IGNORE).unlink(missing_ok=True)
    remove_empty(directory / HISTORY)
    remove_empty((directory / HISTORY).parent)
