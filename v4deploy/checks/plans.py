"""Whether the model fits this machine, and what a machine named with `--target` would need to run it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from v4deploy.checks.drivers import floor_of, rocm_need
from v4deploy.checks.engines import is_comparable, needed_version
from v4deploy.checks.storage import room_for
from v4deploy.checks.subject import Planned, Subject
from v4deploy.domain.engine import EngineProfile
from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.hardware import Device
from v4deploy.domain.launch_settings import LaunchSettings
from v4deploy.domain.plan import Plan, Verdict
from v4deploy.domain.units import format_gib
from v4deploy.domain.versions import is_older

_MISSES_SHOWN = 3


def fits_here(subject: Subject) -> Iterator[Finding]:
    """The planner's answer for this machine."""
    planned = subject.here
    if planned is None:
        return
    if planned.plan is not None:
        yield _cpu_only(subject, planned, planned.plan) or _fits("plan.fits", subject, planned, planned.plan)
        return
    yield Finding(
        id="plan.nothing-fits",
        severity=Severity.WARN,
        summary=f"nothing of {subject.release.name} fits this machine",
        evidence=_misses(planned.nearest),
        why="the weights need more memory than there is, or no engine runs them on these devices",
        fix=f"`v4deploy plan {subject.model.id}` shows by how much, and what would fit",
    )


def _cpu_only(subject: Subject, planned: Planned, plan: Plan) -> Finding | None:
    """The finding that only the processor can run it; None where the plan uses a device."""
    if plan.chosen.layout.device_indices:
        return None
    fits = _fits("plan.cpu-only", subject, planned, plan)
    remark = next((finding for finding in plan.findings if finding.id == fits.id), None)
    return replace(
        fits,
        severity=Severity.WARN,
        why=remark.why if remark else None,
        fix="`v4deploy doctor --only accelerator` tells why no device is used" if planned.host.devices else None,
    )


def target_fits(subject: Subject) -> Iterator[Finding]:
    """The planner's answer for the machine of `--target`: that it cannot run the model is a failed check."""
    planned = subject.target
    if planned is None:
        return
    if planned.plan is not None:
        yield _fits("plan.target.fits", subject, planned, planned.plan)
        return
    yield Finding(
        id="plan.target.does-not-fit",
        severity=Severity.FAIL,
        summary=f"nothing of {subject.release.name} fits {planned.machine}",
        evidence=_misses(planned.nearest),
        why=next((finding.summary for finding in planned.nearest[0].reasons), None) if planned.nearest else None,
        fix=next((finding.summary for finding in planned.advice), None),
    )


def _fits(id_: str, subject: Subject, planned: Planned, plan: Plan) -> Finding:
    chosen = plan.chosen
    engine = subject.catalogue.engine(chosen.engine).name
    count = len(chosen.layout.device_indices)
    where = "the CPU" if not count else f"{count} device{'s' if count > 1 else ''}"
    return Finding(
        id=id_,
        severity=Severity.OK,
        summary=f"{planned.machine}: {plan.release.name} fits as {chosen.checkpoint.quant} in {engine} "
        f"with {chosen.context_tokens:,} tokens of context, on {where}",
        evidence=tuple(
            Evidence(
                source=f"memory of {pool.label}",
                value=f"{format_gib(pool.needed_bytes)} of {format_gib(pool.budget_bytes)}",
            )
            for pool in plan.pools
        ),
    )


def _misses(nearest: tuple[Verdict, ...]) -> tuple[Evidence, ...]:
    return tuple(
        Evidence(
            source="planner",
            value=f"{verdict.candidate.checkpoint.quant} on {verdict.candidate.engine}: "
            + (f"{format_gib(missing)} missing" if missing else verdict.reasons[0].summary),
        )
        for verdict in nearest[:_MISSES_SHOWN]
        if (missing := verdict.missing_bytes) or verdict.reasons
    )


