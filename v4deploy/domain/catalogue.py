"""All knowledge in one value: models, chips, engines; and finding a thing by the name that people type."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field

from v4deploy.domain.chip import Chip
from v4deploy.domain.engine import EngineId, EngineProfile
from v4deploy.domain.errors import UsageError
from v4deploy.domain.model import Model, QuantAlias, Release, Runnable
from v4deploy.domain.speed_model import SpeedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """What profiles/ says, validated; the user's overlay is already merged in."""

    models: tuple[Model, ...]
    chips: tuple[Chip, ...]
    engines: tuple[EngineProfile, ...]
    speed: SpeedModel = field(default_factory=SpeedModel)

    def engine(self, engine: EngineId) -> EngineProfile:
        """The profile of an engine; the loader guarantees one for each."""
        return next(profile for profile in self.engines if profile.id is engine)

    def model_and_release(self, name: str) -> tuple[Model, Release]:
        """What MODEL means: a model (its current release), a dated release, or a hub id of a checkpoint.

        Raises:
            UsageError: no such name; the message gives the nearest ones and the list. Or it means a model on somebody
                else's machines, of which there are no weights.
        """
        wanted = name.strip().lower()
        for model in self.models:
            if wanted in (model.id, *(alias.lower() for alias in model.aliases)):
                return model, model.current_release
            for release in model.releases:
                if wanted == release.id:
                    return model, release
            for checkpoint in model.checkpoints:
                if wanted == checkpoint.repo.lower():
                    return model, model.release(checkpoint.release)
        if (remote := self._in_the_cloud(wanted)) is not None:
            raise UsageError(
                f"`{name}` is how Ollama names a model that runs on its own machines: there are no weights behind it",
                hint=f"`{remote.id}` has weights to serve here",
            )
        names = [name for model in self.models for name in (model.id, *(release.id for release in model.releases))]
        raise unknown_name("model", name, names, also="a hub id of the catalogue works too")

    def _in_the_cloud(self, wanted: str) -> Model | None:
        """The model of which this is a tag in Ollama's library that ends in `cloud`."""
        base, _, tag = wanted.partition(":")
        for model in self.models:
            bases = {known.partition(":")[0].lower() for known in model.cloud_only_tags}
            if base in bases and tag.endswith("cloud"):
                return model
        return None


def resolve_quant(model: Model, release: Release, typed: str) -> tuple[str, QuantAlias | None]:
    """The quant that a typed name means for this release, and the alias that was used.

    A name that a checkpoint of the release carries literally wins over an alias; an alias wins over builds for engines
    that v4deploy does not drive, so that a fork's `Q4` cannot take the place of what everybody means by it.

    Raises:
        UsageError: neither a quant nor an alias; the message gives the nearest ones and the list.
    """
    checkpoints = [checkpoint for checkpoint in model.checkpoints if checkpoint.release == release.id]
    quants = {checkpoint.quant.lower(): checkpoint.quant for checkpoint in checkpoints}
    driven = {checkpoint.quant.lower() for checkpoint in checkpoints if checkpoint.runnable is Runnable.DRIVEN}
    wanted = typed.strip().lower()
    if wanted in driven:
        return quants[wanted], None
    for alias in model.quant_aliases:
        if alias.name == wanted and alias.quant.lower() in quants:
            return alias.quant, alias
    if wanted in quants:
        return quants[wanted], None
    aliases = [alias.name for alias in model.quant_aliases if alias.quant.lower() in quants]
    raise unknown_name("quant", typed, [*quants.values(), *aliases], of=release.id)


def unknown_name(kind: str, typed: str, known: Iterable[str], *, of: str | None = None, also: str = "") -> UsageError:
    """The error for a name that does not exist: nearest names first, then all of them."""
    names = list(dict.fromkeys(known))
    lowered = {name.lower(): name for name in names}
    near = [lowered[match] for match in difflib.get_close_matches(typed.lower(), lowered, n=3, cutoff=0.5)]
    where = f" of {of}" if of else ""
    words = " or ".join(f"`{name}`" for name in near)
    details = (f"known: {', '.join(names)}",) + ((also,) if also else ())
    hint = f"did you mean {words}?" if near else "choose one of the names above"
    return UsageError(f"no {kind}{where} is called `{typed}`", hint=hint, details=details)
