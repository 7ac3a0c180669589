"""Asks docker and podman what they can start, and reads what they are told about devices."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from v4deploy.domain.surroundings import ContainerRuntime, ContainerSupport
from v4deploy.probes.cdi import USUAL_DIRECTORIES, CdiReading, parse_cdi
from v4deploy.system.base import CommandRun, Failure, FileRead, System

DOCKER: tuple[str, ...] = ("docker", "info", "--format", "{{json .}}")
PODMAN: tuple[str, ...] = ("podman", "info", "--format", "json")
TOOLKIT: tuple[str, ...] = ("nvidia-ctk", "--version")
# docker waits for its daemon, podman for its storage; both answer in well under a second where they work.
_TIMEOUTS_SECONDS = {DOCKER: 3.0, PODMAN: 5.0, TOOLKIT: 3.0}
# docker's `--gpus` works through this program, whether or not a runtime is configured (moby, daemon/nvidia_linux.go).
_HOOK = "nvidia-container-runtime-hook"
_TOOLKIT_VERSION = re.compile(r"\bversion (\d+\.\d+\S*)")
_REMOTE_SCHEMES = ("tcp://", "ssh://")
_CDI_NAME = re.compile(r".+\.(?:yaml|json)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerCapture:
    """Answers by command line, description files in the order of their directories, and whether the hook is there."""

    runs: Mapping[tuple[str, ...], CommandRun] = field(default_factory=dict)
    cdi_files: tuple[FileRead, ...] = ()
    has_hook: bool = False
    environ: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeReading:
    """A runtime; `error` says why it did not answer, `hung` that it took too long."""

    runtime: ContainerRuntime
    error: str | None = None
    hung: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerReport:
    """All that was read. `has_hook`: docker can hand out NVIDIA devices even without a configured runtime."""

    runtimes: tuple[RuntimeReading, ...] = ()
    cdi: tuple[CdiReading, ...] = ()
    toolkit_version: str | None = None
    has_hook: bool = False

    @property
    def support(self) -> ContainerSupport:
        return ContainerSupport(
            runtimes=tuple(reading.runtime for reading in self.runtimes),
            cdi_specs=tuple(reading.spec for reading in self.cdi),
            toolkit_version=self.toolkit_version,
        )


def collect_containers(system: System) -> ContainerCapture:
    """Ask the programs that are installed, all at once."""
    asked = [argv for argv in _TIMEOUTS_SECONDS if system.which(argv[0]) is not None]
    with ThreadPoolExecutor(max_workers=len(_TIMEOUTS_SECONDS)) as pool:
        answers = pool.map(lambda argv: system.run(argv, timeout_seconds=_TIMEOUTS_SECONDS[argv]), asked)
        runs = dict(zip(asked, answers, strict=True))
    configured = _texts(_json(runs[DOCKER].stdout).get("CDISpecDirs")) if DOCKER in runs else ()
    directories = dict.fromkeys((*USUAL_DIRECTORIES, *configured))
    paths = [f"{folder}/{name}" for folder in directories for name in system.list_dir(folder) or ()]
    return ContainerCapture(
        runs=runs,
        cdi_files=tuple(system.read_text(path) for path in paths if _CDI_NAME.fullmatch(path)),
        has_hook=system.which(_HOOK) is not None,
        environ=system.environ,
    )


def parse_containers(capture: ContainerCapture) -> ContainerReport:
    """Everything that answered or should have. `docker` that is podman under another name is not counted twice."""
    docker, podman, toolkit = (capture.runs.get(argv) for argv in (DOCKER, PODMAN, TOOLKIT))
    readings = (
        parse_docker(docker, docker_host=capture.environ.get("DOCKER_HOST", "")) if docker else None,
        parse_podman(podman) if podman else None,
    )
    version = _TOOLKIT_VERSION.search(toolkit.stdout) if toolkit else None
    return ContainerReport(
        runtimes=tuple(reading for reading in readings if reading is not None),
        cdi=tuple(parse_cdi(read) for read in capture.cdi_files),
        toolkit_version=version[1] if version else None,
        has_hook=capture.has_hook,
    )


def parse_docker(run: CommandRun, *, docker_host: str = "") -> RuntimeReading | None:
    """`docker info --format '{{json .}}'`; None where podman answers to that name, or where docker is not there."""
    data = _json(run.stdout)
    if run.failure is Failure.NOT_FOUND or _is_podman(data):
        return None
    client = data.get("ClientInfo")
    client_version = _word(client.get("Version")) if isinstance(client, dict) else None
    error = _docker_error(run, data)
    if error is not None:
        runtime = ContainerRuntime(name="docker", version=client_version, answered=False)
        return RuntimeReading(runtime=runtime, error=error, hung=run.failure is Failure.TIMED_OUT)
    options = _texts(data.get("SecurityOptions"))
    runtimes = data.get("Runtimes")
    return RuntimeReading(
        runtime=ContainerRuntime(
            name="docker",
            version=_word(data.get("ServerVersion")),
            answered=True,
            rootless=any(option.startswith("name=rootless") for option in options),
            remote=docker_host.startswith(_REMOTE_SCHEMES) or data.get("OperatingSystem") == "Docker Desktop",
            default_runtime=_word(data.get("DefaultRuntime")),
            oci_runtimes=tuple(sorted(runtimes)) if isinstance(runtimes, dict) else (),
            # Before version 25 there is no such key, and no CDI either; null is how later ones write an empty list.
            cdi_directories=_texts(data.get("CDISpecDirs")),
        )
    )


def parse_podman(run: CommandRun) -> RuntimeReading | None:
    """`podman info --format json`; None where podman is not there. It does not say where it looks for descriptions."""
    if run.failure is Failure.NOT_FOUND:
        return None
    data = _json(run.stdout)
    if not _is_podman(data):
        runtime = ContainerRuntime(name="podman", version=None, answered=False)
        return RuntimeReading(runtime=runtime, error=_last_words(run), hung=run.failure is Failure.TIMED_OUT)
    host, version = data["host"], data["version"]
    security, oci = host.get("security"), host.get("ociRuntime")
    rootless = security.get("rootless") if isinstance(security, dict) else None
    oci_name = _word(oci.get("name")) if isinstance(oci, dict) else None
    return RuntimeReading(
        runtime=ContainerRuntime(
            name="podman",
            version=_word(version.get("Version")),
            answered=True,
            rootless=rootless if isinstance(rootless, bool) else None,
            remote=host.get("serviceIsRemote") is True,
            default_runtime=oci_name,
            oci_runtimes=(oci_name,) if oci_name else (),
        )
    )


def _docker_error(run: CommandRun, data: Mapping[str, Any]) -> str | None:
    """Why the daemon did not answer. Without it docker prints its own half, with the reason inside or on stderr."""
    if run.failure is None and run.exit_status == 0 and _word(data.get("ServerVersion")):
        return None
    inside = _texts(data.get("ServerErrors"))
    return inside[0] if inside else _last_words(run)


def _is_podman(data: Mapping[str, Any]) -> bool:
    return isinstance(data.get("host"), dict) and isinstance(data.get("version"), dict)


def _last_words(run: CommandRun) -> str:
    if run.failure is Failure.TIMED_OUT:
        return f"no answer in {_TIMEOUTS_SECONDS.get(run.argv, 0):g} s"
    lines = [line for line in run.stderr.splitlines() if line.strip()]
    if lines:
        return lines[-1].strip()
    return (
        f"{run.failure}" if run.failure else f"exit status {run.exit_status}, and not the output that it should print"
    )


def _json(text: str) -> dict[str, Any]:
    """The object; empty where the text is something else."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def _texts(value: object) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
