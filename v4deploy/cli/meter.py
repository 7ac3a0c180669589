"""How far a transfer is, how fast, and how long it will take: in all, and file by file. Pure; the time comes in."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from v4deploy.commands.result import Transfer

# Long enough to smooth what one connection after another brings, short enough to show that a line has died.
_WINDOW_SECONDS = 10.0
_SAMPLE_SECONDS = 0.5
_RATE_AFTER_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One line of a display.

    Attributes:
        total_bytes: None when nobody knows.
        bytes_per_second: over the last seconds; None until there is something to go by.
        seconds_left: None where no rate, or no end, is known.
        checked_bytes: of a file that has arrived, so much is hashed; None before.
    """

    path: str
    done_bytes: int
    total_bytes: int | None
    bytes_per_second: float | None
    seconds_left: float | None
    checked_bytes: int | None = None


@dataclass(slots=True)
class _Track:
    """A count that grows. What was there at the first look is no speed."""

    done_bytes: int
    total_bytes: int | None
    checked_bytes: int | None = None
    samples: deque[tuple[float, int]] = field(default_factory=deque)

    def moved(self, done_bytes: int, total_bytes: int | None, now: float) -> None:
        if done_bytes < self.done_bytes:
            self.samples.clear()
        self.done_bytes, self.total_bytes = done_bytes, total_bytes
        if not self.samples or now - self.samples[-1][0] >= _SAMPLE_SECONDS:
            self.samples.append((now, done_bytes))
        while len(self.samples) > 2 and now - self.samples[1][0] > _WINDOW_SECONDS:  # noqa: PLR2004 - one to measure from
            self.samples.popleft()

    def rate(self, now: float) -> float | None:
        begun, before = self.samples[0] if self.samples else (now, self.done_bytes)
        return (self.done_bytes - before) / (now - begun) if now - begun >= _RATE_AFTER_SECONDS else None

    def reading(self, path: str, now: float) -> Reading:
        rate = self.rate(now)
        left = None
        if rate and self.total_bytes is not None:
            left = max(0, self.total_bytes - self.done_bytes) / rate
        return Reading(
            path=path,
            done_bytes=self.done_bytes,
            total_bytes=self.total_bytes,
            bytes_per_second=rate,
            seconds_left=left,
            checked_bytes=self.checked_bytes,
        )


class Meter:
    """Takes events in, gives readings out. Not thread-safe."""

    def __init__(self) -> None:
        self._all: _Track | None = None
        self._files: dict[str, _Track] = {}
        self._finished: set[str] = set()

    def note(self, event: Transfer, now: float) -> None:
        """An event, at a time that never runs backwards."""
        if self._all is None:
            self._all = _Track(event.done_bytes, event.total_bytes)
        self._all.moved(event.done_bytes, event.total_bytes, now)
        if event.file_done_bytes is None:
            return
        track = self._files.setdefault(event.path, _Track(event.file_done_bytes, event.file_size_bytes))
        track.moved(event.file_done_bytes, event.file_size_bytes, now)
        track.checked_bytes = event.file_checked_bytes
        is_finished = event.is_file_finished
        (self._finished.add if is_finished else self._finished.discard)(event.path)

    def overall(self, now: float) -> Reading | None:
        """All files together; None before the first event."""
        return self._all.reading("", now) if self._all else None

    def file(self, path: str, now: float) -> Reading | None:
        """One file; None where it was never mentioned."""
        track = self._files.get(path)
        return track.reading(path, now) if track else None

    def under_way(self, now: float) -> tuple[Reading, ...]:
        """The files that have begun and are not finished, the oldest first."""
        return tuple(track.reading(path, now) for path, track in self._files.items() if path not in self._finished)

    def counts(self) -> tuple[int, int]:
        """Files that are finished, and those that were mentioned."""
        return len(self._finished), len(self._files)
