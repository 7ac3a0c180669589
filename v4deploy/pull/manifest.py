"""The record of a pull: what was fetched from where, with hashes. Also what file names say: role, place in a split."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from v4deploy import documents
from v4deploy.domain.errors import ProfileError
from v4deploy.domain.model import FileRole, Hub

SCHEMA = "v4deploy.manifest/1"
MANIFEST_NAME = "v4deploy-manifest.json"

# What llama.cpp's own router takes for side files (common/download.cpp, b11434). A tool that globs `*.gguf` without
# this rule starts a draft as if it were the model.
_DRAFT_WORDS = ("dspark-", "mtp-", "dflash-", "eagle3")
_PROJECTOR_WORD = "mmproj"
_WEIGHT_SUFFIXES = (".gguf", ".safetensors")
_TOKENIZER_FILES = re.compile(
    r"(tokenizer.*\.json|.*\.model|vocab\.json|merges\.txt|(special|added)_tokens.*\.json|chat_template\..*|.*\.jinja)"
)
_SPLIT = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.\w+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePlan:
    """One file that belongs on disk.

    Attributes:
        path: relative to the repository and to the target directory, forward slashes.
        sha256: hash of the content (LFS and Xet files); None for plain git files.
        git_sha1: git's blob hash, the only one that hubs keep for plain git files; None where `sha256` is known.
        modified_nanoseconds: the finished file's modification time, by which a later pull knows it without reading it;
            None while the file is not finished.
    """

    path: str
    size_bytes: int
    role: FileRole
    sha256: str | None = None
    git_sha1: str | None = None
    modified_nanoseconds: int | None = None

    @property
    def expected_hash(self) -> str:
        """The hash that the content must have.

        Raises:
            ValueError: neither hash is known; the listing refuses such files.
        """
        expected = self.sha256 or self.git_sha1
        if expected is None:
            raise ValueError(f"{self.path} has no hash")
        return expected

    def same_content(self, other: FilePlan) -> bool:
        """Whether both mean the same bytes at the same path."""
        return (self.path, self.size_bytes, self.expected_hash) == (other.path, other.size_bytes, other.expected_hash)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The files of these roles that one checkpoint needs; checkpoints may share a repository and its directory."""

    checkpoint: str
    roles: tuple[FileRole, ...]
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A JSON document (`v4deploy.manifest/1`) beside the weights.

    Attributes:
        revision: the commit, 40 hexadecimal digits.
        endpoint_host: host and port that answered; never user or password.
        fetched_at: ISO 8601 time of the pull that wrote last.
        files: all files of all selections, by path.
    """

    repo: str
    hub: Hub
    revision: str
    endpoint_host: str
    fetched_at: str
    files: tuple[FilePlan, ...]
    selections: tuple[Selection, ...]

    def file(self, path: str) -> FilePlan | None:
        """The entry of a path; None when the manifest has none."""
        return next((file for file in self.files if file.path == path), None)

    def selection(self, checkpoint: str) -> Selection | None:
        """What was selected for a checkpoint; None when it was never pulled into this directory."""
        return next((chosen for chosen in self.selections if chosen.checkpoint == checkpoint), None)

    def with_file(self, finished: FilePlan) -> Manifest:
        """The manifest with one entry replaced."""
        files = tuple(finished if file.path == finished.path else file for file in self.files)
        return dataclasses.replace(self, files=files)

    def without_proof(self, paths: Collection[str]) -> Manifest:
        """The manifest with these entries unfinished: their files have to be checked or fetched again."""
        files = tuple(
            dataclasses.replace(file, modified_nanoseconds=None) if file.path in paths else file for file in self.files
        )
        return dataclasses.replace(self, files=files)

    def with_selection(self, checkpoint: str, roles: Sequence[FileRole], files: Sequence[FilePlan]) -> Manifest:
        """The manifest with files of a checkpoint added; entries for the same bytes keep their finished state."""
        known = {file.path: file for file in self.files}
        for file in files:
            old = known.get(file.path)
            known[file.path] = old if old is not None and old.same_content(file) else file
        before = self.selection(checkpoint)
        chosen = Selection(
            checkpoint=checkpoint,
            roles=tuple(sorted({*roles, *(before.roles if before else ())})),
            paths=tuple(sorted({file.path for file in files} | set(before.paths if before else ()))),
        )
        others = tuple(selection for selection in self.selections if selection.checkpoint != checkpoint)
        return dataclasses.replace(
            self, files=tuple(known[path] for path in sorted(known)), selections=(*others, chosen)
        )


def to_json(manifest: Manifest) -> str:
    """The manifest as a document."""
    return documents.to_json(SCHEMA, manifest)


def from_json(text: str, *, name: str) -> Manifest:
    """Read a manifest.

    Raises:
        ProfileError: not a manifest, or one that was edited into nonsense.
    """
    try:
        manifest = documents.from_json(Manifest, SCHEMA, text, name=name)
    except ProfileError as error:
        raise _broken(error.message, name) from error
    for file in manifest.files:
        if not is_safe_path(file.path):
            raise _broken(f"{name}: `{file.path}` is not a path inside the repository", name)
        if file.sha256 is None and file.git_sha1 is None:
            raise _broken(f"{name}: `{file.path}` has no hash", name)
    return manifest


def _broken(message: str, name: str) -> ProfileError:
    return ProfileError(
        message, hint=f"delete {name} and pull again: files that are complete are hashed, not fetched again"
    )


def is_safe_path(path: str) -> bool:
    """Whether a path from a hub stays inside the directory that it is joined to."""
    parts = path.split("/")
    return bool(path) and not any(part in {"", ".", ".."} or "\\" in part or "\0" in part for part in parts)


def role_of(path: str) -> FileRole:
    """What a file is for, as far as its name says."""
    name = PurePosixPath(path).name.lower()
    if name == MANIFEST_NAME:
        # Somebody has uploaded a directory that we filled; fetched, it would take the place of ours.
        return FileRole.OTHER
    if name.endswith(".gguf"):
        if _PROJECTOR_WORD in name:
            return FileRole.MMPROJ
        return FileRole.DRAFT if any(word in name for word in _DRAFT_WORDS) else FileRole.MAIN
    if name.endswith(_WEIGHT_SUFFIXES):
        return FileRole.MAIN
    if _TOKENIZER_FILES.fullmatch(name):
        return FileRole.TOKENIZER
    return FileRole.CONFIG if name.endswith(".json") else FileRole.OTHER


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitName:
    """`<stem>-00001-of-00003.gguf`, taken apart. `number` counts from 1."""

    stem: str
    number: int
    count: int
    suffix: str


def split_name(path: str) -> SplitName | None:
    """The place of a file in a split set; None for a file that is whole."""
    match = _SPLIT.fullmatch(path)
    if match is None:
        return None
    return SplitName(stem=match["stem"], number=int(match["number"]), count=int(match["count"]), suffix=match["suffix"])


def split_problems(paths: Iterable[str]) -> tuple[str, ...]:
    """What is wrong with the split sets among these files, one sentence each; empty when all are whole.

    Publishers upload again with another number of parts, so two sets may lie under one stem: engines then open
    parts of both.
    """
    sets: dict[tuple[str, str], dict[int, set[int]]] = {}
    for path in paths:
        part = split_name(path)
        if part is not None:
            sets.setdefault((part.stem, part.suffix), {}).setdefault(part.count, set()).add(part.number)
    problems: list[str] = []
    for (stem, suffix), by_count in sorted(sets.items()):
        if len(by_count) > 1:
            counts = " and ".join(str(count) for count in sorted(by_count))
            problems.append(f"{stem}*{suffix}: parts of two uploads are mixed, split in {counts}")
            continue
        ((count, numbers),) = by_count.items()
        problems.extend(_set_problems(f"{stem}-*-of-{count:05d}{suffix}", count, numbers))
    return tuple(problems)


def _set_problems(name: str, count: int, numbers: set[int]) -> list[str]:
    wanted = set(range(1, count + 1))
    problems: list[str] = []
    if missing := sorted(wanted - numbers):
        problems.append(f"{name}: part {', '.join(map(str, missing))} of {count} is missing")
    if extra := sorted(numbers - wanted):
        problems.append(f"{name}: part {', '.join(map(str, extra))} is beyond the {count} that the name promises")
    return problems
