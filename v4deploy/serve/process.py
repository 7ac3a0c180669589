"""One child process with its process group and its log file: started, looked at, stopped with all that it started."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from v4deploy.domain.engine import LaunchSpec
from v4deploy.domain.errors import LaunchError
from v4deploy.serve.failures import install_hint
from v4deploy.serve.log import rotate, tail
from v4deploy.serve.tether import tethered

_STEP_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineExit:
    """How a process ended: with a code, or by a signal. `forced`: we had to kill it.

    Exactly one of `code` and `signal` is set.
    """

    code: int | None
    signal: str | None
    forced: bool = False

    def __str__(self) -> str:
        return f"exit code {self.code}" if self.signal is None else f"signal {self.signal}"


class EngineProcess:
    """The only owner of a started engine. Use `start`; call `stop` in a `finally`."""

    def __init__(self, process: subprocess.Popen[bytes], log_path: Path) -> None:
        self._process = process
        self.log_path = log_path

    @classmethod
    def start(cls, spec: LaunchSpec, *, log_path: Path, environ: Mapping[str, str]) -> EngineProcess:
        """Start the engine: own session and process group, no standard input, all output to `log_path`.

        The engine writes the file itself, so it never waits for us to read a pipe, and its last words are there even
        when we are killed. The logs of earlier runs are kept beside it (see `log.py`).

        Raises:
            LaunchError: the program is missing or cannot be executed, or the log cannot be written.
        """
        environ = {**environ, **dict(spec.env)}
        require_program(spec, environ)
        require_log_directory(log_path)
        try:
            rotate(log_path)
            # To append, so that it can be cut while the engine writes.
            log = log_path.open("ab")
        except OSError as error:
            raise _no_log(log_path, error) from error
        with log:
            try:
                process = subprocess.Popen(  # noqa: S603 - an argument tuple of our own making, no shell
                    tethered(spec.argv),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=environ,
                    start_new_session=True,
                )
            except OSError as error:
                raise _not_started(spec, error.strerror or str(error)) from error
        return cls(process, log_path)

    @property
    def pid(self) -> int:
        """Process id, and id of the process group."""
        return self._process.pid

    def exit(self) -> EngineExit | None:
        """How it ended; None while it runs."""
        code = self._process.poll()
        return None if code is None else _exit(code, forced=False)

    def tail(self, lines: int) -> tuple[str, ...]:
        """The last lines of its log that are not empty. At most 64 KiB are read, however long the log is."""
        return tail(self.log_path, lines)

    def stop(self, *, timeout_seconds: float, hurry: Callable[[], bool]) -> EngineExit:
        """SIGTERM to the group, SIGKILL after the timeout or as soon as `hurry` says so; returns when all is gone."""
        forced = False
        if self._process.poll() is None:
            self._signal(signal.SIGTERM)
            forced = not self._wait(timeout_seconds, hurry)
        # Also after a polite exit: workers that outlive their parent would keep the memory of the devices.
        self._signal(signal.SIGKILL)
        return _exit(self._process.wait(), forced=forced)

    def _wait(self, timeout_seconds: float, hurry: Callable[[], bool]) -> bool:
        left_seconds = timeout_seconds
        while left_seconds > 0 and not hurry():
            step_seconds = min(_STEP_SECONDS, left_seconds)
            try:
                self._process.wait(step_seconds)
            except subprocess.TimeoutExpired:
                left_seconds -= step_seconds
            else:
                return True
        return self._process.poll() is not None

    def _signal(self, number: signal.Signals) -> None:
        # macOS reports a group of zombies as PermissionError.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


def require_program(spec: LaunchSpec, environ: Mapping[str, str]) -> None:
    """Check that the program is there. What is started is a tether first, which could tell this in its log only.

    Raises:
        LaunchError: it is missing or may not be executed.
    """
    program = spec.argv[0]
    if shutil.which(program, path=environ.get("PATH")) is None:
        there = os.path.dirname(program) and os.path.exists(program)  # noqa: PTH110, PTH120 - a PATH name is no path
        raise _not_started(spec, os.strerror(errno.EACCES if there else errno.ENOENT))


def require_log_directory(log_path: Path) -> None:
    """Make the directory of an engine's log.

    Raises:
        LaunchError: it cannot be made or written.
    """
    try:
        log_path.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(log_path.parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "it may not be written", str(log_path.parent))
    except OSError as error:
        raise _no_log(log_path, error) from error


def _no_log(log_path: Path, error: OSError) -> LaunchError:
    return LaunchError(
        f"the engine's log cannot be written in {log_path.parent}: {error.strerror or error}",
        hint="name a directory that can be written: `XDG_STATE_HOME=DIR v4deploy ...`",
    )


def _not_started(spec: LaunchSpec, reason: str) -> LaunchError:
    return LaunchError(f"`{spec.argv[0]}` cannot be started: {reason}", hint=install_hint(spec.engine))


def _exit(code: int, *, forced: bool) -> EngineExit:
    if code >= 0:
        return EngineExit(code=code, signal=None, forced=forced)
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = str(-code)
    return EngineExit(code=None, signal=name, forced=forced)
