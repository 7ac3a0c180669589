"""Ollama's store on this disk: what is in it of a model, and what an import still takes.

Its layout is that of ollama/ollama at 2026-08-21 (manifest/paths.go, types/model/name.go): `blobs/sha256-<hex>`, and
`manifests/<host>/<namespace>/<model>/<tag>`, an OCI image manifest.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from v4deploy.documents import from_json, to_json
from v4deploy.domain.errors import ProfileError
from v4deploy.domain.model_import import ImportedFile, ModelImport

RECEIPT_SCHEMA = "v4deploy.ollama-import/1"
_MODEL_LAYER = "application/vnd.ollama.image.model"
_DIGEST = "sha256:"
_NAME_PARTS = ("registry.ollama.ai", "library")
"""Host and namespace of a name that gives none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A model in the store. `sha256`: of the manifest itself. `weights`: SHA-256 of each of its weight layers."""

    sha256: str
    weights: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptFile:
    """A file as it was when it was imported."""

    name: str
    size_bytes: int
    modified_ns: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What an import was made of: a merged file tells nothing of its parts.

    Attributes:
        manifest_sha256: the model that came of it; another one under its name was made by somebody else.
    """

    model: str
    store: str
    manifest_sha256: str
    files: tuple[ReceiptFile, ...]
    parameters: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFile:
    """A file to import, as it is now. `sha256`: from the catalogue or a receipt; None where nobody knows it."""

    path: str
    name: str
    size_bytes: int
    modified_ns: int
    sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How far a model has come into the store.

    Attributes:
        is_imported: it is there, made of these very files.
        has_parameters: and with the parameters wanted now.
        replaces: a model of that name is there, and nobody knows that it was made of these files.
        is_ours: what is there came of an earlier import, which left a receipt.
        needed_bytes: free space that the import takes.
    """

    files: tuple[LocalFile, ...]
    is_imported: bool
    has_parameters: bool
    replaces: bool
    is_ours: bool
    needed_bytes: int


class Store:
    """The store of one `ollama serve`, and our receipts beside it."""

    def __init__(self, directory: Path, receipts: Path) -> None:
        self.directory = directory
        self._receipts = receipts

    def standing(self, wanted: ModelImport) -> Standing:
        """Where this import stands now.

        Raises:
            OSError: a file to import cannot be looked at.
        """
        receipt = self._receipt(wanted.model)
        files = tuple(_local(file, receipt) for file in wanted.files)
        manifest = self._manifest(wanted.model)
        there = frozenset(file.sha256 for file in files if file.sha256 and self._has_blob(file.sha256))
        if manifest is not None and not all(self._has_blob(digest) for digest in manifest.weights):
            manifest = None
        return judge(wanted, files, manifest, receipt, blobs=there)

    def keep_receipt(self, wanted: ModelImport, files: tuple[LocalFile, ...]) -> None:
        """Remember what the model was made of. Without it the next serve imports once more, so nothing is raised."""
        manifest = self._manifest(wanted.model)
        if manifest is None:
            return
        receipt = Receipt(
            model=wanted.model,
            store=str(self.directory),
            manifest_sha256=manifest.sha256,
            files=tuple(
                ReceiptFile(
                    name=file.name, size_bytes=file.size_bytes, modified_ns=file.modified_ns, sha256=file.sha256
                )
                for file in files
                if file.sha256 is not None
            ),
            parameters=wanted.parameters,
        )
        path = self._receipt_path(wanted.model)
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(to_json(RECEIPT_SCHEMA, receipt), encoding="utf-8")

    def _has_blob(self, sha256: str) -> bool:
        return (self.directory / "blobs" / f"sha256-{sha256}").is_file()

    def _manifest(self, model: str) -> Manifest | None:
        try:
            return parse_manifest((self.directory / "manifests" / manifest_path(model)).read_bytes())
        except (OSError, ValueError):
            return None

    def _receipt(self, model: str) -> Receipt | None:
        path = self._receipt_path(model)
        try:
            receipt = from_json(Receipt, RECEIPT_SCHEMA, path.read_text(encoding="utf-8"), name=str(path))
        except (OSError, UnicodeDecodeError, ProfileError):
            return None
        return receipt if (receipt.model, receipt.store) == (model, str(self.directory)) else None

    def _receipt_path(self, model: str) -> Path:
        key = hashlib.sha256(f"{self.directory}\n{model}".encode()).hexdigest()
        return self._receipts / f"{key[:16]}.json"


def store_directory(environ: Mapping[str, str]) -> Path:
    """Where an `ollama serve` of this user keeps its models: OLLAMA_MODELS, else `.ollama/models` in the home."""
    named = environ.get("OLLAMA_MODELS", "").strip().strip("\"'")
    return Path(named).absolute() if named else Path(environ.get("HOME") or Path.home()) / ".ollama" / "models"


def manifest_path(model: str) -> str:
    """Below `manifests`: `v4-flash` is `registry.ollama.ai/library/v4-flash/latest`."""
    name, _, tag = model.rpartition(":") if ":" in model.rsplit("/", 1)[-1] else (model, "", "latest")
    parts = name.split("/")
    return "/".join((*_NAME_PARTS[: max(0, 3 - len(parts))], *parts, tag))


def parse_manifest(content: bytes) -> Manifest:
    """Read a manifest.

    Raises:
        ValueError: it is none.
    """
    try:
        data: Any = json.loads(content)
        weights = tuple(
            str(layer["digest"]).removeprefix(_DIGEST) for layer in data["layers"] if layer["mediaType"] == _MODEL_LAYER
        )
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError("it is no manifest") from error
    return Manifest(sha256=hashlib.sha256(content).hexdigest(), weights=weights)


def judge(
    wanted: ModelImport,
    files: tuple[LocalFile, ...],
    manifest: Manifest | None,
    receipt: Receipt | None,
    *,
    blobs: frozenset[str],
) -> Standing:
    """Whether the model was made of these files, and what is missing.

    Args:
        wanted: the import.
        files: what is to be imported.
        manifest: of the model of that name in the store; None where it is missing or incomplete.
        receipt: of the last import under that name.
        blobs: SHA-256 of those files whose copies are in the store.
    """
    digests = tuple(file.sha256 for file in files)
    is_ours = manifest is not None and receipt is not None and receipt.manifest_sha256 == manifest.sha256
    made_of_them = receipt is not None and is_ours and tuple(file.sha256 for file in receipt.files) == digests
    # Where the parts are kept apart, the manifest itself names them.
    holds_them = manifest is not None and None not in digests and set(digests) == set(manifest.weights)
    is_imported = made_of_them or holds_them
    missing_bytes = sum(file.size_bytes for file in files if file.sha256 not in blobs)
    merged_bytes = sum(file.size_bytes for file in files) if wanted.is_merged else 0
    return Standing(
        files=files,
        is_imported=is_imported,
        has_parameters=is_ours and receipt is not None and receipt.parameters == wanted.parameters,
        replaces=manifest is not None and not is_imported,
        is_ours=is_ours,
        needed_bytes=0 if is_imported else missing_bytes + merged_bytes,
    )


def _local(file: ImportedFile, receipt: Receipt | None) -> LocalFile:
    status = Path(file.path).stat()
    known = file.sha256
    if known is None and receipt is not None:
        same = (file.name, status.st_size, status.st_mtime_ns)
        told = (one for one in receipt.files if (one.name, one.size_bytes, one.modified_ns) == same)
        known = next((one.sha256 for one in told), None)
    return LocalFile(
        path=file.path,
        name=file.name,
        size_bytes=status.st_size,
        modified_ns=status.st_mtime_ns,
        sha256=known,
    )
