"""When to say how a transfer goes, and in which words."""

from __future__ import annotations

from datetime import timedelta

from v4deploy.domain.units import format_gb


class Pace:
    """Says how a transfer goes now and then: after so many percent, and after so many seconds."""

    def __init__(self, *, step_percent: int = 25, pause_seconds: float = 30) -> None:
        self._step_percent = step_percent
        self._pause_seconds = pause_seconds
        self._percent = 0
        self._told_at = self._began_at = float("-inf")
        self._began_bytes = 0

    def words(self, done_bytes: int, total_bytes: int, now_seconds: float) -> str | None:
        """The line to print; None where it is too early for one."""
        percent = done_bytes * 100 // total_bytes
        if percent < self._percent or self._began_at < 0:
            self._began_at, self._began_bytes, self._percent = now_seconds, done_bytes, -1
        is_step = percent // self._step_percent != self._percent // self._step_percent
        if not is_step and now_seconds - self._told_at < self._pause_seconds:
            return None
        self._told_at, self._percent = now_seconds, percent
        speed = self._speed(done_bytes, total_bytes, now_seconds)
        return f"{percent:3d} %  {format_gb(done_bytes)} of {format_gb(total_bytes)}{speed}"

    def _speed(self, done_bytes: int, total_bytes: int, now_seconds: float) -> str:
        """Rate and time left since the beginning; empty for what is over in a second."""
        elapsed_seconds = now_seconds - self._began_at
        moved_bytes = done_bytes - self._began_bytes
        if elapsed_seconds < 1 or moved_bytes <= 0:
            return ""
        rate = moved_bytes / elapsed_seconds
        left = timedelta(seconds=round((total_bytes - done_bytes) / rate))
        return f"  {format_gb(round(rate))}/s, {left} left"
