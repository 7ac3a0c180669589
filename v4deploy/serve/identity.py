"""Which process a number meant: a pid and when it began, as numbers are given away again."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_START_FIELD = 19
"""`starttime` of /proc/PID/stat, counted behind the name in parentheses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessMark:
    """A process of one boot. `began` is the boot's id and clock ticks on Linux, elsewhere seconds since the epoch."""

    pid: int
    began: str


def mark_of(pid: int) -> ProcessMark | None:
    """The mark of a living process; None when there is none, or only a zombie that nobody has waited for."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        fields = stat.rsplit(")", 1)[1].split()
        boot = _BOOT_ID.read_text(encoding="ascii").strip()
    except (OSError, IndexError):
        return _mark_elsewhere(pid)
    return None if fields[0] in "ZX" else ProcessMark(pid=pid, began=f"{boot} {fields[_START_FIELD]}")


def lives(mark: ProcessMark | None) -> bool:
    """Whether just that process still runs."""
    return mark is not None and mark_of(mark.pid) == mark


def send(mark: ProcessMark, number: signal.Signals) -> bool:
    """Signal just that process; False when it is gone.

    Raises:
        PermissionError: it belongs to somebody else.
    """
    if not hasattr(os, "pidfd_open"):
        return lives(mark) and _signalled(lambda: os.kill(mark.pid, number))
    try:
        # While it is open, the number cannot come to mean another process.
        handle = os.pidfd_open(mark.pid)
    except ProcessLookupError:
        return False
    try:
        return lives(mark) and _signalled(lambda: signal.pidfd_send_signal(handle, number))
    finally:
        os.close(handle)


def send_to_group(mark: ProcessMark, number: signal.Signals) -> bool:
    """Signal the process group that this process leads; False when it is gone, or leads none.

    Raises:
        PermissionError: it belongs to somebody else.
    """
    with contextlib.suppress(ProcessLookupError):
        if lives(mark) and os.getpgid(mark.pid) == mark.pid:
            return _signalled(lambda: os.killpg(mark.pid, number))
    return False


def _signalled(act: Callable[[], None]) -> bool:
    try:
        act()
    except ProcessLookupError:
        return False
    return True


def _mark_elsewhere(pid: int) -> ProcessMark | None:
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return ProcessMark(pid=pid, began=f"{process.create_time():.2f}")
    except psutil.Error:
        return None
