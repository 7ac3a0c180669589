"""Which engine is on this machine; for llama.cpp a `llama-server` program, else the one inside a Python wheel."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from dataclasses import dataclass, replace

from v4deploy.domain.engine import EngineId, LaunchSpec
from v4deploy.domain.errors import LaunchError
from v4deploy.serve.failures import install_hint

_WHEEL = "xllamacpp"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocatedEngine:
    """How to call an engine.

    Attributes:
        argv_prefix: what takes the place of the program in a LaunchSpec.
        embedded: it is the wheel, not a program.
        build: llama.cpp's build number as text (`11549`); None where only the program itself can tell.
    """

    argv_prefix: tuple[str, ...]
    embedded: bool
    build: str | None

    def launch(self, spec: LaunchSpec) -> LaunchSpec:
        """The same launch, with this engine as its program."""
        return replace(spec, argv=(*self.argv_prefix, *spec.argv[1:]))


def choose_llama_cpp(*, llama_server: str | None, wheel_version: str | None, python: str) -> LocatedEngine:
    """Choose between a program and the wheel; the program wins, as it may use the machine's GPUs.

    Args:
        llama_server: absolute path of the program; None when there is none.
        wheel_version: version of the installed wheel (`2026.10.11549`); None when it is not installed.
        python: the interpreter that has the wheel.

    Raises:
        LaunchError: neither is there.
    """
    if llama_server is not None:
        return LocatedEngine(argv_prefix=(llama_server,), embedded=False, build=None)
    if wheel_version is not None:
        prefix = (python, "-m", "v4deploy.serve.embedded", "--")
        # The wheel's version ends in llama.cpp's build number.
        return LocatedEngine(argv_prefix=prefix, embedded=True, build=wheel_version.rsplit(".", 1)[-1])
    raise LaunchError("there is no llama.cpp on this machine", hint=install_hint(EngineId.LLAMA_CPP))


def locate_program(engine: EngineId, program: str, found: str | None) -> LocatedEngine:
    """An engine that is a program on PATH.

    Args:
        engine: which one.
        program: its name.
        found: its absolute path; None when a search of PATH found nothing.

    Raises:
        LaunchError: it is not there.
    """
    if found is None:
        raise LaunchError(f"there is no `{program}` on PATH", hint=install_hint(engine))
    return LocatedEngine(argv_prefix=(found,), embedded=False, build=None)


def locate_llama_cpp(llama_server: str | None) -> LocatedEngine:
    """Choose for this interpreter.

    Args:
        llama_server: what a search of PATH found; None when it found nothing.

    Raises:
        LaunchError: no llama.cpp is there.
    """
    return choose_llama_cpp(llama_server=llama_server, wheel_version=wheel_version(), python=sys.executable)


def wheel_version() -> str | None:
    """Version of the embedded wheel, without loading it; None when it is not installed."""
    if importlib.util.find_spec(_WHEEL) is None:
        return None
    try:
        return importlib.metadata.version(_WHEEL)
    except importlib.metadata.PackageNotFoundError:
        return None
