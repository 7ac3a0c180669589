"""What should be in a directory, and who says so: a manifest, the hub client's own records, or the catalogue."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from v4deploy.domain.errors import DownloadError, UsageError
from v4deploy.domain.model import Checkpoint, FileRole, WeightFile
from v4deploy.pull import store
from v4deploy.pull.manifest import Manifest, is_safe_path, role_of
from v4deploy.pull.proof.report import Basis

INDEX_SUFFIX = ".safetensors.index.json"
WEIGHT_SUFFIXES = (".gguf", ".safetensors")
_HASH = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
# huggingface_hub 2.4, _local_folder.py: commit, etag and time of each file, one a line.
_DOWNLOAD_RECORDS = PurePosixPath(".cache/huggingface/download")
_RECORD_SUFFIX = ".metadata"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A file that should be there.

    Attributes:
        size_bytes: None where nobody says.
        hashes: each is right (SHA-256, or git's blob SHA-1 in 40 digits); empty where nobody says.
    """

    path: str
    role: FileRole
    size_bytes: int | None = None
    hashes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What should be in a directory.

    Attributes:
        repo, revision: None where nobody says, or several are possible.
        sets: the paths that belong together, for whether split sets are whole.
        commits: of which the files are; more than one is odd.
    """

    basis: Basis
    repo: str | None
    revision: str | None
    files: tuple[Claim, ...]
    sets: tuple[tuple[str, ...], ...]
    commits: frozenset[str] = frozenset()


def claims_of(directory: Path, catalogue: Sequence[Checkpoint] = ()) -> Claims:
    """The best that is known about a directory.

    Raises:
        DownloadError: nothing in it is a weight file.
        UsageError: there is no such directory, or it holds several snapshots of the hub's cache.
        ProfileError: its manifest is broken.
    """
    if not directory.is_dir():
        raise UsageError(f"{directory} is not a directory", hint="name one that holds weight files")
    if (manifest := store.read_manifest(directory)) is not None:
        return _of_manifest(manifest)
    if (snapshot := snapshot_claims(directory)) is not None:
        return snapshot
    found = sorted(_weights_and_more(directory))
    if not any(path.endswith(WEIGHT_SUFFIXES) for path in found):
        raise DownloadError(
            f"{directory} has neither a manifest nor weight files",
            hint="name a directory with GGUF or safetensors files; `v4deploy pull` fills one",
        )
    if (directory / _DOWNLOAD_RECORDS).is_dir():
        return _of_hub_download(directory, found)
    return _of_catalogue(directory, found, catalogue)


def snapshot_directory(directory: Path) -> Path:
    """A cached repository's (`models--owner--name`) only or main snapshot; any other directory is given back.

    Raises:
        UsageError: it has several, and none is the default branch's.
    """
    if not directory.name.startswith("models--") or not (directory / "snapshots").is_dir():
        return directory
    snapshots = sorted(path for path in (directory / "snapshots").iterdir() if path.is_dir())
    if len(snapshots) == 1:
        return snapshots[0]
    try:
        main = directory / "snapshots" / (directory / "refs" / "main").read_text(encoding="utf-8").strip()
    except OSError:
        main = directory
    if main in snapshots:
        return main
    raise UsageError(
        f"{directory} holds {len(snapshots)} snapshots", hint=f"name one: {', '.join(map(str, snapshots[:4]))}"
    )


def _of_manifest(manifest: Manifest) -> Claims:
    return Claims(
        basis=Basis.MANIFEST,
        repo=manifest.repo,
        revision=manifest.revision,
        files=tuple(
            Claim(path=file.path, role=file.role, size_bytes=file.size_bytes, hashes=(file.expected_hash,))
            for file in manifest.files
        ),
        sets=tuple(selection.paths for selection in manifest.selections),
        commits=frozenset({manifest.revision}),
    )


def snapshot_claims(directory: Path) -> Claims | None:
    """What a snapshot in the hub's cache should hold: its paths are links to `blobs/<hash>`. None for other places."""
    home = directory.parent.parent
    if directory.parent.name != "snapshots" or not home.name.startswith("models--"):
        return None
    files = []
    for path in sorted(_files_below(directory)):
        target = (directory / path).readlink().name if (directory / path).is_symlink() else ""
        files.append(Claim(path=path, role=role_of(path), hashes=(target,) if _HASH.fullmatch(target) else ()))
    return Claims(
        basis=Basis.HUB_CACHE,
        repo=home.name.removeprefix("models--").replace("--", "/"),
        revision=directory.name,
        files=tuple(files),
        sets=(tuple(file.path for file in files),),
        commits=frozenset({directory.name}),
    )


