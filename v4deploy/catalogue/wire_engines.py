"""The form of profiles/engines/<engine>.yaml, compact for humans, and its EngineProfile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from v4deploy.catalogue.wire_memory import MemoryEntry, memory_faults, memory_of
from v4deploy.catalogue.wire_recipes import RecipesEntry, faults_of, recipes_of
from v4deploy.catalogue.wire_split import SplitMemoryEntry, split_memory_of
from v4deploy.catalogue.yaml_source import YamlDocument, parse_profile
from v4deploy.domain.engine import (
    EngineId,
    EngineImage,
    EngineProfile,
    EngineSupport,
    FlagRange,
    MemoryModel,
    SupportLevel,
)
from v4deploy.domain.hardware import ComputeApi
from v4deploy.domain.versions import is_older, version_numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class SupportEntry:
    """What runs on some architectures of some compute APIs: one row for each pair, in this order.

    Attributes:
        archs: device architectures; "*" means every one that no earlier row names.
        models, quants: what the entry speaks about; empty means all.
        source: null means the file's.
    """

    compute_apis: tuple[ComputeApi, ...]
    archs: tuple[str, ...]
    level: SupportLevel
    models: tuple[str, ...] = ()
    quants: tuple[str, ...] = ()
    minimum_version: str | None = None
    reason: str | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageEntry:
    """A container image for some architectures of a compute API; one row for each."""

    compute_api: ComputeApi
    archs: tuple[str, ...]
    image: str
    tag: str
    note: str | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FlagGroup:
    """Flags that the same versions know; null means not bounded on that side. `replaced_by`: see FlagRange."""

    names: tuple[str, ...]
    since: str | None = None
    until: str | None = None
    replaced_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFile:
    """An engine, as EngineProfile documents it.

    Attributes:
        newest_read: null means `version`.
    """

    id: EngineId
    name: str
    memory_model: MemoryModel
    version: str
    minimum_version: str
    formats: tuple[str, ...]
    targets: tuple[str, ...]
    default_port: int
    kv_cache_types: tuple[str, ...]
    most_sequences: int
    precedence: int
    source: str
    as_of: str
    support: tuple[SupportEntry, ...]
    recipes: RecipesEntry | None = None
    memory: MemoryEntry | None = None
    split_memory: SplitMemoryEntry | None = None
    newest_read: str | None = None
    targets_without_kubernetes: tuple[str, ...] = ()
    images: tuple[ImageEntry, ...] = ()
    flags: tuple[FlagGroup, ...] = ()
    note: str | None = None


def engine_of(document: YamlDocument) -> EngineProfile:
    """The engine of an engine profile.

    Raises:
        ProfileError: the file has not the form of EngineFile, an exact row stands behind a general one that hides it,
            an image names no version, a version cannot be read, or a flag ends before it begins or stands twice.
    """
    file = parse_profile(EngineFile, document)
    for path, message in chain(
        _unreadable_versions(file),
        _hidden_rows(file),
        _floating_images(file),
        _wrong_flags(file),
        _no_cache_type(file),
        faults_of(file.recipes),
        memory_faults(file.memory),
        _no_memory(file),
    ):
        raise document.error(path, message)
    return EngineProfile(
        id=file.id,
        name=file.name,
        memory_model=file.memory_model,
        version=file.version,
        newest_read=file.newest_read or file.version,
        minimum_version=file.minimum_version,
        formats=file.formats,
        targets=file.targets,
        targets_without_kubernetes=file.targets_without_kubernetes,
        default_port=file.default_port,
        kv_cache_types=file.kv_cache_types,
        most_sequences=file.most_sequences,
        precedence=file.precedence,
        support=tuple(_support(file)),
        recipes=recipes_of(file.recipes),
        memory=memory_of(file.memory),
        split_memory=split_memory_of(file.split_memory),
        images=tuple(_images(file)),
        flags=tuple(
            FlagRange(flag=name, since=group.since, until=group.until, replaced_by=group.replaced_by)
            for group, name in _flags(file)
        ),
        note=file.note,
        source=file.source,
        as_of=file.as_of,
    )


def _support(file: EngineFile) -> Iterator[EngineSupport]:
    for entry in file.support:
        for compute_api in entry.compute_apis:
            for arch in entry.archs:
                yield EngineSupport(
                    compute_api=compute_api.value,
                    arch=arch,
                    level=entry.level,
                    models=entry.models,
                    quants=entry.quants,
                    minimum_version=entry.minimum_version,
                    reason=entry.reason,
                    source=entry.source or file.source,
                )


def _images(file: EngineFile) -> Iterator[EngineImage]:
    for entry in file.images:
        for arch in entry.archs:
            yield EngineImage(
                compute_api=entry.compute_api.value,
                arch=arch,
                image=entry.image,
                tag=entry.tag,
                note=entry.note,
                source=entry.source or file.source,
            )


def _flags(file: EngineFile) -> Iterator[tuple[FlagGroup, str]]:
    for group in file.flags:
        for name in group.names:
            yield group, name


_Fault = tuple[tuple[str | int, ...], str]


def _unreadable_versions(file: EngineFile) -> Iterator[_Fault]:
    texts: list[tuple[tuple[str | int, ...], str | None]] = [
        (("version",), file.version),
        (("newest_read",), file.newest_read),
        (("minimum_version",), file.minimum_version),
        *((("support", i, "minimum_version"), entry.minimum_version) for i, entry in enumerate(file.support)),
        *((("flags", i, "since"), group.since) for i, group in enumerate(file.flags)),
        *((("flags", i, "until"), group.until) for i, group in enumerate(file.flags)),
    ]
    for path, text in texts:
        try:
            version_numbers(text or "0")
        except ValueError as error:
            yield path, str(error)


def _no_memory(file: EngineFile) -> Iterator[_Fault]:
    if file.memory_model is MemoryModel.VLLM and file.memory is None:
        yield ("memory_model",), "an engine with vLLM's memory model needs `memory:`"


def _hidden_rows(file: EngineFile) -> Iterator[_Fault]:
    """The first row that matches wins, so a row after one that covers all it speaks about could never be used."""
    for index, entry in enumerate(file.support):
        for earlier in file.support[:index]:
            if _covers(earlier, entry):
                yield ("support", index), "an earlier, more general row hides this one"


def _covers(general: SupportEntry, exact: SupportEntry) -> bool:
    return (
        set(exact.compute_apis) <= set(general.compute_apis)
        and ("*" in general.archs or set(exact.archs) <= set(general.archs))
        and (not general.models or (bool(exact.models) and set(exact.models) <= set(general.models)))
        and (not general.quants or (bool(exact.quants) and set(exact.quants) <= set(general.quants)))
    )


def _floating_images(file: EngineFile) -> Iterator[_Fault]:
    for index, entry in enumerate(file.images):
        if "{version}" not in entry.tag:
            yield ("images", index, "tag"), f"`{entry.tag}` names no version: the same plan would start other software"


def _no_cache_type(file: EngineFile) -> Iterator[_Fault]:
    if not file.kv_cache_types:
        yield ("kv_cache_types",), "name at least one type, the engine's default first"


def _wrong_flags(file: EngineFile) -> Iterator[_Fault]:
    seen: set[str] = set()
    for index, group in enumerate(file.flags):
        if group.since and group.until and is_older(group.until, group.since):
            yield ("flags", index, "until"), f"{group.until} comes before {group.since}"
        for name in group.names:
            if name in seen:
                yield ("flags", index, "names"), f"`{name}` stands twice"
            seen.add(name)
    for index, group in enumerate(file.flags):
        if group.replaced_by is not None and group.replaced_by not in seen:
            yield ("flags", index, "replaced_by"), f"`{group.replaced_by}` is not among the flags"
