"""profiles/models/*.yaml: the form in which people write models, and its expansion into the domain's values."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import Field

from v4deploy.catalogue.yaml_source import KeyPath
from v4deploy.domain.engine import EngineId
from v4deploy.domain.model import (
    Architecture,
    Checkpoint,
    CheckpointFormat,
    Draft,
    FileRole,
    Hub,
    LayerExperts,
    QuantAlias,
    Release,
    Runnable,
    Status,
    WeightFile,
)
from v4deploy.domain.source import Source

T = TypeVar("T")
Bytes = Annotated[int, Field(gt=0)]
Date = Annotated[str, Field(pattern=r"^\d{4}-\d{2}(-\d{2})?$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Revision = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Located(Generic[T]):
    """A value and the key path at which its file defines it."""

    path: KeyPath
    value: T


@dataclass(frozen=True, slots=True, kw_only=True)
class WireSourced:
    """What is not given here is inherited: from the repository, then from the file."""

    source: str | None = None
    as_of: Date | None = None
    confidence: Literal["A", "B", "C", "D"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WireRelease(WireSourced):
    id: str
    name: str
    status: Status
    released: Date
    draft: Draft | None = None
    minimum_engine_versions: dict[EngineId, str] = field(default_factory=dict)
    random_weights: bool = False
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WirePart:
    """One file of a quant. Its name comes from the repository's path unless `path` is given."""

    path: str | None = None
    role: FileRole = FileRole.MAIN
    bytes: Bytes | None = None
    sha256: Sha256 | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WireSideFile:
    """A draft or a projector beside the weights."""

    path: str
    role: FileRole
    bytes: Bytes | None = None
    sha256: Sha256 | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WireLayerExperts:
    """As LayerExperts documents it: `{each: 1_929_379_840, others: {26: 2_516_582_400}}`."""

    each: Bytes
    others: dict[int, Bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class WireQuant(WireSourced):
    """One set of weight files.

    Attributes:
        parts: count of weight files; may be left out where `files` lists every one of them.
        files: files that are known one by one; for GGUF all parts or none.
    """

    bytes: Bytes | None = None
    parts: Annotated[int, Field(gt=0)] | None = None
    path: str | None = None
    files: tuple[WirePart, ...] = ()
    dense_bytes: Bytes | None = None
    layer_experts: WireLayerExperts | None = None
    draft_bytes: Bytes | None = None
    offloadable_bytes: int = 0
    quality: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WireRepository(WireSourced):
    """One repository: what its quants share, then the quants.

    Attributes:
        label: goes into the ids between release and quant; needed where two publishers use the same quant name.
        path: of one weight file, with `{quant}`, `{part}` and `{parts}`; None where the hub has to list the files.
    """

    repo: str
    release: str
    format: CheckpointFormat
    label: str | None = None
    hub: Hub = Hub.HUGGINGFACE
    revision: Revision | None = None
    official: bool = False
    engines: tuple[EngineId, ...] = ()
    runnable: Runnable = Runnable.DRIVEN
    compute_apis: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    path: str | None = None
    side_files: tuple[WireSideFile, ...] = ()
    note: str | None = None
    quants: dict[str, WireQuant]


@dataclass(frozen=True, slots=True, kw_only=True)
class WireAlias:
    """Names that people type for one quant, with the reason that they are shown."""

    names: tuple[str, ...]
    quant: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WireModel:
    """A whole file. An overlay for a known model gives its `id` and what it adds or replaces; the rest stays."""

    id: str
    source: str
    as_of: Date
    confidence: Literal["A", "B", "C", "D"] | None = None
    name: str | None = None
    aliases: tuple[str, ...] | None = None
    license: str | None = None
    modalities: tuple[str, ...] | None = None
    total_parameters: str | None = None
    active_parameters: str | None = None
    cloud_only_tags: tuple[str, ...] | None = None
    architecture: Architecture | None = None
    releases: tuple[WireRelease, ...] = ()
    repositories: tuple[WireRepository, ...] = ()
    quant_aliases: tuple[WireAlias, ...] = ()


def file_source(wire: WireModel) -> Source:
    return Source(source=wire.source, as_of=wire.as_of, confidence=wire.confidence)


def releases_of(wire: WireModel) -> tuple[Located[Release], ...]:
    base = file_source(wire)
    return tuple(
        Located(path=("releases", index), value=_release(release, base)) for index, release in enumerate(wire.releases)
    )


def checkpoints_of(wire: WireModel) -> tuple[Located[Checkpoint], ...]:
    """Every quant of every repository as a checkpoint."""
    base = file_source(wire)
    return tuple(
        Located(
            path=("repositories", index, "quants", name),
            value=_checkpoint(wire.id, repository, name, quant, _inherit(quant, _inherit(repository, base))),
        )
        for index, repository in enumerate(wire.repositories)
        for name, quant in repository.quants.items()
    )


def aliases_of(wire: WireModel) -> tuple[Located[QuantAlias], ...]:
    return tuple(
        Located(path=("quant_aliases", index), value=QuantAlias(name=name, quant=alias.quant, reason=alias.reason))
        for index, alias in enumerate(wire.quant_aliases)
        for name in alias.names
    )


def _release(wire: WireRelease, base: Source) -> Release:
    return Release(
        id=wire.id,
        name=wire.name,
        status=wire.status,
        released=wire.released,
        draft=wire.draft,
        minimum_engine_versions=tuple(wire.minimum_engine_versions.items()),
        random_weights=wire.random_weights,
        note=wire.note,
        source=_inherit(wire, base),
    )


def _checkpoint(model: str, repository: WireRepository, name: str, quant: WireQuant, source: Source) -> Checkpoint:
    path = (quant.path or repository.path or "").replace("{quant}", name)
    return Checkpoint(
        id="-".join(part for part in (repository.release, repository.label, name.lower()) if part),
        model=model,
        release=repository.release,
        hub=repository.hub,
        repo=repository.repo,
        revision=repository.revision,
        format=repository.format,
        quant=name,
        size_bytes=quant.bytes,
        shards=quant.parts or len(quant.files) or None,
        engines=repository.engines,
        runnable=repository.runnable,
        dense_bytes=quant.dense_bytes,
        layer_experts=_layer_experts(quant.layer_experts),
        offloadable_bytes=quant.offloadable_bytes,
        draft_bytes=quant.draft_bytes,
        files=_files(path, quant),
        side_files=tuple(
            WeightFile(path=file.path, role=file.role, size_bytes=file.bytes, sha256=file.sha256)
            for file in repository.side_files
        ),
        path_prefix=_folder(path),
        compute_apis=repository.compute_apis,
        architectures=repository.architectures,
        quality=quant.quality,
        official=repository.official,
        note=" ".join(note for note in (repository.note, quant.note) if note) or None,
        source=source,
    )


def _layer_experts(wire: WireLayerExperts | None) -> LayerExperts | None:
    return None if wire is None else LayerExperts(each_bytes=wire.each, others=tuple(sorted(wire.others.items())))


def _files(path: str, quant: WireQuant) -> tuple[WeightFile, ...]:
    """Exact names where each part is known; else one pattern, since publishers split anew when they upload again."""
    if quant.files:
        return tuple(
            WeightFile(
                path=part.path or _part_name(path, index, len(quant.files)),
                role=part.role,
                size_bytes=part.bytes,
                sha256=part.sha256,
            )
            for index, part in enumerate(quant.files, start=1)
        )
    if not path:
        return ()
    pattern = path.replace("{part}", "*").replace("{parts}", "*")
    is_one_file = not set(pattern) & set("*?[")
    return (WeightFile(path=pattern, role=FileRole.MAIN, size_bytes=quant.bytes if is_one_file else None),)


def _part_name(path: str, part: int, parts: int) -> str:
    return path.replace("{part}", f"{part:05d}").replace("{parts}", f"{parts:05d}")


def _folder(path: str) -> str:
    parent = str(PurePosixPath(path).parent)
    return "" if parent == "." else parent


def _inherit(wire: WireSourced, base: Source) -> Source:
    return Source(
        source=wire.source or base.source,
        as_of=wire.as_of or base.as_of,
        confidence=wire.confidence or base.confidence,
    )
