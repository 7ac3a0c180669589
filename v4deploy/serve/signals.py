"""SIGINT, SIGTERM and SIGHUP while an engine runs: none of them may leave it running without us."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """What signals came. The first one sets the stop event; a second one means: hurry.

    Attributes:
        count: how many came.
        raising: whether the next one also raises KeyboardInterrupt, for code that does not look at the event. It is
            off while we start or stop an engine, so that neither is left half done.
    """

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self.count = 0
        self.raising = False

    def raise_from_now(self) -> None:
        """Let the next signal raise KeyboardInterrupt, or one that came already, which no one has looked at yet."""
        self.raising = True
        if self.count:
            self.raising = False
            raise KeyboardInterrupt

    def handle(self, _number: int, _frame: FrameType | None) -> None:
        """The signal handler."""
        self.count += 1
        self._stop.set()
        if self.raising:
            # Once: a second exception could hit the clean-up that the first one set off.
            self.raising = False
            raise KeyboardInterrupt

    def hurry(self) -> bool:
        """Whether the user asked more than once."""
        return self.count > 1


@contextlib.contextmanager
def interrupts(stop: threading.Event) -> Iterator[Interrupts]:
    """Take over the signals for a while; not outside the main thread, where Python allows no handlers."""
    taken = Interrupts(stop)
    if threading.current_thread() is not threading.main_thread():
        yield taken
        return
    before = {number: signal.signal(number, taken.handle) for number in _SIGNALS}
    try:
        yield taken
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
