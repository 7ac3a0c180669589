"""What speaks against a plan on vLLM, beyond what every engine of its family is asked."""

from __future__ import annotations

from v4deploy.domain.engine import EngineProfile, LaunchOptions
from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.launch_settings import Ability
from v4deploy.domain.model import DraftKind
from v4deploy.domain.plan import Plan
from v4deploy.domain.versions import is_older
from v4deploy.engines.common import (
    CONTAINER_TARGETS,
    device_names,
    engine_version,
    image_of,
    launch_settings,
    newer_than_read,
)
from v4deploy.engines.targets import target_findings
from v4deploy.engines.vllm_arguments import arguments, length_wanted_before
from v4deploy.engines.vllm_flags import split_by_version
from v4deploy.engines.vllm_support import device_architectures, is_readable_version

KV_CACHE_TYPES = ("fp8", "auto")
"""What V4's attention kernels are known to take; `auto` means fp8 where the version knows it."""


def own_findings(plan: Plan, options: LaunchOptions, profile: EngineProfile, target: str) -> tuple[Finding, ...]:
    """Findings about model family, cache type, drafting, known defects, flags, key and image."""
    version = engine_version(plan, options)
    if launch_settings(profile).model(plan.gguf_arch) is None:
        return (_unknown_architecture(plan),)
    if not is_readable_version(version):
        return ()
    return (
        *newer_than_read(profile, version),
        *_kv_cache_findings(plan, profile, version),
        *_draft_findings(plan, profile, version),
        *_known_bad_findings(plan, profile, version),
        *_device_findings(plan, target),
        *_left_out_findings(plan, options, profile),
        *_key_findings(options),
        *target_findings(plan, options, target, engine="vllm", image=image_of(plan, options, profile)),
    )


def _unknown_architecture(plan: Plan) -> Finding:
    return Finding(
        id="engine.vllm.unknown-architecture",
        severity=Severity.FAIL,
        summary=f"no vLLM settings are known for the architecture `{plan.gguf_arch}` of {plan.release.name}",
        fix="update v4deploy, or start vLLM by hand",
    )


def _device_findings(plan: Plan, target: str) -> tuple[Finding, ...]:
    """A container is given its slice by UUID and sees one device; outside, vLLM would have to read the UUID."""
    if target in CONTAINER_TARGETS or all(name.isdecimal() for name in device_names(plan) or ()):
        return ()
    return (
        Finding(
            id="engine.vllm.devices-by-uuid",
            severity=Severity.FAIL,
            summary="the plan's device can be named by its UUID only, on which vLLM ends with a ValueError",
            evidence=(Evidence(source="vllm-project/vllm#13815, #17047, #41848 and pull request 46132, still open"),),
            fix="render with `--target compose`, which gives the container this device and no other",
        ),
    )


def _kv_cache_findings(plan: Plan, profile: EngineProfile, version: str) -> tuple[Finding, ...]:
    wanted = plan.chosen.kv_cache_type
    since = launch_settings(profile).since(Ability.AUTO_KV_CACHE)
    if wanted == "auto" and since is not None and is_older(version, since):
        why = f"before {since} vLLM stops with an AssertionError when it shall choose for V4"
    elif wanted not in KV_CACHE_TYPES:
        why = "no source says that V4's attention kernels take another type"
    else:
        return ()
    return (
        Finding(
            id="engine.vllm.kv-cache-type",
            severity=Severity.FAIL,
            summary=f"vLLM {version} keeps V4's KV cache in fp8, not in `{wanted}`",
            why=why,
            fix="plan again with `--kv-cache-type fp8`",
        ),
    )


def _draft_findings(plan: Plan, profile: EngineProfile, version: str) -> tuple[Finding, ...]:
    since = length_wanted_before(plan, profile, version)
    if since is None:
        return ()
    return (
        Finding(
            id="engine.vllm.draft-length-unknown",
            severity=Severity.FAIL,
            summary=f"the DSpark block size of {plan.release.name} is not known",
            why=f"vLLM before {since} wants it, and a wrong one loses most accepted tokens",
            fix=f"use vLLM {since} or newer, or plan without drafting",
        ),
    )


def _known_bad_findings(plan: Plan, profile: EngineProfile, version: str) -> tuple[Finding, ...]:
    draft = plan.release.draft
    drafts_dspark = plan.chosen.use_draft and draft is not None and draft.kind is DraftKind.DSPARK
    return tuple(
        Finding(
            id="engine.vllm.known-bad",
            severity=Severity.WARN,
            summary=defect.what,
            evidence=(Evidence(source=defect.source.source),),
            fix=defect.fix,
        )
        for defect in launch_settings(profile).known_defects
        if defect.archs & set(device_architectures(plan))
        and defect.version in {None, version}
        and (drafts_dspark or not defect.with_dspark)
    )


def _left_out_findings(plan: Plan, options: LaunchOptions, profile: EngineProfile) -> tuple[Finding, ...]:
    version = engine_version(plan, options)
    if length_wanted_before(plan, profile, version) is not None:
        return ()
    _, left_out = split_by_version(arguments(plan, options, profile), profile, version)
    return tuple(
        Finding(
            id="engine.vllm.flag-left-out",
            severity=Severity.WARN,
            summary=f"vLLM {version} does not know `{flag}`, so it is left out",
            evidence=(Evidence(source="flags of vLLM by version", value=flag),),
            fix=f"use vLLM {profile.version}",
        )
        for flag in left_out
    )


def _key_findings(options: LaunchOptions) -> tuple[Finding, ...]:
    """What a key does not do is said only to those who rely on one."""
    if options.api_key_file is None:
        return ()
    return (
        Finding(
            id="engine.vllm.key-guards-api-only",
            severity=Severity.INFO,
            summary="vLLM asks for the key below /v1 only; /metrics, /health and /tokenize stay open",
            evidence=(Evidence(source="vllm 0.33.0 serve/middleware/authenticate.py"),),
            fix="put a proxy in front if others can reach the port",
        ),
    )
