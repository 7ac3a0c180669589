"""Whether an engine of the vLLM family runs a plan's release and checkpoint on the plan's devices."""

from __future__ import annotations

from v4deploy.domain.engine import EngineProfile, EngineSupport, SupportLevel
from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.plan import Plan
from v4deploy.domain.versions import is_older, version_numbers
from v4deploy.engines.common import engine_word, minimum_version, too_old


def device_architectures(plan: Plan) -> tuple[str | None, ...]:
    """Architectures of the plan's devices, each once, in the devices' order. None stands for an unknown one."""
    used = plan.chosen.layout.device_indices
    return tuple(dict.fromkeys(device.arch for device in plan.host.devices if device.index in used))


def is_readable_version(version: str) -> bool:
    """Whether the version can be compared with others; a branch name or a digest cannot."""
    try:
        version_numbers(version)
    except ValueError:
        return False
    return True


def support_findings(plan: Plan, profile: EngineProfile, version: str) -> tuple[Finding, ...]:
    """The engine's support of the devices; where there is any, its age and the checkpoint's own restrictions too."""
    if not is_readable_version(version):
        return (_unreadable_version(profile, version),)
    if devices := _device_findings(plan, profile):
        return devices
    rows = _support_rows(plan, profile)
    unsupported = tuple(_unsupported(profile, row) for row in rows if row.level is SupportLevel.UNSUPPORTED)
    if unsupported:
        return unsupported
    findings: list[Finding] = []
    minimum = minimum_version(plan, profile)
    for row in rows:
        if row.minimum_version and is_older(minimum, row.minimum_version):
            minimum = row.minimum_version
    if is_older(version, minimum):
        findings.append(too_old(plan, profile, version, minimum))
    return (*findings, *_checkpoint_findings(plan, profile))


def is_unsupported(findings: tuple[Finding, ...]) -> bool:
    """Whether the engine does not run the checkpoint on these devices at all, so that nothing else is worth saying."""
    return any(finding.id.endswith(".unsupported") for finding in findings)


def _support_rows(plan: Plan, profile: EngineProfile) -> tuple[EngineSupport, ...]:
    """For each of the plan's architectures the first row that speaks about it."""
    found = (
        next((row for row in profile.support if _speaks_about(row, plan, arch)), None)
        for arch in device_architectures(plan)
    )
    return tuple(row for row in found if row is not None)


def _speaks_about(row: EngineSupport, plan: Plan, arch: str | None) -> bool:
    checkpoint = plan.chosen.checkpoint
    return (
        row.compute_api == plan.chosen.compute_api.value
        and row.arch in {"*", arch}
        and (not row.models or checkpoint.model in row.models)
        and (not row.quants or checkpoint.quant.lower() in {quant.lower() for quant in row.quants})
    )


def _unsupported(profile: EngineProfile, row: EngineSupport) -> Finding:
    where = row.compute_api if row.arch == "*" else row.arch
    return Finding(
        id=f"engine.{engine_word(profile.id)}.unsupported",
        severity=Severity.FAIL,
        summary=f"{profile.name} does not run this checkpoint on {where}",
        evidence=(Evidence(source=row.source, value=f"{row.compute_api} {row.arch}: {row.level.value}"),),
        why=row.reason,
        fix="plan again without `--engine` to see what does run here",
    )


def _unreadable_version(profile: EngineProfile, version: str) -> Finding:
    return Finding(
        id=f"engine.{engine_word(profile.id)}.version-unreadable",
        severity=Severity.FAIL,
        summary=f"`{version}` is not a version of {profile.name} that can be compared with others",
        evidence=(Evidence(source="engine version", value=version),),
        why="flags differ between versions, and a flag that the version does not know stops the engine at its start",
        fix="give the version that is installed, for example the tag of the image",
    )


def _device_findings(plan: Plan, profile: EngineProfile) -> tuple[Finding, ...]:
    if plan.chosen.layout.device_indices and None not in device_architectures(plan):
        return ()
    what = "an architecture that could not be read" if plan.chosen.layout.device_indices else "no device at all"
    return (
        Finding(
            id=f"engine.{engine_word(profile.id)}.devices",
            severity=Severity.FAIL,
            summary=f"{profile.name} needs devices whose architecture is known; this plan has {what}",
            fix="run `v4deploy doctor` to see what was detected",
        ),
    )


def _checkpoint_findings(plan: Plan, profile: EngineProfile) -> tuple[Finding, ...]:
    checkpoint = plan.chosen.checkpoint
    wanted = {arch for arch in device_architectures(plan) if arch is not None}
    if checkpoint.architectures and not wanted <= set(checkpoint.architectures):
        allowed, found = ", ".join(checkpoint.architectures), ", ".join(sorted(wanted))
    elif checkpoint.compute_apis and plan.chosen.compute_api.value not in checkpoint.compute_apis:
        allowed, found = ", ".join(checkpoint.compute_apis), plan.chosen.compute_api.value
    else:
        return ()
    return (
        Finding(
            id=f"engine.{engine_word(profile.id)}.checkpoint-not-for-device",
            severity=Severity.FAIL,
            summary=f"the weights {checkpoint.repo} are made for {allowed}, and these devices are {found}",
            evidence=(Evidence(source=checkpoint.source.source, value=checkpoint.id),),
            why="their number formats have no kernels on other devices",
            fix="plan again without `--quant`, so that weights for these devices are chosen",
        ),
    )
