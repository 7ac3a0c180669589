"""Variables and files that change a launch without anybody noticing."""

from __future__ import annotations

import difflib
import stat
from collections.abc import Iterator

from v4deploy.checks.engines import is_comparable
from v4deploy.checks.subject import Subject
from v4deploy.domain.counting import counted
from v4deploy.domain.engine import EngineId
from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.hardware import ComputeApi, PoolKind
from v4deploy.domain.versions import is_older

OWN_VARIABLES = (
    "V4DEPLOY_WEIGHTS_DIR",
    "V4DEPLOY_OVERLAY",
    "V4DEPLOY_HF_MIRRORS",
    "V4DEPLOY_MODELSCOPE_MIRRORS",
    "V4DEPLOY_UID",
    "V4DEPLOY_GID",
    "V4DEPLOY_UPDATE_GOLDEN",
)
"""Every variable of ours: four of the tool, two of rendered compose files, one of the tests."""

# The single loading flags were removed after llama.cpp build 10880 (ggml-org/llama.cpp pull request 28334); their
# variables are ignored without a word since, tried on build 11434.
_REMOVED_AFTER_BUILD = "10880"
_REMOVED_LLAMA = ("LLAMA_ARG_MLOCK", "LLAMA_ARG_NO_MMAP")
_ASCEND_PATHS = ("ASCEND_HOME_PATH", "ATB_HOME_PATH")
# Of a Kubernetes Service called `vllm`: the finding on VLLM_PORT speaks about these.
_SERVICE_LINKS = ("VLLM_SERVICE_", "VLLM_PORT_")
_OTHER_PROGRAMS = ("VLLM_ASCEND_",)
_GGML_UNIFIED_MEMORY = "GGML_CUDA_ENABLE_UNIFIED_MEMORY"
_HIDES_DEVICES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
_TRUE_WORDS = {"1", "true", "yes", "on"}


def removed_llama_variables(subject: Subject) -> Iterator[Finding]:
    """Loading flags as variables, where no installed llama.cpp reads them any more."""
    names = [name for name in _REMOVED_LLAMA if name in subject.environ]
    installed = [engine.version or "" for engine in subject.host.engines if engine.engine is EngineId.LLAMA_CPP]
    builds = [build for build in installed if is_comparable(build)]
    still_read = bool(builds) and all(not is_older(_REMOVED_AFTER_BUILD, build) for build in builds)
    if names and not still_read:
        yield Finding(
            id="config.llama-arg-ignored",
            severity=Severity.WARN,
            summary=f"llama.cpp ignores {' and '.join(names)} without a word",
            evidence=tuple(Evidence(source=name, value=subject.environ[name]) for name in names),
            why=f"they went away after build {_REMOVED_AFTER_BUILD}; weights are loaded in another way than you asked",
            fix=f"`unset {' '.join(names)}`, and start with `--load-mode mlock` or `--load-mode none`",
        )


def llama_variables(subject: Subject) -> Iterator[Finding]:
    """Other variables that add options to every launch. Their values are not shown: one of them is a key."""
    names = sorted(name for name in subject.environ if name.startswith("LLAMA_ARG_") and name not in _REMOVED_LLAMA)
    if names:
        yield Finding(
            id="config.llama-arg-set",
            severity=Severity.WARN,
            summary=f"{counted(len(names), 'variable')} LLAMA_ARG_* add options to every llama.cpp launch",
            evidence=tuple(Evidence(source="environment", value=name) for name in names),
            why="memory figures of a plan no longer hold when they touch context, slots, cache or placement; Ollama "
            "hands them to its llama-server as well",
            fix=f"`unset {' '.join(names)}`, and give options on the command line",
        )


