"""Holes: stretches of a file that were never written and read as zeros."""

from __future__ import annotations

import errno
import os


def first_hole(descriptor: int, size_bytes: int, *, least_bytes: int = 1) -> int | None:
    """Where the first hole of at least `least_bytes` begins; None where there is none, or nobody can tell."""
    if not hasattr(os, "SEEK_HOLE"):
        return None
    place = 0
    try:
        while place < size_bytes:
            hole = os.lseek(descriptor, place, os.SEEK_HOLE)
            if hole >= size_bytes:
                return None
            place = _next_data(descriptor, hole, size_bytes)
            if place - hole >= least_bytes:
                return hole
    except OSError:
        # A file system that keeps no such record.
        return None
    return None


def _next_data(descriptor: int, hole: int, size_bytes: int) -> int:
    try:
        return os.lseek(descriptor, hole, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size_bytes
        raise
