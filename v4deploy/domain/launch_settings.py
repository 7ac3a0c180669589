"""What an engine is started with beside what the plan decides, as data: by model, device architecture and version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from v4deploy.domain.launch_recipes import ChipFamily, LaunchRecipe
from v4deploy.domain.source import Source

Arguments = Mapping[str, object]
"""Long flag names without dashes in front, in the order in which they are written. Values: true for a bare flag, a
number, a text, or a mapping (JSON on the command line, a nested mapping in YAML). Never None: vLLM's YAML reader turns
null into the text "None"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """What depends on the model's architecture alone.

    Attributes:
        gguf_arch: as files of weights call it (`deepseek4`).
        parser: name of its tool call and reasoning parsers.
        block_tokens: KV page size to ask for; None where the kernels differ by device and the engine chooses.
    """

    gguf_arch: str
    parser: str
    block_tokens: int | None
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSettings:
    """Settings that recipes give for a model's architecture where all of a plan's devices are of some architectures.

    Attributes:
        expert_parallel_native: arguments that only hold with expert parallelism and the native FP4 and FP8 weights.
        environment: names and values of variables.
    """

    gguf_arch: str
    archs: frozenset[str]
    arguments: Arguments = field(default_factory=dict)
    expert_parallel_native: Arguments = field(default_factory=dict)
    environment: tuple[tuple[str, str], ...] = ()
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownDefect:
    """A combination that users reported as broken.

    Attributes:
        version: None means every version so far.
        with_dspark: broken where the plan drafts with DSpark only.
    """

    archs: frozenset[str]
    version: str | None
    with_dspark: bool
    what: str
    fix: str
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseSet:
    """What releases of an engine are made for, where they fit only as a set.

    Attributes:
        release: major and minor number of the engine (`0.23`).
        torch: of torch, and of its plugin for the devices.
        toolkit: of the compute API.
    """

    release: str
    torch: str
    toolkit: str
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverFloor:
    """The oldest driver that a build of the engine starts on.

    Attributes:
        what: the builds that it holds for, in words.
        build: a part of the engine's version that marks the build; "" means the usual one.
        below_capability: counts for devices of a lower compute capability only (70 is 7.0); None: for all.
    """

    compute_api: str
    floor: str
    what: str
    build: str
    below_capability: int | None
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class StackFloor:
    """The oldest release of a compute API's own stack that the engine's builds are made for."""

    compute_api: str
    floor: str
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownVariables:
    """The variables that a version reads, of those that begin with a prefix; names without it."""

    version: str
    prefix: str
    names: frozenset[str]
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedVariable:
    """A variable that is no longer read. `instead`: what took its place, in words."""

    name: str
    since: str
    instead: str
    source: Source


class Ability(StrEnum):
    """What an engine learned after it knew V4, where a plan may need it.

    DSPARK: drafting with DSpark. DRAFT_BLOCK: the checkpoint's own DSpark block size, where no number is given.
    AUTO_KV_CACHE: the cache type, where it is left to the engine. QUANTISED_KV_CACHE: right answers from one.
    """

    DSPARK = "dspark"
    DRAFT_BLOCK = "draft-block"
    AUTO_KV_CACHE = "auto-kv-cache"
    QUANTISED_KV_CACHE = "quantised-kv-cache"


@dataclass(frozen=True, slots=True, kw_only=True)
class AbilitySince:
    """The first version that has an ability."""

    ability: Ability
    since: str
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSettings:
    """A file of profiles/launch/; empty for engines that take nothing beside the plan.

    Attributes:
        chip_families, recipes: of engines that run on nothing else than what is documented.
        release_sets: what lies beside the engine in each of its releases, as far as it is known.
        variables: None where nobody looked at them.
        driver_floors: the first row that matches a device counts.
        abilities: what is not listed, every version that knows V4 can.
        maximum_pod_devices: as many one pod of a cluster takes; None where nothing but the node limits it.
    """

    models: tuple[ModelSettings, ...] = ()
    devices: tuple[DeviceSettings, ...] = ()
    known_defects: tuple[KnownDefect, ...] = ()
    chip_families: tuple[ChipFamily, ...] = ()
    recipes: tuple[LaunchRecipe, ...] = ()
    release_sets: tuple[ReleaseSet, ...] = ()
    driver_floors: tuple[DriverFloor, ...] = ()
    stack_floors: tuple[StackFloor, ...] = ()
    variables: KnownVariables | None = None
    removed_variables: tuple[RemovedVariable, ...] = ()
    abilities: tuple[AbilitySince, ...] = ()
    maximum_pod_devices: int | None = None

    def model(self, gguf_arch: str) -> ModelSettings | None:
        """What is known of a model's architecture; None where nothing is."""
        return next((entry for entry in self.models if entry.gguf_arch == gguf_arch), None)

    def since(self, ability: Ability) -> str | None:
        """The first version that has it; None where every version that knows V4 does."""
        return next((entry.since for entry in self.abilities if entry.ability is ability), None)

    def device_settings(self, gguf_arch: str, archs: frozenset[str | None]) -> tuple[DeviceSettings, ...]:
        """The rows that hold for all of these devices; none for no devices."""
        return tuple(row for row in self.devices if archs and row.gguf_arch == gguf_arch and archs <= row.archs)
