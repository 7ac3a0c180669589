"""The catalogue in its layers: what came with v4deploy, what a refresh wrote, and the user's own profiles on top."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from v4deploy.catalogue.load import load_catalogue
from v4deploy.catalogue.refreshed import refreshed_profile
from v4deploy.domain.catalogue import Catalogue
from v4deploy.domain.errors import UsageError
from v4deploy.domain.model import Checkpoint
from v4deploy.domain.source import Source
from v4deploy.resources import data_dir, overlay_dir, refreshed_dir


def profile_directories(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """The directories of profiles, each winning over the ones before it.

    Raises:
        UsageError: V4DEPLOY_OVERLAY names a directory that is not there.
    """
    overlay, refreshed = overlay_dir("profiles", environ), refreshed_dir(environ)
    layers = (data_dir("profiles"), refreshed if refreshed.is_dir() else None, overlay)
    return tuple(directory for directory in layers if directory is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """Which checkpoint comes from where.

    Attributes:
        shipped, with_refreshed, with_own: the checkpoints by id, layer upon layer.
        shipped_models: models that can be extended, as they are whole without the user's profiles.
        refreshed: the directory that a refresh writes to; it may not be there yet.
    """

    shipped: Mapping[str, Checkpoint]
    with_refreshed: Mapping[str, Checkpoint]
    with_own: Mapping[str, Checkpoint]
    shipped_models: frozenset[str]
    refreshed: Path

    def is_own(self, checkpoint: Checkpoint) -> bool:
        """Whether the user's own profile has the last word on it."""
        return checkpoint.model not in self.shipped_models or (
            self.with_own.get(checkpoint.id) != self.with_refreshed.get(checkpoint.id)
        )

    def free_id(self, sibling: Checkpoint, quant: str, *, taken: Collection[str]) -> str:
        """An id for a new quant beside a checkpoint of its repository, that no other checkpoint has."""
        label = sibling.id.removeprefix(sibling.release).removesuffix(sibling.quant.lower()).strip("-")
        owner = sibling.repo.partition("/")[0].lower()
        used = {*self.with_own, *taken}
        labels = (label, owner, *(f"{owner}-{number}" for number in range(2, len(used) + 3)))
        ids = ("-".join(part for part in (sibling.release, one, quant.lower()) if part) for one in labels)
        return next(identity for identity in ids if identity not in used)


def read_layers(environ: Mapping[str, str], effective: Catalogue) -> Layers:
    """Take the catalogue that is in use apart.

    Raises:
        ProfileError: a profile is broken.
    """
    shipped_dir, refreshed = data_dir("profiles"), refreshed_dir(environ)
    shipped = load_catalogue([shipped_dir])
    with_refreshed = load_catalogue([shipped_dir, refreshed]) if refreshed.is_dir() else shipped
    return Layers(
        shipped=_by_id(shipped),
        with_refreshed=_by_id(with_refreshed),
        with_own=_by_id(effective),
        shipped_models=frozenset(model.id for model in shipped.models),
        refreshed=refreshed,
    )


def _by_id(catalogue: Catalogue) -> dict[str, Checkpoint]:
    return {checkpoint.id: checkpoint for model in catalogue.models for checkpoint in model.checkpoints}


def write_refreshed(
    environ: Mapping[str, str], layers: Layers, changed: Iterable[Checkpoint], *, today: str
) -> tuple[Path, ...]:
    """Add checkpoints to what earlier refreshes wrote; one file a model, each replaced whole or not at all.

    All of it has to load together with the other profiles before the first file is replaced.

    Raises:
        ProfileError: it does not; nothing was written.
        UsageError: the directory cannot be written to.
    """
    earlier = {one.id: one for one in layers.with_refreshed.values() if one != layers.shipped.get(one.id)}
    by_model: dict[str, list[Checkpoint]] = {}
    for checkpoint in (earlier | {one.id: one for one in changed}).values():
        by_model.setdefault(checkpoint.model, []).append(checkpoint)
    texts = {
        f"{model}.yaml": refreshed_profile(model, checkpoints, Source(source="listings of the hubs", as_of=today))
        for model, checkpoints in by_model.items()
    }
    overlay = overlay_dir("profiles", environ)
    with tempfile.TemporaryDirectory(prefix="v4deploy-refresh-") as scratch:
        models = Path(scratch) / "models"
        models.mkdir()
        for name, text in texts.items():
            (models / name).write_text(text, encoding="utf-8")
        load_catalogue([data_dir("profiles"), Path(scratch), *([overlay] if overlay else [])])
    return _write(layers.refreshed / "models", texts)


def _write(directory: Path, texts: Mapping[str, str]) -> tuple[Path, ...]:
    # Every command loads this module, and only a refresh writes.
    from v4deploy.pull.part import sync_directory, write_atomically

    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            write_atomically(directory / name, text)
        sync_directory(directory)
    except OSError as error:
        raise UsageError(
            f"cannot write to {directory}: {error.strerror}", hint="set V4DEPLOY_OVERLAY to a directory of your own"
        ) from error
    return tuple(directory / name for name in texts)
