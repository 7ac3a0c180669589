"""Ties an engine to us: when v4deploy is killed, the engine gets SIGTERM. Linux only; elsewhere it would run on.

Run as a script in the engine's place: it makes the tie and then becomes the engine, under the same process id.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>; kept over exec, so that it can be set before the program is there
_NOT_STARTED = 127


def tethered(argv: tuple[str, ...]) -> tuple[str, ...]:
    """The command line that starts `argv` tied to this process; unchanged where the system knows no such tie."""
    if sys.platform != "linux" or not sys.executable:
        return argv
    # Without site packages and PYTHON* variables: it starts in 15 ms, and the engine still gets the environment.
    return (sys.executable, "-I", "-S", __file__, str(os.getpid()), *argv)


def main(arguments: Sequence[str]) -> int:
    """Become the program `arguments[1:]`, tied to the process `arguments[0]`. Returns only when that failed."""
    parent, *argv = arguments
    _end_with_parent()
    if os.getppid() != int(parent):
        # It died before the tie was made, so that no signal will come.
        return _NOT_STARTED
    try:
        os.execvp(argv[0], argv)  # noqa: S606 - no shell is wanted
    except OSError as error:
        sys.stderr.write(f"`{argv[0]}` cannot be started: {error.strerror or error}\n")
    return _NOT_STARTED


def _end_with_parent() -> None:
    try:
        import ctypes
    except ImportError:
        # A Python without libffi: an engine without the tie is better than none.
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
