"""What an engine with a store of its own has to be given before it can load a model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedFile:
    """A weight file to hand over.

    Attributes:
        path: absolute.
        name: what it is called there; parts of a split model are told by their names.
        sha256: of its content; None where nobody has told it, and it has to be computed.
    """

    path: str
    name: str
    sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelImport:
    """A model to be made in an engine's store.

    Attributes:
        model: its name there.
        files: all parts, in order.
        parameters: stored with it.
        license: of the weights, stored with it.
        minimum_version: the oldest version of the engine that runs it.
        is_merged: the engine writes all parts into one more file, which it keeps.
        timeout_seconds: how long the import may take, without loading.
    """

    model: str
    files: tuple[ImportedFile, ...]
    parameters: tuple[tuple[str, int], ...]
    license: str
    minimum_version: str
    is_merged: bool
    timeout_seconds: float
