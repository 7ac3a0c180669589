"""What a lock pins: the checkpoint with its files' hashes, the engine or its image, and the command line."""

from __future__ import annotations

from v4deploy.domain.engine import EngineProfile, LaunchOptions
from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.model import FileRole
from v4deploy.domain.plan import Plan
from v4deploy.engines import engine_module
from v4deploy.engines.common import engine_version
from v4deploy.render.lock import PinnedWeight, Pins


def pins_of(plan: Plan, options: LaunchOptions, profile: EngineProfile, *, image: str | None) -> Pins:
    """The pins of a target; `image` None where the engine of this machine is started.

    Raises:
        UsageError: the plan lacks what the command line needs.
    """
    checkpoint = plan.chosen.checkpoint
    spec = engine_module(profile.id).launch_spec(plan, options, profile)
    weights = (
        PinnedWeight(path=file.path, size_bytes=file.size_bytes, sha256=file.sha256) for file in checkpoint.files
    )
    return Pins(
        release=plan.release.id,
        checkpoint=checkpoint.id,
        repo=checkpoint.repo,
        revision=checkpoint.revision,
        weights_dir=options.weights_dir,
        weights=tuple(sorted(weights, key=lambda weight: weight.path)),
        engine_version=engine_version(plan, options) if image is None else None,
        image=image,
        arguments=spec.argv,
        environment=spec.env,
        tool_version=plan.tool_version,
    )


def pin_findings(plan: Plan, pins: Pins, pinned_image: str | None) -> tuple[Finding, ...]:
    """What cannot be pinned, and so may be another thing next time; `pinned_image`: as this machine has it, or None."""
    findings = []
    checkpoint = plan.chosen.checkpoint
    mains = [file for file in checkpoint.files if file.role is FileRole.MAIN]
    hashed = sum(file.sha256 is not None for file in mains)
    wanted = checkpoint.shards or len(mains)
    if hashed < wanted or not mains:
        findings.append(
            Finding(
                id="config.weights-not-pinned",
                severity=Severity.INFO,
                summary=f"the lock pins {hashed} of {wanted or 'all'} weight files by hash",
                why="the catalogue does not know the others, or `--weights` found them by their names alone",
                fix="`v4deploy pull`, then render again without `--weights`: every hash is taken from what was pulled",
            )
        )
    if pins.image is not None and "@sha256:" not in pins.image:
        findings.append(
            Finding(
                id="config.image-not-pinned",
                severity=Severity.INFO,
                summary=f"the image {pins.image} is pinned by its tag only",
                why="a tag can be moved, and the next pull may bring another engine",
                fix=f"this machine has it: render again with `--image {pinned_image}`"
                if pinned_image
                else "once you have tried it: `docker image inspect --format '{{index .RepoDigests 0}}' IMAGE`, "
                "and render again with `--image NAME:TAG@sha256:...`, as it prints the digest",
            )
        )
    if pins.revision is None:
        findings.append(
            Finding(
                id="config.revision-not-pinned",
                severity=Severity.INFO,
                summary=f"the catalogue names no commit of {pins.repo}, so the lock pins none",
                evidence=(Evidence(source="catalogue", value=pins.checkpoint),),
                fix="`v4deploy models --refresh` reads the hub's commits; or `v4deploy pull --revision COMMIT`",
            )
        )
    return tuple(findings)
