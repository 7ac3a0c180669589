"""Asks a healthy engine in a thread, because real weights may take minutes and a stop must not wait for them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import replace

from v4deploy.domain.engine import LaunchSpec
from v4deploy.serve.health import Completion, complete
from v4deploy.serve.smoke.result import SmokeReport
from v4deploy.serve.smoke.run import SmokeWish, smoke_test
from v4deploy.serve.wire import Endpoint

Heard = Completion | SmokeReport | str


class Trial:
    """At most one question at a time. Call `hear` until it gives a Completion or a SmokeReport.

    Attributes:
        asking: what it is about now; None while nothing is asked.
    """

    def __init__(self, endpoint: Endpoint, spec: LaunchSpec) -> None:
        self.asking: str | None = None
        self._endpoint = endpoint
        self._spec = spec
        self._heard: queue.SimpleQueue[Heard] = queue.SimpleQueue()

    def ask_once(self, *, timeout_seconds: float) -> None:
        """Ask for one completion."""

        def ask() -> None:
            path, model = self._spec.ready.completion_path, self._spec.served_name
            self._heard.put(complete(self._endpoint, path, model=model, timeout_seconds=timeout_seconds))

        self._start("a first completion", ask)

    def examine(self, wish: SmokeWish) -> None:
        """Run the smoke test. No request may be silent for longer than the engine may take to start."""
        patient = replace(wish, path=self._spec.ready.completion_path, timeout_seconds=self._spec.ready.timeout_seconds)
        self._start("the smoke test", lambda: self._heard.put(self._examined(patient)))

    def hear(self) -> Heard | None:
        """What has come since: what is being asked now, in words, or the end of the question; None for nothing."""
        try:
            heard = self._heard.get_nowait()
        except queue.Empty:
            return None
        self.asking = heard if isinstance(heard, str) else None
        return heard

    def _examined(self, wish: SmokeWish) -> SmokeReport:
        return smoke_test(self._endpoint, wish, on_check=self._heard.put)

    def _start(self, about: str, ask: Callable[[], None]) -> None:
        self.asking = about
        threading.Thread(target=ask, name="trial", daemon=True).start()
