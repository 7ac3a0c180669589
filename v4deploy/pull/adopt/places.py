"""Where this machine may have a file already: earlier pulls, the hub's own cache, directories that the user names."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath

from v4deploy.domain.errors import V4DeployError
from v4deploy.pull import store
from v4deploy.pull.adopt.take import may_be_shared
from v4deploy.pull.manifest import MANIFEST_NAME, FilePlan


class Origin(StrEnum):
    EARLIER_PULL = "earlier-pull"
    HUB_CACHE = "hub-cache"
    GIVEN = "given"


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where to look for weights before fetching them.

    Attributes:
        weights_root: holds earlier pulls; None looks at none.
        hub_cache: the cache that `hf download` and most engines fill; None looks at none.
        repository_caches: directories in which a client of the hub keeps this repository's files under their names.
        given: directories with weights of any origin, searched through to their bottom.
    """

    weights_root: Path | None = None
    hub_cache: Path | None = None
    repository_caches: tuple[Path, ...] = ()
    given: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A file of the right size. `is_guess`: neither its name nor a record says that it is the one."""

    path: Path
    origin: Origin
    is_guess: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoptable:
    """What names and sizes promise, before any byte is read.

    Attributes:
        size_bytes: of the files that a pull will try to take over instead of fetching them.
        linkable_bytes: of these, what lies on the target's disk and takes no room there.
    """

    size_bytes: int
    linkable_bytes: int


class Finds:
    """What lies at these places and may be one of the wanted files. Directories are read once, files not at all."""

    def __init__(self, places: Places, wanted: Sequence[FilePlan]) -> None:
        hashes = {file.expected_hash for file in wanted}
        self._pulled = _pulled_by_hash(places.weights_root, hashes) if places.weights_root else {}
        self._blobs = _blob_directories(places.hub_cache) if places.hub_cache else ()
        sizes = {file.size_bytes for file in wanted}
        self._cached = _given_by_size(places.repository_caches, sizes)
        self._given = _given_by_size(places.given, sizes)

    def candidates(self, file: FilePlan, destination: Path) -> Iterator[Candidate]:
        """Files that may be this one, the likeliest first; among these, those that cost no copy."""
        device = _device(destination.parent)
        known = [
            *((path, Origin.EARLIER_PULL) for path in self._pulled.get(file.expected_hash, ())),
            *((directory / file.expected_hash, Origin.HUB_CACHE) for directory in self._blobs),
            *((path, Origin.HUB_CACHE) for path in self._cached.get(file.size_bytes, ()) if _is_named_like(path, file)),
            *((path, Origin.GIVEN) for path in self._given.get(file.size_bytes, ()) if _is_named_like(path, file)),
        ]
        known.sort(key=lambda pair: _device(pair[0]) != device)
        guesses = [path for path in self._given.get(file.size_bytes, ()) if not _is_named_like(path, file)]
        seen = {os.path.realpath(destination)}
        for path, origin, is_guess in (
            *((path, origin, False) for path, origin in known),
            *((path, Origin.GIVEN, True) for path in guesses),
        ):
            real = os.path.realpath(path)
            if real not in seen and _size(Path(real)) == file.size_bytes:
                seen.add(real)
                yield Candidate(path=Path(real), origin=origin, is_guess=is_guess)


def look_for(wanted: Sequence[FilePlan], directory: Path, places: Places) -> Adoptable:
    """What of these files, which `directory` lacks, lies elsewhere; downloads that were not finished do not count."""
    finds, device = Finds(places, wanted), _device(directory)
    size_bytes = linkable_bytes = 0
    for file in wanted:
        found = next(finds.candidates(file, directory / file.path), None)
        if found is not None:
            size_bytes += file.size_bytes
            linkable_bytes += file.size_bytes if _device(found.path) == device and may_be_shared(found.path) else 0
    return Adoptable(size_bytes=size_bytes, linkable_bytes=linkable_bytes)


def pulled_entries(weights_root: Path) -> Iterator[tuple[Path, FilePlan]]:
    """Directory and entry of everything that manifests below a weights directory list, finished or not.

    A manifest that cannot be read hides its directory: whoever pulls there hears of it, others need not.
    """
    for path in sorted(weights_root.glob(f"*/*/{MANIFEST_NAME}")):
        with contextlib.suppress(V4DeployError):
            manifest = store.read_manifest(path.parent)
            for file in manifest.files if manifest else ():
                yield path.parent, file


def _pulled_by_hash(weights_root: Path, hashes: Collection[str]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for directory, file in pulled_entries(weights_root):
        if file.expected_hash in hashes:
            found.setdefault(file.expected_hash, []).append(directory / file.path)
    return found


def _blob_directories(hub_cache: Path) -> tuple[Path, ...]:
    """Content is kept once a repository, under its hash; the same bytes may come from a copy of the repository."""
    return tuple(sorted(path for path in hub_cache.glob("models--*/blobs") if path.is_dir()))


def _given_by_size(directories: Iterable[Path], sizes: Collection[int]) -> dict[int, list[Path]]:
    found: dict[int, list[Path]] = {}
    for directory in directories:
        for folder, _, names in os.walk(directory):
            for path in (Path(folder) / name for name in sorted(names)):
                size_bytes = _size(path)
                if size_bytes is not None and size_bytes in sizes:
                    found.setdefault(size_bytes, []).append(path)
    return found


def _is_named_like(path: Path, file: FilePlan) -> bool:
    """The repository's file name, or the hash, as content-addressed stores name their files (`sha256-<hash>`)."""
    return path.name == PurePosixPath(file.path).name or path.name.endswith(file.expected_hash)


def _size(path: Path) -> int | None:
    """The size of a regular file; None for what is none, or cannot be looked at."""
    try:
        return path.stat().st_size if path.is_file() else None
    except OSError:
        return None


def _device(path: Path) -> int | None:
    for existing in (path, *path.parents):
        with contextlib.suppress(OSError):
            return existing.stat().st_dev
    return None
