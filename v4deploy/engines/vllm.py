"""vLLM: judges a plan, and writes it as the YAML file that `vllm serve --config FILE` reads, or as a command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from v4deploy.domain.engine import EngineId, EngineProfile, LaunchOptions, LaunchSpec, ReadyCheck
from v4deploy.domain.finding import Finding
from v4deploy.domain.hardware import ComputeApi
from v4deploy.domain.launch_settings import Arguments
from v4deploy.domain.model import CheckpointFormat
from v4deploy.domain.plan import Plan
from v4deploy.engines import targets
from v4deploy.engines.common import (
    CONTAINER_TARGETS,
    check_basics,
    device_names,
    engine_version,
    facts,
    image_of,
    port_of,
    reachable,
    served_name,
    visible_devices_env,
)
from v4deploy.engines.vllm_arguments import (
    OFFLINE_ENV,
    arguments,
    device_environment,
    ready_timeout_seconds,
    stop_timeout_seconds,
)
from v4deploy.engines.vllm_checks import own_findings
from v4deploy.engines.vllm_flags import as_argv, split_by_version
from v4deploy.engines.vllm_support import is_unsupported, support_findings

ID = EngineId.VLLM

CONTAINER_WEIGHTS_DIR = "/weights"
CONTAINER_PORT = 8000
CONTAINER_CACHE_DIR = "/cache"
CONTAINER_KEY_FILE = "/run/secrets/api-key"

_WITH_KEY = """\
key=$(sed -n '/^[^#]/{p;q;}' "$0") && [ -n "$key" ] || { echo "key file $0 is missing or holds no key" >&2; exit 1; }
export VLLM_API_KEY="$key"
exec "$@"
"""
"""vLLM reads its key from the environment, and only from there is it no argument that every user can read. It is the
first line of the file that is no comment, as `serve` takes it: vLLM knows one key."""

_HEALTH_URL = f"http://127.0.0.1:{CONTAINER_PORT}/health"
_HEALTH_COMMAND = (
    "python3",
    "-c",
    f"import urllib.request as r; o = r.build_opener(r.ProxyHandler({{}})); o.open('{_HEALTH_URL}', timeout=5)",
)

SHARED_MEMORY_GIB = 16
SHARED_TABLES_GIB = 200


def check(plan: Plan, options: LaunchOptions, profile: EngineProfile, target: str) -> tuple[Finding, ...]:
    """What speaks against this plan on vLLM. A finding of severity FAIL refuses it."""
    basics = check_basics(plan, options, profile, (CheckpointFormat.SAFETENSORS,))
    support = support_findings(plan, profile, engine_version(plan, options))
    if is_unsupported(support):
        return (*basics, *support)
    return (*basics, *support, *own_findings(plan, options, profile, target))


def launch_spec(plan: Plan, options: LaunchOptions, profile: EngineProfile) -> LaunchSpec:
    """`vllm serve` with plain arguments. The key is no part of it: vLLM reads it from VLLM_API_KEY.

    Raises:
        UsageError: the model family is unknown, or its draft has no length; `check` says so beforehand.
    """
    known = _known_arguments(plan, options, profile)
    argv = as_argv({name: value for name, value in known.items() if name != "model"})
    return LaunchSpec(
        engine=ID,
        argv=(options.executable or "vllm", "serve", options.weights_dir, *argv),
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
    timeout = ready_timeout_seconds(plan)
    is_container = target in CONTAINER_TARGETS
    return {
        "facts": facts(plan, profile, options),
        "argv": spec.argv,
        "env": dict(spec.env),
        "config": dict(_known_arguments(plan, _inside(options) if is_container else options, profile)),
        "executable": options.executable or "vllm",
        "weights_dir": options.weights_dir,
        "bind": spec.bind,
        "bind_in_url": f"[{spec.bind}]" if ":" in spec.bind else spec.bind,
        "health_url": f"http://{reachable(spec.bind)}:{spec.port}/health",
        "port": spec.port,
        "served_name": spec.served_name,
        "unit_name": targets.unit_name("vllm-server", plan),
        "api_key_file": options.api_key_file or "",
        "key_script": _WITH_KEY,
        "cuda": plan.chosen.compute_api is ComputeApi.CUDA,
        "rocm": plan.chosen.compute_api is ComputeApi.ROCM,
        "stop_timeout_seconds": stop_timeout_seconds(),
        **targets.start_values(plan, timeout),
        **targets.service_values(plan, options, spec.argv[0], depth=2),
        **_container_values(plan, options, profile, timeout),
    }


def _inside(options: LaunchOptions) -> LaunchOptions:
    """Inside a container every address is its own; who may come in is decided where the port is published."""
    bind = "0.0.0.0"  # noqa: S104
    return replace(options, weights_dir=CONTAINER_WEIGHTS_DIR, bind=bind, port=CONTAINER_PORT, executable="vllm")


def _container_values(plan: Plan, options: LaunchOptions, profile: EngineProfile, timeout: int) -> dict[str, object]:
    inner = launch_spec(plan, _inside(options), profile).argv
    # Without an image `check` has refused already; the empty text keeps this function total.
    image = image_of(plan, options, profile) or ""
    return {
        "image": image,
        "qualified_image": targets.qualified_image(image),
        "container_argv": _with_key(inner) if options.api_key_file else inner,
        "container_env": _container_env(plan, profile),
        "container_weights_dir": CONTAINER_WEIGHTS_DIR,
        "container_cache_dir": CONTAINER_CACHE_DIR,
        "container_key_file": CONTAINER_KEY_FILE,
        "container_port": CONTAINER_PORT,
        "cdi_devices": targets.cdi_devices(plan, profile),
        "device_names": list(device_names(plan) or ()),
        "health_command": list(_HEALTH_COMMAND),
        "shm_gib": _shared_memory_gib(plan),
        **targets.cluster_values(plan, profile, timeout),
    }


def environment(plan: Plan, profile: EngineProfile) -> tuple[tuple[str, str], ...]:
    """Variables for the engine: offline, silent, patient, and only the plan's devices."""
    timeout = ("VLLM_ENGINE_READY_TIMEOUT_S", str(ready_timeout_seconds(plan)))
    return (*OFFLINE_ENV, timeout, *device_environment(plan, profile), *visible_devices_env(plan))


