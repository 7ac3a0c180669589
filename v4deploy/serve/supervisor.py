"""The one owner of a running engine: looks at it, moves its state, tells about it, and ends it."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from v4deploy.domain.engine import LaunchSpec
from v4deploy.domain.errors import LaunchError, NotReadyError, V4DeployError
from v4deploy.serve.failures import diagnose
from v4deploy.serve.health import Completion, Endpoint, Health, check_health, complete
from v4deploy.serve.ports import require_free_port
from v4deploy.serve.process import EngineExit, EngineProcess
from v4deploy.serve.state import ENDED, Observation, State, after

_TICK_SECONDS = 0.05
_SETTLED_TICK_SECONDS = 0.25
_SLOWEST_CHECK_SECONDS = 1.0
_HEALTH_TIMEOUT_SECONDS = 2.0
_HEALTH_INTERVAL_SECONDS = 5.0
_FIRST_REPORT_SECONDS = 5.0
_SLOWEST_REPORT_SECONDS = 60.0
# A busy server may miss a check; one that misses three in a row is degraded.
_MISSED_CHECKS = 3
# One empty answer can be bad luck of the sampling; three are broken weights or a wrong chat template.
_EMPTY_ANSWERS = 3
_DIAGNOSED_LINES = 200
_SHOWN_LINES = 15
_DOING = {
    State.STARTING: "starting, its port still closed",
    State.LOADING: "loading the weights",
    State.WARMING: "healthy, but without an answer",
}
_NEWS = {
    State.LOADING: "loading the weights",
    State.WARMING: "healthy; asking for a completion",
    State.READY: "ready: a completion came back",
    State.DEGRADED: "fails its health checks",
    State.STOPPING: "stopping; press Ctrl-C again to end it at once",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeEvent:
    """Something to tell the user. `elapsed_seconds` counts from the start of the engine."""

    state: State
    message: str
    elapsed_seconds: float


class Supervisor:
    """Holds all that changes while an engine runs; lives in one thread. Call `start` and later always `close`."""

    def __init__(
        self,
        spec: LaunchSpec,
        *,
        log_path: Path,
        on_event: Callable[[ServeEvent], None],
        api_key: str | None,
        stop: threading.Event,
    ) -> None:
        self.endpoint = Endpoint(bind=spec.bind, port=spec.port, api_key=api_key)
        self.process: EngineProcess | None = None
        self.state = State.STARTING
        self.first_completion: Completion | None = None
        self.exit: EngineExit | None = None
        self._spec = spec
        self._log_path = log_path
        self._on_event = on_event
        self._stop = stop
        self._begun = time.monotonic()
        self._question: queue.SimpleQueue[Completion] | None = None
        self._next_check = 0.0
        self._next_report = _FIRST_REPORT_SECONDS
        self._missed_checks = 0
        self._empty_answers = 0
        self._last_trouble = ""

    @property
    def elapsed_seconds(self) -> float:
        """Since the start of the engine."""
        return time.monotonic() - self._begun

    def start(self) -> None:
        """Start the engine.

        Raises:
            LaunchError: the port is taken, or the program is missing or cannot be executed.
        """
        require_free_port(self._spec.bind, self._spec.port)
        self._begun = time.monotonic()
        self.process = EngineProcess.start(self._spec, log_path=self._log_path, environ=os.environ)
        self._tell(f"started {self._spec.engine} (pid {self.process.pid}); its output goes to {self._log_path}")

    def run_until(self, states: frozenset[State]) -> None:
        """Look after the engine until it is in one of the states.

        Raises:
            LaunchError: the engine ended by itself.
            NotReadyError: it gave no answer in the time allowed, or refused to answer.
        """
        while self.state not in states:
            observation = self._look()
            before, self.state = self.state, after(self.state, observation) if observation else self.state
            if self.state is not before:
                self._changed(before, observation)
            elif observation is None:
                self._report()
                self._stop.wait(_SETTLED_TICK_SECONDS if self._settled else _TICK_SECONDS)

    def close(self, *, hurry: Callable[[], bool]) -> None:
        """End the engine and all that it started. Safe to call whatever happened before; it may take the stop timeout.

        Args:
            hurry: asked again and again; kills without further waiting when it says yes.
        """
        if self.process is None:
            return
        if self.state not in ENDED:
            self.state = State.STOPPING
        self.exit = self.process.stop(timeout_seconds=self._spec.stop_timeout_seconds, hurry=hurry)
        if self.state is State.STOPPING:
            self.state = after(self.state, Observation.EXITED)
            self._tell(
                f"stopped with {self.exit}" + (" after it ignored the polite signal" if self.exit.forced else "")
            )

    def _look(self) -> Observation | None:
        if self._stop.is_set():
            return Observation.STOP_ASKED
        if self._running_process().exit() is not None:
            return Observation.EXITED
        if self.first_completion is None and self.elapsed_seconds >= self._spec.ready.timeout_seconds:
            return Observation.GIVEN_UP
        if self._question is not None:
            return self._hear(self._question)
        return self._check() if self.elapsed_seconds >= self._next_check else None

    def _check(self) -> Observation | None:
        report = check_health(self.endpoint, self._spec.ready.health_path, timeout_seconds=_HEALTH_TIMEOUT_SECONDS)
        self._next_check = self.elapsed_seconds + self._interval_seconds()
        if report.health is Health.HEALTHY:
            self._missed_checks = 0
            if self.state is State.WARMING:
                self._ask()
            return Observation.HEALTHY
        self._missed_checks += 1
        self._last_trouble = report.detail
        if self.first_completion is not None:
            return Observation.UNHEALTHY if self._missed_checks >= _MISSED_CHECKS else None
        return {Health.REFUSED: Observation.CLOSED, Health.LOADING: Observation.BUSY}.get(report.health)

    @property
    def _settled(self) -> bool:
        return self.state in {State.READY, State.DEGRADED}

    def _interval_seconds(self) -> float:
        """Often at first, when a small model may be there any moment; once a second for weights that take minutes."""
        if self._settled:
            return _HEALTH_INTERVAL_SECONDS
        return min(_SLOWEST_CHECK_SECONDS, max(_TICK_SECONDS, self.elapsed_seconds / 10))

    def _ask(self) -> None:
        """Ask for a completion in a thread, because real weights may take minutes and a stop must not wait for them."""
        answers: queue.SimpleQueue[Completion] = queue.SimpleQueue()
        left_seconds = self._spec.ready.timeout_seconds
        if self.first_completion is None:
            left_seconds = max(_TICK_SECONDS, left_seconds - self.elapsed_seconds)

        def ask() -> None:
            answers.put(
                complete(
                    self.endpoint,
                    self._spec.ready.completion_path,
                    model=self._spec.served_name,
                    timeout_seconds=left_seconds,
                )
            )

        threading.Thread(target=ask, name="first-completion", daemon=True).start()
        self._question = answers

    def _hear(self, answers: queue.SimpleQueue[Completion]) -> Observation | None:
        try:
            completion = answers.get_nowait()
        except queue.Empty:
            return None
        self._question = None
        if completion.answered:
            self._empty_answers = 0
            self.first_completion = self.first_completion or completion
            return Observation.ANSWERED
        self._last_trouble = completion.failure or "it answered with nothing"
        self._empty_answers += completion.failure is None
        hopeless = completion.refused or self._empty_answers >= _EMPTY_ANSWERS
        return Observation.GIVEN_UP if hopeless and self.first_completion is None else Observation.NO_ANSWER

    def _changed(self, before: State, observation: Observation | None) -> None:
        self._next_check = 0.0
        if self.state is State.FAILED:
            error = self._died(before) if observation is Observation.EXITED else self._gave_up(before)
            self._tell(error.message)
            raise error
        self._tell(_NEWS[self.state] + (f": {self._last_trouble}" if self.state is State.DEGRADED else ""))

    def _report(self) -> None:
        if self.state in {State.STARTING, State.LOADING} and self.elapsed_seconds >= self._next_report:
            self._next_report = self.elapsed_seconds + min(_SLOWEST_REPORT_SECONDS, self.elapsed_seconds)
            self._tell("".join(self._running_process().tail(1)) or "it has printed nothing yet")

    def _died(self, before: State) -> V4DeployError:
        process = self._running_process()
        ended = process.exit()
        diagnosis = diagnose(self._spec.engine, process.tail(_DIAGNOSED_LINES), ended.signal if ended else None)
        doing = "after it had been ready" if self.first_completion else f"while {_DOING[before]}"
        cause = f": {diagnosis.cause}" if diagnosis else ""
        return LaunchError(
            f"{self._spec.engine} ended with {ended} {doing}{cause}",
            hint=diagnosis.fix if diagnosis else f"read its whole output: {self._log_path}",
            details=process.tail(_SHOWN_LINES),
        )

    def _gave_up(self, before: State) -> V4DeployError:
        trouble = f" ({self._last_trouble})" if self._last_trouble else ""
        return NotReadyError(
            f"{self._spec.engine} was not ready after {self.elapsed_seconds:.0f} s: it was {_DOING[before]}{trouble}",
            hint=f"read its whole output: {self._log_path}",
            details=self._running_process().tail(_SHOWN_LINES),
        )

    def _running_process(self) -> EngineProcess:
        assert self.process is not None, "start() comes first"
        return self.process

    def _tell(self, message: str) -> None:
        self._on_event(ServeEvent(state=self.state, message=message, elapsed_seconds=self.elapsed_seconds))