def no_target_plan(subject: Subject) -> Finding | None:
    """The failure that leaves nothing to ask about the target's driver, engine and disk."""
    planned = subject.target
    return next(target_fits(subject), None) if planned is not None and planned.plan is None else None


def target_driver(subject: Subject) -> Iterator[Finding]:
    """The driver that the plan's engine needs, against the one here where this machine has such devices."""
    found = _target(subject)
    if found is None:
        return
    plan, profile, devices = found
    needs = [need for device in devices if (need := _driver_need(subject.launch.get(profile.id), device)) is not None]
    if not needs:
        return
    what, floor, source = needs[0]
    alike = [device for device in subject.host.devices if device.compute_api is plan.chosen.compute_api]
    loaded = next((version for device in alike if (version := _loaded(device, what)) is not None), None)
    is_old = loaded is not None and is_older(loaded, floor)
    here = "" if loaded is None else f"; {loaded} is here"
    yield Finding(
        id="plan.target.driver",
        severity=Severity.WARN if is_old else Severity.INFO if loaded is None else Severity.OK,
        summary=f"{profile.name} needs {what} {floor} or newer there{here}",
        evidence=(Evidence(source=source, value=loaded),),
        fix=f"install {what} {floor} or newer" if is_old else None,
    )


def _driver_need(launch: LaunchSettings | None, device: Device) -> tuple[str, str, str] | None:
    floor = floor_of(launch, "", device)
    if floor is not None:
        return "driver", floor.floor, floor.source.source
    return rocm_need(launch, device)


def _loaded(device: Device, what: str) -> str | None:
    version = device.driver_version if what == "driver" else device.compute_api_version
    return version if version is not None and is_comparable(version) else None


def target_engine(subject: Subject) -> Iterator[Finding]:
    """The engine of the target's plan: the version it needs, and whether that is here."""
    found = _target(subject)
    if found is None or subject.target is None:
        return
    _, profile, _ = found
    needed = needed_version(replace(subject, host=subject.target.host), profile)
    versions = [engine.version for engine in subject.host.engines if engine.engine is profile.id and engine.version]
    installed = next((version for version in versions if is_comparable(version)), None)
    is_old = installed is not None and is_older(installed, needed)
    here = "none is installed here" if installed is None else f"{installed} is installed here"
    yield Finding(
        id="plan.target.engine",
        severity=Severity.WARN if is_old else Severity.INFO if installed is None else Severity.OK,
        summary=f"{profile.name} {needed} or newer is needed; {here}",
        evidence=(Evidence(source=profile.source, value=installed),),
        fix=f"install {profile.name} {profile.version}" if installed is None or is_old else None,
    )


def target_image(subject: Subject) -> Iterator[Finding]:
    """The container image for the target's devices."""
    found = _target(subject)
    if found is None:
        return
    plan, profile, devices = found
    architectures = {device.arch for device in devices}
    for entry in profile.images:
        if entry.compute_api == plan.chosen.compute_api and (entry.arch == "*" or entry.arch in architectures):
            yield Finding(
                id="plan.target.image",
                severity=Severity.INFO,
                summary=f"its container image is {entry.image}:{entry.tag.format(version=plan.engine_version)}",
                evidence=(Evidence(source=entry.source),),
                why=entry.note,
            )
            return


def target_disk(subject: Subject) -> Iterator[Finding]:
    """Room on this machine for the weights of the target's plan."""
    if _target(subject) is not None:
        yield from room_for(subject, "plan.target.disk", "plan.target.disk")


def _target(subject: Subject) -> tuple[Plan, EngineProfile, tuple[Device, ...]] | None:
    """The target's plan, its engine's profile, and the devices it uses."""
    planned = subject.target
    if planned is None or planned.plan is None:
        return None
    plan = planned.plan
    used = plan.chosen.layout.device_indices
    devices = tuple(device for device in planned.host.devices if device.index in used)
    return plan, subject.catalogue.engine(plan.chosen.engine), devices
