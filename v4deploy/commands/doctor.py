"""Can this machine run V4, and what stands in the way?"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from v4deploy.checks.registry import Listed, judge, known_ids, listing
from v4deploy.checks.selection import select
from v4deploy.commands.doctor_subject import (
    Stopwatch,
    Timing,
    make_subject,
    measured,
    plan_here,
    plan_target,
    survey_timed,
)
from v4deploy.commands.result import Result
from v4deploy.commands.workspace import Workspace
from v4deploy.domain.counting import counted
from v4deploy.domain.errors import CheckFailedError
from v4deploy.domain.finding import CheckGroup, Finding, Severity, group_of
from v4deploy.domain.hardware import Host
from v4deploy.domain.plan import Request
from v4deploy.system.recorder import RecordingSystem

DEFAULT_MODEL = "v4-flash"


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorRequest:
    """What to look at.

    Attributes:
        plan_here: whether to ask the planner about this machine too; `up` does that by itself.
        target: hardware that is not here, to ask about instead of this machine: `4x h200`.
        only, skip: groups, checks or findings; each stands for all below it.
        deep: measure disk and network.
        strict: warnings fail too.
        record: directory for a recording of this machine.
    """

    model: str = DEFAULT_MODEL
    plan_here: bool = False
    target: str | None = None
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    deep: bool = False
    strict: bool = False
    record: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorReport:
    """The machine and everything found out about it.

    Attributes:
        release: that the checks were about.
        target: as typed; None without one.
        recorded_in: where a recording was written.
    """

    host: Host
    release: str
    findings: tuple[Finding, ...]
    target: str | None = None
    recorded_in: str | None = None
    timings: tuple[Timing, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckList:
    """What `--only` and `--skip` can name."""

    checks: tuple[Listed, ...]


_DEFAULT = DoctorRequest()


def doctor(workspace: Workspace, request: DoctorRequest = _DEFAULT) -> Result[DoctorReport]:
    """Survey the machine, judge it against the catalogue, and record it when asked.

    A machine without accelerators is a warning, not a failure: CI images have none. A target that cannot run the model
    is a failure.

    Raises:
        UsageError: an unknown model, check or chip, or `record` names a directory that cannot be written.
    """
    selection = select(request.only, request.skip, known_ids())
    model, release = workspace.catalogue.model_and_release(request.model)
    wish = Request(model=model.id, release=release.id)
    stopwatch = Stopwatch()
    with stopwatch.measures("plan"):
        target = plan_target(workspace, wish, request.target) if request.target is not None else None
    host = _survey(workspace, request.record, stopwatch)
    with stopwatch.measures("plan"):
        here = plan_here(workspace, wish, host) if request.plan_here and target is None else None
    subject = make_subject(workspace, wish, host, here=here, target=target)
    if request.deep:
        subject = measured(workspace, subject, selection, stopwatch)
    judged = judge(subject, selection, deep=request.deep, clock=time.perf_counter)
    for group, seconds in judged.group_seconds:
        stopwatch.add(f"checks.{group}", seconds)
    findings = _sorted((*(finding for finding in host.findings if selection.shows(finding)), *judged.findings))
    report = DoctorReport(
        host=host,
        release=release.id,
        findings=findings,
        target=request.target,
        recorded_in=str(request.record) if request.record else None,
        timings=stopwatch.timings,
    )
    return Result(kind="doctor", data=report, findings=report.findings, error=_verdict(findings, strict=request.strict))


def list_checks(only: tuple[str, ...] = (), skip: tuple[str, ...] = ()) -> Result[CheckList]:
    """Every check and finding that these options leave.

    Raises:
        UsageError: a name that stands for nothing.
    """
    selection = select(only, skip, known_ids())
    lines = tuple(line for line in listing() if selection.leaves(line.findings))
    return Result(kind="doctor-checks", data=CheckList(checks=lines))


def _survey(workspace: Workspace, record: Path | None, stopwatch: Stopwatch) -> Host:
    if record is None:
        return survey_timed(workspace, workspace.system, stopwatch)
    system = RecordingSystem(workspace.system)
    host = survey_timed(workspace, system, stopwatch)
    system.write(record)
    return host


def _sorted(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    severities = [Severity.FAIL, Severity.WARN, Severity.INFO, Severity.OK, Severity.SKIP]
    groups = list(CheckGroup)
    return tuple(sorted(findings, key=lambda f: (groups.index(group_of(f.id)), severities.index(f.severity), f.id)))


def _verdict(findings: tuple[Finding, ...], *, strict: bool) -> CheckFailedError | None:
    bad = [f for f in findings if f.severity is Severity.FAIL or (strict and f.severity is Severity.WARN)]
    if not bad:
        return None
    names = ", ".join(dict.fromkeys(finding.id for finding in bad))
    return CheckFailedError(
        f"{counted(len(bad), 'check')} failed: {names}",
        hint=next((finding.fix for finding in bad if finding.fix), None),
    )
