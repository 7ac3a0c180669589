"""What would run here, how it fits, and why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from v4deploy import __version__
from v4deploy.commands.measurements import read_measurements
from v4deploy.commands.result import Result
from v4deploy.commands.workspace import Workspace
from v4deploy.documents import from_json
from v4deploy.domain.errors import NothingFitsError, UsageError
from v4deploy.domain.finding import Finding, Severity
from v4deploy.domain.hardware import Host, HostOrigin
from v4deploy.domain.model import QuantAlias
from v4deploy.domain.plan import PLAN_SCHEMA, Plan, Request
from v4deploy.planning.advice import Miss, changes_that_fit, explain_miss
from v4deploy.planning.choose import find_wanted, make_plan
from v4deploy.planning.why_not import WhyNot
from v4deploy.planning.why_not import why_not as answer


@dataclass(frozen=True, slots=True, kw_only=True)
class NoPlan:
    """Nothing fits: the nearest misses, and what would fit. `alias`: what the quant's name stands for, if it is one."""

    request: Request
    host: Host
    alias: QuantAlias | None
    nearest: tuple[Miss, ...]
    advice: tuple[Finding, ...]


NEAREST_SHOWN = 8
_REASONS_SHOWN = 4


def plan(workspace: Workspace, request: Request, *, hardware: str | None = None) -> Result[Plan | NoPlan]:
    """Decide for a machine.

    Raises:
        UsageError: an unknown model, quant or chip.
    """
    host = workspace.host(hardware)
    measured, unread = read_measurements(workspace.environ) if host.origin is HostOrigin.LIVE else (None, ())
    decision = make_plan(request, host, workspace.catalogue, tool_version=__version__, measured=measured)
    if decision.plan is not None:
        found = replace(decision.plan, findings=(*decision.plan.findings, *unread)) if unread else decision.plan
        return Result(kind="plan", data=found, findings=found.findings)
    misses = tuple(
        explain_miss(verdict, request, host, workspace.catalogue) for verdict in decision.verdicts[:NEAREST_SHOWN]
    )
    advice = changes_that_fit(request, host, workspace.catalogue)
    findings = (*_not_told(host, misses), *advice)
    alias = find_wanted(request, workspace.catalogue).alias
    hint = next((f"{finding.summary}; {finding.fix}" if finding.fix else finding.summary for finding in findings), None)
    return Result(
        kind="plan",
        data=NoPlan(request=request, host=host, alias=alias, nearest=misses, advice=advice),
        findings=findings,
        error=NothingFitsError(f"nothing of {request.release or request.model} fits this machine", hint=hint),
    )


def _not_told(host: Host, misses: tuple[Miss, ...]) -> tuple[Finding, ...]:
    """What the description of a machine leaves open, where a miss lacks just that: to tell it costs nothing."""
    is_open = any(shortage.missing_bytes is None for miss in misses for shortage in miss.shortages)
    return tuple(finding for finding in host.findings if is_open and finding.id == "host.memory-not-given")


def require_plan(result: Result[Plan | NoPlan]) -> Plan:
    """The plan, for commands that go on with it and print no table.

    Raises:
        NothingFitsError: there is none; its details are what ruled out the nearest ones.
    """
    if not isinstance(result.data, NoPlan):
        return result.data
    nothing = result.error or NothingFitsError("nothing fits this machine")
    reasons = dict.fromkeys(
        finding.summary
        for miss in result.data.nearest
        for finding in miss.verdict.reasons
        if finding.severity is Severity.FAIL
    )
    raise NothingFitsError(nothing.message, hint=nothing.hint, details=tuple(reasons)[:_REASONS_SHOWN])


def why_not(workspace: Workspace, request: Request, asked: str, *, hardware: str | None = None) -> Result[WhyNot]:
    """Why an engine, a quant or a layout is not what the plan chose.

    Raises:
        UsageError: it is none of the three, or the request names what does not exist.
    """
    host = workspace.host(hardware)
    decision = make_plan(request, host, workspace.catalogue, tool_version=__version__)
    return Result(kind="why-not", data=answer(asked, request, decision.plan, host, workspace.catalogue))


def read_plan(path: Path) -> Plan:
    """A plan from a file that `v4deploy plan --json` wrote.

    Raises:
        UsageError: the file cannot be read.
        ProfileError: it is not a plan, or the record of a plan that failed.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UsageError(
            f"the plan {path} cannot be read: {error.strerror}", hint="`v4deploy plan --json > plan.json` writes one"
        ) from error
    return from_json(Plan, PLAN_SCHEMA, text, name=str(path))
