"""Ollama: the service's environment, a Modelfile, and the import of split files through its blob and create API."""

from __future__ import annotations

import re
from collections.abc import Mapping

from v4deploy.domain.engine import EngineId, EngineProfile, LaunchOptions, LaunchSpec, ReadyCheck
from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.hardware import ComputeApi, OperatingSystem
from v4deploy.domain.model import CheckpointFormat
from v4deploy.domain.plan import Layout, Plan
from v4deploy.domain.versions import is_older
from v4deploy.engines import common, targets
from v4deploy.engines.gguf_files import files_derived, files_unknown, has_amx, main_shards, tensor_split
from v4deploy.engines.ollama_import import (
    LICENSE,
    UNMERGED_VERSION,
    imported_files,
    is_merging,
    parameters,
    required_version,
)

ID = EngineId.OLLAMA

CACHE_TYPES = ("f16", "q8_0", "q4_0")
"""What OLLAMA_KV_CACHE_TYPE takes (ollama/ollama at 2026-08-21); it sets keys and values alike, as V4 needs."""

STOP_TIMEOUT_SECONDS = 30.0

_CLOUD_NAME = re.compile(r".*[:-]cloud", re.ASCII)
"""How Ollama marks the models of its library that run on its own machines (`deepseek-v4-flash:0731-cloud`)."""

_MODEL_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)*(:[\w.-]+)?", re.ASCII)


def check(plan: Plan, options: LaunchOptions, profile: EngineProfile, target: str) -> tuple[Finding, ...]:
    """What speaks against this plan on Ollama; see `engines/base.py`."""
    return (
        *targets.target_findings(plan, options, target, engine="ollama", image=common.image_of(plan, options, profile)),
        *common.check_basics(plan, options, profile, (CheckpointFormat.GGUF,)),
        *_version_findings(plan, options, profile),
        *_option_findings(plan, options),
        *_plan_findings(plan),
    )


def launch_spec(plan: Plan, options: LaunchOptions, profile: EngineProfile) -> LaunchSpec:
    """`ollama serve`. The model has to be imported before it can answer; see `engines/base.py`."""
    return LaunchSpec(
        engine=ID,
        argv=(options.executable or "ollama", "serve"),
        env=environment(plan, options, profile),
        bind=options.bind,
        port=common.port_of(options, profile),
        served_name=common.served_name(plan, options),
        ready=ReadyCheck(
            health_path="/api/version",
            completion_path="/v1/chat/completions",
            timeout_seconds=float(common.load_timeout_seconds(plan)),
        ),
        stop_timeout_seconds=STOP_TIMEOUT_SECONDS,
    )


def values(plan: Plan, options: LaunchOptions, profile: EngineProfile, target: str) -> Mapping[str, object]:
    """Values for templates/ollama; see `engines/base.py`."""
    spec = launch_spec(plan, options, profile)
    return {
        "argv": spec.argv,
        "bind": spec.bind,
        "compute_api": plan.chosen.compute_api.value,
        "env": dict(spec.env),
        "facts": common.facts(plan, profile, options),
        "is_linux": plan.host.os is OperatingSystem.LINUX,
        "is_merging": is_merging(common.engine_version(plan, options)),
        "license": LICENSE,
        "minimum_version": required_version(plan, profile),
        "model_name": spec.served_name,
        "parameters": parameters(plan),
        "port": spec.port,
        "shards": [
            {"path": file.path, "name": file.name, "sha256": file.sha256 or ""}
            for file in imported_files(plan, options)
        ],
        "unmerged_version": UNMERGED_VERSION,
        "unit_name": targets.unit_name("ollama", plan),
        "url": f"http://{common.reachable(spec.bind)}:{spec.port}",
        "weights_dir": options.weights_dir,
        "stop_timeout_seconds": int(STOP_TIMEOUT_SECONDS),
        **targets.start_values(plan, common.load_timeout_seconds(plan)),
        **(_container_values(plan, options, profile) if target in common.CONTAINER_TARGETS else {}),
    }


def _container_values(plan: Plan, options: LaunchOptions, profile: EngineProfile) -> dict[str, object]:
    """Inside, the address is the container's own and the store is mounted; devices are chosen by the reservation."""
    hidden = dict(common.visible_devices_env(plan)) if plan.chosen.compute_api is ComputeApi.CUDA else {}
    variables = {name: text for name, text in environment(plan, options, profile) if name not in hidden}
    return {
        "container_env": {
            **variables,
            "OLLAMA_HOST": f"0.0.0.0:{profile.default_port}",
            "OLLAMA_MODELS": "/store",
            # Ollama keeps a key of its own there.
            "HOME": "/store",
        },
        "container_port": profile.default_port,
        "device_ids": list(common.device_names(plan) or ()),
        "image": common.image_of(plan, options, profile) or "",
    }


