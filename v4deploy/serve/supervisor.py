"""The one owner of a running engine: looks at it, moves its state, tells about it, and ends it."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from v4deploy.domain.engine import LaunchSpec
from v4deploy.domain.errors import CheckFailedError, LaunchError, NotReadyError, V4DeployError
from v4deploy.domain.finding import Finding
from v4deploy.serve.failures import diagnose
from v4deploy.serve.health import Completion, Health, check_health
from v4deploy.serve.intake import Intake, IntakeFailure
from v4deploy.serve.keys import key_environment
from v4deploy.serve.loading import doing
from v4deploy.serve.log import beginning, cut
from v4deploy.serve.ports import require_free_port
from v4deploy.serve.process import EngineExit, EngineProcess
from v4deploy.serve.remarks import remarks
from v4deploy.serve.smoke.result import SmokeReport
from v4deploy.serve.smoke.run import SmokeWish
from v4deploy.serve.state import ENDED, Observation, State, after
from v4deploy.serve.trial import Trial
from v4deploy.serve.wire import Endpoint

_TICK_SECONDS = 0.05
_SETTLED_TICK_SECONDS = 0.25
_SLOWEST_CHECK_SECONDS = 1.0
_HEALTH_TIMEOUT_SECONDS = 2.0
_HEALTH_INTERVAL_SECONDS = 5.0
_FIRST_REPORT_SECONDS = 5.0
_SLOWEST_REPORT_SECONDS = 60.0
# A connection that breaks may be the engine's end, which the system tells a moment later.
_LOST_SECONDS = 2.0
# A busy server may miss a check; one that misses three in a row is degraded.
_MISSED_CHECKS = 3
# One empty answer can be bad luck of the sampling; three are broken weights or a wrong chat template.
_EMPTY_ANSWERS = 3
# vLLM ends in the tracebacks of three processes; the first of them is the cause.
_DIAGNOSED_LINES = 600
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
    """Something to tell the user.

    Attributes:
        elapsed_seconds: since the start of the engine.
        pid: of the engine; None before it was started.
        smoke: what the smoke test found and measured, with the event that the engine is ready for the first time.
    """

    state: State
    message: str
    elapsed_seconds: float
    pid: int | None = None
    smoke: SmokeReport | None = None


class Supervisor:
    """Holds all that changes while an engine runs; lives in one thread. Call `start` and later always `close`."""

    def __init__(  # noqa: PLR0913 - keywords, one each
        self,
        spec: LaunchSpec,
        *,
        log_path: Path,
        on_event: Callable[[ServeEvent], None],
        api_key: str | None,
        stop: threading.Event,
        smoke: SmokeWish | None = None,
        intake: Intake | None = None,
    ) -> None:
        self.endpoint = Endpoint(bind=spec.bind, port=spec.port, api_key=api_key)
        self.process: EngineProcess | None = None
        self.state = State.STARTING
        self.first_completion: Completion | None = None
        self.smoke_report: SmokeReport | None = None
        self.exit: EngineExit | None = None
        self.remarks: tuple[Finding, ...] = ()
        self._spec = spec
        self._log_path = log_path
        self._on_event = on_event
        self._stop = stop
        self._begun = time.monotonic()
        self._trial = Trial(self.endpoint, spec)
        self._smoke = smoke
        self._intake = intake
        self._rejection: IntakeFailure | None = None
        self._rejected_at = 0.0
        self._was_ready = False
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
        environ = {**os.environ, **key_environment(self._spec.engine, self.endpoint.api_key)}
        self.process = EngineProcess.start(self._spec, log_path=self._log_path, environ=environ)
        self._tell(f"started {self._spec.engine} (pid {self.process.pid}); its output goes to {self._log_path}")

    def run_until(self, states: frozenset[State]) -> None:
        """Look after the engine until it is in one of the states.

        Raises:
            LaunchError: the engine ended by itself.
            NotReadyError: it gave no answer in the time allowed, or refused to answer.
            CheckFailedError: it answers, and the smoke test failed.
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
        if self.first_completion is None and self._is_late:
            return Observation.GIVEN_UP
        if self._intake is not None and self._intake.is_running:
            return self._take_in(self._intake)
        if self._trial.asking is not None:
            return self._hear()
        return self._check() if self.elapsed_seconds >= self._next_check else None

    @property
    def _deadline_seconds(self) -> float:
        """Until the first completion. An import counts for itself: it is far slower than a load, and done once."""
        return self._spec.ready.timeout_seconds + (self._intake.importing_seconds if self._intake else 0.0)

    @property
    def _is_late(self) -> bool:
        is_overdue = self._intake is not None and self._intake.is_overdue
        return is_overdue or self.elapsed_seconds >= self._deadline_seconds

    def _take_in(self, intake: Intake) -> Observation | None:
        while isinstance(heard := intake.hear(), str):
            self._tell(heard)
        if heard is not None:
            self._rejection, self._rejected_at = heard, self.elapsed_seconds
        if self._rejection is None:
            return None
        waits = self._rejection.is_lost and self.elapsed_seconds < self._rejected_at + _LOST_SECONDS
        return None if waits else Observation.REJECTED

    def _check(self) -> Observation | None:
        report = check_health(self.endpoint, self._spec.ready.health_path, timeout_seconds=_HEALTH_TIMEOUT_SECONDS)
        self._next_check = self.elapsed_seconds + self._interval_seconds()
        with contextlib.suppress(OSError):
            # A disk too full for the copy is the engine's next trouble, and its log will say so.
            cut(self._log_path)
        if report.health is Health.HEALTHY:
            self._missed_checks = 0
            if self._intake is not None and not self._intake.is_done:
                self._intake.start()
                return Observation.BUSY
            if self.state is State.WARMING:
                self._ask()
            return Observation.HEALTHY
        self._missed_checks += 1
        self._last_trouble = report.detail
        if self._was_ready:
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
        left_seconds = self._deadline_seconds
        if self.first_completion is None:
            left_seconds = max(_TICK_SECONDS, left_seconds - self.elapsed_seconds)
        self._trial.ask_once(timeout_seconds=left_seconds)

    def _hear(self) -> Observation | None:
        match self._trial.hear():
            case None:
                return None
            case str() as asking:
                self._tell(f"smoke test: asking for {asking}")
                return None
            case SmokeReport() as report:
                self.smoke_report = report
                self._look_back()
                return Observation.UNSOUND if report.failed else Observation.ANSWERED
            case Completion(answered=True) as completion:
                self._empty_answers = 0
                self.first_completion = self.first_completion or completion
                if self._smoke is None or self.smoke_report is not None:
                    self._look_back()
                    return Observation.ANSWERED
                self._trial.examine(self._smoke)
                return None
            case completion:
                return self._unanswered(completion)

    def _look_back(self) -> None:
        """Tell once what the engine said in passing while it started."""
        if not self._was_ready:
            self.remarks = remarks(self._spec.engine, beginning(self._log_path))
            for finding in self.remarks:
                self._tell(f"{finding.severity}: {finding.summary}; {finding.fix}")

    def _unanswered(self, completion: Completion) -> Observation:
        self._last_trouble = completion.failure or "it answered with nothing"
        self._empty_answers += completion.failure is None
        hopeless = completion.refused or self._empty_answers >= _EMPTY_ANSWERS
        return Observation.GIVEN_UP if hopeless and self.first_completion is None else Observation.NO_ANSWER

    def _changed(self, before: State, observation: Observation | None) -> None:
        self._next_check = 0.0
        if self.state is State.FAILED:
            error = self._failure(before, observation)
            self._tell(error.message)
            raise error
        if self.state is State.LOADING and self._intake is not None and self._intake.is_running:
            # It tells itself what it does.
            return
        smoke = None if self._was_ready or self.state is not State.READY else self.smoke_report
        self._was_ready |= self.state is State.READY
        passed = ", and the smoke test passed" if self.state is State.READY and self.smoke_report else ""
        trouble = f": {self._last_trouble}" if self.state is State.DEGRADED else ""
        self._tell(f"{_NEWS[self.state]}{passed}{trouble}", smoke)

    def _failure(self, before: State, observation: Observation | None) -> V4DeployError:
        match observation:
            case Observation.EXITED:
                return self._died(before)
            case Observation.UNSOUND:
                return self._unsound()
            case Observation.REJECTED:
                return self._rejected()
            case _:
                return self._gave_up(before)

    def _report(self) -> None:
        if self.state in {State.STARTING, State.LOADING} and self.elapsed_seconds >= self._next_report:
            self._next_report = self.elapsed_seconds + min(_SLOWEST_REPORT_SECONDS, self.elapsed_seconds)
            last = "".join(self._running_process().tail(1)) or "it has printed nothing yet"
            words = doing(self._running_process().tail(_DIAGNOSED_LINES))
            if self._intake is not None and self._intake.is_running:
                last, words = f"after {self.elapsed_seconds:.0f} s: {self._intake.doing}", None
            self._tell(f"after {self.elapsed_seconds:.0f} s it {words}" if words else last)

    def _died(self, before: State) -> V4DeployError:
        process = self._running_process()
        ended = process.exit()
        diagnosis = diagnose(self._spec.engine, process.tail(_DIAGNOSED_LINES), ended.signal if ended else None)
        when = "after it had been ready" if self._was_ready else f"while {self._was_doing(before)}"
        cause = f": {diagnosis.cause}" if diagnosis else ""
        return LaunchError(
            f"{self._spec.engine} ended with {ended} {when}{cause}",
            hint=diagnosis.fix if diagnosis else f"read its whole output: {self._log_path}",
            details=_last_words(process.tail(_SHOWN_LINES), diagnosis.line if diagnosis else ""),
        )

    def _rejected(self) -> V4DeployError:
        assert self._rejection is not None, "it is what was refused"
        message, hint = self._rejection.message, self._rejection.hint
        lines = self._running_process().tail(_DIAGNOSED_LINES)
        diagnosis = diagnose(self._spec.engine, (*lines, message), None) if hint is None else None
        return LaunchError(
            f"{message}: {diagnosis.cause}" if diagnosis else message,
            hint=hint or (diagnosis.fix if diagnosis else f"read its whole output: {self._log_path}"),
            details=_last_words(lines[-_SHOWN_LINES:], diagnosis.line if diagnosis and diagnosis.line in lines else ""),
        )

    def _gave_up(self, before: State) -> V4DeployError:
        trouble = f" ({self._last_trouble})" if self._last_trouble else ""
        was_doing = f"it was {self._was_doing(before)}{trouble}"
        return NotReadyError(
            f"{self._spec.engine} was not ready after {self.elapsed_seconds:.0f} s: {was_doing}",
            hint=f"read its whole output: {self._log_path}",
            details=self._running_process().tail(_SHOWN_LINES),
        )

    def _unsound(self) -> V4DeployError:
        assert self.smoke_report is not None, "it is what failed"
        first = self.smoke_report.failed[0]
        evidence = tuple(
            line
            for check in self.smoke_report.failed
            for line in (f"{check.id}: {check.summary}", f"  asked: {check.asked}", f"  came back: {check.answered}")
        )
        return CheckFailedError(
            f"{self._spec.engine} is healthy and answers, but the smoke test failed: {first.id}: {first.summary}",
            hint=f"{first.fix or f'read its output: {self._log_path}'}; `--smoke first-answer` serves it all the same",
            details=evidence,
        )

    def _was_doing(self, state: State) -> str:
        if state is State.WARMING and self.first_completion is not None:
            return f"answering the smoke test ({self._trial.asking})"
        if state is State.LOADING and self._intake is not None and self._intake.is_running:
            return self._intake.doing
        words = (
            doing(self._running_process().tail(_DIAGNOSED_LINES)) if state in {State.STARTING, State.LOADING} else None
        )
        return f"{_DOING[state]}; its log says that it {words}" if words else _DOING[state]

    def _running_process(self) -> EngineProcess:
        assert self.process is not None, "start() comes first"
        return self.process

    def _tell(self, message: str, smoke: SmokeReport | None = None) -> None:
        pid = self.process.pid if self.process else None
        self._on_event(
            ServeEvent(state=self.state, message=message, elapsed_seconds=self.elapsed_seconds, pid=pid, smoke=smoke)
        )


def _last_words(lines: tuple[str, ...], telling: str) -> tuple[str, ...]:
    """The end of a log, below the line that says the cause where that came earlier."""
    if not telling or any(telling in line for line in lines):
        return lines
    return (telling, "[...]", *lines)
