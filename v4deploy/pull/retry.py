"""When to try again, and after how long. Pure but for the dice, which come in as a function."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Protocol

# SystemRandom: jitter keeps many machines of one site from coming back in step; it needs no seed.
_dice = random.SystemRandom().random


# An address that cannot be connected to is mostly mistyped, blocked or behind a proxy: where a person waits, or another
# address has the same, this many tries are enough.
UNREACHABLE_ATTEMPTS = 3
# A host that takes longer to be connected to is blocked on the way, or gone: another may have what it has.
CONNECT_SECONDS = 10.0


class Headers(Protocol):
    """What httpx2's and the standard library's header collections have in common."""

    def get(self, name: str, /) -> str | None: ...


class TransferError(Exception):
    """Trouble that may pass: the request is worth another try. Never leaves this package.

    Attributes:
        reason: what happened, as part of a sentence.
        status: the HTTP status, None when none came.
        retry_after_seconds: what the server asked for, None when it did not.
        is_unreachable: no connection came about, so that no other request would fare better.
    """

    def __init__(
        self,
        reason: str,
        *,
        status: int | None = None,
        retry_after_seconds: float | None = None,
        is_unreachable: bool = False,
    ) -> None:
        super().__init__(reason)
        self.is_unreachable = is_unreachable
        self.reason = reason
        self.status = status
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Doubling waits with jitter; a server's Retry-After wins.

    Attributes:
        attempts: tries in a row without progress before giving up.
        longest_retry_after_seconds: a server that asks for more ends the pull: a silent hour helps nobody.
    """

    attempts: int = 6
    first_wait_seconds: float = 1.0
    longest_wait_seconds: float = 30.0
    longest_retry_after_seconds: float = 300.0
    dice: Callable[[], float] = _dice

    def wait_seconds(self, failed_attempts: int, retry_after_seconds: float | None) -> float | None:
        """The pause before the next try; None when it is time to give up."""
        if failed_attempts >= self.attempts:
            return None
        if retry_after_seconds is not None:
            return retry_after_seconds if retry_after_seconds <= self.longest_retry_after_seconds else None
        full = min(self.first_wait_seconds * 2.0 ** (failed_attempts - 1), self.longest_wait_seconds)
        return full * (0.5 + 0.5 * self.dice())


def is_transient(status: int) -> bool:
    """Whether HTTP says that the same request may be answered later: too early, too often, or the server's own fault
    (also by the numbers that proxies add, 520 to 530).
    """
    return status in {408, 425, 429} or status >= 500  # noqa: PLR2004 - HTTP


def retry_after_seconds(headers: Headers) -> float | None:
    """What the Retry-After header asks to wait; None when there is none that can be understood (RFC 9110 §10.2.3).

    A date is taken against the answer's own `Date`: this machine's clock need not agree with the server's.
    """
    text = (headers.get("Retry-After") or "").strip()
    if text.isdecimal():
        return float(text)
    wanted, sent = _moment(text), _moment(headers.get("Date") or "")
    if wanted is None or sent is None:
        return None
    # A date that is over when it is sent asks for no wait at all.
    return max(0.0, (wanted - sent).total_seconds())


def _moment(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    # "-0000" says that the zone is unknown, and gives a moment without one; HTTP's dates are all of them UTC.
    return moment.replace(tzinfo=moment.tzinfo or UTC)
