"""doctor, plan, pull, verify, render, serve: the whole way in one, through the functions of the single commands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from v4deploy.commands.doctor import DoctorReport, DoctorRequest, doctor
from v4deploy.commands.launch_options import check_options
from v4deploy.commands.plan import plan as make_plan
from v4deploy.commands.plan import require_plan
from v4deploy.commands.pull import choice_of, pull
from v4deploy.commands.render import RenderReport, RenderRequest, render
from v4deploy.commands.result import Report, Result, Step, StepState
from v4deploy.commands.serve import ServeRequest, preflight, serve
from v4deploy.commands.verify import VerifyRequest, problem_lines, verify
from v4deploy.commands.workspace import Workspace
from v4deploy.domain.counting import counted
from v4deploy.domain.engine import LaunchOptions
from v4deploy.domain.errors import DownloadError
from v4deploy.domain.finding import Severity
from v4deploy.domain.plan import Plan, Request
from v4deploy.domain.units import format_gb, format_gib


@dataclass(frozen=True, slots=True, kw_only=True)
class UpRequest:
    """What to bring up.

    Attributes:
        output: where launch files go.
        ignore_checks: go on after failed checks of `doctor`.
    """

    request: Request
    options: LaunchOptions
    output: Path
    ignore_checks: bool = False
    timeout_seconds: float | None = None
    is_examined: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Everything up to the start of the engine."""

    doctor: DoctorReport
    plan: Plan
    directory: str
    rendered: RenderReport
    serve: ServeRequest


def prepare(workspace: Workspace, request: UpRequest, *, report: Report) -> Prepared:
    """All steps before the engine starts.

    Raises:
        CheckFailedError: `doctor` found a failed check, and checks are not ignored.
        NothingFitsError: no plan.
        LaunchError: the engine could not be started here; said before anything is fetched.
        DownloadError: pull or verify failed.
        UsageError: as `preflight`, or the launch files cannot be written.
    """
    check_options(request.options, request.timeout_seconds)
    checked = _doctor(workspace, request, report)
    plan = _plan(workspace, request, report)
    start = ServeRequest(
        plan=plan,
        options=request.options,
        timeout_seconds=request.timeout_seconds,
        is_examined=request.is_examined,
    )
    # Before the pull: hours of download must not end in a port that was taken all along.
    preflight(workspace, start)
    _step(report, "pull", f"{plan.chosen.checkpoint.repo}, {plan.chosen.checkpoint.quant}")
    done = pull(workspace, choice_of(plan), report=report).data.done
    assert done is not None, "a pull that is no dry run ends with its result"
    _done(report, "pull", f"{counted(len(done.files), 'file')}, {format_gb(done.total_bytes)}, in {done.directory}")
    _step(report, "verify", "hashing what is on the disk, without the network")
    verified = verify(workspace, VerifyRequest(directory=Path(done.directory)))
    if verified.error is not None:
        wrong = verified.error
        raise DownloadError(wrong.message, hint=wrong.hint, details=problem_lines(verified.data))
    _done(report, "verify", f"{verified.data.checked_files} files are what was published")
    rendered = _render(workspace, request, plan, report)
    return Prepared(doctor=checked, plan=plan, directory=done.directory, rendered=rendered, serve=start)


def _doctor(workspace: Workspace, request: UpRequest, report: Report) -> DoctorReport:
    _step(report, "doctor", "looking at this machine")
    result = doctor(workspace, DoctorRequest(model=request.request.release or request.request.model))
    for finding in result.data.findings:
        if finding.severity in {Severity.FAIL, Severity.WARN}:
            report(Step(name="doctor", state=StepState.NOTE, message=f"{finding.severity}: {finding.summary}"))
    if result.error is not None and not request.ignore_checks:
        raise result.error
    memory = format_gib(result.data.host.memory.ceiling.size_bytes or result.data.host.memory.total.size_bytes)
    count = len(result.data.host.devices)
    _done(report, "doctor", f"{count or 'no'} accelerator{'' if count == 1 else 's'}, {memory} of memory to use")
    return result.data


def _plan(workspace: Workspace, request: UpRequest, report: Report) -> Plan:
    _step(report, "plan", request.request.release or request.request.model)
    plan = require_plan(make_plan(workspace, request.request))
    chosen = plan.chosen
    needed = format_gib(sum(pool.needed_bytes for pool in plan.pools))
    _done(
        report,
        "plan",
        f"{chosen.checkpoint.quant} on {chosen.engine} ({chosen.compute_api}), context {chosen.context_tokens:,}, "
        f"{needed} of memory",
    )
    return plan


def _render(workspace: Workspace, request: UpRequest, plan: Plan, report: Report) -> RenderReport:
    _step(report, "render", f"launch files for {plan.chosen.engine}")
    wanted = RenderRequest(plan=plan, output=request.output, options=request.options)
    rendered = render(workspace, wanted).data
    _done(report, "render", f"{', '.join(file.path for file in rendered.files)} in {rendered.directory}")
    return rendered


def _step(report: Report, name: str, message: str) -> None:
    report(Step(name=name, state=StepState.STARTED, message=message))


def _done(report: Report, name: str, message: str) -> None:
    report(Step(name=name, state=StepState.DONE, message=message))


@dataclass(frozen=True, slots=True, kw_only=True)
class UpReport:
    """What was brought up. `answer` is the first completion's text; None when it was stopped before one came."""

    plan: Plan
    directory: str
    rendered: RenderReport
    base_url: str
    model: str
    answer: str | None


def up(workspace: Workspace, request: UpRequest, *, report: Report) -> Result[UpReport]:
    """The whole way, then serve in the foreground until Ctrl-C.

    Raises:
        V4DeployError: the first step that failed.
    """
    prepared = prepare(workspace, request, report=report)
    _step(report, "serve", f"starting {prepared.plan.chosen.engine}")
    result = serve(workspace, prepared.serve, report=report)
    served = result.data
    data = UpReport(
        plan=prepared.plan,
        directory=prepared.directory,
        rendered=prepared.rendered,
        base_url=served.base_url,
        model=served.model,
        answer=served.first_answer.text if served.first_answer else None,
    )
    return Result(kind="up", data=data, error=result.error)
