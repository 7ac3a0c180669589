"""The catalogue: what there is, how big, and what runs it."""

from __future__ import annotations

from dataclasses import dataclass

from v4deploy.commands.result import Result
from v4deploy.commands.workspace import Workspace
from v4deploy.domain.model import Checkpoint, Model, Release, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseListing:
    """A release with the checkpoints that it can be had in."""

    release: Release
    checkpoints: tuple[Checkpoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelListing:
    """A model as the catalogue knows it; the current release first, then the newest."""

    id: str
    name: str
    license: str
    modalities: tuple[str, ...]
    total_parameters: str
    active_parameters: str
    max_context_tokens: int
    cloud_only_tags: tuple[str, ...]
    releases: tuple[ReleaseListing, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelsReport:
    models: tuple[ModelListing, ...]


def models(workspace: Workspace, *, name: str | None = None, everything: bool = False) -> Result[ModelsReport]:
    """List models; superseded releases only when asked for by name or with `everything`.

    Raises:
        UsageError: no model or release has that name.
    """
    if name is None:
        listings = tuple(_listing(model, None, everything=everything) for model in workspace.catalogue.models)
    else:
        model, release = workspace.catalogue.model_and_release(name)
        pinned = None if name.strip().lower() in (model.id, *model.aliases) else release.id
        listings = (_listing(model, pinned, everything=everything),)
    return Result(kind="models", data=ModelsReport(models=listings))


def _current_then_newest(release: Release) -> tuple[bool, str]:
    return (release.status is Status.CURRENT, release.released)


def _listing(model: Model, pinned: str | None, *, everything: bool) -> ModelListing:
    releases = tuple(
        ReleaseListing(release=release, checkpoints=tuple(c for c in model.checkpoints if c.release == release.id))
        for release in sorted(model.releases, key=_current_then_newest, reverse=True)
        if (release.id == pinned if pinned else everything or release.status is not Status.SUPERSEDED)
    )
    return ModelListing(
        id=model.id,
        name=model.name,
        license=model.license,
        modalities=model.modalities,
        total_parameters=model.total_parameters,
        active_parameters=model.active_parameters,
        max_context_tokens=model.architecture.max_context_tokens,
        cloud_only_tags=model.cloud_only_tags,
        releases=releases,
    )
