"""The lock beside rendered files: what they start, pinned, and the hash of every file.

It is also the record by which an edited file is told from ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path

from v4deploy.documents import from_json, to_json
from v4deploy.domain.artefact import Artefact, ArtefactSet, sha256_of
from v4deploy.render.files import is_executable, read_file, target_path

LOCK_SCHEMA = "v4deploy.launch-lock/1"
LOCK_NAME = "v4deploy.lock.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedWeight:
    """A weight file. None: neither the catalogue nor what was pulled tells."""

    path: str
    size_bytes: int | None
    sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pins:
    """What the files of a target start.

    Attributes:
        revision: the hub's commit; None where the catalogue pins none.
        weights: sorted by path; empty where the names are not known before a pull.
        engine_version: of this machine, or the one planned for; None where an image brings its own.
        image: with its tag, or `name@sha256:...`; None where nothing runs in a container.
        arguments: the engine's command line as it would be on this machine, its program first.
    """

    release: str
    checkpoint: str
    repo: str
    revision: str | None
    weights: tuple[PinnedWeight, ...]
    engine_version: str | None
    image: str | None
    arguments: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    tool_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedFile:
    """A file as it was rendered, also where an edited one was kept in its place."""

    path: str
    sha256: str
    executable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedSet:
    """The files of an engine and target; `pins` None for files that start nothing."""

    engine: str
    target: str
    files: tuple[LockedFile, ...]
    pins: Pins | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """All that was rendered into one directory. A JSON document (`v4deploy.launch-lock/1`)."""

    sets: tuple[LockedSet, ...] = ()

    def find(self, engine: str, target: str) -> LockedSet | None:
        return next((one for one in self.sets if (one.engine, one.target) == (engine, target)), None)

    def owner(self, path: str) -> LockedSet | None:
        return next((one for one in self.sets if any(file.path == path for file in one.files)), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedSet:
    """Files to write, and what they start."""

    artefacts: ArtefactSet
    pins: Pins | None = None

    def locked(self) -> LockedSet:
        files = tuple(_locked(artefact) for artefact in self.artefacts.artefacts)
        return LockedSet(engine=self.artefacts.engine, target=self.artefacts.target, files=files, pins=self.pins)


class Disagreement(StrEnum):
    """What is wrong with a file. MODE: it may be run, or no longer. OUTDATED: it, or a pin, would be another now."""

    MISSING = "missing"
    EDITED = "edited"
    MODE = "mode"
    OUTDATED = "outdated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """Where files, lock and plan disagree. `name` is a file's path or a pin (`llama.cpp/script: image`)."""

    name: str
    kind: Disagreement
    locked: str | None = None
    found: str | None = None


def read_lock(directory: Path) -> Lock | None:
    """The lock of a directory; None where there is none.

    Raises:
        ProfileError: it is broken.
        UsageError: it cannot be read.
    """
    path = target_path(directory, LOCK_NAME)
    content = read_file(path)
    return None if content is None else from_json(Lock, LOCK_SCHEMA, content.decode(errors="replace"), name=str(path))


def lock_text(lock: Lock) -> str:
    return to_json(LOCK_SCHEMA, lock)


def merged(lock: Lock, sets: Sequence[RenderedSet]) -> Lock:
    """The lock with these sets in place of earlier ones of their engine and target. A file belongs to one set only."""
    new = tuple(one.locked() for one in sets)
    names = {(one.engine, one.target) for one in new}
    taken = {file.path for one in new for file in one.files}
    kept = []
    for one in lock.sets:
        files = tuple(file for file in one.files if file.path not in taken)
        if (one.engine, one.target) not in names and files:
            kept.append(LockedSet(engine=one.engine, target=one.target, files=files, pins=one.pins))
    return Lock(sets=tuple(sorted((*kept, *new), key=lambda one: (one.engine, one.target))))


def file_mismatches(lock: Lock, directory: Path) -> tuple[Mismatch, ...]:
    """Files of the lock that are not as it says."""
    found = []
    for file in (file for one in lock.sets for file in one.files):
        path = target_path(directory, file.path)
        content = read_file(path)
        if content is None:
            found.append(Mismatch(name=file.path, kind=Disagreement.MISSING, locked=file.sha256))
        elif (digest := sha256_of(content)) != file.sha256:
            found.append(Mismatch(name=file.path, kind=Disagreement.EDITED, locked=file.sha256, found=digest))
        elif is_executable(path.stat().st_mode) != file.executable:
            found.append(Mismatch(name=file.path, kind=Disagreement.MODE))
    return tuple(found)


def plan_mismatches(lock: Lock, sets: Sequence[RenderedSet]) -> tuple[Mismatch, ...]:
    """Files and pins of the lock that a plan would now be written with otherwise."""
    found = []
    for new in (one.locked() for one in sets):
        word = f"{new.engine}/{new.target}"
        old = lock.find(new.engine, new.target)
        if old is None:
            found.append(Mismatch(name=word, kind=Disagreement.OUTDATED, found="not in the lock"))
            continue
        before = {file.path: file.sha256 for file in old.files}
        after = {file.path: file.sha256 for file in new.files}
        found += [
            Mismatch(name=path, kind=Disagreement.OUTDATED, locked=before.get(path), found=after.get(path))
            for path in sorted(before.keys() | after.keys())
            if before.get(path) != after.get(path)
        ]
        found += _pin_mismatches(word, old.pins, new.pins)
    return tuple(found)


def _pin_mismatches(word: str, old: Pins | None, new: Pins | None) -> list[Mismatch]:
    if old is None or new is None:
        return []
    return [
        Mismatch(
            name=f"{word}: {field.name}",
            kind=Disagreement.OUTDATED,
            locked=_words(getattr(old, field.name)),
            found=_words(getattr(new, field.name)),
        )
        for field in fields(Pins)
        if getattr(old, field.name) != getattr(new, field.name)
    ]


def _words(pin: object) -> str:
    if isinstance(pin, tuple):
        return ", ".join(" ".join(one) if isinstance(one, tuple) else str(one) for one in pin)
    return str(pin)


def _locked(artefact: Artefact) -> LockedFile:
    return LockedFile(path=artefact.path, sha256=artefact.sha256, executable=is_executable(artefact.mode))
