"""MindIE for V4: Motor's two JSON files on Kubernetes, or a vLLM-Ascend container on one server. vLLM is the engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from v4deploy.domain.engine import EngineId, EngineProfile, LaunchOptions, LaunchSpec, ReadyCheck
from v4deploy.domain.finding import Finding
from v4deploy.domain.model import CheckpointFormat
from v4deploy.domain.plan import Plan
from v4deploy.engines.common import check_basics, engine_version, facts, image_of, port_of, reachable, served_name
from v4deploy.engines.mindie_arguments import engine_arguments, environment, plan_family
from v4deploy.engines.mindie_checks import LEGACY_TARGETS, MOTOR, own_findings, refuse_legacy
from v4deploy.engines.mindie_motor import env_config, image_name, job_id, user_config, world_size
from v4deploy.engines.vllm_arguments import ready_timeout_seconds, stop_timeout_seconds
from v4deploy.engines.vllm_flags import as_argv
from v4deploy.engines.vllm_support import is_unsupported, support_findings

ID = EngineId.MINDIE

CONTAINER_WEIGHTS_DIR = "/weights"


def check(plan: Plan, options: LaunchOptions, profile: EngineProfile, target: str) -> tuple[Finding, ...]:
    """What speaks against this plan on Ascend. A finding of severity FAIL refuses it."""
    if target in LEGACY_TARGETS:
        return (refuse_legacy(),)
    version = engine_version(plan, options)
    basics = check_basics(plan, options, profile, (CheckpointFormat.SAFETENSORS,))
    support = support_findings(plan, profile, version)
    if is_unsupported(support):
        return (*basics, *support)
    return (*basics, *support, *own_findings(plan, options, profile, target, version))


def launch_spec(plan: Plan, options: LaunchOptions, profile: EngineProfile) -> LaunchSpec:
    """`vllm serve` where vLLM-Ascend is installed, as inside its container.

    Raises:
        UsageError: no recipe covers the plan; `check` says so beforehand.
    """
    return LaunchSpec(
        engine=ID,
        argv=(options.executable or "vllm", "serve", options.weights_dir, *_flags(plan, options, profile)),
        env=environment(plan, profile),
        bind=options.bind,
        port=port_of(options, profile),
        served_name=served_name(plan, options),
        ready=ReadyCheck(
            health_path="/health",
            completion_path="/v1/chat/completions",
            timeout_seconds=ready_timeout_seconds(plan),
        ),
        stop_timeout_seconds=stop_timeout_seconds(),
    )


def values(plan: Plan, options: LaunchOptions, profile: EngineProfile, target: str) -> Mapping[str, object]:
    """What the templates may name.

    Raises:
        UsageError: as for `launch_spec`.
    """
    spec = launch_spec(plan, options, profile)
    common: dict[str, object] = {
        "facts": facts(plan, profile, options),
        "argv": spec.argv,
        "env": dict(spec.env),
        "bind": spec.bind,
        "health_url": f"http://{reachable(spec.bind)}:{spec.port}/health",
        "port": spec.port,
        "served_name": spec.served_name,
        "weights_dir": options.weights_dir,
        "npus": world_size(plan),
        "name": job_id(plan),
    }
    return common | (_motor_values if target == MOTOR else _container_values)(plan, options, profile)


def _motor_values(plan: Plan, options: LaunchOptions, profile: EngineProfile) -> dict[str, object]:
    family = plan_family(plan, profile)
    return {
        "user_config": user_config(plan, options, profile),
        "env_config": env_config(plan, profile),
        "image": image_name(plan, options, profile),
        "base_image": image_of(plan, replace(options, image=None), profile) or "",
        "documented_hardware_type": family is not None and family.hardware_type_doubt is None,
    }


def _container_values(plan: Plan, options: LaunchOptions, profile: EngineProfile) -> dict[str, object]:
    family = plan_family(plan, profile)
    inside = replace(options, weights_dir=CONTAINER_WEIGHTS_DIR)
    return {
        "arguments": (CONTAINER_WEIGHTS_DIR, *_flags(plan, inside, profile)),
        "image": image_of(plan, options, profile) or "",
        "container_weights_dir": CONTAINER_WEIGHTS_DIR,
        "device_nodes": family.device_nodes if family else (),
        "mounts": family.mounts if family else (),
        "privileged": family is not None and family.privileged,
        "api_key_file": options.api_key_file or "",
        "stop_timeout_seconds": stop_timeout_seconds(),
    }


def _flags(plan: Plan, options: LaunchOptions, profile: EngineProfile) -> tuple[str, ...]:
    arguments, _ = engine_arguments(plan, options, profile)
    return as_argv({name: value for name, value in arguments.items() if name != "model"})
