"""llama.cpp: `llama-server` on a host, as a service, or in a container."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from v4deploy.domain.engine import EngineId, EngineProfile, LaunchOptions, LaunchSpec, ReadyCheck
from v4deploy.domain.finding import Finding
from v4deploy.domain.model import CheckpointFormat
from v4deploy.domain.plan import Plan
from v4deploy.engines import common, targets
from v4deploy.engines.llama_cpp_arguments import arguments, build_number, here, known_options, model_file
from v4deploy.engines.llama_cpp_checks import option_findings, plan_findings, version_findings
from v4deploy.engines.llama_cpp_router import TARGET as ROUTER
from v4deploy.engines.llama_cpp_router import router_findings, router_values
from v4deploy.engines.llama_cpp_targets import container_surroundings, container_values

ID = EngineId.LLAMA_CPP

STOP_TIMEOUT_SECONDS = 30.0


def check(plan: Plan, options: LaunchOptions, profile: EngineProfile, target: str) -> tuple[Finding, ...]:
    """What speaks against this plan on llama.cpp; see `engines/base.py`."""
    options = _for_target(options, profile, target)
    return (
        *common.check_basics(plan, options, profile, (CheckpointFormat.GGUF,)),
        *version_findings(plan, options, profile),
        *option_findings(plan, options, profile),
        *plan_findings(plan),
        *router_findings(plan, options, profile, target),
        *targets.target_findings(
            plan, options, target, engine="llama-cpp", image=common.image_of(plan, options, profile)
        ),
    )


def launch_spec(plan: Plan, options: LaunchOptions, profile: EngineProfile) -> LaunchSpec:
    """`llama-server` on this host; see `engines/base.py`."""
    surroundings = here(options, profile)
    return LaunchSpec(
        engine=ID,
        argv=(options.executable or "llama-server", *arguments(plan, options, profile, surroundings)),
        env=common.visible_devices_env(plan),
        bind=surroundings.bind,
        port=surroundings.port,
        served_name=common.served_name(plan, options),
        ready=ReadyCheck(
            health_path="/health",
            completion_path="/v1/chat/completions",
            timeout_seconds=float(common.load_timeout_seconds(plan)),
        ),
        stop_timeout_seconds=STOP_TIMEOUT_SECONDS,
    )


def values(plan: Plan, options: LaunchOptions, profile: EngineProfile, target: str) -> Mapping[str, object]:
    """Values for templates/llama.cpp; see `engines/base.py`."""
    options = _for_target(options, profile, target)
    spec = launch_spec(plan, options, profile)
    shared: dict[str, object] = {
        "api_key_file": options.api_key_file or "",
        "argv": spec.argv,
        "bind": spec.bind,
        "bind_in_url": f"[{spec.bind}]" if ":" in spec.bind else spec.bind,
        "compute_api": plan.chosen.compute_api.value,
        "env": dict(spec.env),
        "facts": common.facts(plan, profile, options),
        "address": f"{common.reachable(spec.bind)}:{spec.port}",
        "health_url": f"http://{common.reachable(spec.bind)}:{spec.port}/health",
        "model_file": model_file(plan, options.weights_dir),
        "port": spec.port,
        "served_name": spec.served_name,
        "stop_timeout_seconds": int(STOP_TIMEOUT_SECONDS),
        "unit_name": targets.unit_name("llama-server", plan),
        "weights_dir": options.weights_dir,
        **targets.start_values(plan, common.load_timeout_seconds(plan)),
    }
    if target == "systemd":
        # systemd hands the key over as a credential, under a path that only exists while the service runs.
        keyless = launch_spec(plan, replace(options, api_key_file=None), profile)
        return shared | targets.service_values(plan, options, spec.argv[0]) | {"argv": keyless.argv}
    if target == ROUTER:
        return shared | router_values(known_options(plan, options, profile), spec.argv[0])
    if target in common.CONTAINER_TARGETS:
        inside = arguments(plan, options, profile, container_surroundings(options, profile))
        cluster = targets.cluster_values(plan, profile, common.load_timeout_seconds(plan))
        return shared | container_values(plan, options, profile) | cluster | {"argv": inside}
    return shared


def _for_target(options: LaunchOptions, profile: EngineProfile, target: str) -> LaunchOptions:
    """A container brings its own build: the one asked for, else the profile's, never the one found on the host."""
    if target not in common.CONTAINER_TARGETS:
        return options
    asked = build_number(options.engine_version) if options.engine_version else None
    return replace(options, engine_version=asked or profile.version, known_flags=None)
