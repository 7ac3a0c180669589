"""What a hub publishes: directories as repositories, and the JSON in which the Hub's API describes them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The Hub keeps these in LFS whatever their size (its default .gitattributes); everything above the bound too.
_LFS_SUFFIXES = (".gguf", ".safetensors", ".bin")
_LFS_FROM_BYTES = 10 * 1024 * 1024
_POINTER_BYTES = 134
_DATE = "2026-01-01T00:00:00.000Z"


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFile:
    """A published file. `git_sha1` is what git would call it: the blob, or the LFS pointer's blob."""

    path: str
    source: Path
    size_bytes: int
    sha256: str
    git_sha1: str
    is_lfs: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HubRepository:
    """A repository at its only commit, which is derived from the content: same files, same commit."""

    name: str
    commit: str
    files: tuple[HubFile, ...]

    def file(self, path: str) -> HubFile | None:
        """The file at a path; None when there is none."""
        return next((file for file in self.files if file.path == path), None)


def read_repositories(root: Path) -> Iterator[HubRepository]:
    """Each `<root>/<owner>/<name>/` as repository `owner/name`."""
    for directory in sorted(root.glob("*/*")):
        if directory.is_dir():
            yield _read_repository(f"{directory.parent.name}/{directory.name}", directory)


def _read_repository(name: str, directory: Path) -> HubRepository:
    files = tuple(
        _read_file(path.relative_to(directory).as_posix(), path)
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    )
    state = "\n".join(f"{file.path} {file.git_sha1}" for file in files)
    commit = hashlib.sha1(f"{name}\n{state}".encode(), usedforsecurity=False).hexdigest()
    return HubRepository(name=name, commit=commit, files=files)


def _read_file(path: str, source: Path) -> HubFile:
    with source.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    size_bytes = source.stat().st_size
    is_lfs = path.endswith(_LFS_SUFFIXES) or size_bytes > _LFS_FROM_BYTES
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size_bytes}\n".encode()
    blob = pointer if is_lfs else source.read_bytes()
    git_sha1 = hashlib.sha1(b"blob %d\0" % len(blob) + blob, usedforsecurity=False).hexdigest()
    return HubFile(path=path, source=source, size_bytes=size_bytes, sha256=sha256, git_sha1=git_sha1, is_lfs=is_lfs)


def model_info(repository: HubRepository, *, with_blobs: bool) -> dict[str, Any]:
    """The answer of `/api/models/<repo>`; sizes and hashes only `with_blobs`, as the Hub does it."""
    siblings: list[dict[str, Any]] = []
    for file in repository.files:
        sibling: dict[str, Any] = {"rfilename": file.path}
        if with_blobs:
            sibling |= {"size": file.size_bytes, "blobId": file.git_sha1}
        if with_blobs and file.is_lfs:
            sibling["lfs"] = {"sha256": file.sha256, "size": file.size_bytes, "pointerSize": _POINTER_BYTES}
        siblings.append(sibling)
    return {
        "_id": repository.commit[:24],
        "id": repository.name,
        "modelId": repository.name,
        "author": repository.name.partition("/")[0],
        "sha": repository.commit,
        "createdAt": _DATE,
        "lastModified": _DATE,
        "private": False,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "siblings": siblings,
    }


def tree_entries(repository: HubRepository, folder: str, *, recursive: bool) -> list[dict[str, Any]]:
    """The answer of `/api/models/<repo>/tree/<revision>/<folder>`, before paging."""
    prefix = f"{folder.strip('/')}/" if folder.strip("/") else ""
    entries: dict[str, dict[str, Any]] = {}
    for file in repository.files:
        if not file.path.startswith(prefix):
            continue
        parents = file.path.removeprefix(prefix).split("/")[:-1]
        for depth in range(1, len(parents) + 1):
            path = prefix + "/".join(parents[:depth])
            oid = hashlib.sha1(f"{repository.commit} {path}".encode(), usedforsecurity=False).hexdigest()
            if recursive or depth == 1:
                entries[path] = {"type": "directory", "oid": oid, "size": 0, "path": path}
        if recursive or not parents:
            entries[file.path] = _file_entry(file)
    return [entries[path] for path in sorted(entries)]


def _file_entry(file: HubFile) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "oid": file.git_sha1, "size": file.size_bytes, "path": file.path}
    if file.is_lfs:
        entry["lfs"] = {"oid": file.sha256, "size": file.size_bytes, "pointerSize": _POINTER_BYTES}
    return entry