def _with_key(argv: tuple[str, ...]) -> tuple[str, ...]:
    return ("/bin/sh", "-c", _WITH_KEY, CONTAINER_KEY_FILE, *argv)


def _shared_memory_gib(plan: Plan) -> int:
    """Of a pod: what ai-dynamo's recipes give ranks to talk, or V4.1's tables, which data parallel ranks share."""
    shares_tables = plan.gguf_arch == "deepseek41" and plan.chosen.layout.data_parallel > 1
    return SHARED_TABLES_GIB if shares_tables else SHARED_MEMORY_GIB


def _known_arguments(plan: Plan, options: LaunchOptions, profile: EngineProfile) -> Arguments:
    known, _ = split_by_version(arguments(plan, options, profile), profile, engine_version(plan, options))
    return known


def _container_env(plan: Plan, profile: EngineProfile) -> dict[str, str]:
    """As on the host, but devices are chosen by the reservation (CUDA), and compiled kernels go to a volume."""
    hidden = visible_devices_env(plan) if plan.chosen.compute_api is ComputeApi.CUDA else ()
    host_only = {name for name, _ in hidden}
    caches = {
        "VLLM_CACHE_ROOT": f"{CONTAINER_CACHE_DIR}/vllm",
        "CUDA_CACHE_PATH": f"{CONTAINER_CACHE_DIR}/cuda",
        "FLASHINFER_WORKSPACE_BASE": CONTAINER_CACHE_DIR,
        # Torch asks for the user's name, which a number from outside does not have (IBM/ado#1261).
        "HOME": CONTAINER_CACHE_DIR,
        "USER": "vllm",
    }
    return {name: value for name, value in environment(plan, profile) if name not in host_only} | caches
