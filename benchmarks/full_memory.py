"""Keeps a machine's memory full of clean file content, the state of a server that has run for a while.

Without it a benchmark that writes gigabytes measures who ran before it. A virtual machine with free page reporting
hands its free memory back to its host within a second or two, and whoever writes next pays for every page of it: on one
such machine 2 GB went into the page cache in 0.4 s right after as much had been freed, and in 2 to 4 s after the memory
had lain free for a second. Where memory is full, pages change hands without passing through the host.
"""

from __future__ import annotations

import os
from pathlib import Path

import psutil

_PIECE_BYTES = 1024 * 1024
# Pages without a disk block: reading them takes memory and nothing else.
_SPARSE_BYTES = 10**12
# The kernel begins to reclaim somewhere above this.
_LEAST_FREE = 0.03


class FullMemory:
    """A sparse file that is read on and on, so that its pages take the memory that is free."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        with path.open("wb") as stream:
            stream.truncate(_SPARSE_BYTES)

    def fill(self) -> int:
        """Fill what is free now; the bytes that are still free, many where something else limits this process."""
        memory = psutil.virtual_memory()
        buffer = memoryview(bytearray(_PIECE_BYTES))
        last = self._offset + 2 * memory.total
        with self._path.open("rb", buffering=0) as stream:
            while psutil.virtual_memory().free > _LEAST_FREE * memory.total and self._offset < last:
                for _ in range(64):
                    self._offset += os.preadv(stream.fileno(), [buffer], self._offset % _SPARSE_BYTES)
        return psutil.virtual_memory().free
