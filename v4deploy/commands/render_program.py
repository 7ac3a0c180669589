"""The engine's program as launch files name it."""

from __future__ import annotations

from dataclasses import replace

from v4deploy.commands.workspace import Workspace
from v4deploy.domain.engine import EngineProfile, LaunchOptions
from v4deploy.domain.finding import Finding, Severity
from v4deploy.domain.hardware import HostOrigin
from v4deploy.domain.plan import Plan
from v4deploy.engines import engine_module
from v4deploy.engines.common import CONTAINER_TARGETS, engine_word

_SERVICES = {"launchd", "systemd"}
_UNKNOWN = "of unknown version"


def for_installed(plan: Plan, options: LaunchOptions, target: str) -> LaunchOptions:
    """The options for the version that will be started: the plan is made for the newest on the machine, but a program
    on PATH comes before an engine inside Python, as it does for `serve`. Containers bring the plan's.
    """
    if plan.host.origin is not HostOrigin.LIVE or target in CONTAINER_TARGETS:
        return options
    versions = [engine.version for engine in plan.host.engines if engine.engine is plan.chosen.engine]
    started = versions[0] if versions else None
    if started is None and any(versions):
        # A build from a tree without history, and the plan's version is that of another program.
        started = _UNKNOWN
    return replace(options, engine_version=options.engine_version or started)


def with_program(
    workspace: Workspace, plan: Plan, options: LaunchOptions, profile: EngineProfile, target: str
) -> tuple[LaunchOptions, tuple[Finding, ...]]:
    """The engine's program by its whole path, as services search few directories; a finding where it is not here."""
    if options.executable is not None:
        return options, ()
    name = engine_module(profile.id).launch_spec(plan, options, profile).argv[0]
    if plan.host.origin is not HostOrigin.LIVE:
        return options, (_bare_name(name, profile),) if target in _SERVICES else ()
    found = workspace.system.which(name)
    if found is not None:
        return replace(options, executable=found), ()
    finding = Finding(
        id=f"engine.{engine_word(profile.id)}.not-on-path",
        severity=Severity.INFO,
        summary=f"`{name}` is not on PATH here; files that start it need it where they run, containers bring their own",
        why="an engine inside Python is for `v4deploy serve` only",
    )
    return options, (finding,)


def _bare_name(name: str, profile: EngineProfile) -> Finding:
    return Finding(
        id=f"engine.{engine_word(profile.id)}.program-by-name",
        severity=Severity.INFO,
        summary=f"the file names `{name}` without its directory, as it is for another machine than this one",
        why="services search /usr/bin and a few others like it, not your PATH",
        fix="render it on that machine, or write the whole path into the file",
    )
