"""Starts a serve that outlives its terminal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from v4deploy.domain.errors import LaunchError
from v4deploy.serve.identity import ProcessMark, mark_of

_KEPT: list[object] = []
"""Children that outlive us: Python complains about one that is forgotten while it runs."""


class Detached:
    """A child in a session of its own; its stdout (one JSON document, at its end) and stderr go to files."""

    def __init__(self, arguments: tuple[str, ...], *, document: Path) -> None:
        """Start `v4deploy ARGUMENTS`.

        Raises:
            LaunchError: no process could be started, or the file cannot be written.
        """
        self.document = document
        try:
            with document.open("wb") as out:
                self._child = subprocess.Popen(  # noqa: S603 - an argument tuple of our own making, no shell
                    (sys.executable, "-m", "v4deploy", *arguments),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            raise LaunchError(f"it cannot be detached: {error.strerror or error}") from error
        _KEPT.append(self._child)

    @property
    def mark(self) -> ProcessMark | None:
        """None once it has ended."""
        return mark_of(self._child.pid) if self.exit_code is None else None

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._child.poll()

    def stop(self) -> int:
        """Ask it to end, and wait: it ends its engine first."""
        self._child.terminate()
        return self._child.wait()
