"""Gathers what the checks of `doctor` judge: survey, plans, weights, measurements; and times each part."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from v4deploy import __version__
from v4deploy.checks.selection import Selection
from v4deploy.checks.subject import Planned, Subject, TakenPort
from v4deploy.commands import measure
from v4deploy.commands.workspace import Workspace
from v4deploy.domain.catalogue import Catalogue
from v4deploy.domain.engine import EngineId
from v4deploy.domain.errors import LaunchError, UsageError, V4DeployError
from v4deploy.domain.hardware import Host, ProbeOutcome, Vendor
from v4deploy.domain.launch_settings import LaunchSettings
from v4deploy.domain.plan import Plan, Request
from v4deploy.planning.choose import make_plan
from v4deploy.probes.base import Capture, Probe
from v4deploy.probes.registry import ALL_PROBES
from v4deploy.probes.survey import survey
from v4deploy.pull.access import access_from
from v4deploy.system.base import System

HERE = "this machine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long a part took. Probes run side by side, so theirs do not add up to the survey's."""

    name: str
    milliseconds: float


class Stopwatch:
    """Collects how long the parts of a run took."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def add(self, name: str, seconds: float) -> None:
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds

    @contextmanager
    def measures(self, name: str) -> Iterator[None]:
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - begun)

    @property
    def timings(self) -> tuple[Timing, ...]:
        """All parts, the longest first."""
        longest = sorted(self._seconds.items(), key=lambda part: -part[1])
        return tuple(Timing(name=name, milliseconds=round(1000 * seconds, 2)) for name, seconds in longest)


class _TimedProbe:
    """A vendor's probe under the stopwatch."""

    def __init__(self, probe: Probe, stopwatch: Stopwatch) -> None:
        self.VENDOR: Vendor = probe.VENDOR
        self._probe = probe
        self._stopwatch = stopwatch

    def collect(self, system: System) -> Capture:
        with self._stopwatch.measures(f"probe.{self.VENDOR}"):
            return self._probe.collect(system)

    def parse(self, capture: Capture) -> ProbeOutcome:
        with self._stopwatch.measures(f"probe.{self.VENDOR}"):
            return self._probe.parse(capture)


def survey_timed(workspace: Workspace, system: System, stopwatch: Stopwatch) -> Host:
    """The machine, with the time that each vendor's probe took."""
    with stopwatch.measures("survey"):
        return survey(
            system,
            weights_dir=str(workspace.weights_root),
            chips=workspace.catalogue.chips,
            probes=[_TimedProbe(probe, stopwatch) for probe in ALL_PROBES],
        )


def plan_target(workspace: Workspace, wish: Request, hardware: str) -> Planned:
    """The plan for hardware that is not here.

    Raises:
        UsageError: an unknown chip, or a size that was not sold.
    """
    from v4deploy.commands.plan import NoPlan, plan

    result = plan(workspace, wish, hardware=hardware)
    if isinstance(result.data, NoPlan):
        missed = result.data
        return Planned(
            machine=hardware,
            host=missed.host,
            plan=None,
            nearest=tuple(miss.verdict for miss in missed.nearest),
            advice=missed.advice,
        )
    return Planned(machine=hardware, host=result.data.host, plan=result.data)


def plan_here(workspace: Workspace, wish: Request, host: Host) -> Planned:
    """The plan for the machine that was surveyed; what would fit instead is left to `v4deploy plan`."""
    decision = make_plan(wish, host, workspace.catalogue, tool_version=__version__)
    return Planned(
        machine=HERE, host=host, plan=decision.plan, nearest=() if decision.plan is not None else decision.verdicts
    )


def make_subject(
    workspace: Workspace, wish: Request, host: Host, *, here: Planned | None, target: Planned | None
) -> Subject:
    """Everything that the fast checks judge."""
    model, release = workspace.catalogue.model_and_release(wish.release or wish.model)
    is_live = workspace.system.is_live
    planned = target or here
    weights_here, weights_refusal = _weights(workspace, planned.plan if planned and is_live else None)
    return Subject(
        host=host,
        catalogue=workspace.catalogue,
        launch=_launch(workspace),
        model=model,
        release=release,
        environ=workspace.system.environ,
        weights_dir=str(workspace.weights_root),
        here=here,
        target=target,
        weights_here=weights_here,
        weights_refusal=weights_refusal,
        token_file=measure.token_file(workspace.environ) if is_live else None,
        taken_ports=tuple(taken_ports(workspace.catalogue, host)) if is_live else (),
        hub_refusal=_hub_refusal(workspace) if is_live else None,
    )


def measured(workspace: Workspace, subject: Subject, selection: Selection, stopwatch: Stopwatch) -> Subject:
    """The subject with what `--deep` measures, as far as it is wanted. A recording has no disk and no network."""
    if not workspace.system.is_live:
        return subject
    if selection.leaves(("storage.read-speed",)):
        with stopwatch.measures("deep.disk"):
            subject = replace(subject, reading=measure.read_speed(workspace.weights_root))
    if selection.leaves(("network.hub",)) and subject.hub_refusal is None:
        access = access_from(workspace.environ)
        if not access.offline:
            with stopwatch.measures("deep.hub"):
                subject = replace(subject, hub=measure.ask_hub(access, subject.checkpoints))
    return subject


def _weights(workspace: Workspace, plan: Plan | None) -> tuple[str | None, str | None]:
    """Where the plan's weights lie completely, or why that cannot be told."""
    if plan is None:
        return None, None
    from v4deploy.commands.weights import locate_weights

    try:
        located = locate_weights(workspace, plan, None)
    except V4DeployError as error:
        return None, error.message
    return (None if located.findings else str(located.directory)), None


def taken_ports(catalogue: Catalogue, host: Host) -> Iterator[TakenPort]:
    """The ports of installed engines that are not free. Ollama's own service is what belongs on Ollama's."""
    engines = dict.fromkeys(installed.engine for installed in host.engines)
    if not engines:
        return
    from v4deploy.serve.ports import holder_of, require_free_port

    for engine in engines:
        port = catalogue.engine(engine).default_port
        try:
            require_free_port("127.0.0.1", port)
        except LaunchError as error:
            # Ollama runs as a service of another user, whose name may not be seen.
            if engine is not EngineId.OLLAMA or "ollama" not in (holder_of(port) or "ollama"):
                yield TakenPort(engine=engine, port=port, why=error.message)


def _launch(workspace: Workspace) -> dict[EngineId, LaunchSettings]:
    profiles = (workspace.launch_profile(engine) for engine in EngineId)
    return {profile.id: profile.launch for profile in profiles if profile.launch is not None}


def _hub_refusal(workspace: Workspace) -> str | None:
    try:
        access_from(workspace.environ)
    except UsageError as error:
        return error.message
    return None
