"""What a probe may ask of a machine. Live, recorded and recording machines all satisfy `System`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol


class Failure(StrEnum):
    """Why a file, command or library gave nothing."""

    NOT_FOUND = "not-found"
    NO_PERMISSION = "no-permission"
    TIMED_OUT = "timed-out"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRead:
    """A file's text, or why there is none. Exactly one of the two is set."""

    path: str
    text: str | None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandRun:
    """A command that was run, or why it could not be.

    Attributes:
        exit_status: None when it never ran or was killed at its time limit; partial output is kept then.
        duration_seconds: wall time; 0.0 in recordings that do not say.
    """

    argv: tuple[str, ...]
    exit_status: int | None
    stdout: str = ""
    stderr: str = ""
    failure: Failure | None = None
    duration_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryAnswer:
    """What a vendor library said, as plain data in the shape that the library's reader module documents.

    `data` is None when the library is missing, hung or broken; `error` says which and quotes it.
    """

    library: str
    data: Mapping[str, Any] | None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineFacts:
    """What the interpreter knows without reading a file: `platform.uname()`, the page size, the CPUs it may use."""

    system: str
    release: str
    machine: str
    version: str
    page_size_bytes: int | None
    usable_cpus: int | None
    effective_user_id: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskUsage:
    """`statvfs` of a path, or of its nearest parent that exists; None where that cannot be examined.

    `resolved_path` is the path with symbolic links followed; None where that is not known. `free_files` is how many
    files can still be made; None where the file system sets no number (btrfs, vfat).
    """

    path: str
    total_bytes: int | None
    free_bytes: int | None
    resolved_path: str | None = None
    free_files: int | None = None


class System(Protocol):
    """One machine. Paths are absolute and mean the machine's own root."""

    @property
    def environ(self) -> Mapping[str, str]: ...

    @property
    def is_live(self) -> bool:
        """False for recordings."""
        ...

    def facts(self) -> MachineFacts: ...

    def read_text(self, path: str) -> FileRead: ...

    def list_dir(self, path: str) -> tuple[str, ...] | None:
        """Sorted entry names; None when the directory is missing or unreadable."""
        ...

    def exists(self, path: str) -> bool: ...

    def disk_usage(self, path: str) -> DiskUsage: ...

    def which(self, program: str) -> str | None: ...

    def package_version(self, distribution: str) -> str | None:
        """The version of a Python distribution beside v4deploy, read from its metadata; None when not installed."""
        ...

    def run(self, argv: Sequence[str], *, timeout_seconds: float) -> CommandRun:
        """Run a short command: no shell, no terminal, `LC_ALL=C`, a hard time limit. Never raises."""
        ...

    def library(self, library: str, *, timeout_seconds: float) -> LibraryAnswer:
        """Ask `v4deploy.probes.<library>_reader` in a child process, so that a hung driver cannot hang us."""
        ...
