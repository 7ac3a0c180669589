"""A machine in a directory: replays what was recorded. docs/recordings.md describes the format."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from v4deploy.documents import from_data
from v4deploy.domain.errors import ProfileError
from v4deploy.system.base import CommandRun, DiskUsage, Failure, FileRead, LibraryAnswer, MachineFacts
from v4deploy.system.yaml_files import read_yaml_file

T = TypeVar("T")


class OriginKind(StrEnum):
    """How far to trust a recording."""

    CAPTURED = "captured"
    VENDOR_DOCUMENTATION = "vendor-documentation"
    HAND_MADE = "hand-made"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """origin.yaml.

    Attributes:
        claim: what this machine is meant to show, in one sentence.
        issues: public reports of tools that got such a machine wrong, as `owner/repository#number`.
    """

    kind: OriginKind
    source: str
    as_of: str
    claim: str
    issues: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedMachine:
    """`uname` and what else the interpreter knows; see `MachineFacts`."""

    system: str
    machine: str
    release: str = ""
    version: str = ""
    page_size_bytes: int | None = None
    usable_cpus: int | None = None
    effective_user_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedDisk:
    total_bytes: int | None = None
    free_bytes: int | None = None
    resolved_path: str | None = None
    free_files: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedFacts:
    """facts.yaml. All but `machine` may be left out; what is left out was not there.

    Attributes:
        files: short files by path, for those who write by hand; longer ones lie below root/.
        file_failures: paths that were there but gave nothing, and why.
        directories: entry names by path; a directory below root/ answers for itself.
        present: paths that exist and whose content does not matter.
    """

    machine: RecordedMachine
    environ: dict[str, str] = field(default_factory=dict)
    programs: dict[str, str] = field(default_factory=dict)
    packages: dict[str, str] = field(default_factory=dict)
    disks: dict[str, RecordedDisk] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    file_failures: dict[str, Failure] = field(default_factory=dict)
    directories: dict[str, tuple[str, ...]] = field(default_factory=dict)
    present: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedCommand:
    """commands/<name>.yaml."""

    argv: tuple[str, ...]
    exit_status: int | None = None
    stdout: str = ""
    stderr: str = ""
    failure: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedLibrary:
    """libraries/<name>.yaml: what the library's reader printed, or why it printed nothing."""

    data: dict[str, Any] | None = None
    error: str | None = None


class RecordedSystem:
    """Answers from a recording; what was not recorded reads as not found.

    Raises:
        ProfileError: the directory is no recording, or one of its files is not of its form.
    """

    def __init__(self, directory: Path) -> None:
        if not (directory / "facts.yaml").is_file():
            raise ProfileError(
                f"{directory} is not a recording: it has no facts.yaml",
                hint="make one with `v4deploy doctor --record DIR`, or write one by docs/recordings.md",
            )
        self._root = directory / "root"
        self.origin = _read(Origin, directory / "origin.yaml")
        self._facts = _read(RecordedFacts, directory / "facts.yaml")
        commands = [_read(RecordedCommand, path) for path in sorted((directory / "commands").glob("*.yaml"))]
        self._commands = {command.argv: command for command in commands}
        self._libraries = {
            path.stem: _read(RecordedLibrary, path) for path in sorted((directory / "libraries").glob("*.yaml"))
        }

    @property
    def environ(self) -> Mapping[str, str]:
        return MappingProxyType(self._facts.environ)

    @property
    def is_live(self) -> bool:
        return False

    def facts(self) -> MachineFacts:
        machine = self._facts.machine
        return MachineFacts(
            system=machine.system,
            release=machine.release,
            machine=machine.machine,
            version=machine.version,
            page_size_bytes=machine.page_size_bytes,
            usable_cpus=machine.usable_cpus,
            effective_user_id=machine.effective_user_id,
        )

    def read_text(self, path: str) -> FileRead:
        if path in self._facts.file_failures:
            return FileRead(path=path, text=None, failure=self._facts.file_failures[path])
        if path in self._facts.files:
            return FileRead(path=path, text=self._facts.files[path])
        file = self._below_root(path)
        if file is None or not file.is_file():
            return FileRead(path=path, text=None, failure=Failure.NOT_FOUND)
        return FileRead(path=path, text=file.read_bytes().decode(errors="replace"))

    def list_dir(self, path: str) -> tuple[str, ...] | None:
        if path in self._facts.directories:
            return tuple(sorted(self._facts.directories[path]))
        names = {entry.name for entry in folder.iterdir()} if (folder := self._folder(path)) else set()
        prefix = path.rstrip("/") + "/"
        names.update(file[len(prefix) :].split("/")[0] for file in self._facts.files if file.startswith(prefix))
        return tuple(sorted(names)) if names else None

    def exists(self, path: str) -> bool:
        known = (*self._facts.present, *self._facts.files, *self._facts.file_failures)
        below = self._below_root(path)
        return path in known or self.list_dir(path) is not None or (below is not None and below.exists())

    def disk_usage(self, path: str) -> DiskUsage:
        disk = self._facts.disks.get(path, RecordedDisk())
        return DiskUsage(
            path=path,
            total_bytes=disk.total_bytes,
            free_bytes=disk.free_bytes,
            resolved_path=disk.resolved_path,
            free_files=disk.free_files,
        )

    def which(self, program: str) -> str | None:
        """A program is there if facts.yaml says where, or if a command of it was recorded that did start."""
        if program in self._facts.programs:
            return self._facts.programs[program]
        started = any(c.argv[0] == program and c.failure is not Failure.NOT_FOUND for c in self._commands.values())
        return (program if program.startswith("/") else f"/usr/bin/{program}") if started else None

    def package_version(self, distribution: str) -> str | None:
        return self._facts.packages.get(distribution)

    def run(self, argv: Sequence[str], *, timeout_seconds: float) -> CommandRun:  # noqa: ARG002 - nothing takes time
        command = self._commands.get(tuple(argv))
        if command is None:
            return CommandRun(argv=tuple(argv), exit_status=None, failure=Failure.NOT_FOUND)
        return CommandRun(
            argv=command.argv,
            exit_status=command.exit_status,
            stdout=command.stdout,
            stderr=command.stderr,
            failure=command.failure,
        )

    def library(self, library: str, *, timeout_seconds: float) -> LibraryAnswer:  # noqa: ARG002 - as above
        recorded = self._libraries.get(library)
        if recorded is None:
            return LibraryAnswer(library=library, data=None, error="not recorded")
        return LibraryAnswer(library=library, data=recorded.data, error=recorded.error)

    def _folder(self, path: str) -> Path | None:
        folder = self._below_root(path)
        return folder if folder is not None and folder.is_dir() else None

    def _below_root(self, path: str) -> Path | None:
        """Where a path of the machine lies in the recording; None for paths that would lead out of it."""
        normal = posixpath.normpath(path)
        if not normal.startswith("/"):
            return None
        return self._root.joinpath(normal.lstrip("/"))


def _read(kind: type[T], path: Path) -> T:
    return from_data(kind, read_yaml_file(path), name=str(path))
