"""Which files of a repository a checkpoint needs: pure rules over the hub's listing and the catalogue's entry."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from v4deploy.domain.errors import DownloadError
from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.model import Checkpoint, CheckpointFormat, FileRole
from v4deploy.domain.units import format_gb
from v4deploy.pull.failures import words_of
from v4deploy.pull.manifest import FilePlan, split_name, split_problems

# Drafts and projectors are fetched when a plan uses them; everything else is needed to start at all.
DEFAULT_ROLES = (FileRole.MAIN, FileRole.ENGRAM, FileRole.TOKENIZER, FileRole.CONFIG)
SIDE_ROLES = frozenset({FileRole.DRAFT, FileRole.MMPROJ})


def select_files(
    checkpoint: Checkpoint, listed: Sequence[FilePlan], *, revision: str, roles: Sequence[FileRole] = DEFAULT_ROLES
) -> tuple[FilePlan, ...]:
    """The files of `listed` that the checkpoint needs, by path.

    Raises:
        DownloadError: nothing matches, a split set is not whole, or the names do not say which set is meant.
    """
    files = _with_catalogue_roles(checkpoint, listed)
    if checkpoint.format is CheckpointFormat.GGUF:
        chosen = _gguf_files(checkpoint, files, roles, strict=checkpoint.revision == revision)
    else:
        chosen = [file for file in files if _is_beside_weights(checkpoint, file) and file.role in roles]
    mains = [file for file in chosen if file.role in {FileRole.MAIN, FileRole.ENGRAM}]
    if not mains:
        raise DownloadError(
            f"{checkpoint.repo} at {revision[:12]} has no weight files for `{checkpoint.quant}`",
            hint=f"look at its file list at the hub; `v4deploy models` shows the other quants of {checkpoint.release}",
            details=_folders(listed),
        )
    if problems := split_problems(file.path for file in chosen):
        raise DownloadError(
            f"{checkpoint.repo} at {revision[:12]} is not whole: the publisher is uploading, or withdrew a part",
            hint="try again later, or choose another quant; nothing was fetched",
            details=problems,
        )
    return tuple(sorted(chosen, key=lambda file: file.path))


def first_main_path(files: Sequence[FilePlan]) -> str | None:
    """What an engine is pointed at: the only main GGUF, or part 1 of a split one; None for other formats."""
    for file in files:
        part = split_name(file.path)
        if file.role is FileRole.MAIN and file.path.endswith(".gguf") and (part is None or part.number == 1):
            return file.path
    return None


def compare_with_catalogue(checkpoint: Checkpoint, chosen: Sequence[FilePlan], *, revision: str) -> tuple[Finding, ...]:
    """What the hub says differently from the catalogue.

    Raises:
        DownloadError: the hub offers other bytes at the very commit that the catalogue describes. A commit cannot
            change, so one of the two is wrong, or a mirror lies.
    """
    by_path = {file.path: file for file in chosen}
    differences: list[str] = []
    for pinned in (*checkpoint.files, *checkpoint.side_files):
        file = by_path.get(pinned.path)
        if file is None:
            continue
        if pinned.size_bytes is not None and pinned.size_bytes != file.size_bytes:
            differences.append(f"{file.path}: {file.size_bytes} bytes, catalogue {pinned.size_bytes}")
        if pinned.sha256 is not None and file.sha256 is not None and pinned.sha256 != file.sha256:
            differences.append(f"{file.path}: SHA-256 {file.sha256}, catalogue {pinned.sha256}")
    if differences and checkpoint.revision == revision:
        raise DownloadError(
            f"the hub's listing of {checkpoint.repo} at {revision[:12]} contradicts the catalogue",
            hint=_not_fetched(checkpoint),
            details=tuple(differences),
        )
    weights_bytes = sum(file.size_bytes for file in chosen if file.role in {FileRole.MAIN, FileRole.ENGRAM})
    if not differences and is_near(weights_bytes, checkpoint.size_bytes):
        return ()
    evidence = Evidence(source=f"listing at {revision}", value="; ".join(differences) or f"{weights_bytes} bytes")
    return (
        Finding(
            id="network.hub.differs-from-catalogue",
            severity=Severity.INFO,
            summary=f"{checkpoint.repo} has {format_gb(weights_bytes)} of weights at this revision, "
            f"the catalogue says {format_gb(checkpoint.size_bytes)}",
            evidence=(evidence,),
            why="a plan computed from the catalogue's size is off by the difference",
        ),
    )


def _not_fetched(checkpoint: Checkpoint) -> str:
    return f"unset {words_of(checkpoint.hub).endpoint} if it names a mirror, then pull again; nothing was fetched"


def is_near(weights_bytes: int, catalogue_bytes: int | None) -> bool:
    """Whether two sizes mean the same weights: some sources count tensors without the files' headers, 0.01 % less."""
    return catalogue_bytes is None or abs(weights_bytes - catalogue_bytes) <= catalogue_bytes // 1000


