"""The form of `chip_families:` and `recipes:` in profiles/launch/<engine>.yaml, and their values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from v4deploy.domain.launch_recipes import ChipFamily, LaunchRecipe, LesserDevices, RefusedParallelism
from v4deploy.domain.model import DraftKind
from v4deploy.domain.source import Source
from v4deploy.domain.units import GIB


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedEntry:
    """As RefusedParallelism documents it. `source` null means the file's, here and below."""

    parallel: Literal["pipeline", "tensor"]
    what: str
    source: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LesserEntry:
    """As LesserDevices documents it."""

    model: str
    quant: str
    why: str
    fix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NamesEntry:
    """What one family is called, and its servers."""

    name: str
    hardware_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyEntry:
    """As ChipFamily documents it, for families that differ in name and hardware type only.

    Attributes:
        families: by architecture.
    """

    families: dict[str, NamesEntry]
    hardware_type_doubt: str | None = None
    image_tag_doubt: str | None = None
    quantized_weights: bool
    device_nodes: tuple[str, ...]
    mounts: tuple[str, ...]
    privileged: bool
    refused: tuple[RefusedEntry, ...] = ()
    recipe_device_gib: int | None = None
    lesser_devices: LesserEntry | None = None
    recipe_chips: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    source: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeEntry:
    """As LaunchRecipe documents it."""

    arch: str
    model: str
    draft: DraftKind
    max_context_tokens: int
    block_tokens: int
    draft_config: dict[str, object]
    arguments: dict[str, object] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    source: str | None = None


def families_of(entry: FamilyEntry, default: Source) -> tuple[ChipFamily, ...]:
    """The families of an entry; `default` stands for a source that is not given."""
    refused = tuple(
        RefusedParallelism(parallel=row.parallel, what=row.what, source=_source(row.source, default))
        for row in entry.refused
    )
    less = entry.lesser_devices
    lesser = None if less is None else LesserDevices(model=less.model, quant=less.quant, why=less.why, fix=less.fix)
    return tuple(
        ChipFamily(
            arch=arch,
            name=names.name,
            hardware_type=names.hardware_type,
            hardware_type_doubt=entry.hardware_type_doubt,
            image_tag_doubt=entry.image_tag_doubt,
            quantized_weights=entry.quantized_weights,
            device_nodes=entry.device_nodes,
            mounts=entry.mounts,
            privileged=entry.privileged,
            refused=refused,
            recipe_device_bytes=None if entry.recipe_device_gib is None else entry.recipe_device_gib * GIB,
            lesser_devices=lesser,
            recipe_chips=entry.recipe_chips,
            environment=tuple(entry.environment.items()),
            source=_source(entry.source, default),
        )
        for arch, names in entry.families.items()
    )


def recipe_of(entry: RecipeEntry, default: Source) -> LaunchRecipe:
    """The recipe of an entry; `default` stands for a source that is not given."""
    return LaunchRecipe(
        arch=entry.arch,
        model=entry.model,
        draft=entry.draft,
        max_context_tokens=entry.max_context_tokens,
        block_tokens=entry.block_tokens,
        draft_config=entry.draft_config,
        arguments=entry.arguments,
        environment=tuple(entry.environment.items()),
        source=_source(entry.source, default),
    )


def _source(given: str | None, default: Source) -> Source:
    return default if given is None else Source(source=given, as_of=default.as_of)