def unknown_vllm_variables(subject: Subject) -> Iterator[Finding]:
    """VLLM_* that the newest known version does not read; said only where a vLLM is installed that could."""
    installed = any(engine.engine is EngineId.VLLM for engine in subject.host.engines)
    launch = subject.launch.get(EngineId.VLLM)
    if not installed or launch is None or launch.variables is None:
        return
    known = launch.variables
    names = sorted(
        name
        for name in subject.environ
        if name.startswith(known.prefix)
        and not name.startswith((*_SERVICE_LINKS, *_OTHER_PROGRAMS))
        and name.removeprefix(known.prefix) not in known.names
    )
    if names:
        yield Finding(
            id="config.vllm-unknown-variables",
            severity=Severity.WARN,
            summary=f"vLLM {known.version} does not know {', '.join(names)}",
            evidence=tuple(Evidence(source="environment", value=name) for name in names),
            why="it ignores what it does not know, so a setting of an older version has no effect",
            fix=f"`unset {' '.join(names)}`; `vllm serve --fail-on-environ-validation` refuses to start with them",
        )


def vllm_server_dev_mode(subject: Subject) -> Iterator[Finding]:
    """Control endpoints that anybody who reaches the port can call."""
    value = subject.environ.get("VLLM_SERVER_DEV_MODE", "")
    if value.lower() in _TRUE_WORDS:
        yield Finding(
            id="config.vllm-dev-mode",
            severity=Severity.WARN,
            summary="VLLM_SERVER_DEV_MODE opens vLLM's control endpoints",
            evidence=(Evidence(source="VLLM_SERVER_DEV_MODE", value=value),),
            why="whoever reaches the port can put the engine to sleep or run methods in its workers",
            fix="`unset VLLM_SERVER_DEV_MODE`",
        )


def cuda_devices_by_uuid(subject: Subject) -> Iterator[Finding]:
    """Devices named by UUID, which vLLM takes for numbers."""
    value = subject.environ.get("CUDA_VISIBLE_DEVICES", "")
    has_cuda = any(device.compute_api is ComputeApi.CUDA for device in subject.host.devices)
    if has_cuda and any(part.strip().startswith(("GPU-", "MIG-")) for part in value.split(",")):
        yield Finding(
            id="config.cuda-visible-devices-uuid",
            severity=Severity.WARN,
            summary="CUDA_VISIBLE_DEVICES names devices by UUID, on which vLLM ends with a ValueError",
            evidence=(
                Evidence(source="CUDA_VISIBLE_DEVICES", value=value),
                Evidence(source="vllm-project/vllm#13815, #17047, #41848"),
            ),
            why="vLLM reads the entries as numbers; with a MIG slice it would also take the size of the whole device",
            fix="name them by number: `nvidia-smi -L` shows which is which",
        )


def unified_memory_variable(subject: Subject) -> Iterator[Finding]:
    """llama.cpp spills into system RAM where its memory would have run out."""
    value = subject.environ.get(_GGML_UNIFIED_MEMORY)
    dedicated = any(
        device.compute_api in {ComputeApi.CUDA, ComputeApi.ROCM}
        and subject.host.pool(device.pool_id).kind is PoolKind.DEDICATED
        for device in subject.host.devices
    )
    if value is not None and dedicated:
        yield Finding(
            id="config.ggml-unified-memory",
            severity=Severity.WARN,
            summary=f"{_GGML_UNIFIED_MEMORY} lets llama.cpp spill from the device into system RAM",
            evidence=(
                Evidence(source=_GGML_UNIFIED_MEMORY, value=value),
                Evidence(source="ggml-org/llama.cpp#17536"),
            ),
            why="a plan that is too large then runs many times slower instead of stopping, and some builds take system "
            "RAM for what is free on the device; any value switches it on, 0 too",
            fix=f"`unset {_GGML_UNIFIED_MEMORY}`",
        )


