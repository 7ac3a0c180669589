"""Finds engines: programs on PATH and Python distributions, with the version that each tells."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from v4deploy.domain.engine import EngineId
from v4deploy.domain.hardware import InstalledEngine
from v4deploy.system.base import CommandRun, System

# A build with CUDA wakes every GPU before it prints its version; cold, that takes seconds.
VERSION_TIMEOUT_SECONDS = 6.0
EMBEDDED_PATH = "embedded"

_LLAMA_BUILD = re.compile(r"\bversion:\s+\S+ \(build (\d+)[,)]")
_LLAMA_OLD_BUILD = re.compile(r"\bversion:\s+(\d+) \([0-9a-f]+\)")
_OLLAMA_VERSION = re.compile(r"\b(?:ollama|client) version is (\d\S*)")


def parse_llama_server_version(text: str) -> str | None:
    """The build number: `version: 0.6.0-dev (build 11434, commit abc)` or, before, `version: 6895 (4341dc8bc)`.

    None where it is not printed, and for build 0: built from sources without git, which tells nothing.
    """
    match = _LLAMA_BUILD.search(text) or _LLAMA_OLD_BUILD.search(text)
    return match[1] if match and int(match[1]) > 0 else None


def parse_ollama_version(text: str) -> str | None:
    """`ollama version is 0.33.0`, or the client's own where no server runs; a server that runs is what will be used."""
    versions = _OLLAMA_VERSION.findall(text)
    return versions[0] if versions else None


def embedded_build(distribution_version: str) -> str | None:
    """The llama.cpp build inside xllamacpp, which numbers releases by date and build: 2026.10.11549."""
    build = distribution_version.rpartition(".")[2]
    return build if build.isdecimal() and int(build) > 0 else None


# Programs that tell their version quickly.
_PROGRAMS: tuple[tuple[str, EngineId, Callable[[str], str | None]], ...] = (
    ("llama-server", EngineId.LLAMA_CPP, parse_llama_server_version),
    ("ollama", EngineId.OLLAMA, parse_ollama_version),
)
# Python distributions beside v4deploy. MindIE runs V4 through vLLM-Ascend, so that is whose version counts.
_PACKAGES: tuple[tuple[str, EngineId], ...] = (("vllm", EngineId.VLLM), ("vllm-ascend", EngineId.MINDIE))
_EMBEDDED_PACKAGE = "xllamacpp"
_VLLM_PROGRAM = "vllm"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCapture:
    """Paths by program, `--version` runs by program, versions by distribution, and names in vllm's site-packages."""

    paths: Mapping[str, str] = field(default_factory=dict)
    runs: Mapping[str, CommandRun] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)
    vllm_site_packages: tuple[str, ...] = ()


def collect_engines(system: System) -> EngineCapture:
    """Ask all programs at once. `vllm --version` is never run: it imports torch, which takes many seconds."""
    programs = (*(program for program, _, _ in _PROGRAMS), _VLLM_PROGRAM)
    paths = {program: path for program in programs if (path := system.which(program)) is not None}
    asked = [program for program, _, _ in _PROGRAMS if program in paths]
    with ThreadPoolExecutor(max_workers=len(_PROGRAMS)) as pool:
        answers = pool.map(lambda p: system.run((p, "--version"), timeout_seconds=VERSION_TIMEOUT_SECONDS), asked)
        runs = dict(zip(asked, answers, strict=True))
    names = (*(name for name, _ in _PACKAGES), _EMBEDDED_PACKAGE)
    packages = {name: version for name in names if (version := system.package_version(name)) is not None}
    site_packages = _site_packages_beside(system, paths[_VLLM_PROGRAM]) if _VLLM_PROGRAM in paths else ()
    return EngineCapture(paths=paths, runs=runs, packages=packages, vllm_site_packages=site_packages)


def parse_engines(capture: EngineCapture) -> tuple[InstalledEngine, ...]:
    """What is installed; programs before packages, since a program on PATH is what its owner expects to run."""
    engines = []
    for program, engine, parse_version in _PROGRAMS:
        if program in capture.paths:
            run = capture.runs.get(program)
            # llama.cpp prints its version on stderr, Ollama its warning about a missing server.
            version = parse_version(f"{run.stdout}\n{run.stderr}") if run else None
            engines.append(InstalledEngine(engine=engine, version=version, path=capture.paths[program]))
    engines += [found for name, engine in _PACKAGES if (found := _python_engine(name, engine, capture)) is not None]
    if _EMBEDDED_PACKAGE in capture.packages:
        version = embedded_build(capture.packages[_EMBEDDED_PACKAGE])
        engines.append(InstalledEngine(engine=EngineId.LLAMA_CPP, version=version, path=EMBEDDED_PATH))
    return tuple(engines)


def _python_engine(name: str, engine: EngineId, capture: EngineCapture) -> InstalledEngine | None:
    """A distribution beside the `vllm` program, which is what would be started; else one beside v4deploy."""
    program = capture.paths.get(_VLLM_PROGRAM)
    version = _distribution_version(name, capture.vllm_site_packages)
    if program is not None and (version is not None or name == _VLLM_PROGRAM):
        return InstalledEngine(engine=engine, version=version or capture.packages.get(name), path=program)
    if name in capture.packages:
        return InstalledEngine(engine=engine, version=capture.packages[name], path=f"python package {name}")
    return None


def _site_packages_beside(system: System, program: str) -> tuple[str, ...]:
    """Entry names of `<prefix>/lib/python3.x/site-packages` for `<prefix>/bin/vllm`."""
    library = posixpath.join(posixpath.dirname(posixpath.dirname(program)), "lib")
    names: list[str] = []
    for python in system.list_dir(library) or ():
        if python.startswith("python3"):
            names += system.list_dir(f"{library}/{python}/site-packages") or ()
    return tuple(names)


def _distribution_version(distribution: str, names: tuple[str, ...]) -> str | None:
    # A wheel's metadata directory spells the distribution's dashes as underscores.
    pattern = re.compile(rf"{distribution.replace('-', '_')}-([^-]+)\.dist-info")
    for name in names:
        match = pattern.fullmatch(name)
        if match:
            return match[1]
    return None
