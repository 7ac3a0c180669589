"""What is known of a serve by others: a small document that its owner keeps, and what it is worth."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from filelock import FileLock, Timeout

from v4deploy.documents import from_json, to_json
from v4deploy.domain.engine import EngineId
from v4deploy.domain.errors import LaunchError, ProfileError
from v4deploy.serve.identity import ProcessMark, lives, mark_of
from v4deploy.serve.state import ENDED, State
from v4deploy.serve.supervisor import ServeEvent

RECORD_SCHEMA = "v4deploy.served/1"


class Standing(StrEnum):
    """RUNNING: its owner lives. ORPHANED: only the engine does. ENDED: it failed and said why. GONE: neither lives, and
    nobody said a word: killed, or the machine was restarted.
    """

    RUNNING = "running"
    ORPHANED = "orphaned"
    ENDED = "ended"
    GONE = "gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedRecord:
    """One serve, as its owner last wrote it.

    Attributes:
        weights_dir: resolved, so that the same weights are the same text.
        health_path: answers 200 while the engine's server is well.
        api_key_file: None when the engine asks for no key.
        owner: the `v4deploy serve` that started it.
        engine_process: None before it was started.
        message: the last thing that was told of it.
        began_at: ISO 8601, UTC.
    """

    model: str
    engine: EngineId
    bind: str
    port: int
    base_url: str
    weights_dir: str
    api_key_file: str | None
    log: str
    stop_timeout_seconds: float
    owner: ProcessMark
    began_at: str
    engine_process: ProcessMark | None = None
    state: State = State.STARTING
    message: str = ""
    health_path: str = "/health"


def standing_of(record: ServedRecord) -> Standing:
    """What has become of it."""
    if lives(record.owner) and record.state not in ENDED:
        return Standing.RUNNING
    if lives(record.engine_process):
        return Standing.ORPHANED
    return Standing.ENDED if record.state in ENDED else Standing.GONE


class Recorder:
    """Keeps the record of a serve, for as long as it holds the port's lock (see `holding`)."""

    def __init__(self, directory: Path, record: ServedRecord) -> None:
        self._path = record_path(directory, record.port)
        self.record = record
        self._write()

    def saw(self, event: ServeEvent) -> None:
        """Take over what was told. A disk that is full now is no reason to end an engine."""
        engine = self.record.engine_process
        if engine is None and event.pid is not None:
            engine = mark_of(event.pid)
        self.record = replace(self.record, state=event.state, message=event.message, engine_process=engine)
        with contextlib.suppress(OSError):
            self._write()

    def failed(self, message: str) -> None:
        """Leave the reason behind for whoever asks later."""
        self.record = replace(self.record, state=State.FAILED, message=message)
        with contextlib.suppress(OSError):
            self._write()

    def ended(self) -> None:
        """It ended because it was asked; nothing is left to tell."""
        self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")
        with open(handle, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
            file.write(to_json(RECORD_SCHEMA, self.record))
        os.replace(name, self._path)  # noqa: PTH105 - a name from mkstemp


def record_path(directory: Path, port: int) -> Path:
    return directory / f"{port}.json"


@contextlib.contextmanager
def holding(directory: Path, port: int) -> Iterator[None]:
    """Be the only serve on a port, for the length of a block. The system lets go of it when we are killed.

    Raises:
        LaunchError: another one is, or the directory cannot be written.
    """
    lock = FileLock(directory / f"{port}.lock", timeout=0)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise LaunchError(
            f"another `v4deploy serve` is starting or running on port {port}", hint="`v4deploy status` shows it"
        ) from error
    except OSError as error:
        raise LaunchError(
            f"what is served cannot be noted in {directory}: {error.strerror or error}",
            hint="name a directory that can be written: `XDG_STATE_HOME=DIR v4deploy ...`",
        ) from error
    try:
        yield
    finally:
        lock.release()


def read_records(directory: Path) -> tuple[ServedRecord, ...]:
    """All records, by port; without what another version wrote, and what broke."""
    found = (_read(path) for path in _record_paths(directory))
    return tuple(sorted((record for record in found if record is not None), key=lambda record: record.port))


def unread_records(directory: Path) -> tuple[Path, ...]:
    """What `read_records` leaves out: there may be an engine behind it all the same."""
    return tuple(path for path in _record_paths(directory) if _read(path) is None and path.exists())


def _record_paths(directory: Path) -> list[Path]:
    return [path for path in sorted(directory.glob("*.json")) if path.stem.isdecimal()]


def _read(path: Path) -> ServedRecord | None:
    try:
        return from_json(ServedRecord, RECORD_SCHEMA, path.read_text(encoding="utf-8"), name=str(path))
    except (OSError, UnicodeDecodeError, ProfileError):
        return None
