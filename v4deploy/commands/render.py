"""Write the launch files of a plan."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from v4deploy.commands.launch_options import check_options, with_known_flags
from v4deploy.commands.render_images import for_image, pinned_here, require_container
from v4deploy.commands.render_pins import pin_findings, pins_of
from v4deploy.commands.render_preflight import linked_weights_findings, preflight
from v4deploy.commands.render_program import for_installed, with_program
from v4deploy.commands.result import Result
from v4deploy.commands.weights import locate_weights
from v4deploy.commands.workspace import Workspace
from v4deploy.domain.engine import EngineProfile, LaunchOptions
from v4deploy.domain.errors import UsageError
from v4deploy.domain.finding import Finding, Severity
from v4deploy.domain.hardware import HostOrigin
from v4deploy.domain.plan import Plan
from v4deploy.engines import engine_module
from v4deploy.engines.common import CONTAINER_TARGETS
from v4deploy.render.lock import LOCK_NAME, RenderedSet
from v4deploy.render.render import TemplateSet
from v4deploy.render.render import render as render_target
from v4deploy.render.templates import load_templates
from v4deploy.render.write import Change, Outcome, examine, write
from v4deploy.resources import data_dir, overlay_dir


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderRequest:
    """What to write and how.

    Attributes:
        targets: empty means the engine's default for this machine.
        options: `weights_dir` is filled in from what is on the disk.
        weights_dir: the user's own directory; None means where `pull` puts things.
    """

    plan: Plan
    output: Path
    options: LaunchOptions
    targets: tuple[str, ...] = ()
    weights_dir: Path | None = None
    force: bool = False
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedFile:
    """A file of a target, and what became of it. `text` only in a dry run."""

    path: str
    outcome: Outcome
    diff: str
    text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderReport:
    """`files` in the order of their targets; `lock` pins what they start."""

    directory: str
    targets: tuple[str, ...]
    files: tuple[RenderedFile, ...]
    lock: str
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Everything that a render would write, with nothing written."""

    targets: tuple[str, ...]
    sets: tuple[RenderedSet, ...]
    findings: tuple[Finding, ...]


def render(workspace: Workspace, request: RenderRequest) -> Result[RenderReport]:
    """Check the plan against the engine, render its targets, write them together without touching edited files.

    Raises:
        UsageError: no such target, a combination that cannot start, or a directory that cannot be written.
        ProfileError: a template is broken.
    """
    prepared = prepare(workspace, request)
    apply = examine if request.dry_run else write
    changes = apply(prepared.sets, request.output, force=request.force)
    report = RenderReport(
        directory=str(request.output),
        targets=prepared.targets,
        files=tuple(_rendered(change, request) for change in changes),
        lock=str(request.output / LOCK_NAME),
        findings=prepared.findings,
    )
    return Result(kind="render", data=report, findings=report.findings)


def prepare(workspace: Workspace, request: RenderRequest) -> Prepared:
    """Render every target in memory.

    Raises:
        UsageError: no such target, or a combination that cannot start.
        ProfileError: a template is broken.
    """
    check_options(request.options)
    located = locate_weights(workspace, request.plan, request.weights_dir)
    plan = located.plan
    profile = workspace.launch_profile(plan.chosen.engine)
    options = replace(request.options, weights_dir=str(located.directory))
    findings = list(located.findings)
    if plan.host.origin is HostOrigin.LIVE:
        findings += refusing(preflight(options, profile))
        program = options.executable or workspace.system.which("llama-server")
        options = with_known_flags(options, plan.chosen.engine, program, workspace.system)
    templates = _templates(workspace)
    targets = _targets(request, profile)
    require_container(request.options.image, targets)
    sets = []
    for target in targets:
        aimed, unknown = for_image(for_installed(plan, options, target), profile, target)
        findings += refusing(linked_weights_findings(plan, located.directory, target))
        findings += (*unknown, *check(plan, aimed, profile, target))
        aimed, missing = with_program(workspace, plan, aimed, profile, target)
        values = engine_module(profile.id).values(plan, aimed, profile, target)
        image = str(values["image"]) if target in CONTAINER_TARGETS else None
        pins = pins_of(plan, aimed, profile, image=image)
        sets.append(RenderedSet(artefacts=render_target(profile.id, target, values, templates), pins=pins))
        is_here = image is not None and plan.host.origin is HostOrigin.LIVE
        pinned_image = pinned_here(workspace.system, image) if image is not None and is_here else None
        findings += (*missing, *pin_findings(plan, pins, pinned_image))
    return Prepared(targets=targets, sets=tuple(sets), findings=tuple(dict.fromkeys(findings)))


def check(plan: Plan, options: LaunchOptions, profile: EngineProfile, target: str) -> tuple[Finding, ...]:
    """The engine's objections that do not forbid.

    Raises:
        UsageError: one that does; the message is the finding's.
    """
    return refusing(engine_module(profile.id).check(plan, options, profile, target))


def refusing(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """The findings, when none of them forbids.

    Raises:
        UsageError: one does.
    """
    for finding in findings:
        if finding.severity is Severity.FAIL:
            raise UsageError(finding.summary, hint=finding.fix, details=(finding.why,) if finding.why else ())
    return findings


def _targets(request: RenderRequest, profile: EngineProfile) -> tuple[str, ...]:
    if request.targets:
        return request.targets
    if profile.targets_without_kubernetes and not request.plan.host.kubernetes:
        return profile.targets_without_kubernetes
    return profile.targets[:1]


def _templates(workspace: Workspace) -> TemplateSet:
    overlay = overlay_dir("templates", workspace.environ)
    return load_templates([data_dir("templates"), *([overlay] if overlay else [])])


def _rendered(change: Change, request: RenderRequest) -> RenderedFile:
    shown = change.path.relative_to(request.output).as_posix() if change.path else change.artefact.path
    return RenderedFile(
        path=shown,
        outcome=change.outcome,
        diff=change.diff,
        text=change.artefact.text if request.dry_run else None,
    )
