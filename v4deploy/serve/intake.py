"""What an engine is given once its server answers and before it can be asked: done in a thread, told in words."""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeFailure:
    """Why the model was not taken.

    Attributes:
        is_lost: the connection broke; the engine may have ended, and then that is what has to be told.
    """

    message: str
    hint: str | None = None
    is_lost: bool = False


class Voice:
    """How a job tells what it does. `doing` is the present state in words; what is said is told to the user once."""

    def __init__(self) -> None:
        self.doing = "taking the model in"
        self.is_importing = False
        self._said: queue.SimpleQueue[str] = queue.SimpleQueue()

    def say(self, message: str) -> None:
        self._said.put(message)

    def next_said(self) -> str | None:
        try:
            return self._said.get_nowait()
        except queue.Empty:
            return None


class Job(Protocol):
    """Hands the model over; runs in the intake's thread.

    Attributes:
        import_timeout_seconds: how long `voice.is_importing` may be true. That time is not counted as loading.
    """

    import_timeout_seconds: float

    def run(self, voice: Voice) -> IntakeFailure | None:
        """Returns when the engine has loaded the model: None, or why it has not."""
        ...


@dataclass(slots=True)
class Intake:
    """A job's thread, and what is known of it. For one supervisor."""

    job: Job
    is_done: bool = False
    importing_seconds: float = 0.0
    _voice: Voice = field(default_factory=Voice)
    _outcome: queue.SimpleQueue[IntakeFailure | Exception | None] = field(default_factory=queue.SimpleQueue)
    _thread: threading.Thread | None = None
    _looked_at: float = 0.0

    @property
    def is_running(self) -> bool:
        return self._thread is not None and not self.is_done

    @property
    def doing(self) -> str:
        return self._voice.doing

    @property
    def is_overdue(self) -> bool:
        """Whether the import takes longer than it may."""
        return self.importing_seconds > self.job.import_timeout_seconds

    def start(self) -> None:
        self._looked_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)
        self._thread.start()

    def hear(self) -> str | IntakeFailure | None:
        """What has come since: something to tell, a failure, or nothing; sets `is_done` once the model is loaded.

        Raises:
            Exception: what the job did not expect.
        """
        now = time.monotonic()
        self.importing_seconds += (now - self._looked_at) * self._voice.is_importing
        self._looked_at = now
        if (said := self._voice.next_said()) is not None:
            return said
        try:
            outcome = self._outcome.get_nowait()
        except queue.Empty:
            return None
        # What was said between the two looks comes first.
        if (said := self._voice.next_said()) is not None:
            self._outcome.put(outcome)
            return said
        if isinstance(outcome, Exception):
            raise outcome
        self.is_done = outcome is None
        return outcome

    def _run(self) -> None:
        try:
            self._outcome.put(self.job.run(self._voice))
        except Exception as error:  # noqa: BLE001 - it would end in a thread that nobody waits for; `hear` raises it
            self._outcome.put(error)