def _of_hub_download(directory: Path, found: Sequence[str]) -> Claims:
    records = dict(_download_records(directory / _DOWNLOAD_RECORDS))
    paths = sorted({*found, *records})
    commits = frozenset(commit for commit, _ in records.values())
    return Claims(
        basis=Basis.HUB_DOWNLOAD,
        repo=None,
        revision=next(iter(commits)) if len(commits) == 1 else None,
        files=tuple(
            Claim(path=path, role=role_of(path), hashes=(records[path][1],) if path in records else ())
            for path in paths
        ),
        sets=(tuple(paths),),
        commits=commits,
    )


def _download_records(folder: Path) -> Iterator[tuple[str, tuple[str, str]]]:
    """Path, commit and hash of each file that the hub's client wrote down; what it left unreadable is passed over."""
    for record in folder.rglob(f"*{_RECORD_SUFFIX}"):
        try:
            lines = record.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            continue
        path = record.relative_to(folder).as_posix().removesuffix(_RECORD_SUFFIX)
        if len(lines) > 1 and _COMMIT.fullmatch(lines[0]) and _HASH.fullmatch(lines[1]) and is_safe_path(path):
            yield path, (lines[0], lines[1])


def _of_catalogue(directory: Path, found: Sequence[str], catalogue: Sequence[Checkpoint]) -> Claims:
    """The checkpoints that pin most of these names and sizes; without any, files that nobody vouches for."""
    sizes = {path: (directory / path).stat().st_size for path in found if (directory / path).is_file()}
    matches = [(checkpoint, _matches(checkpoint, sizes)) for checkpoint in catalogue]
    most = max((len(matched) for _, matched in matches), default=0)
    best = [(checkpoint, matched) for checkpoint, matched in matches if matched and len(matched) == most]
    hashes = {
        path: tuple(
            dict.fromkeys(pinned.sha256 for _, matched in best if (pinned := matched.get(path)) and pinned.sha256)
        )
        for path in found
    }
    repos = {(checkpoint.repo, checkpoint.revision) for checkpoint, _ in best}
    repo, revision = repos.pop() if len(repos) == 1 else (None, None)
    return Claims(
        basis=Basis.CATALOGUE if any(hashes.values()) else Basis.NONE,
        repo=repo,
        revision=revision,
        files=tuple(Claim(path=path, role=role_of(path), hashes=hashes[path]) for path in found),
        sets=(tuple(found),),
    )


def _matches(checkpoint: Checkpoint, sizes: dict[str, int]) -> dict[str, WeightFile]:
    pinned = {
        (PurePosixPath(file.path).name, file.size_bytes): file for file in (*checkpoint.files, *checkpoint.side_files)
    }
    keys = {path: (PurePosixPath(path).name, size_bytes) for path, size_bytes in sizes.items()}
    return {path: pinned[key] for path, key in keys.items() if key in pinned}


def _weights_and_more(directory: Path) -> Iterator[str]:
    """Weight files, and what engines read beside safetensors; whatever else lies there is not ours to judge."""
    paths = list(_files_below(directory))
    folders = {path.rpartition("/")[0] for path in paths if path.endswith(".safetensors")}
    for path in paths:
        is_beside = path.rpartition("/")[0] in folders and role_of(path) in {FileRole.CONFIG, FileRole.TOKENIZER}
        if path.endswith(WEIGHT_SUFFIXES) or is_beside:
            yield path


def _files_below(directory: Path) -> Iterator[str]:
    for folder, folders, names in os.walk(directory):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith("."):
                yield (Path(folder) / name).relative_to(directory).as_posix()