def _with_catalogue_roles(checkpoint: Checkpoint, listed: Sequence[FilePlan]) -> list[FilePlan]:
    """Names do not tell everything: V4.1's Engram tables look like any other shard."""
    roles = [(named.path, named.role) for named in (*checkpoint.files, *checkpoint.side_files)]
    return [
        dataclasses.replace(file, role=next((role for pattern, role in roles if _matches(file, pattern)), file.role))
        for file in listed
    ]


def _matches(file: FilePlan, pattern: str) -> bool:
    return file.path == pattern or fnmatchcase(file.path, pattern)


def _gguf_files(
    checkpoint: Checkpoint, files: Sequence[FilePlan], roles: Sequence[FileRole], *, strict: bool
) -> list[FilePlan]:
    """`strict` holds the listing to the catalogue's names: right only at the commit that the catalogue describes."""
    ggufs = [file for file in files if file.path.endswith(".gguf")]
    mains = [file for file in ggufs if file.role is FileRole.MAIN]
    named = _named_files(checkpoint, mains, strict=strict)
    prefix = checkpoint.path_prefix.strip("/")
    if named:
        chosen = named
    elif prefix:
        chosen = [file for file in mains if file.path.startswith(f"{prefix}/")]
    else:
        chosen = _set_of_quant(checkpoint, mains, FileRole.MAIN)
    for role in sorted(SIDE_ROLES):
        if role in roles:
            sides = [file for file in ggufs if file.role is role]
            chosen = [*chosen, *(_named_sides(checkpoint, sides) or _set_of_quant(checkpoint, sides, role))]
    return chosen


def _named_sides(checkpoint: Checkpoint, sides: Sequence[FilePlan]) -> list[FilePlan]:
    return [file for file in sides if any(_matches(file, named.path) for named in checkpoint.side_files)]


def _named_files(checkpoint: Checkpoint, mains: Sequence[FilePlan], *, strict: bool) -> list[FilePlan]:
    """The files that the catalogue names, if all are there; else none, unless the commit makes that an error."""
    patterns = [named.path for named in checkpoint.files if named.role is FileRole.MAIN]
    missing = [pattern for pattern in patterns if not any(_matches(file, pattern) for file in mains)]
    if missing and strict:
        raise DownloadError(
            f"{checkpoint.repo} lacks files that the catalogue names for `{checkpoint.quant}`",
            hint=_not_fetched(checkpoint),
            details=tuple(missing),
        )
    if missing:
        return []
    return [file for file in mains if any(_matches(file, pattern) for pattern in patterns)]


def _set_of_quant(checkpoint: Checkpoint, files: Sequence[FilePlan], role: FileRole) -> list[FilePlan]:
    """The one set whose name ends in the quant, or carries it, or the only set there is."""
    quant = re.escape(checkpoint.quant.lower())
    ends = re.compile(rf".*(?<![a-z0-9]){quant}")
    carries = re.compile(rf".*(?<![a-z0-9]){quant}(?![a-z0-9_]).*")
    chosen = (
        [file for file in files if ends.fullmatch(_stem(file.path).lower())]
        or [file for file in files if carries.fullmatch(_stem(file.path).lower())]
        or list(files)
    )
    stems = {_stem(file.path) for file in chosen}
    if len(stems) > 1:
        raise DownloadError(
            f"{checkpoint.repo} holds several {role.value} files that `{checkpoint.quant}` may mean",
            hint="add the right one to `files:` of the checkpoint in your overlay of profiles/models/",
            details=tuple(sorted(stems)),
        )
    return chosen


def _stem(path: str) -> str:
    part = split_name(path)
    return part.stem if part else path.removesuffix(".gguf")


def _is_beside_weights(checkpoint: Checkpoint, file: FilePlan) -> bool:
    """Only the weights' own folder: the official repositories keep another `config.json` in `inference/`."""
    folder = checkpoint.path_prefix.strip("/")
    return str(PurePosixPath(file.path).parent) == (folder or ".") and file.role is not FileRole.OTHER


def _folders(listed: Sequence[FilePlan]) -> tuple[str, ...]:
    folders = sorted({str(PurePosixPath(file.path).parent) for file in listed if file.path.endswith(".gguf")})
    return (f"folders with GGUF files: {', '.join(folders)}",) if folders else ("no GGUF files in this repository",)
