"""Writes rendered files: all or none, inside one directory, and never over a file that someone edited."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from v4deploy.domain.artefact import Artefact, ArtefactSet, sha256_of
from v4deploy.domain.errors import UsageError
from v4deploy.render.exclusive import alone_in
from v4deploy.render.files import Write, is_executable, read_file, remove_empty, require_writable, target_path
from v4deploy.render.history import commit, written_before
from v4deploy.render.lock import LOCK_NAME, Lock, RenderedSet, lock_text, merged, read_lock


class Outcome(StrEnum):
    """WRITTEN: the file is the new one. UNCHANGED: it was already. KEPT: it was edited, so the new one is beside it."""

    WRITTEN = "written"
    UNCHANGED = "unchanged"
    KEPT = "kept"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What becomes of one artefact.

    Attributes:
        path: where the new text goes (with `.new` appended for KEPT); None for UNCHANGED.
        diff: unified, from the file that is there (or nothing) to the new one; "" for UNCHANGED.
    """

    artefact: Artefact
    outcome: Outcome
    path: Path | None
    diff: str = ""


def examine(sets: Sequence[RenderedSet], directory: Path, *, force: bool = False) -> tuple[Change, ...]:
    """What `write` would do; touches nothing.

    Raises:
        UsageError: a path leads out of the directory, to something that is not a file, or to one that belongs to
            another target; or a file cannot be read.
        ProfileError: the lock of earlier files is broken.
    """
    lock = read_lock(directory) or Lock()
    ours = written_before(directory) | {(file.path, file.sha256) for one in lock.sets for file in one.files}
    changes = []
    for one in sets:
        _refuse_foreign(one.artefacts, lock, directory, force=force)
        changes += [_examine_one(artefact, directory, ours, force=force) for artefact in one.artefacts.artefacts]
    return tuple(changes)


def write(sets: Sequence[RenderedSet], directory: Path, *, force: bool = False) -> tuple[Change, ...]:
    """Write what is new or changed, and the lock, together. An edited file is kept and the new one goes beside it,
    unless `force`.

    Raises:
        UsageError: as for `examine`; or the directory or a file cannot be written, and then all are as before.
        ProfileError: the lock of earlier files is broken.
    """
    require_writable(directory)
    was_there = directory.exists()
    try:
        with alone_in(directory):
            return _write_alone(sets, directory, force=force)
    finally:
        if not was_there:
            remove_empty(directory)


def _write_alone(sets: Sequence[RenderedSet], directory: Path, *, force: bool) -> tuple[Change, ...]:
    changes = examine(sets, directory, force=force)
    writes = [
        Write(path=change.path, content=change.artefact.text.encode(), mode=change.artefact.mode)
        for change in changes
        if change.path is not None and not _stands_beside(change)
    ]
    writes += _overtaken(changes, directory)
    lock = lock_text(merged(read_lock(directory) or Lock(), sets)).encode()
    lock_path = target_path(directory, LOCK_NAME)
    if read_file(lock_path) != lock:
        writes.append(Write(path=lock_path, content=lock))
    if writes:
        commit(directory, writes)
    return changes


def _overtaken(changes: Sequence[Change], directory: Path) -> list[Write]:
    """The `.new` of earlier renders beside files that are now the rendered ones: away with them, unless edited."""
    before = written_before(directory)
    names = (f"{change.artefact.path}.new" for change in changes if change.outcome is not Outcome.KEPT)
    there = ((name, read_file(target_path(directory, name))) for name in names)
    return [
        Write(path=target_path(directory, name), content=None)
        for name, content in there
        if content is not None and (name, sha256_of(content)) in before
    ]


def _stands_beside(change: Change) -> bool:
    """The new text is already there as `.new`, from an earlier run."""
    if change.outcome is not Outcome.KEPT or change.path is None:
        return False
    return read_file(change.path) == change.artefact.text.encode()


def _refuse_foreign(artefacts: ArtefactSet, lock: Lock, directory: Path, *, force: bool) -> None:
    """Two targets may both have a `vllm.yaml`; the second would break what the first one starts."""
    for artefact in artefacts.artefacts:
        owner = lock.owner(artefact.path)
        if owner is None or (owner.engine, owner.target) == (artefacts.engine, artefacts.target) or force:
            continue
        raise UsageError(
            f"{directory / artefact.path} belongs to {owner.engine}'s target `{owner.target}`",
            hint="give each target a directory of its own: `--output DIRECTORY`; or `--force`",
        )


def _examine_one(artefact: Artefact, directory: Path, ours: Collection[tuple[str, str]], *, force: bool) -> Change:
    target = target_path(directory, artefact.path)
    present = read_file(target)
    if present is None:
        return Change(
            artefact=artefact, outcome=Outcome.WRITTEN, path=target, diff=_diff(artefact.path, b"", artefact.text)
        )
    if present == artefact.text.encode() and is_executable(target.stat().st_mode) == is_executable(artefact.mode):
        return Change(artefact=artefact, outcome=Outcome.UNCHANGED, path=None)
    diff = _diff(artefact.path, present, artefact.text)
    is_ours = present == artefact.text.encode() or (artefact.path, sha256_of(present)) in ours
    if is_ours or force:
        return Change(artefact=artefact, outcome=Outcome.WRITTEN, path=target, diff=diff)
    beside = target_path(directory, f"{artefact.path}.new")
    return Change(artefact=artefact, outcome=Outcome.KEPT, path=beside, diff=diff)


def _diff(path: str, present: bytes, text: str) -> str:
    before = present.decode(errors="replace").splitlines(keepends=True)
    there = f"{path} (there)" if present else "/dev/null"
    lines = difflib.unified_diff(before, text.splitlines(keepends=True), there, f"{path} (new)")
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)
