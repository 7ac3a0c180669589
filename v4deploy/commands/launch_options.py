"""Launch options: refused where no machine could grant them, completed by what the engine's program says of itself."""

from __future__ import annotations

import math
import re
from dataclasses import replace

from v4deploy.domain.engine import EngineId, LaunchOptions
from v4deploy.domain.errors import UsageError
from v4deploy.engines.llama_cpp_dialect import HELP, flags_in_help
from v4deploy.serve.keys import check_key_file
from v4deploy.system.base import System

# The longest start that can be asked for: beyond some 290 years the system's clocks give up.
_MOST_TIMEOUT_SECONDS = 365 * 24 * 3600.0
# Asked for help it looks at neither devices nor models; what has not answered by then hangs in a driver.
_HELP_SECONDS = 10.0
_ADDRESS = re.compile(r"[0-9A-Za-z:][0-9A-Za-z.:_%-]*")
_IMAGE = re.compile(r"[0-9A-Za-z][0-9A-Za-z._/:@-]*")


def check_options(options: LaunchOptions, timeout_seconds: float | None = None) -> None:
    """Refuse what is no address, image name, model name or timeout, and a key file that engines read otherwise.

    Raises:
        UsageError: one of them is not of its form; it would end up in a file or a command line.
    """
    if not _ADDRESS.fullmatch(options.bind):
        raise UsageError(f"`--host '{options.bind}'` is no address", hint="give one, or leave `--host` out: 127.0.0.1")
    if options.image is not None and not _IMAGE.fullmatch(options.image):
        raise UsageError(f"`--image '{options.image}'` is no image name", hint="write it as `registry/name:tag`")
    name = options.served_name
    if name is not None and (not name.strip() or name.startswith("-")):
        raise UsageError(
            f"`--served-name '{name}'` is no model name", hint="give one, or leave it out: the release's is taken"
        )
    if options.api_key_file is not None:
        check_key_file(options.api_key_file)
    if timeout_seconds is None or 0 < timeout_seconds <= _MOST_TIMEOUT_SECONDS:
        return
    amount = "not a time" if math.isnan(timeout_seconds) or timeout_seconds <= 0 else "more than a year"
    raise UsageError(
        f"`--timeout {timeout_seconds:g}` is {amount}",
        hint="give seconds above 0, or leave `--timeout` out: it is then computed from the size of the weights",
    )


def with_known_flags(options: LaunchOptions, engine: EngineId, program: str | None, system: System) -> LaunchOptions:
    """The options with what the program's help names, where its options differ from build to build (llama.cpp).

    Where no `program` is on this machine, the build number has to do.
    """
    if engine is not EngineId.LLAMA_CPP or program is None:
        return options
    run = system.run((program, *HELP), timeout_seconds=_HELP_SECONDS)
    return replace(options, known_flags=flags_in_help(f"{run.stdout}\n{run.stderr}") or None)
