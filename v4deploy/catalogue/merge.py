"""Several files about one model become one model: later ones add entries and replace those of the same id."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from v4deploy.catalogue.wire_models import (
    Located,
    WireModel,
    aliases_of,
    checkpoints_of,
    file_source,
    releases_of,
)
from v4deploy.catalogue.yaml_source import KeyPath, YamlDocument
from v4deploy.domain.errors import ProfileError
from v4deploy.domain.model import Checkpoint, Model, QuantAlias, Release

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

_OF_THE_MODEL = (
    "name",
    "aliases",
    "license",
    "modalities",
    "total_parameters",
    "active_parameters",
    "cloud_only_tags",
    "architecture",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry(Generic[T]):
    """A value with the place that defines it, for errors found after merging."""

    document: YamlDocument
    path: KeyPath
    value: T

    def error(self, message: str, *, key: str | None = None, hint: str | None = None) -> ProfileError:
        return self.document.error((*self.path, key) if key else self.path, message, hint=hint)


class ModelBuilder:
    """Collects what the files say about one model; `build` makes the value."""

    def __init__(self) -> None:
        self.wires: list[Entry[WireModel]] = []
        self.releases: dict[str, Entry[Release]] = {}
        self.checkpoints: dict[str, Entry[Checkpoint]] = {}
        self.aliases: dict[tuple[str, str], Entry[QuantAlias]] = {}

    def add(self, wire: WireModel, document: YamlDocument) -> None:
        """Take one more file.

        Raises:
            ProfileError: it defines something twice, or it is the first file of the model and leaves something out.
        """
        self.wires.append(Entry(document=document, path=("id",), value=wire))
        for key in _OF_THE_MODEL:
            if all(getattr(entry.value, key) is None for entry in self.wires):
                raise document.error((key,), "this key is required and missing: no earlier file defines the model")
        self.releases |= _unique(releases_of(wire), document, lambda release: release.id)
        self.checkpoints |= _unique(checkpoints_of(wire), document, lambda checkpoint: checkpoint.id)
        self.aliases |= _unique(aliases_of(wire), document, lambda alias: (alias.name, alias.quant))

    def build(self) -> Model:
        first = self.wires[0].value
        given = {
            key: value
            for entry in self.wires
            for key in _OF_THE_MODEL
            if (value := getattr(entry.value, key)) is not None
        }
        return Model(
            id=first.id,
            releases=tuple(entry.value for entry in self.releases.values()),
            checkpoints=tuple(entry.value for entry in self.checkpoints.values()),
            quant_aliases=tuple(entry.value for entry in self.aliases.values()),
            source=file_source(first),
            **given,
        )


def _unique(found: tuple[Located[T], ...], document: YamlDocument, key_of: Callable[[T], K]) -> dict[K, Entry[T]]:
    entries: dict[K, Entry[T]] = {}
    for located in found:
        entry = Entry(document=document, path=located.path, value=located.value)
        key = key_of(located.value)
        if key in entries:
            line = document.line_of(entries[key].path)
            raise entry.error(f"`{_words(key)}` is defined twice; first on line {line}")
        entries[key] = entry
    return entries


def _words(key: Hashable) -> str:
    return " -> ".join(key) if isinstance(key, tuple) else str(key)
