"""llama-server from the `xllamacpp` wheel: `python -m v4deploy.serve.embedded -- --model FILE ...`.

A child process of its own, because an engine that aborts in C++ takes its process with it.
"""

from __future__ import annotations

import ctypes
import functools
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from v4deploy.domain.errors import ExitCode, LaunchError, UsageError
from v4deploy.serve.embedded_flags import ApiKeys, EnumValue, FileText, Setting, parse_flags
from v4deploy.serve.keys import read_api_keys

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# A signal may reach a thread of the engine; Python then runs its handler only when the main thread next wakes up.
_WAKE_UP_SECONDS = 0.25
# `common_log_main()` and `common_log_pause(common_log *)` as C++ compilers but Microsoft's name them.
_LOG, _PAUSE_LOG = "_Z15common_log_mainv", "_Z16common_log_pauseP10common_log"


def main(arguments: Sequence[str]) -> int:
    """Serve until SIGINT or SIGTERM, or until the process that started it is gone; the process then ends with 0.

    Returns the exit code where it could not serve: 1 when the engine gives up, 2 for a wrong flag.
    """
    parent = os.getppid()
    try:
        settings = parse_flags(arguments[1:] if arguments[:1] == ["--"] else arguments)
        engine = _engine()
        parameters = engine.CommonParams()
        for setting in settings:
            _apply(engine, parameters, setting)
    except (UsageError, LaunchError) as error:
        _say(f"{error.message}{f' ({error.hint})' if error.hint else ''}")
        return ExitCode.USAGE if isinstance(error, UsageError) else ExitCode.UNEXPECTED
    # The wheel holds the interpreter while it loads, for minutes with real weights, so that no Python handler would
    # run: until then the signals end the process at once.
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    try:
        _kept_alive = engine.Server(parameters)
    except RuntimeError as error:
        end_log(engine)
        _say(f"the engine gave up: {error}")
        return ExitCode.UNEXPECTED
    _wait_for_stop(parent)
    end_log(engine)
    # With the server still referred to: its destructor waits for every request that is being answered, as long as the
    # longest answer takes, and the binding has no other way to stop. The system frees memory and devices.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(ExitCode.OK)


def _engine() -> Any:
    try:
        import xllamacpp
    except ImportError as error:
        raise LaunchError(
            f"the embedded llama.cpp cannot be loaded: {error}", hint="install it: pip install 'v4deploy[embedded]'"
        ) from error
    return xllamacpp


def end_log(engine: Any) -> None:
    """Wait until all that llama.cpp has logged is written; what it logs later is dropped.

    A thread of its own writes the log, and nothing else waits for it at the end of the process
    (ggml-org/llama.cpp#22142): on a busy machine the last lines are lost, among them the one that says why the model
    did not load. A wheel that does not give these functions away may lose them still.
    """
    library = ctypes.CDLL(engine.xllamacpp.__file__)
    if not (hasattr(library, _LOG) and hasattr(library, _PAUSE_LOG)):
        return
    log, pause = library[_LOG], library[_PAUSE_LOG]
    log.restype, pause.argtypes, pause.restype = ctypes.c_void_p, (ctypes.c_void_p,), None
    pause(log())


def _wait_for_stop(parent: int) -> None:
    stop = threading.Event()

    def handle(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in _STOP_SIGNALS:
        signal.signal(number, handle)
    # Without its supervisor nobody would ever stop it. Where the system signals that (Linux) it is known earlier.
    while not stop.wait(_WAKE_UP_SECONDS) and os.getppid() == parent:
        pass


def _apply(engine: Any, parameters: Any, setting: Setting) -> None:
    *parents, name = setting.attribute.split(".")
    target = functools.reduce(getattr, parents, parameters)
    value = _value(engine, setting.value)
    if name == "user_sampling_config":
        value |= getattr(target, name)
    if name == "tensor_split":
        # The binding wants one share for each device that llama.cpp could have.
        value = value + [0.0] * (len(getattr(target, name)) - len(value))
    setattr(target, name, value)


def _value(engine: Any, value: Any) -> Any:
    match value:
        case EnumValue(enum=enum, member=member):
            return getattr(getattr(engine, enum), member)
        case ApiKeys(path=path):
            return list(read_api_keys(path))
        case FileText(path=path):
            try:
                return Path(path).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise UsageError(f"the chat template `{path}` cannot be read: {error}") from error
        case tuple():
            return [_value(engine, member) for member in value]
        case _:
            return value


def _say(text: str) -> None:
    sys.stderr.write(f"v4deploy.serve.embedded: {text}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
