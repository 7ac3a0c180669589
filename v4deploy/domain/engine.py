"""An engine: what it can run, and the command line that starts it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from v4deploy.domain.compute_graph import ComputeGraph
from v4deploy.domain.container_devices import ContainerDevices
from v4deploy.domain.engine_memory import EngineMemory
from v4deploy.domain.recipes import Recipes
from v4deploy.domain.split_memory import SplitMemory

if TYPE_CHECKING:  # planning needs none of it, and is to be quick
    from v4deploy.domain.launch_settings import LaunchSettings


class EngineId(StrEnum):
    VLLM = "vllm"
    LLAMA_CPP = "llama.cpp"
    OLLAMA = "ollama"
    MINDIE = "mindie"


class MemoryModel(StrEnum):
    """How an engine lays out weights, KV cache and buffers; the planner has one module for each."""

    LLAMA_CPP = "llama.cpp"
    VLLM = "vllm"


class SupportLevel(StrEnum):
    """VERIFIED: a recipe or report says it ran. EXPECTED: the code says yes. UNSUPPORTED: known not to run."""

    VERIFIED = "verified"
    EXPECTED = "expected"
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSupport:
    """One row of what runs where. The first row that matches wins, so exact rows stand before general ones.

    Attributes:
        compute_api: `cuda`, `rocm`, `metal`, `cann` or `cpu`.
        arch: a device architecture (`sm_90`), or "*" for every other one of that compute API.
        models: model ids that the row speaks about; empty means all.
        quants: quants that the row speaks about; empty means all.
    """

    compute_api: str
    arch: str
    level: SupportLevel
    models: tuple[str, ...] = ()
    quants: tuple[str, ...] = ()
    minimum_version: str | None = None
    reason: str | None = None
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineImage:
    """A container image. `arch` "*" means any of the compute API; `tag` may hold `{version}`."""

    compute_api: str
    arch: str
    image: str
    tag: str
    note: str | None = None
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FlagRange:
    """A command line flag and the versions that know it. None means: not bounded on that side.

    Attributes:
        replaced_by: the flag that does the same and is written where a version knows both; None where there is none.
    """

    flag: str
    since: str | None = None
    until: str | None = None
    replaced_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineProfile:
    """An entry of profiles/engines/<engine>.yaml.

    Attributes:
        version: the version whose flags are written when none is found on the machine.
        newest_read: the newest version whose options and behaviour were looked at; what is newer may differ.
        minimum_version: below it no V4 checkpoint runs at all.
        formats: checkpoint formats that it loads.
        targets: launch targets that have templates, the default first.
        targets_without_kubernetes: what is written instead of the default alone on a host without Kubernetes, when no
            target is named; empty means the default is right there too.
        default_port: what the engine itself uses.
        kv_cache_types: what it takes for V4, its default first.
        most_sequences: as many as it can serve at once, or as its own default for large devices allows.
        launch: what it is started with beside what the plan decides (profiles/launch/); None until it is asked for.
        memory: figures and cache layouts of the vLLM family; None for the others.
        split_memory: figures of engines that split a model by layers; None for the others.
        compute_graphs: of engines that split a model by layers, by cache type; empty for the others.
        container_devices: by compute API, from the profiles of the hardware; empty until the whole catalogue is read.
        precedence: the smaller, the faster where several engines hold the whole model on devices that they support.
    """

    id: EngineId
    name: str
    memory_model: MemoryModel
    version: str
    newest_read: str
    minimum_version: str
    formats: tuple[str, ...]
    targets: tuple[str, ...]
    default_port: int
    kv_cache_types: tuple[str, ...]
    most_sequences: int
    precedence: int
    support: tuple[EngineSupport, ...]
    recipes: Recipes = field(default_factory=Recipes)
    memory: EngineMemory | None = None
    split_memory: SplitMemory | None = None
    compute_graphs: tuple[ComputeGraph, ...] = ()
    container_devices: tuple[ContainerDevices, ...] = ()
    launch: LaunchSettings | None = None
    targets_without_kubernetes: tuple[str, ...] = ()
    images: tuple[EngineImage, ...] = ()
    flags: tuple[FlagRange, ...] = ()
    note: str | None = None
    source: str
    as_of: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyCheck:
    """How to tell that an engine answers: health first, then a real completion.

    Attributes:
        health_path: answers 200 once the weights are loaded.
        completion_path: OpenAI chat completions.
        timeout_seconds: from start to the first completion; computed from the weight size.
    """

    health_path: str
    completion_path: str
    timeout_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSpec:
    """What to start: never a shell string.

    Attributes:
        argv: program and arguments, one element each.
        env: variables added to the environment; no secrets.
        served_name: the model name that clients send.
        stop_timeout_seconds: between the polite signal and the kill.
    """

    engine: EngineId
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    bind: str
    port: int
    served_name: str
    ready: ReadyCheck
    stop_timeout_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchOptions:
    """What the user decides at launch, beside the plan.

    Attributes:
        weights_dir: absolute directory that holds the checkpoint's files.
        engine_version: version found on the machine or in the image; None means the profile's.
        known_flags: the long options that the program's own help names; None where it was not asked.
        executable: how the engine is called (`llama-server`, `vllm`); None means its usual name.
        api_key_file: a file with the key, readable by its owner only; None means no key.
        image: container image for targets that need one; None means the profile's choice.
    """

    weights_dir: str
    bind: str = "127.0.0.1"
    port: int | None = None
    served_name: str | None = None
    engine_version: str | None = None
    known_flags: frozenset[str] | None = None
    executable: str | None = None
    api_key_file: str | None = None
    image: str | None = None
