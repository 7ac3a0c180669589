"""The lock beside rendered files: what they start, pinned, and the hash of every file.

It is also the record by which an edited file is told from ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from v4deploy.documents import from_json, to_json
from v4deploy.domain.artefact import Artefact, ArtefactSet
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
    weights_dir: str
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
    """The files of an engine, target and release; `pins` None for files that start nothing."""

    engine: str
    target: str
    files: tuple[LockedFile, ...]
    pins: Pins | None = None

    @property
    def release(self) -> str:
        """What the files serve; "" where they start nothing."""
        return "" if self.pins is None else self.pins.release

    @property
    def key(self) -> tuple[str, str, str]:
        """By it a set is told from others: units of two releases lie in one directory."""
        return (self.engine, self.target, self.release)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """All that was rendered into one directory. A JSON document (`v4deploy.launch-lock/1`)."""

    sets: tuple[LockedSet, ...] = ()

    def find(self, engine: str, target: str, release: str) -> LockedSet | None:
        return next((one for one in self.sets if one.key == (engine, target, release)), None)

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
    """The lock with these sets in place of earlier ones of their key. A file belongs to one set only."""
    new = tuple(one.locked() for one in sets)
    keys = {one.key for one in new}
    taken = {file.path for one in new for file in one.files}
    kept = []
    for one in lock.sets:
        files = tuple(file for file in one.files if file.path not in taken)
        if one.key not in keys and files:
            kept.append(LockedSet(engine=one.engine, target=one.target, files=files, pins=one.pins))
    return Lock(sets=tuple(sorted((*kept, *new), key=lambda one: one.key)))


def _locked(artefact: Artefact) -> LockedFile:
    return LockedFile(path=artefact.path, sha256=artefact.sha256, executable=is_executable(artefact.mode))
