"""The form of profiles/launch/<engine>.yaml, compact for humans, and its LaunchSettings."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from v4deploy.catalogue.wire_launch_floors import (
    AbilityEntry,
    DriverFloorEntry,
    StackFloorEntry,
    ability_of,
    driver_floor_of,
    stack_floor_of,
)
from v4deploy.catalogue.wire_launch_recipes import FamilyEntry, RecipeEntry, families_of, recipe_of
from v4deploy.catalogue.wire_launch_variables import RemovedEntry, VariablesEntry, removed_of, variables_of
from v4deploy.catalogue.yaml_source import YamlDocument, parse_profile
from v4deploy.domain.engine import EngineId
from v4deploy.domain.launch_settings import DeviceSettings, KnownDefect, LaunchSettings, ModelSettings, ReleaseSet
from v4deploy.domain.source import Source
from v4deploy.domain.versions import version_numbers

_NEGATION = "no-"
_PLACES_OF_A_RELEASE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """As ModelSettings documents it. `source` null means the file's, here and below."""

    gguf_arch: str
    parser: str
    block_tokens: int | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceEntry:
    """As DeviceSettings documents it."""

    gguf_arch: str
    archs: tuple[str, ...]
    arguments: dict[str, object] = field(default_factory=dict)
    expert_parallel_native: dict[str, object] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    source: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DefectEntry:
    """As KnownDefect documents it; each stands on its own report."""

    archs: tuple[str, ...]
    version: str | None = None
    with_dspark: bool = False
    what: str
    fix: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseEntry:
    """As ReleaseSet documents it, for several releases."""

    releases: tuple[str, ...]
    torch: str
    toolkit: str
    source: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchFile:
    """All that an engine is started with beside the plan."""

    engine: EngineId
    source: str
    as_of: str
    models: tuple[ModelEntry, ...] = ()
    devices: tuple[DeviceEntry, ...] = ()
    known_defects: tuple[DefectEntry, ...] = ()
    chip_families: tuple[FamilyEntry, ...] = ()
    recipes: tuple[RecipeEntry, ...] = ()
    release_sets: tuple[ReleaseEntry, ...] = ()
    driver_floors: tuple[DriverFloorEntry, ...] = ()
    stack_floors: tuple[StackFloorEntry, ...] = ()
    variables: VariablesEntry | None = None
    removed_variables: tuple[RemovedEntry, ...] = ()
    abilities: tuple[AbilityEntry, ...] = ()
    maximum_pod_devices: int | None = None


_Path = tuple[str | int, ...]
_Fault = tuple[_Path, str]


def launch_of(document: YamlDocument, engine: EngineId, flags: Collection[str]) -> LaunchSettings:
    """What the engine is started with beside the plan. `flags` are those of its profile.

    Raises:
        ProfileError: the file has not the form of LaunchFile, is of another engine, an argument is no flag of the
            engine, a row names what is not listed, or a version cannot be read.
    """
    entry = parse_profile(LaunchFile, document)
    if entry.engine is not engine:
        raise document.error(("engine",), f"the file is called after `{engine}`")
    for path, message in _faults(entry, flags):
        raise document.error(path, message)
    default = Source(source=entry.source, as_of=entry.as_of)
    return LaunchSettings(
        models=tuple(
            ModelSettings(
                gguf_arch=row.gguf_arch,
                parser=row.parser,
                block_tokens=row.block_tokens,
                source=_source(row, entry),
            )
            for row in entry.models
        ),
        devices=tuple(_device(row, entry) for row in entry.devices),
        known_defects=tuple(
            KnownDefect(
                archs=frozenset(row.archs),
                version=row.version,
                with_dspark=row.with_dspark,
                what=row.what,
                fix=row.fix,
                source=_source(row, entry),
            )
            for row in entry.known_defects
        ),
        chip_families=tuple(family for row in entry.chip_families for family in families_of(row, default)),
        recipes=tuple(recipe_of(row, default) for row in entry.recipes),
        release_sets=tuple(
            ReleaseSet(release=release, torch=row.torch, toolkit=row.toolkit, source=_source(row, entry))
            for row in entry.release_sets
            for release in row.releases
        ),
        driver_floors=tuple(driver_floor_of(row, entry.as_of) for row in entry.driver_floors),
        stack_floors=tuple(stack_floor_of(row, entry.as_of) for row in entry.stack_floors),
        variables=variables_of(entry.variables, default),
        removed_variables=tuple(removed_of(row, default) for row in entry.removed_variables),
        abilities=tuple(ability_of(row, entry.as_of) for row in entry.abilities),
        maximum_pod_devices=entry.maximum_pod_devices,
    )