def environment(plan: Plan, options: LaunchOptions, profile: EngineProfile) -> tuple[tuple[str, str], ...]:
    """Variables of the service. Its llama-server inherits them all, which is the only way to place experts."""
    chosen = plan.chosen
    bind = f"[{options.bind}]" if ":" in options.bind else options.bind
    variables = [
        ("OLLAMA_HOST", f"{bind}:{common.port_of(options, profile)}"),
        ("OLLAMA_CONTEXT_LENGTH", str(chosen.context_tokens)),
        ("OLLAMA_NUM_PARALLEL", str(chosen.concurrency)),
        ("OLLAMA_MAX_LOADED_MODELS", "1"),
        # Unloading after five idle minutes, the default, would read the whole model again for the next request.
        ("OLLAMA_KEEP_ALIVE", "-1"),
        ("OLLAMA_LOAD_TIMEOUT", f"{common.load_timeout_seconds(plan)}s"),
        # The plan's compute buffers are those with flash attention; without it they grow tenfold.
        ("OLLAMA_FLASH_ATTENTION", "1"),
        ("OLLAMA_KV_CACHE_TYPE", chosen.kv_cache_type),
        # The library's own V4 entries are served from a cloud; a mistyped name must not end there.
        ("OLLAMA_NO_CLOUD", "1"),
        *common.visible_devices_env(plan),
    ]
    if chosen.compute_api in {ComputeApi.CUDA, ComputeApi.ROCM}:
        # Otherwise Ollama also takes devices through Vulkan, past the variable that hides them (ollama/ollama#16508).
        variables.append(("OLLAMA_VULKAN", "0"))
    variables += _placement(chosen.layout)
    if has_amx(plan.host):
        # Builds for such processors abort on V4's quantised attn_output_a while repacking (seen with b11434).
        variables.append(("LLAMA_ARG_REPACK", "off"))
    return tuple(variables)


def _placement(layout: Layout) -> list[tuple[str, str]]:
    """Where the plan placed layers and experts; nothing where one device, or the CPU, holds everything."""
    is_split = len(layout.device_layers) > 1
    if not (is_split or layout.host_expert_layers):
        return []
    variables = [("LLAMA_ARG_FIT", "off"), ("LLAMA_ARG_N_GPU_LAYERS", "all")]
    if layout.host_expert_layers:
        variables.append(("LLAMA_ARG_N_CPU_MOE", str(layout.host_expert_layers)))
    if is_split:
        variables.append(("LLAMA_ARG_TENSOR_SPLIT", tensor_split(layout.device_layers)))
    return variables


def _version_findings(plan: Plan, options: LaunchOptions, profile: EngineProfile) -> tuple[Finding, ...]:
    version = common.engine_version(plan, options)
    minimum = required_version(plan, profile)
    try:
        old = is_older(version, minimum)
    except ValueError:
        return (
            _finding(
                "version-unknown",
                Severity.WARN,
                f"`{version}` tells no version of Ollama; {minimum} or newer is needed",
                fix="`ollama --version`",
            ),
        )
    return (common.too_old(plan, profile, version, minimum),) if old else common.newer_than_read(profile, version)


def _option_findings(plan: Plan, options: LaunchOptions) -> tuple[Finding, ...]:
    findings = []
    if options.api_key_file is not None:
        findings.append(
            _finding(
                "no-keys",
                Severity.FAIL,
                "Ollama has no API keys",
                fix="leave `--api-key-file` out and put a proxy that asks for a key in front",
            )
        )
    name = common.served_name(plan, options)
    if not _MODEL_NAME.fullmatch(name):
        findings.append(
            _finding(
                "model-name",
                Severity.FAIL,
                f"`{name}` is not a model name for Ollama: letters, digits, `.`, `_`, `-`, `/` and one `:tag`",
                fix="give another one: `--served-name NAME`",
            )
        )
    if _CLOUD_NAME.fullmatch(name):
        findings.append(
            _finding(
                "cloud-name",
                Severity.FAIL,
                f"`{name}` is a name by which Ollama means a model on its own machines, not the files here",
                why="requests would leave this machine, or fail where the cloud is switched off as here",
                fix="serve it under another name",
            )
        )
    return tuple(findings)


def _plan_findings(plan: Plan) -> tuple[Finding, ...]:
    chosen = plan.chosen
    refusals = (
        (
            chosen.kv_cache_type not in CACHE_TYPES,
            "cache-type",
            f"Ollama has no {chosen.kv_cache_type} KV cache",
            f"plan with one of: {', '.join(CACHE_TYPES)}",
        ),
        (chosen.use_draft, "no-draft", "v4deploy starts no drafting in Ollama", "plan without drafting"),
        (
            chosen.compute_api is ComputeApi.CANN,
            "no-cann",
            "Ollama does not run on Ascend",
            "plan with `--engine mindie`",
        ),
    )
    found = tuple(_finding(word, Severity.FAIL, summary, fix=fix) for holds, word, summary, fix in refusals if holds)
    if not main_shards(chosen.checkpoint):
        found += (files_unknown(plan),)
    return (*found, *files_derived(plan), *_remarks(plan))


def _remarks(plan: Plan) -> tuple[Finding, ...]:
    layout = plan.chosen.layout
    if not layout.device_indices:
        return (
            _finding(
                "no-mapping",
                Severity.INFO,
                "on a machine without GPU Ollama reads the whole model into memory instead of mapping the file",
                why="pages that are not needed cannot be dropped again",
            ),
        )
    if not _placement(layout):
        return ()
    return (
        _finding(
            "placement-inherited",
            Severity.WARN,
            "Ollama has no options for where layers and experts go; the plan's placement is passed to its llama-server "
            "through the environment",
            why="that it arrives was read from Ollama's code of August 2026, not tried",
            fix="llama.cpp itself takes the placement as an option: `--engine llama.cpp`",
        ),
    )


def _finding(word: str, severity: Severity, summary: str, *, why: str | None = None, fix: str | None = None) -> Finding:
    return Finding(
        id=f"engine.ollama.{word}",
        severity=severity,
        summary=summary,
        evidence=(Evidence(source="ollama/ollama, v0.33.0-rc2"),),
        why=why,
        fix=fix,
    )
