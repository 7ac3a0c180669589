"""The machine that we stand on."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from v4deploy.system.base import CommandRun, DiskUsage, Failure, FileRead, LibraryAnswer, MachineFacts
from v4deploy.system.run import run_command

# No file that a probe reads comes near this; it keeps a path that points at a device or a log from filling memory.
MAX_FILE_BYTES = 4 * 1024**2
_PIECE_BYTES = 65536


class LiveSystem:
    """Reads files, runs commands and asks vendor libraries, each bounded in size and time."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._environ = MappingProxyType(dict(os.environ if environ is None else environ))

    @property
    def environ(self) -> Mapping[str, str]:
        return self._environ

    @property
    def is_live(self) -> bool:
        return True

    def facts(self) -> MachineFacts:
        name = os.uname()
        return MachineFacts(
            system=name.sysname,
            release=name.release,
            machine=name.machine,
            version=name.version,
            page_size_bytes=os.sysconf("SC_PAGE_SIZE"),
            usable_cpus=_usable_cpus(),
            effective_user_id=os.geteuid(),
        )

    def read_text(self, path: str) -> FileRead:
        try:
            data = _read_bytes(path)
        except OSError as error:
            return FileRead(path=path, text=None, failure=_failure_of(error))
        return FileRead(path=path, text=data.decode(errors="replace"))

    def list_dir(self, path: str) -> tuple[str, ...] | None:
        try:
            return tuple(sorted(os.listdir(path)))  # noqa: PTH208 - names, not paths, are wanted
        except OSError:
            return None

    def exists(self, path: str) -> bool:
        return os.path.lexists(path)

    def disk_usage(self, path: str) -> DiskUsage:
        resolved = os.path.realpath(path)
        present = Path(resolved)
        while not os.path.lexists(present) and present != present.parent:
            present = present.parent
        try:
            status = os.statvfs(present)
        except OSError:
            return DiskUsage(path=path, total_bytes=None, free_bytes=None, resolved_path=resolved)
        return DiskUsage(
            path=path,
            total_bytes=status.f_blocks * status.f_frsize,
            # f_bavail, not f_bfree: the blocks reserved for root are no room for weights.
            free_bytes=status.f_bavail * status.f_frsize,
            resolved_path=resolved,
            free_files=status.f_favail if status.f_files else None,
        )

    def which(self, program: str) -> str | None:
        return shutil.which(program, path=self._environ.get("PATH"))

    def package_version(self, distribution: str) -> str | None:
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            return None

    def run(self, argv: Sequence[str], *, timeout_seconds: float) -> CommandRun:
        found = self.which(argv[0])
        if found is None:
            return CommandRun(argv=tuple(argv), exit_status=None, failure=Failure.NOT_FOUND)
        ran = run_command((found, *argv[1:]), timeout_seconds=timeout_seconds, environ=self._environ)
        return CommandRun(
            argv=tuple(argv),
            exit_status=ran.exit_status,
            stdout=ran.stdout,
            stderr=ran.stderr,
            failure=ran.failure,
            duration_seconds=ran.duration_seconds,
        )

    def library(self, library: str, *, timeout_seconds: float) -> LibraryAnswer:
        ran = run_command(
            (sys.executable, "-m", f"v4deploy.probes.{library}_reader"),
            timeout_seconds=timeout_seconds,
            environ=self._environ,
            # `-m` puts the working directory in front of sys.path: the user's own could hold a `pynvml.py`.
            working_directory=str(Path(__file__).parents[2]),
        )
        return parse_library_answer(library, ran, timeout_seconds=timeout_seconds)


def parse_library_answer(library: str, ran: CommandRun, *, timeout_seconds: float) -> LibraryAnswer:
    """A reader's output as plain data; an `error` that quotes it where it is not one JSON object."""
    if ran.failure is Failure.TIMED_OUT:
        return LibraryAnswer(library=library, data=None, error=f"gave no answer in {timeout_seconds:g} s")
    if ran.failure is not None:
        return LibraryAnswer(library=library, data=None, error=f"could not be asked: {ran.failure}: {ran.stderr}")
    last_words = ran.stderr.strip().splitlines()[-1:] or ["no message"]
    if ran.exit_status != 0:
        return LibraryAnswer(
            library=library, data=None, error=f"its reader ended with status {ran.exit_status}: {last_words[0]}"
        )
    try:
        data = json.loads(ran.stdout)
    except ValueError as error:
        return LibraryAnswer(library=library, data=None, error=f"its reader printed no JSON: {error}")
    if not isinstance(data, dict):
        return LibraryAnswer(library=library, data=None, error="its reader printed JSON that is no object")
    return LibraryAnswer(library=library, data=data)


def _read_bytes(path: str) -> bytes:
    """The start of a file, read in pieces: files below /proc/sys refuse a single large read with ENOMEM."""
    data = bytearray()
    with Path(path).open("rb", buffering=0) as file:
        while len(data) < MAX_FILE_BYTES and (piece := file.read(_PIECE_BYTES)):
            data += piece
    return bytes(data)


def _usable_cpus() -> int | None:
    """CPUs that the scheduler lets us use (cpuset included); all of them where the system has no such notion."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _failure_of(error: OSError) -> Failure:
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return Failure.NOT_FOUND
    return Failure.NO_PERMISSION if isinstance(error, PermissionError) else Failure.UNREADABLE
