"""How fast bytes may come, and how slowly they must not. Both count by a clock that nobody can set."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable

from v4deploy.domain.errors import UsageError
from v4deploy.pull.retry import TransferError

_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]?)(i?)b?(?:/s)?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3}
# A connection that brings less than this over so long is of no use, and one that means harm brings just enough to keep
# a plain time limit from striking.
SLOW_SECONDS = 60.0
SLOW_BYTES = 60 * 1024


def parse_rate(text: str) -> int:
    """Bytes a second from `50M`, `1.5 GB/s`, `800k`, `100MiB`; decimal, as hubs count, unless an `i` says otherwise.

    Raises:
        UsageError: not a rate, or one that would never end.
    """
    match = _RATE.fullmatch(text.strip())
    base = 1024 if match and match[3] else 1000
    rate = int(float(match[1]) * base ** _POWERS[match[2].lower()]) if match else 0
    if rate < 1000:  # noqa: PLR2004 - a kilobyte a second, below which nothing ever arrives
        raise UsageError(f"`{text}` is not a rate", hint="write bytes a second, for example `--limit-rate 50M`")
    return rate


class Throttle:
    """Shares one rate among all connections: each pays for what it has read by waiting before it reads on."""

    def __init__(self, bytes_per_second: int, clock: Callable[[], float]) -> None:
        self.bytes_per_second = bytes_per_second
        self._clock = clock
        self._lock = threading.Lock()
        self._paid_until = clock()

    def delay_seconds(self, count: int) -> float:
        """How long to wait after reading `count` bytes."""
        with self._lock:
            now = self._clock()
            # Time in which nothing was read is not saved up: a burst is what the limit is there to prevent.
            self._paid_until = max(self._paid_until, now) + count / self.bytes_per_second
            return self._paid_until - now


class Pulse:
    """Watches one answer: it has to bring `least_bytes` in every `window_seconds` that were spent waiting for it."""

    def __init__(self, *, window_seconds: float = SLOW_SECONDS, least_bytes: int = SLOW_BYTES) -> None:
        self._window_seconds = window_seconds
        self._least_bytes = least_bytes
        self._waited_seconds = 0.0
        self._brought_bytes = 0

    def beat(self, count: int, waited_seconds: float) -> None:
        """`count` bytes came after so long.

        Raises:
            TransferError: too few over the whole window.
        """
        self._brought_bytes += count
        self._waited_seconds += waited_seconds
        if self._waited_seconds < self._window_seconds:
            return
        if self._brought_bytes < self._least_bytes:
            raise TransferError(f"only {self._brought_bytes} bytes arrived in {self._waited_seconds:.0f} seconds")
        self._waited_seconds, self._brought_bytes = 0.0, 0