def ollama_past_hidden_devices(subject: Subject) -> Iterator[Finding]:
    """Ollama takes devices through Vulkan that a variable of CUDA or ROCm hides."""
    hiding = [name for name in _HIDES_DEVICES if name in subject.environ]
    is_here = any(engine.engine is EngineId.OLLAMA for engine in subject.host.engines)
    if hiding and is_here and len(subject.host.devices) > 1 and subject.environ.get("OLLAMA_VULKAN") != "0":
        yield Finding(
            id="config.ollama-vulkan",
            severity=Severity.WARN,
            summary=f"Ollama may take devices through Vulkan that {' and '.join(hiding)} hides",
            evidence=(
                *(Evidence(source=name, value=subject.environ[name]) for name in hiding),
                Evidence(source="ollama/ollama#16508, #16592"),
            ),
            why="it looks for devices in every way that it knows, and a model then lies on a device that was kept free",
            fix="set `OLLAMA_VULKAN=0` for the service; launch files of v4deploy do so by themselves",
        )


def unknown_own_variables(subject: Subject) -> Iterator[Finding]:
    """V4DEPLOY_* that nobody reads: mostly a misspelt name."""
    for name in sorted(subject.environ):
        if name.startswith("V4DEPLOY_") and name not in OWN_VARIABLES:
            near = difflib.get_close_matches(name, OWN_VARIABLES, n=1)
            yield Finding(
                id="config.unknown-v4deploy-variable",
                severity=Severity.WARN,
                summary=f"v4deploy has no variable {name}",
                evidence=(Evidence(source=name, value="set"),),
                why="what it was meant to change stays as it was",
                fix=f"did you mean {near[0]}?" if near else f"known are {', '.join(OWN_VARIABLES[:2])}",
            )


def removed_ascend_variables(subject: Subject) -> Iterator[Finding]:
    """Variables of older recipes that vLLM-Ascend dropped."""
    launch = subject.launch.get(EngineId.MINDIE)
    removed = [row for row in launch.removed_variables if row.name in subject.environ] if launch else []
    if removed and _has_npu(subject):
        names = [row.name for row in removed]
        yield Finding(
            id="config.ascend-removed-variables",
            severity=Severity.WARN,
            summary=f"vLLM-Ascend ignores {' and '.join(names)} since {removed[0].since}",
            evidence=tuple(Evidence(source=name, value=subject.environ[name]) for name in names),
            why="recipes of the preview set them, and without what replaced them the engine is slower",
            fix="; ".join(f"for {row.name} use {row.instead}" for row in removed),
        )


def ascend_environment(subject: Subject) -> Iterator[Finding]:
    """vLLM-Ascend beside us, and the variables of CANN and nnal not set."""
    is_here = any(engine.engine is EngineId.MINDIE for engine in subject.host.engines)
    missing = [name for name in _ASCEND_PATHS if not subject.environ.get(name)]
    if is_here and missing and _has_npu(subject):
        yield Finding(
            id="config.ascend-environment",
            severity=Severity.WARN,
            summary=f"{' and '.join(missing)} {'are' if len(missing) > 1 else 'is'} not set",
            evidence=tuple(Evidence(source=name, value="not set") for name in missing),
            why="vLLM-Ascend then ends with `Failed to infer device type` or without libatb.so",
            fix="`source /usr/local/Ascend/ascend-toolkit/set_env.sh; source /usr/local/Ascend/nnal/atb/set_env.sh`",
        )


def readable_token(subject: Subject) -> Iterator[Finding]:
    """The hub's token in a file that others can read."""
    file = subject.token_file
    if file is not None and file.mode & (stat.S_IRGRP | stat.S_IROTH):
        yield Finding(
            id="config.token-readable",
            severity=Severity.WARN,
            summary="other users of this machine can read your hub token",
            evidence=(Evidence(source=file.path, value=f"mode {file.mode:o}"),),
            why="whoever has it acts as you at the hub",
            fix=f"`chmod 600 {file.path}`, and make a new token if others use this machine",
        )


def _has_npu(subject: Subject) -> bool:
    return any(device.compute_api is ComputeApi.CANN for device in subject.host.devices)
