"""Runs a short command: no shell, no terminal, a hard time limit, bounded output. The one user of subprocess here."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

from v4deploy.system.base import CommandRun, Failure

MAX_OUTPUT_BYTES = 4 * 1024**2
_CHUNK_BYTES = 65536
# How long output is still read after the command itself ended: a daemon that it left behind may hold the pipe open.
_LINGER_SECONDS = 0.2
# How long a killed command may take to disappear: a process stuck in a driver call cannot be killed at all.
_REAP_SECONDS = 0.5


def run_command(
    argv: Sequence[str],
    *,
    timeout_seconds: float,
    environ: Mapping[str, str],
    working_directory: str | None = None,
    max_output_bytes: int = MAX_OUTPUT_BYTES,
) -> CommandRun:
    """Run `argv` with `LC_ALL=C` and closed input; never raises for anything that the command does.

    At the time limit, or past `max_output_bytes` of one stream, the whole process group is killed; what was printed
    until then is kept, `exit_status` is None, and `failure` says TIMED_OUT or UNREADABLE.
    """
    command = tuple(argv)
    started = time.monotonic()
    try:
        process = subprocess.Popen(  # noqa: S603 - argv comes from our own probes, never from a shell line
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**environ, "LC_ALL": "C"},
            cwd=working_directory,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        return CommandRun(argv=command, exit_status=None, stderr=str(error), failure=_start_failure(error))
    output = _Output(process=process, deadline=started + timeout_seconds, limit_bytes=max_output_bytes)
    failure = output.read_to_end()
    _stop(process)
    return CommandRun(
        argv=command,
        exit_status=None if failure else process.returncode,
        stdout=output.text(process.stdout),
        stderr=output.text(process.stderr),
        failure=failure,
        duration_seconds=time.monotonic() - started,
    )


def _start_failure(error: OSError | ValueError) -> Failure:
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return Failure.NOT_FOUND
    return Failure.NO_PERMISSION if isinstance(error, PermissionError) else Failure.UNREADABLE


@dataclass
class _Output:
    """What a running command has printed so far, and until when we listen."""

    process: subprocess.Popen[bytes]
    deadline: float
    limit_bytes: int
    chunks: dict[IO[bytes], bytearray] = field(default_factory=dict)

    def text(self, stream: IO[bytes] | None) -> str:
        return bytes(self.chunks.get(stream, b"")).decode(errors="replace") if stream else ""

    def read_to_end(self) -> Failure | None:
        """Read both streams until the command has ended; the failure that made us stop earlier, if any."""
        with selectors.DefaultSelector() as selector:
            for stream in (self.process.stdout, self.process.stderr):
                if stream is not None:
                    self.chunks[stream] = bytearray()
                    selector.register(stream, selectors.EVENT_READ)
            ended_at: float | None = None
            while selector.get_map():
                now = time.monotonic()
                if now >= self.deadline:
                    return Failure.TIMED_OUT
                if ended_at is not None and now - ended_at > _LINGER_SECONDS:
                    return None
                if not self._read_ready(selector, min(self.deadline - now, _LINGER_SECONDS)):
                    return Failure.UNREADABLE
                if ended_at is None and self.process.poll() is not None:
                    ended_at = time.monotonic()
        return self._wait()

    def _read_ready(self, selector: selectors.BaseSelector, wait_seconds: float) -> bool:
        """Take what is there; False once a stream is longer than the limit."""
        for key, _ in selector.select(wait_seconds):
            stream: IO[bytes] = key.fileobj  # type: ignore[assignment]
            data = os.read(stream.fileno(), _CHUNK_BYTES)
            if not data:
                selector.unregister(stream)
                continue
            self.chunks[stream] += data
            if len(self.chunks[stream]) > self.limit_bytes:
                del self.chunks[stream][self.limit_bytes :]
                return False
        return True

    def _wait(self) -> Failure | None:
        """A command may close its output and run on."""
        try:
            self.process.wait(max(0.0, self.deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return Failure.TIMED_OUT
        return None


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the group, close the pipes, and take the exit status."""
    if process.poll() is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(_REAP_SECONDS)
        except (ProcessLookupError, PermissionError, subprocess.TimeoutExpired):
            pass
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
