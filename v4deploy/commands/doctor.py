"""Can this machine run V4, and what stands in the way?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from v4deploy.commands.result import Result
from v4deploy.commands.workspace import Workspace
from v4deploy.domain.errors import CheckFailedError
from v4deploy.domain.finding import Evidence, Finding, Severity, group_of
from v4deploy.domain.hardware import Host
from v4deploy.domain.units import format_gb
from v4deploy.domain.versions import is_older
from v4deploy.probes.survey import survey
from v4deploy.system.recorder import RecordingSystem


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorReport:
    """The machine and everything found out about it; `recorded_in` is where a recording was written."""

    host: Host
    findings: tuple[Finding, ...]
    recorded_in: str | None = None


def doctor(workspace: Workspace, *, record: Path | None = None, strict: bool = False) -> Result[DoctorReport]:
    """Survey the machine, judge it against the catalogue, and record it when asked.

    A machine without accelerators is a warning, not a failure: CI images have none.

    Raises:
        UsageError: `record` names a directory that cannot be written or holds something else.
    """
    system = RecordingSystem(workspace.system) if record else workspace.system
    host = survey(system, weights_dir=str(workspace.weights_root), chips=workspace.catalogue.chips)
    if isinstance(system, RecordingSystem) and record:
        system.write(record)
    findings = _sorted((*host.findings, *_engine_findings(workspace, host), *_storage_findings(workspace, host)))
    bad = [f for f in findings if f.severity is Severity.FAIL or (strict and f.severity is Severity.WARN)]
    error = None
    if bad:
        error = CheckFailedError(
            f"{len(bad)} {'check' if len(bad) == 1 else 'checks'} failed: {', '.join(finding.id for finding in bad)}",
            hint=next((finding.fix for finding in bad if finding.fix), None),
        )
    report = DoctorReport(host=host, findings=findings, recorded_in=str(record) if record else None)
    return Result(kind="doctor", data=report, error=error)


def _sorted(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    order = [Severity.FAIL, Severity.WARN, Severity.INFO, Severity.OK, Severity.SKIP]
    return tuple(sorted(findings, key=lambda f: (group_of(f.id), order.index(f.severity), f.id)))


def _engine_findings(workspace: Workspace, host: Host) -> tuple[Finding, ...]:
    """Installed engines against the oldest version that runs any V4."""
    if not host.engines:
        return (
            Finding(
                id="engine.none",
                severity=Severity.INFO,
                summary="no engine is installed that v4deploy drives",
                why="`render` still writes launch files for containers; `serve` needs an engine on this machine",
                fix="pip install 'v4deploy[embedded]', or install llama.cpp, vLLM or Ollama",
            ),
        )
    return tuple(_judge_engine(workspace, host, number) for number in range(len(host.engines)))


def _judge_engine(workspace: Workspace, host: Host, number: int) -> Finding:
    installed = host.engines[number]
    profile = workspace.catalogue.engine(installed.engine)
    evidence = (Evidence(source=installed.path, value=installed.version),)
    if installed.version is None:
        return Finding(
            id=f"engine.{installed.engine}.version-unknown",
            severity=Severity.WARN,
            summary=f"{profile.name} is installed, but does not tell its version",
            evidence=evidence,
            why=f"V4 needs {profile.minimum_version} or newer",
            fix=f"run `{installed.path} --version` and compare",
        )
    if is_older(installed.version, profile.minimum_version):
        return Finding(
            id=f"engine.{installed.engine}.too-old",
            severity=Severity.WARN,
            summary=f"{profile.name} {installed.version} is too old for V4, which needs {profile.minimum_version}",
            evidence=evidence,
            why="it does not know the architecture and will refuse to load the weights",
            fix=f"upgrade {profile.name} to {profile.version}",
        )
    return Finding(
        id=f"engine.{installed.engine}.installed",
        severity=Severity.OK,
        summary=f"{profile.name} {installed.version} is installed",
        evidence=evidence,
    )


def _storage_findings(workspace: Workspace, host: Host) -> tuple[Finding, ...]:
    """Free space of the weights directory against the smallest and the native V4 checkpoint."""
    disk = next((disk for disk in host.disks if disk.path == str(workspace.weights_root)), None)
    if disk is None or disk.free_bytes is None:
        return ()
    sizes = [
        checkpoint.size_bytes
        for model in workspace.catalogue.models
        for checkpoint in model.checkpoints
        if checkpoint.size_bytes and checkpoint.engines and checkpoint.release == model.current_release.id
    ]
    if not sizes:
        return ()
    smallest, free = min(sizes), disk.free_bytes
    evidence = (Evidence(source=f"statvfs {disk.mount_point or disk.path}", value=str(free)),)
    if free < smallest:
        return (
            Finding(
                id="storage.too-small-for-any-checkpoint",
                severity=Severity.WARN,
                summary=f"{format_gb(free)} are free for weights; the smallest V4 checkpoint has {format_gb(smallest)}",
                evidence=evidence,
                fix="set V4DEPLOY_WEIGHTS_DIR to a directory on a larger disk",
            ),
        )
    return (
        Finding(
            id="storage.room-for-weights",
            severity=Severity.OK,
            summary=f"{format_gb(free)} are free for weights in {disk.mount_point or disk.path}",
            evidence=evidence,
        ),
    )
