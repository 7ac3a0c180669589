"""What a live listing says of the catalogue's checkpoints, by the same rules by which a pull chooses files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from v4deploy.domain.errors import DownloadError
from v4deploy.domain.model import Checkpoint, CheckpointFormat, FileRole, Runnable, WeightFile
from v4deploy.domain.source import Source
from v4deploy.pull.listing import Listing
from v4deploy.pull.manifest import FilePlan, split_name, split_problems
from v4deploy.pull.selection import compare_with_catalogue, is_near, select_files

_WEIGHTS = (FileRole.MAIN, FileRole.ENGRAM)
_NEW = (
    "New at the hub since the catalogue: v4deploy knows its name, size and hashes, and neither its quality nor which "
    "engines load it. Name them in your own profile to have it planned."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownSet:
    """GGUF weights that no checkpoint of the catalogue means.

    Attributes:
        name: the quant where the repository's other file names tell it, else the file's own name without its ending.
    """

    name: str
    files: tuple[FilePlan, ...]

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


def relisted(checkpoint: Checkpoint, listing: Listing, source: Source) -> Checkpoint:
    """The checkpoint as it is at the listed commit: revision, size, every file that has a SHA-256.

    What was measured on other bytes (the dense part, the draft's, the quality) does not outlive a change of size.

    Raises:
        DownloadError: the listing has no such files, not all of them, or contradicts the catalogue at its own commit.
    """
    chosen = select_files(checkpoint, listing.files, revision=listing.revision)
    compare_with_catalogue(checkpoint, chosen, revision=listing.revision)
    if not all(_is_named(checkpoint, file) for file in chosen):
        # A pull takes the only set that there is; what is written down has to be known.
        raise DownloadError(
            f"{checkpoint.repo} has one set of weights, and nothing in its name says `{checkpoint.quant}`",
            hint="look at its file list at the hub; name its files in your own profile if it is this quant",
            details=tuple(file.path for file in chosen),
        )
    weights = [file for file in chosen if file.role in _WEIGHTS]
    size_bytes = sum(file.size_bytes for file in weights)
    same = checkpoint.size_bytes is None or is_near(size_bytes, checkpoint.size_bytes)
    return replace(
        checkpoint,
        revision=listing.revision,
        size_bytes=size_bytes,
        shards=len(weights),
        files=_files(checkpoint, chosen, listing),
        side_files=_side_files(checkpoint, listing),
        path_prefix=_folder(weights),
        dense_bytes=checkpoint.dense_bytes if same else None,
        layer_experts=checkpoint.layer_experts if same else None,
        draft_bytes=checkpoint.draft_bytes if same else None,
        quality=checkpoint.quality if same else None,
        source=source,
    )


def _is_named(checkpoint: Checkpoint, file: FilePlan) -> bool:
    """Whether a chosen file is the quant's by its folder, its name, or the catalogue's word; GGUF alone is in doubt."""
    if checkpoint.format is not CheckpointFormat.GGUF or checkpoint.quant.lower() in file.path.lower():
        return True
    prefix = checkpoint.path_prefix.strip("/")
    known = any(fnmatchcase(file.path, named.path) for named in checkpoint.files)
    return known or bool(prefix and file.path.startswith(f"{prefix}/"))


def _files(checkpoint: Checkpoint, chosen: Sequence[FilePlan], listing: Listing) -> tuple[WeightFile, ...]:
    """The weights, and of the small files those with a SHA-256: the others say nothing that the commit does not.

    A hub keeps git's hash for small files; a SHA-256 that the catalogue has from elsewhere holds at its own commit.
    """
    pinned = {file.path: file for file in checkpoint.files if checkpoint.revision == listing.revision and file.sha256}
    return tuple(
        pinned[file.path] if file.sha256 is None and file.path in pinned else _weight_file(file)
        for file in chosen
        if file.role in _WEIGHTS or file.sha256 is not None or file.path in pinned
    )


def _weight_file(file: FilePlan) -> WeightFile:
    # A profile gives no size of 0; an empty file has none there.
    return WeightFile(path=file.path, role=file.role, size_bytes=file.size_bytes or None, sha256=file.sha256)


def _folder(files: Sequence[FilePlan]) -> str:
    folders = {str(PurePosixPath(file.path).parent) for file in files}
    folder = folders.pop() if len(folders) == 1 else "."
    return "" if folder == "." else folder


def _side_files(checkpoint: Checkpoint, listing: Listing) -> tuple[WeightFile, ...]:
    """Drafts and projectors that are still there; patterns stay, as only a pull resolves them."""
    listed = {file.path: file for file in listing.files}
    return tuple(
        replace(named, size_bytes=file.size_bytes, sha256=file.sha256) if file else named
        for named in checkpoint.side_files
        for file in (listed.get(named.path),)
        if file or set(named.path) & set("*?[")
    )


def unknown_sets(known: Iterable[Checkpoint], listing: Listing) -> tuple[UnknownSet, ...]:
    """The whole GGUF sets of a repository that none of these checkpoints, as relisted from it, is made of."""
    known = tuple(known)
    taken = {file.path for checkpoint in known for file in (*checkpoint.files, *checkpoint.side_files)}
    sets: dict[tuple[str, int], list[FilePlan]] = {}
    for file in listing.files:
        if file.role is FileRole.MAIN and file.path.endswith(".gguf") and file.path not in taken:
            part = split_name(file.path)
            sets.setdefault((part.stem, part.count) if part else (file.path.removesuffix(".gguf"), 1), []).append(file)
    patterns = tuple(pattern for checkpoint in known if (pattern := _naming(checkpoint)) is not None)
    return tuple(
        UnknownSet(name=_name(stem, patterns), files=tuple(files))
        for (stem, _), files in sorted(sets.items())
        if not split_problems(file.path for file in files)
    )


def _naming(checkpoint: Checkpoint) -> re.Pattern[str] | None:
    """How the repository makes file names of quants, learnt from one that is known; None where the name tells not."""
    first = next((file.path for file in checkpoint.files if file.role is FileRole.MAIN), "")
    part = split_name(first)
    stem = part.stem if part else first.removesuffix(".gguf")
    pieces = stem.split(checkpoint.quant)
    if len(pieces) < 2:  # noqa: PLR2004 - before and after the quant
        return None
    head, *others = map(re.escape, pieces)
    return re.compile(head + r"(?P<quant>[\w.-]+)" + "(?P=quant)".join(others))


def _name(stem: str, patterns: Iterable[re.Pattern[str]]) -> str:
    for pattern in patterns:
        if match := pattern.fullmatch(stem):
            return match["quant"]
    return PurePosixPath(stem).name


def as_checkpoint(
    found: UnknownSet, sibling: Checkpoint, listing: Listing, source: Source, identity: str
) -> Checkpoint:
    """A new set as a checkpoint that can be pulled by name, and that no plan chooses by itself."""
    return Checkpoint(
        id=identity,
        model=sibling.model,
        release=sibling.release,
        hub=sibling.hub,
        repo=sibling.repo,
        revision=listing.revision,
        format=CheckpointFormat.GGUF,
        quant=found.name,
        size_bytes=found.size_bytes,
        shards=len(found.files),
        engines=(),
        runnable=Runnable.OTHER_ENGINE,
        files=tuple(map(_weight_file, found.files)),
        path_prefix=_folder(found.files),
        compute_apis=sibling.compute_apis,
        note=_NEW,
        source=source,
    )


def problem_of(error: DownloadError) -> str:
    """What a listing lacks, in one line."""
    return "; ".join((error.message, *error.details))