def _device(row: DeviceEntry, entry: LaunchFile) -> DeviceSettings:
    return DeviceSettings(
        gguf_arch=row.gguf_arch,
        archs=frozenset(row.archs),
        arguments=row.arguments,
        expert_parallel_native=row.expert_parallel_native,
        environment=tuple(row.environment.items()),
        source=_source(row, entry),
    )


def _source(row: ModelEntry | DeviceEntry | DefectEntry | ReleaseEntry, entry: LaunchFile) -> Source:
    return Source(source=row.source or entry.source, as_of=entry.as_of)


def _faults(entry: LaunchFile, flags: Collection[str]) -> Iterator[_Fault]:
    """What the form allows and no launch can mean: path and message of each."""
    models = [row.gguf_arch for row in entry.models]
    for index, model in enumerate(models):
        if model in models[:index]:
            yield ("models", index, "gguf_arch"), f"`{model}` stands twice"
    for index, row in enumerate(entry.devices):
        place = ("devices", index)
        if row.gguf_arch not in models:
            yield (*place, "gguf_arch"), f"`{row.gguf_arch}` is not listed in models"
        yield from _argument_faults((*place, "arguments"), row.arguments, flags)
        yield from _argument_faults((*place, "expert_parallel_native"), row.expert_parallel_native, flags)
    for path, version in _versions(entry):
        yield from _version_faults(path, version)
    yield from _release_faults(entry)
    yield from _recipe_faults(entry, flags)


def _versions(entry: LaunchFile) -> Iterator[tuple[_Path, str | None]]:
    for index, defect in enumerate(entry.known_defects):
        yield ("known_defects", index, "version"), defect.version
    for index, driver in enumerate(entry.driver_floors):
        yield ("driver_floors", index, "floor"), driver.floor
    for index, stack in enumerate(entry.stack_floors):
        yield ("stack_floors", index, "floor"), stack.floor
    for index, variable in enumerate(entry.removed_variables):
        yield ("removed_variables", index, "since"), variable.since
    if entry.variables is not None:
        yield ("variables", "version"), entry.variables.version
    for index, ability in enumerate(entry.abilities):
        yield ("abilities", index, "since"), ability.since


def _recipe_faults(entry: LaunchFile, flags: Collection[str]) -> Iterator[_Fault]:
    archs = [arch for row in entry.chip_families for arch in row.families]
    for arch in sorted({arch for arch in archs if archs.count(arch) > 1}):
        yield ("chip_families",), f"`{arch}` stands twice"
    for index, row in enumerate(entry.recipes):
        place = ("recipes", index)
        if row.arch not in archs:
            yield (*place, "arch"), f"`{row.arch}` is not listed in chip_families"
        if min(row.max_context_tokens, row.block_tokens) < 1:
            yield place, "tokens are at least 1"
        yield from _argument_faults((*place, "arguments"), row.arguments, flags)
        yield from _nulls((*place, "draft_config"), row.draft_config)


def _release_faults(entry: LaunchFile) -> Iterator[_Fault]:
    seen: set[tuple[int, ...]] = set()
    for index, row in enumerate(entry.release_sets):
        place = ("release_sets", index)
        for key, versions in (("torch", (row.torch,)), ("toolkit", (row.toolkit,)), ("releases", row.releases)):
            for version in versions:
                yield from _version_faults((*place, key), version)
        for release in row.releases:
            numbers = version_numbers(release)
            if len(numbers) != _PLACES_OF_A_RELEASE:
                yield (*place, "releases"), f"`{release}` is not a major and a minor number"
            if numbers in seen:
                yield (*place, "releases"), f"`{release}` stands twice"
            seen.add(numbers)


def _version_faults(place: _Path, version: str | None) -> Iterator[_Fault]:
    try:
        version_numbers(version or "0")
    except ValueError as error:
        yield place, str(error)


def _argument_faults(place: _Path, arguments: Mapping[str, object], flags: Collection[str]) -> Iterator[_Fault]:
    """A flag that no version knows would stop every launch; null would be written as a text."""
    for name, value in arguments.items():
        if f"--{name}" not in flags and f"--{name.removeprefix(_NEGATION)}" not in flags:
            yield (*place, name), f"no flag of the engine is called `--{name}`"
        yield from _nulls((*place, name), value)


def _nulls(place: _Path, value: object) -> Iterator[_Fault]:
    if value is None:
        yield place, "null is no value of an argument"
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _nulls((*place, key), inner)
