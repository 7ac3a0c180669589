"""Writes rendered files: atomically, inside one directory, and never over a file that someone edited."""

from __future__ import annotations

import difflib
import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from v4deploy.documents import from_json, to_json
from v4deploy.domain.artefact import Artefact, ArtefactSet
from v4deploy.domain.errors import UsageError

RECORD_SCHEMA = "v4deploy.written-files/1"
RECORD_DIRECTORY = ".v4deploy"


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
        diff: unified, from the file that is there to the new one; "" where there is nothing to compare.
    """

    artefact: Artefact
    outcome: Outcome
    path: Path | None
    diff: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenFile:
    """One line of the record: a file that we wrote and what was in it. Any other content means that it was edited."""

    path: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenFiles:
    """The record of one engine and target in one directory. A JSON document (`v4deploy.written-files/1`)."""

    files: tuple[WrittenFile, ...] = ()


def examine(artefacts: ArtefactSet, directory: Path, *, force: bool = False) -> tuple[Change, ...]:
    """What `write` would do; touches nothing.

    Raises:
        UsageError: a path leads out of the directory, or to something that is not a file, or cannot be read.
        ProfileError: the record of earlier files is broken.
    """
    record = _read_record(artefacts, directory)
    return tuple(_examine_one(artefact, directory, record, force=force) for artefact in artefacts.artefacts)


def write(artefacts: ArtefactSet, directory: Path, *, force: bool = False) -> tuple[Change, ...]:
    """Write what is new or changed. An edited file is kept and the new one goes beside it, unless `force`.

    Raises:
        UsageError: as for `examine`; or the directory cannot be written to.
        ProfileError: the record of earlier files is broken.
    """
    changes = examine(artefacts, directory, force=force)
    record = dict(_read_record(artefacts, directory))
    for change in changes:
        if change.path is not None:
            _write_atomically(change.path, change.artefact.text, change.artefact.mode)
        if change.outcome is not Outcome.KEPT:
            record[change.artefact.path] = change.artefact.sha256
    files = tuple(WrittenFile(path=path, sha256=sha256) for path, sha256 in sorted(record.items()))
    text = to_json(RECORD_SCHEMA, WrittenFiles(files=files))
    if _read(_record_path(artefacts, directory)) != text.encode():
        _write_atomically(_record_path(artefacts, directory), text, 0o644)
    return changes


def _examine_one(artefact: Artefact, directory: Path, record: Mapping[str, str], *, force: bool) -> Change:
    target = _target(directory, artefact.path)
    present = _read(target)
    if present is None:
        return Change(artefact=artefact, outcome=Outcome.WRITTEN, path=target)
    if present == artefact.text.encode():
        return Change(artefact=artefact, outcome=Outcome.UNCHANGED, path=None)
    diff = _diff(artefact.path, present, artefact.text)
    is_ours = record.get(artefact.path) == hashlib.sha256(present).hexdigest()
    if is_ours or force:
        return Change(artefact=artefact, outcome=Outcome.WRITTEN, path=target, diff=diff)
    beside = _target(directory, f"{artefact.path}.new")
    return Change(artefact=artefact, outcome=Outcome.KEPT, path=beside, diff=diff)


def _target(directory: Path, path: str) -> Path:
    """The file to write. A link that leads elsewhere would let a rendered file replace one that is not ours."""
    target = directory / path
    if not target.parent.resolve().is_relative_to(directory.resolve()):
        raise UsageError(
            f"{target} leads out of {directory}", hint="choose a directory without links: `--output DIRECTORY`"
        )
    if target.exists() and not target.is_file():
        raise UsageError(f"{target} is there and is not a file", hint="remove it, or choose another `--output`")
    return target


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", hint="choose another `--output`") from error


def _diff(path: str, present: bytes, text: str) -> str:
    before = present.decode(errors="replace").splitlines(keepends=True)
    lines = difflib.unified_diff(before, text.splitlines(keepends=True), f"{path} (there)", f"{path} (new)")
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)


def _write_atomically(path: Path, text: str, mode: int) -> None:
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(mode)
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise UsageError(
            f"cannot write {path}: {error.strerror}", hint="choose another directory: `--output DIRECTORY`"
        ) from error


def _record_path(artefacts: ArtefactSet, directory: Path) -> Path:
    return _target(directory, f"{RECORD_DIRECTORY}/{artefacts.engine}-{artefacts.target}.json")


def _read_record(artefacts: ArtefactSet, directory: Path) -> Mapping[str, str]:
    """SHA-256 by path of the files that we wrote here before; empty where there is no record."""
    path = _record_path(artefacts, directory)
    content = _read(path)
    if content is None:
        return {}
    record = from_json(WrittenFiles, RECORD_SCHEMA, content.decode(errors="replace"), name=str(path))
    return {file.path: file.sha256 for file in record.files}
