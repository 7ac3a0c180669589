"""Finds engines: programs on PATH and Python distributions, with the version that each tells."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from v4deploy.domain.engine import EngineId
from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.hardware import InstalledEngine
from v4deploy.system.base import CommandRun, Failure, System

# A build with CUDA wakes every GPU before it prints its version; cold, that takes seconds.
VERSION_TIMEOUT_SECONDS = 6.0
LIST_DEVICES = ("llama-server", "--list-devices")
# Any of these means a GPU that a build of llama.cpp can see or miss.
_GPU_NODES = ("/dev/nvidiactl", "/dev/kfd")
EMBEDDED_PATH = "embedded"

_LLAMA_BUILD = re.compile(r"\bversion:\s+\S+ \(build (\d+)[,)]")
_LLAMA_OLD_BUILD = re.compile(r"\bversion:\s+(\d+) \([0-9a-f]+\)")
_LIST_HEAD = re.compile(r"^Available devices:\s*$", re.MULTILINE)
_LISTED_DEVICE = re.compile(r"^\s+(\w+): ", re.MULTILINE)
_SHEBANG = re.compile(r"#!\s*(/\S+/python3?(?:\.\d+)?)\b")
_OLLAMA_VERSION = re.compile(r"\b(?:ollama|client) version is (\d\S*)")


def parse_llama_server_version(text: str) -> str | None:
    """The build number: `version: 0.6.0-dev (build 11434, commit abc)` or, before, `version: 6895 (4341dc8bc)`.

    None where it is not printed, and for build 0: built from sources without git, which tells nothing.
    """
    match = _LLAMA_BUILD.search(text) or _LLAMA_OLD_BUILD.search(text)
    return match[1] if match and int(match[1]) > 0 else None


def parse_list_devices(text: str) -> tuple[str, ...] | None:
    """Names in `llama-server --list-devices`, such as `CUDA0`; None where it printed no list. Empty: a CPU build."""
    listed = _LIST_HEAD.search(text)
    return None if listed is None else tuple(_LISTED_DEVICE.findall(text, listed.end()))


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
_LISTING = " ".join(LIST_DEVICES)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCapture:
    """Paths by program, `--version` runs by path, the list of devices by its command line, versions by distribution,
    and of each vllm the names in its folders of packages.

    `shadowed` holds further copies of a program, which stand later on PATH.
    """

    paths: Mapping[str, str] = field(default_factory=dict)
    shadowed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    runs: Mapping[str, CommandRun] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)
    site_packages: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)

    def packages_beside(self, program: str | None) -> tuple[str, ...]:
        """Names in all folders of packages that a program runs with."""
        folders = self.site_packages.get(program or "", {})
        return tuple(name for names in folders.values() for name in names)

    @property
    def beside_vllm(self) -> Mapping[str, tuple[str, ...]]:
        """The folders of packages of the `vllm` that a shell would start, with their entries."""
        return self.site_packages.get(self.paths.get(_VLLM_PROGRAM, ""), {})


def collect_engines(system: System) -> EngineCapture:
    """Ask all programs at once. `vllm --version` is never run: it imports torch, which takes many seconds."""
    programs = (*(program for program, _, _ in _PROGRAMS), _VLLM_PROGRAM)
    paths = {program: path for program in programs if (path := system.which(program)) is not None}
    shadowed = {program: _shadowed(system, program, path) for program, path in paths.items()}
    # The first copy is asked by its name, as it will be started; the others by their paths.
    asked = [name for program, _, _ in _PROGRAMS if program in paths for name in (program, *shadowed[program])]
    questions = {name: (name, "--version") for name in asked}
    if LIST_DEVICES[0] in paths and any(system.exists(node) for node in _GPU_NODES):
        questions[_LISTING] = LIST_DEVICES
    with ThreadPoolExecutor(max_workers=max(1, len(questions))) as pool:
        answers = pool.map(lambda argv: system.run(argv, timeout_seconds=VERSION_TIMEOUT_SECONDS), questions.values())
        runs = dict(zip(questions, answers, strict=True))
    names = (*(name for name, _ in _PACKAGES), _EMBEDDED_PACKAGE)
    vllms = (paths[_VLLM_PROGRAM], *shadowed[_VLLM_PROGRAM]) if _VLLM_PROGRAM in paths else ()
    return EngineCapture(
        paths=paths,
        shadowed=shadowed,
        runs=runs,
        packages={name: version for name in names if (version := system.package_version(name)) is not None},
        site_packages={path: _site_packages_of(system, path) for path in vllms},
    )


def parse_engines(capture: EngineCapture) -> tuple[InstalledEngine, ...]:
    """What is installed; programs before packages, since a program on PATH is what its owner expects to run."""
    engines = []
    for program, engine, parse_version in _PROGRAMS:
        if program in capture.paths:
            version = _printed_version(capture.runs.get(program), parse_version)
            listing = capture.runs.get(_LISTING) if program == LIST_DEVICES[0] else None
            sees = parse_list_devices(f"{listing.stdout}\n{listing.stderr}") if listing else None
            engines.append(InstalledEngine(engine=engine, version=version, path=capture.paths[program], sees=sees))
    engines += [found for name, engine in _PACKAGES if (found := _python_engine(name, engine, capture)) is not None]
    if _EMBEDDED_PACKAGE in capture.packages:
        version = embedded_build(capture.packages[_EMBEDDED_PACKAGE])
        engines.append(InstalledEngine(engine=EngineId.LLAMA_CPP, version=version, path=EMBEDDED_PATH))
    return tuple(engines)


def engine_findings(capture: EngineCapture) -> tuple[Finding, ...]:
    """Programs that stand on PATH more than once: which of them runs depends on who starts it."""
    findings = []
    parsers: dict[str, Callable[[str], str | None]] = {program: parser for program, _, parser in _PROGRAMS}
    for program, others in capture.shadowed.items():
        names = {path: path for path in others} | {capture.paths[program]: program}
        versions = {
            path: _printed_version(capture.runs.get(name), parsers[program])
            if program in parsers
            else _distribution_version(_VLLM_PROGRAM, capture.packages_beside(path))
            for path, name in names.items()
        }
        if others:
            findings.append(_several_copies(program, (capture.paths[program], *others), versions))
    hung = [run for run in capture.runs.values() if run.failure is Failure.TIMED_OUT]
    return (*findings, *(_hangs(run) for run in hung))


def _hangs(run: CommandRun) -> Finding:
    return Finding(
        id="engine.program-hangs",
        severity=Severity.WARN,
        summary=f"`{' '.join(run.argv)}` gives no answer",
        evidence=(Evidence(source=run.argv[0], error=f"ended after {VERSION_TIMEOUT_SECONDS:g} s without an answer"),),
        why="an engine that hangs before it has loaded anything mostly hangs in the driver of a device",
        fix="run it yourself; `nvidia-smi`, `rocm-smi` or `npu-smi info` tell whether the driver answers",
    )


def _several_copies(program: str, paths: tuple[str, ...], versions: Mapping[str, str | None]) -> Finding:
    differ = len(set(versions.values())) > 1
    return Finding(
        id="engine.several-copies",
        severity=Severity.WARN if differ else Severity.INFO,
        summary=f"`{program}` is on PATH {len(paths)} times{', in different versions' if differ else ''}",
        evidence=tuple(Evidence(source=path, value=versions[path] or "version unknown") for path in paths),
        why=f"a shell runs {paths[0]}; a service with another PATH may run another one",
        fix=f"remove the copies that you do not use, or write {paths[0]} in full in units and scripts",
    )


def _printed_version(run: CommandRun | None, parse_version: Callable[[str], str | None]) -> str | None:
    # llama.cpp prints its version on stderr, Ollama its warning about a missing server.
    return parse_version(f"{run.stdout}\n{run.stderr}") if run else None


def _python_engine(name: str, engine: EngineId, capture: EngineCapture) -> InstalledEngine | None:
    """A distribution beside the `vllm` program, which is what would be started; else one beside v4deploy."""
    program = capture.paths.get(_VLLM_PROGRAM)
    version = _distribution_version(name, capture.packages_beside(program)) if program else None
    if program is not None and (version is not None or name == _VLLM_PROGRAM):
        return InstalledEngine(engine=engine, version=version or capture.packages.get(name), path=program)
    if name in capture.packages:
        return InstalledEngine(engine=engine, version=capture.packages[name], path=f"python package {name}")
    return None


def _shadowed(system: System, program: str, first: str) -> tuple[str, ...]:
    """Further copies on PATH. What links lead to one file is one copy: /bin is /usr/bin on most systems."""
    folders = [folder for folder in system.environ.get("PATH", "").split(":") if folder.startswith("/")]
    paths = [posixpath.join(folder, program) for folder in folders]
    others = [path for path in dict.fromkeys(paths) if path != first and system.exists(path)]
    if not others:
        return ()
    copies: dict[str, str] = {}
    for path in (first, *others):
        copies.setdefault(system.disk_usage(path).resolved_path or path, path)
    return tuple(copies.values())[1:]


def _site_packages_of(system: System, program: str) -> dict[str, tuple[str, ...]]:
    """The folders of packages that a Python program runs with, and the names in them.

    They lie beside the interpreter that its first line names, which need not be beside the program: pipx and uv leave
    a link in ~/.local/bin. Debian's own Python has them in dist-packages below /usr/local.
    """
    first_line = (system.read_text(program).text or "").partition("\n")[0]
    interpreter = _SHEBANG.match(first_line)
    programs = dict.fromkeys((program, *((interpreter[1],) if interpreter else ())))
    prefixes = dict.fromkeys(posixpath.dirname(posixpath.dirname(path)) for path in programs)
    folders = [
        f"{prefix}/lib/{python}/{packages}"
        for prefix in prefixes
        for python in system.list_dir(f"{prefix}/lib") or ()
        if python.startswith("python3")
        for packages in ("site-packages", "dist-packages")
    ]
    return {folder: names for folder in folders if (names := system.list_dir(folder)) is not None}


def _distribution_version(distribution: str, names: tuple[str, ...]) -> str | None:
    # A wheel's metadata directory spells the distribution's dashes as underscores.
    pattern = re.compile(rf"{distribution.replace('-', '_')}-([^-]+)\.dist-info")
    for name in names:
        match = pattern.fullmatch(name)
        if match:
            return match[1]
    return None
