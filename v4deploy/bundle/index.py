"""The index of a bundle: its parts and files with their hashes, and the manifest of the weights inside."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from v4deploy import documents
from v4deploy.bundle.layout import part_ranges
from v4deploy.domain.errors import ProfileError
from v4deploy.pull.manifest import Manifest, is_safe_path

SCHEMA = "v4deploy.bundle/1"
INDEX_NAME = "v4deploy-bundle.json"
UNFINISHED_NAME = "v4deploy-bundle.unfinished.json"
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PartEntry:
    """One part of the stream. `sha256` is None until it is written, which happens in unfinished indices only."""

    name: str
    size_bytes: int
    sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberEntry:
    """Where the bytes of one weight file begin in the stream. `path` is that of the manifest."""

    path: str
    offset_bytes: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainFile:
    """A file that lies beside the parts as it is: wheels, launch files, the plan."""

    path: str
    size_bytes: int
    sha256: str

    @property
    def folder(self) -> str:
        """The folder beside the parts that it lies in."""
        return self.path.partition("/")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleIndex:
    """A JSON document (`v4deploy.bundle/1`) beside the parts.

    Attributes:
        id: follows from the weights and how they are cut; the parts carry its beginning in their names.
        checkpoint: whose weights they are.
        stream_bytes: all parts together.
        manifest: of these weights alone, without times of this machine.
        launch_target: what launch files were asked for; None means the engine's default.
    """

    id: str
    made_with: str
    checkpoint: str
    part_size_bytes: int
    stream_bytes: int
    parts: tuple[PartEntry, ...]
    members: tuple[MemberEntry, ...]
    manifest: Manifest
    files: tuple[PlainFile, ...] = ()
    launch_target: str | None = None

    @property
    def is_finished(self) -> bool:
        return all(part.sha256 is not None for part in self.parts)

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """The place of each part in the stream."""
        return part_ranges(self.stream_bytes, self.part_size_bytes)


def bundle_id(manifest: Manifest, members: Sequence[MemberEntry], stream_bytes: int, part_size_bytes: int) -> str:
    """Two bundles have the same id exactly when each part of one is the same part of the other."""
    hashes = {file.path: file.expected_hash for file in manifest.files}
    what = [
        manifest.repo,
        manifest.revision,
        stream_bytes,
        part_size_bytes,
        [[member.path, member.offset_bytes, member.size_bytes, hashes[member.path]] for member in members],
    ]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def part_names(checkpoint: str, identity: str, count: int) -> tuple[str, ...]:
    """Names that sort as the parts follow each other, and that no other bundle uses."""
    digits = max(3, len(str(count)))
    return tuple(f"{checkpoint}-{identity[:8]}.tar.{number:0{digits}}" for number in range(1, count + 1))


def to_json(index: BundleIndex) -> str:
    return documents.to_json(SCHEMA, index)


def from_json(text: str, *, name: str) -> BundleIndex:
    """Read an index.

    Raises:
        ProfileError: it is not one, or does not hold together: it is then damaged, and so may be what it describes.
    """
    index = documents.from_json(BundleIndex, SCHEMA, text, name=name)
    if problem := _problem(index):
        raise ProfileError(f"{name}: {problem}", hint="the index is damaged: copy it again from where it was made")
    return index


def _problem(index: BundleIndex) -> str | None:
    return _unsafe(index) or _incoherent(index)


def _unsafe(index: BundleIndex) -> str | None:
    """A name that would lead elsewhere, or content that could not be checked."""
    manifest = index.manifest
    # Both become directories where it is installed.
    if not _REPO.fullmatch(manifest.repo) or not _COMMIT.fullmatch(manifest.revision):
        return f"`{manifest.repo}` at `{manifest.revision}` is no repository at a commit"
    if unhashed := [file.path for file in manifest.files if file.sha256 is None and file.git_sha1 is None]:
        return f"`{unhashed[0]}` has no hash"
    paths = [*(file.path for file in manifest.files), *(file.path for file in index.files)]
    if unsafe := [path for path in paths if not is_safe_path(path)]:
        return f"`{unsafe[0]}` is no path inside the bundle"
    if unsafe := [part.name for part in index.parts if not is_safe_path(part.name) or "/" in part.name]:
        return f"`{unsafe[0]}` is no name of a part"
    return None


def _incoherent(index: BundleIndex) -> str | None:
    """Parts and files that do not fit together."""
    manifest = index.manifest
    part_sizes = [part.size_bytes for part in index.parts]
    if index.part_size_bytes <= 0 or part_sizes != [end - first for first, end in index.ranges]:
        return "its parts do not make up the whole"
    sizes = {file.path: file.size_bytes for file in manifest.files}
    if sizes != {member.path: member.size_bytes for member in index.members}:
        return "its files are not those of its manifest"
    ends = 0
    for member in index.members:
        if member.offset_bytes < ends or member.offset_bytes + member.size_bytes > index.stream_bytes:
            return f"`{member.path}` lies outside of the parts"
        ends = member.offset_bytes + member.size_bytes
    if index.id != bundle_id(manifest, index.members, index.stream_bytes, index.part_size_bytes):
        return "its id does not belong to its content"
    return None
