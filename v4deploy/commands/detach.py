"""`serve --detach`: the same serve in a process of its own, waited for until it is ready."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from v4deploy.commands.result import Report, Result, Step, StepState
from v4deploy.commands.serve import ServeRequest, preflight
from v4deploy.commands.served import served_directory
from v4deploy.commands.weights import require_weights
from v4deploy.commands.workspace import Workspace
from v4deploy.documents import to_json
from v4deploy.domain.errors import (
    CheckFailedError,
    InterruptedRunError,
    LaunchError,
    NotReadyError,
    UsageError,
    V4DeployError,
)
from v4deploy.domain.plan import PLAN_SCHEMA
from v4deploy.engines.common import port_of
from v4deploy.serve.detach import Detached
from v4deploy.serve.record import ServedRecord, read_records
from v4deploy.serve.state import State

_TICK_SECONDS = 0.1
_ERRORS: dict[str, type[V4DeployError]] = {
    error.code: error for error in (CheckFailedError, InterruptedRunError, LaunchError, NotReadyError, UsageError)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DetachReport:
    """A serve that goes on without us. `pid` is its owner's."""

    model: str
    base_url: str
    pid: int
    log: str
    elapsed_seconds: float


def detach(workspace: Workspace, request: ServeRequest, *, report: Report) -> Result[DetachReport]:
    """Start it, wait until it is ready, and leave it. Ctrl-C before that ends it.

    Raises:
        V4DeployError: what the serve itself ended with.
    """
    begun = time.monotonic()
    ready = preflight(workspace, request)
    require_weights(ready.weights)
    for finding in ready.findings:
        _note(report, f"{finding.severity}: {finding.summary}")
    directory = served_directory(workspace.environ)
    port = port_of(ready.options, ready.profile)
    # Of its own, as another one on this port may be about to read its plan.
    plan_file = directory / f"{port}-{os.getpid()}.plan"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        plan_file.write_text(to_json(PLAN_SCHEMA, request.plan), encoding="utf-8")
    except OSError as error:
        raise LaunchError(f"nothing can be written in {directory}: {error.strerror or error}") from error
    child = Detached(_arguments(request, str(plan_file), port), document=directory / f"{port}.out")
    try:
        record = _until_ready(child, directory_records=lambda: read_records(directory), port=port, report=report)
    except BaseException:
        child.stop()
        raise
    finally:
        plan_file.unlink(missing_ok=True)
    data = DetachReport(
        model=record.model,
        base_url=f"{record.base_url}/v1",
        pid=record.owner.pid,
        log=record.log,
        elapsed_seconds=time.monotonic() - begun,
    )
    return Result(kind="serve-detached", data=data, findings=ready.findings)


def _arguments(request: ServeRequest, plan_file: str, port: int) -> tuple[str, ...]:
    options = request.options
    given = {
        "--weights": str(request.weights_dir.absolute()) if request.weights_dir else None,
        "--api-key-file": options.api_key_file,
        "--served-name": options.served_name,
        "--timeout": None if request.timeout_seconds is None else str(request.timeout_seconds),
    }
    more = tuple(word for name, value in given.items() if value is not None for word in (name, value))
    smoke = "full" if request.is_examined else "first-answer"
    return (
        "serve",
        "--plan",
        plan_file,
        "--host",
        options.bind,
        "--port",
        str(port),
        "--smoke",
        smoke,
        *more,
        "--json",
    )


def _until_ready(
    child: Detached, *, directory_records: Callable[[], tuple[ServedRecord, ...]], port: int, report: Report
) -> ServedRecord:
    told = ""
    while True:
        code, mark = child.exit_code, child.mark
        if code is not None:
            raise _error_of(child)
        record = next((one for one in directory_records() if one.port == port and one.owner == mark), None)
        if record is not None and record.message != told:
            told = record.message
            if record.state is State.READY:
                report(Step(name="serve", state=StepState.DONE, message=f"{told}  {record.base_url}/v1"))
                return record
            if record.state is not State.FAILED:
                _note(report, told)
        time.sleep(_TICK_SECONDS)


def _error_of(child: Detached) -> V4DeployError:
    """What its document says."""
    try:
        text = child.document.read_text(encoding="utf-8", errors="replace")
        error: dict[str, Any] = json.loads(text[text.index("{") :])["error"]
        kind = _ERRORS.get(error["code"], V4DeployError)
        return kind(error["message"], hint=error["hint"], details=tuple(error["details"]))
    except (OSError, ValueError, LookupError, TypeError):
        return LaunchError(f"it ended with exit code {child.exit_code} and left no word", hint=f"see {child.document}")


def _note(report: Report, message: str) -> None:
    report(Step(name="serve", state=StepState.NOTE, message=message))
