"""The two ways to run an engine: until somebody stops it, and for the length of a block."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from v4deploy.domain.engine import LaunchSpec
from v4deploy.domain.finding import Finding
from v4deploy.serve.health import Completion
from v4deploy.serve.intake import Intake
from v4deploy.serve.process import EngineExit
from v4deploy.serve.signals import interrupts
from v4deploy.serve.smoke.result import SmokeReport
from v4deploy.serve.smoke.run import SmokeWish
from v4deploy.serve.state import State
from v4deploy.serve.supervisor import ServeEvent, Supervisor


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOutcome:
    """How serving ended, when it ended because it was asked to.

    Attributes:
        first_completion: None when it was stopped before it answered.
        smoke_report: None when it was not asked for, or not finished.
        remarks: what the engine said while it started that costs its user something.
        exit: how the engine's process ended.
        elapsed_seconds: from its start to its end.
        interrupted: a signal asked for the end, not the caller's event.
    """

    first_completion: Completion | None
    smoke_report: SmokeReport | None
    remarks: tuple[Finding, ...]
    exit: EngineExit
    elapsed_seconds: float
    interrupted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningEngine:
    """An engine that answered. `ready_seconds`: from its start until it counted as ready."""

    base_url: str
    pid: int
    log_path: Path
    first_completion: Completion
    smoke_report: SmokeReport | None
    ready_seconds: float


def serve(  # noqa: PLR0913 - keywords, one each
    spec: LaunchSpec,
    *,
    log_path: Path,
    on_event: Callable[[ServeEvent], None],
    api_key: str | None,
    stop: threading.Event,
    smoke: SmokeWish | None = None,
    intake: Intake | None = None,
) -> ServeOutcome:
    """Run an engine until `stop` is set or a signal comes, then end it with all that it started.

    Args:
        spec: what to start.
        log_path: where the engine's output goes; the output of the run before is kept as `<name>.1`.
        on_event: called in this thread for every change of state, and now and then while the engine loads.
        api_key: the key that the engine asks for; sent in a header, and given to vLLM in its environment.
            None: it asks for none.
        stop: set it, from any thread, to end. It is set by SIGINT, SIGTERM and SIGHUP.
        smoke: what to test before it counts as ready; None: one completion is enough.
        intake: gives the engine its model once its server answers; None: it starts with it.

    Raises:
        LaunchError: the port is taken, the program is missing, the engine ended by itself, or did not take the model.
        NotReadyError: it gave no answer in the time of `spec.ready`, or refused to answer.
        CheckFailedError: it answers, and the smoke test failed.
    """
    with interrupts(stop) as signals:
        supervisor = Supervisor(
            spec, log_path=log_path, on_event=on_event, api_key=api_key, stop=stop, smoke=smoke, intake=intake
        )
        try:
            supervisor.start()
            supervisor.run_until(frozenset({State.STOPPING}))
        finally:
            supervisor.close(hurry=signals.hurry)
        assert supervisor.exit is not None, "close() waits for the end of what start() started"
        return ServeOutcome(
            first_completion=supervisor.first_completion,
            smoke_report=supervisor.smoke_report,
            remarks=supervisor.remarks,
            exit=supervisor.exit,
            elapsed_seconds=supervisor.elapsed_seconds,
            interrupted=signals.count > 0,
        )


@contextlib.contextmanager
def running_engine(
    spec: LaunchSpec,
    *,
    log_path: Path,
    on_event: Callable[[ServeEvent], None],
    api_key: str | None = None,
    smoke: SmokeWish | None = None,
) -> Iterator[RunningEngine]:
    """Start an engine, yield it once it answered, and end it after the block, however the block ends.

    Arguments as for `serve`.

    Raises:
        LaunchError: as `serve`.
        NotReadyError: as `serve`.
        CheckFailedError: as `serve`.
        KeyboardInterrupt: SIGINT, SIGTERM or SIGHUP came, before, inside or after the block; the engine is ended first.
    """
    stop = threading.Event()
    with interrupts(stop) as signals:
        supervisor = Supervisor(spec, log_path=log_path, on_event=on_event, api_key=api_key, stop=stop, smoke=smoke)
        try:
            supervisor.start()
            supervisor.run_until(frozenset({State.READY, State.STOPPING}))
            if supervisor.process is None or supervisor.first_completion is None:
                raise KeyboardInterrupt
            running = RunningEngine(
                base_url=supervisor.endpoint.base_url,
                pid=supervisor.process.pid,
                log_path=log_path,
                first_completion=supervisor.first_completion,
                smoke_report=supervisor.smoke_report,
                ready_seconds=supervisor.elapsed_seconds,
            )
            try:
                signals.raise_from_now()
                yield running
            finally:
                signals.raising = False
        finally:
            supervisor.close(hurry=signals.hurry)
    if signals.count:
        # It came while the engine was being ended, when nothing may be raised; the caller has to hear of it.
        raise KeyboardInterrupt
