"""End what `serve` started: let its requests finish, then ask its owner, who ends the engine."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from v4deploy.commands.result import Report, Result, Step, StepState
from v4deploy.commands.served import choose_record, served_directory
from v4deploy.commands.status import ask
from v4deploy.commands.workspace import Workspace
from v4deploy.domain.counting import counted
from v4deploy.domain.errors import LaunchError, UsageError
from v4deploy.serve.identity import ProcessMark, lives, send, send_to_group
from v4deploy.serve.keys import read_api_keys
from v4deploy.serve.managed import ManagedTarget
from v4deploy.serve.record import ServedRecord, Standing, read_records, record_path, standing_of
from v4deploy.serve.traffic import requests_in_flight
from v4deploy.serve.wire import Endpoint

_TICK_SECONDS = 0.2
# The owner needs a moment after its engine: to write its last words, and to be collected.
_MARGIN_SECONDS = 15.0
_COMMAND_SECONDS = 900.0


class Ending(StrEnum):
    """STOPPED: its owner ended it. ENGINE_ENDED: the owner was gone, so the engine was ended. NOTHING_RAN: only the
    record was left, and was removed.
    """

    STOPPED = "stopped"
    ENGINE_ENDED = "engine-ended"
    NOTHING_RAN = "nothing-ran"


@dataclass(frozen=True, slots=True, kw_only=True)
class StopReport:
    """What was ended.

    Attributes:
        left_requests: that were still being answered when it was ended; None where the engine does not tell.
        elapsed_seconds: with the wait for requests.
    """

    name: str
    ending: Ending
    left_requests: int | None
    elapsed_seconds: float


def stop(
    workspace: Workspace, name: str | None, *, drain_seconds: float, at_once: bool, report: Report
) -> Result[StopReport]:
    """End one serve.

    Args:
        workspace: for the state directory.
        name: port or model; None: the only one.
        drain_seconds: longest wait for requests that are being answered; new ones are answered meanwhile too.
        at_once: kill the engine, without that wait and without its own.
        report: told what is waited for.

    Raises:
        UsageError: nothing or several have that name, or it belongs to another user.
        LaunchError: it did not end.
    """
    begun = time.monotonic()
    directory = served_directory(workspace.environ)
    record = choose_record(read_records(directory), name)
    standing, left = standing_of(record), None
    try:
        match standing:
            case Standing.RUNNING:
                left = None if at_once else _drain(record, drain_seconds, report)
                _end_owner(record, at_once=at_once, report=report)
            case Standing.ORPHANED:
                _end_engine(record, at_once=at_once, report=report)
            case Standing.ENDED | Standing.GONE:
                pass
    except PermissionError as error:
        raise UsageError(
            f"{record.model} on port {record.port} belongs to another user", hint="stop it as that user"
        ) from error
    record_path(directory, record.port).unlink(missing_ok=True)
    endings = {Standing.RUNNING: Ending.STOPPED, Standing.ORPHANED: Ending.ENGINE_ENDED}
    data = StopReport(
        name=f"{record.model} on port {record.port}",
        ending=endings.get(standing, Ending.NOTHING_RAN),
        left_requests=left,
        elapsed_seconds=time.monotonic() - begun,
    )
    return Result(kind="stop", data=data)


def managed_stop(workspace: Workspace, target: ManagedTarget) -> Result[StopReport]:
    """Let Docker Compose or systemd end it; both know how long it may take.

    Raises:
        LaunchError: it is not here, or failed.
    """
    begun = time.monotonic()
    ask(workspace, target.stop_argv, timeout_seconds=_COMMAND_SECONDS)
    elapsed_seconds = time.monotonic() - begun
    data = StopReport(name=target.name, ending=Ending.STOPPED, left_requests=None, elapsed_seconds=elapsed_seconds)
    return Result(kind="stop", data=data)


def _drain(record: ServedRecord, seconds: float, report: Report) -> int | None:
    try:
        key = read_api_keys(record.api_key_file)[0] if record.api_key_file else None
    except UsageError as error:
        _note(report, f"its requests cannot be counted, and are not waited for: {error.message}")
        return None
    endpoint = Endpoint(bind=record.bind, port=record.port, api_key=key)
    deadline = time.monotonic() + seconds
    pid = record.engine_process.pid if record.engine_process else None
    left = requests_in_flight(endpoint, record.engine, pid)
    if left and seconds:
        _note(report, f"waiting up to {seconds:.0f} s for {counted(left, 'request')} being answered")
    while left and time.monotonic() < deadline and lives(record.owner):
        time.sleep(_TICK_SECONDS)
        left = requests_in_flight(endpoint, record.engine, pid)
    return left


def _end_owner(record: ServedRecord, *, at_once: bool, report: Report) -> None:
    may_take = "" if at_once else f"; it may take {record.stop_timeout_seconds:.0f} s"
    _note(report, f"ending {record.engine}{' at once' if at_once else may_take}")
    send(record.owner, signal.SIGTERM)
    patience_seconds = _MARGIN_SECONDS + (0 if at_once else record.stop_timeout_seconds)
    if at_once:
        time.sleep(_TICK_SECONDS)
        # The second signal tells it to hurry.
        send(record.owner, signal.SIGTERM)
    if _wait(lambda: not lives(record.owner), patience_seconds):
        return
    if at_once:
        _note(report, f"its supervisor (pid {record.owner.pid}) does not react; killing both")
        send(record.owner, signal.SIGKILL)
        if record.engine_process is not None:
            _kill_engine(record.engine_process)
    if not _wait(lambda: not lives(record.owner), _MARGIN_SECONDS if at_once else 0):
        raise LaunchError(
            f"v4deploy (pid {record.owner.pid}) did not end within {patience_seconds:.0f} s",
            hint=f"`v4deploy stop {record.port} --now` kills it",
        )


def _end_engine(record: ServedRecord, *, at_once: bool, report: Report) -> None:
    engine = record.engine_process
    assert engine is not None, "an orphan is an engine"
    _note(report, f"its supervisor is gone; ending the engine (pid {engine.pid}) itself")
    if not at_once:
        send_to_group(engine, signal.SIGTERM)
        if _wait(lambda: not lives(engine), record.stop_timeout_seconds):
            return
    _kill_engine(engine)


def _kill_engine(engine: ProcessMark) -> None:
    send_to_group(engine, signal.SIGKILL)
    if not _wait(lambda: not lives(engine), _MARGIN_SECONDS):
        raise LaunchError(
            f"the engine (pid {engine.pid}) cannot be killed", hint="a device driver may hold it: `dmesg`"
        )


def _wait(done: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_TICK_SECONDS)
    return True


def _note(report: Report, message: str) -> None:
    report(Step(name="stop", state=StepState.NOTE, message=message))
