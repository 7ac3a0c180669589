"""What an engine has read from storage: tells a load from the disk from one out of the page cache."""

from __future__ import annotations

import contextlib

import psutil


def storage_read_bytes(pid: int) -> int | None:
    """Bytes that a process and those it has started took from storage, which leaves out what the page cache had.

    Processes that have ended are not counted. None where the system does not tell it (macOS) or the process is gone.
    """
    if not hasattr(psutil.Process, "io_counters"):
        return None
    try:
        root = psutil.Process(pid)
        total = int(root.io_counters().read_bytes)
        children = root.children(recursive=True)
    except psutil.Error:
        return None
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            total += int(child.io_counters().read_bytes)
    return total
