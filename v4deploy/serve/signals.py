"""SIGINT, SIGTERM and SIGHUP: all of them mean that the user wants an end, and none may leave an engine running."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_Handler = Callable[[int, FrameType | None], None]


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
    with _handled_by(taken.handle):
        yield taken


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Let a short clean-up run to its end.

    Raises:
        KeyboardInterrupt: a signal came meanwhile; raised after the block.
    """
    with interrupts(threading.Event()) as signals:
        yield
    if signals.count:
        raise KeyboardInterrupt


@contextlib.contextmanager
def raised_as_interrupt() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise KeyboardInterrupt, as SIGINT does, so that every clean-up for it runs for them."""
    with _handled_by(signal.default_int_handler):
        yield


@contextlib.contextmanager
def ignored() -> Iterator[None]:
    """Let no further signal disturb the last words."""
    with _handled_by(lambda _number, _frame: None):
        yield


@contextlib.contextmanager
def _handled_by(handler: _Handler) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # What we were told to ignore stays ignored: `nohup` starts us like that, and we have to outlive the terminal.
    heard = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heard}
    try:
        yield
    finally:
        for number, handler_before in before.items():
            signal.signal(number, handler_before)
