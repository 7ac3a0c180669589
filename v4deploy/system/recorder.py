"""Notes everything that is asked of a machine, and writes it down as a recording."""

from __future__ import annotations

import getpass
import platform
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from v4deploy.documents import to_data
from v4deploy.domain.errors import UsageError
from v4deploy.system.base import CommandRun, DiskUsage, FileRead, LibraryAnswer, MachineFacts, System
from v4deploy.system.recorded import Origin, OriginKind
from v4deploy.system.redact import Redactor
from v4deploy.system.yaml_files import write_yaml_file


class RecordingSystem:
    """Passes every question on to `inner` and keeps the answers."""

    def __init__(self, inner: System) -> None:
        self._inner = inner
        self._files: dict[str, FileRead] = {}
        self._directories: dict[str, tuple[str, ...]] = {}
        self._present: set[str] = set()
        self._disks: dict[str, DiskUsage] = {}
        self._programs: dict[str, str] = {}
        self._packages: dict[str, str] = {}
        self._commands: dict[tuple[str, ...], CommandRun] = {}
        self._libraries: dict[str, LibraryAnswer] = {}

    @property
    def environ(self) -> Mapping[str, str]:
        return self._inner.environ

    @property
    def is_live(self) -> bool:
        return self._inner.is_live

    def facts(self) -> MachineFacts:
        return self._inner.facts()

    def read_text(self, path: str) -> FileRead:
        return self._files.setdefault(path, self._inner.read_text(path))

    def list_dir(self, path: str) -> tuple[str, ...] | None:
        names = self._inner.list_dir(path)
        if names is not None:
            self._directories[path] = names
        return names

    def exists(self, path: str) -> bool:
        found = self._inner.exists(path)
        if found:
            self._present.add(path)
        return found

    def disk_usage(self, path: str) -> DiskUsage:
        return self._disks.setdefault(path, self._inner.disk_usage(path))

    def which(self, program: str) -> str | None:
        found = self._inner.which(program)
        if found is not None:
            self._programs[program] = found
        return found

    def package_version(self, distribution: str) -> str | None:
        version = self._inner.package_version(distribution)
        if version is not None:
            self._packages[distribution] = version
        return version

    def run(self, argv: Sequence[str], *, timeout_seconds: float) -> CommandRun:
        command = self._inner.run(argv, timeout_seconds=timeout_seconds)
        self._commands[command.argv] = command
        return command

    def library(self, library: str, *, timeout_seconds: float) -> LibraryAnswer:
        answer = self._inner.library(library, timeout_seconds=timeout_seconds)
        self._libraries[library] = answer
        return answer

    def write(self, directory: Path, *, origin: Origin | None = None) -> None:
        """Write what was asked so far, redacted. Without `origin` it says: captured now, on a machine of this kind.

        Raises:
            UsageError: the directory holds something already, or cannot be written.
        """
        redactor = Redactor(
            host_name=platform.node(), user_name=_user_name(), home=self.environ.get("HOME", str(Path.home()))
        )
        try:
            if directory.exists() and any(directory.iterdir()):
                raise UsageError(
                    f"{directory} is not empty, and a recording may not mix two machines",
                    hint="name a directory that does not exist yet",
                )
            directory.mkdir(parents=True, exist_ok=True)
            self._write_files(directory, redactor)
            write_yaml_file(directory / "origin.yaml", to_data(origin or self._captured_now()))
            write_yaml_file(directory / "facts.yaml", self._facts_data(redactor))
            self._write_answers(directory, redactor)
        except OSError as error:
            raise UsageError(f"{directory} cannot be written: {error}") from error

    def _captured_now(self) -> Origin:
        facts = self._inner.facts()
        return Origin(
            kind=OriginKind.CAPTURED,
            source=f"v4deploy doctor --record, {facts.system} {facts.release} {facts.machine}",
            as_of=datetime.now(tz=UTC).date().isoformat(),
            claim="what this machine answered",
        )

    def _facts_data(self, redactor: Redactor) -> dict[str, Any]:
        facts = {
            "machine": to_data(self._inner.facts()),
            "environ": redactor.environment(self.environ),
            "programs": self._programs,
            "packages": self._packages,
            "disks": {path: _disk_data(disk) for path, disk in sorted(self._disks.items())},
            "file_failures": {
                path: file.failure.value
                for path, file in sorted(self._files.items())
                if file.failure is not None and file.failure.value != "not-found"
            },
            "directories": {path: list(names) for path, names in sorted(self._directories.items())},
            "present": sorted(self._present - self._directories.keys()),
        }
        redacted = {key: _redact_keys(redactor, value) for key, value in facts.items() if key != "environ"}
        return {"machine": redacted.pop("machine"), "environ": facts["environ"], **redacted}

    def _write_files(self, directory: Path, redactor: Redactor) -> None:
        for path, file in self._files.items():
            if file.text is None:
                continue
            target = directory / "root" / redactor.text(path).lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(redactor.text(file.text), encoding="utf-8", newline="")

    def _write_answers(self, directory: Path, redactor: Redactor) -> None:
        for number, command in enumerate(self._commands.values(), start=1):
            slug = re.sub(r"[^A-Za-z0-9]+", "-", " ".join(command.argv[:2])).strip("-").lower()
            data = to_data(command)
            del data["duration_seconds"]
            data["stdout"] = redactor.output(command.argv, command.stdout)
            write_yaml_file(directory / "commands" / f"{number:02d}-{slug}.yaml", redactor.data(data))
        for name, answer in sorted(self._libraries.items()):
            data = {"data": answer.data, "error": answer.error}
            write_yaml_file(directory / "libraries" / f"{name}.yaml", redactor.data(data))


def _disk_data(disk: DiskUsage) -> dict[str, Any]:
    return {
        "total_bytes": disk.total_bytes,
        "free_bytes": disk.free_bytes,
        "resolved_path": disk.resolved_path,
        "free_files": disk.free_files,
    }


def _redact_keys(redactor: Redactor, value: Any) -> Any:
    """Redact texts and, where paths are keys, the keys as well."""
    if isinstance(value, dict):
        return {redactor.text(key): _redact_keys(redactor, item) for key, item in value.items()}
    return redactor.data(value)


def _user_name() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number without a name
        return None
