"""What to pull, and the dry run that answers from catalogue and disk alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from v4deploy.domain.model import Checkpoint, CheckpointFormat, FileRole, Hub, WeightFile
from v4deploy.pull import store
from v4deploy.pull.adopt.places import Adoptable, Places, look_for
from v4deploy.pull.manifest import FilePlan
from v4deploy.pull.selection import DEFAULT_ROLES

# Manifest, journals and directory blocks; a file system that is full to the last byte fails in odd ways.
SPARE_BYTES = 16 * 1024 * 1024
# One connection seldom fills a fast line; more than eight at one host look like an attack to some of them.
CONNECTIONS = 8
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PullRequest:
    """What to fetch and where to.

    Attributes:
        revision: branch, tag or commit; None means the catalogue's commit, or the default branch where it has none.
        max_workers: connections at once, over all files.
        places: where files are looked for before they are fetched.
    """

    checkpoint: Checkpoint
    weights_root: Path
    revision: str | None = None
    roles: tuple[FileRole, ...] = DEFAULT_ROLES
    max_workers: int = CONNECTIONS
    places: Places = field(default_factory=Places)

    @property
    def wanted_revision(self) -> str | None:
        """What to ask the hub for; None for its default branch."""
        return self.revision or self.checkpoint.revision

    @property
    def commit(self) -> str | None:
        """The wanted revision where it is a commit already; None where only the hub can resolve it."""
        wanted = self.wanted_revision
        return wanted if wanted is not None and _COMMIT.fullmatch(wanted) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class PullPreview:
    """What a pull would do, as far as catalogue and disk tell without a network.

    Attributes:
        revision: None when only the hub can say which commit the default branch is.
        files: exact, or with a pattern (`UD-Q4_K_XL/*.gguf`) where the catalogue has no list.
        total_bytes: None when no source gives the size.
        directory: without the commit where that is not known.
        kept_bytes: of it already on disk and usable.
        adoptable: what else this machine seems to have; None where it was not looked for, or where the catalogue does
            not have the files' sizes and hashes to look for.
        free_bytes: None when the file system cannot be asked.
    """

    checkpoint: str
    hub: Hub
    repo: str
    revision: str | None
    quant: str
    files: tuple[WeightFile, ...]
    total_bytes: int | None
    directory: str
    kept_bytes: int
    free_bytes: int | None
    adoptable: Adoptable | None = None

    @property
    def missing_bytes(self) -> int | None:
        """Free space that lacks for the rest; 0 when it is enough, None when a figure is unknown."""
        if self.total_bytes is None or self.free_bytes is None:
            return None
        linkable_bytes = self.adoptable.linkable_bytes if self.adoptable else 0
        return max(0, self.total_bytes - self.kept_bytes - linkable_bytes + SPARE_BYTES - self.free_bytes)


def preview_pull(request: PullRequest) -> PullPreview:
    """The dry run: no network, nothing written.

    Raises:
        ProfileError: a manifest of an earlier pull is broken.
    """
    checkpoint, root = request.checkpoint, request.weights_root
    commit = request.commit
    pulled = store.find_pulled(root, checkpoint.repo, checkpoint.id, revision=commit, roles=request.roles)
    if pulled:
        directory, commit = pulled.directory, pulled.manifest.revision
        files = tuple(
            WeightFile(path=file.path, role=file.role, size_bytes=file.size_bytes, sha256=file.sha256)
            for file in pulled.files
        )
        total_bytes: int | None = sum(file.size_bytes for file in pulled.files)
        kept_bytes = sum(store.kept_bytes(directory, file) for file in pulled.files)
    else:
        base = store.repository_directory(root, checkpoint.repo)
        directory = base / commit if commit else base
        files, total_bytes, kept_bytes = _catalogue_files(checkpoint, request.roles), checkpoint.size_bytes, 0
    return PullPreview(
        checkpoint=checkpoint.id,
        hub=checkpoint.hub,
        repo=checkpoint.repo,
        revision=commit,
        quant=checkpoint.quant,
        files=files,
        total_bytes=total_bytes,
        directory=str(directory),
        kept_bytes=kept_bytes,
        free_bytes=store.free_bytes(directory),
    )


def with_adoptable(preview: PullPreview, places: Places) -> PullPreview:
    """The same, after a look at the places where the files that are missing may lie."""
    directory = Path(preview.directory)
    missing = [file for file in preview.files if not _is_there(directory, file)]
    wanted = tuple(
        FilePlan(path=file.path, size_bytes=file.size_bytes, role=file.role, sha256=file.sha256)
        for file in missing
        if file.size_bytes is not None and file.sha256 is not None
    )
    if not wanted:
        return preview
    return replace(preview, adoptable=look_for(wanted, directory, places))


def _is_there(directory: Path, file: WeightFile) -> bool:
    path = directory / file.path
    return path.is_file() and path.stat().st_size == file.size_bytes


def _catalogue_files(checkpoint: Checkpoint, roles: Sequence[FileRole]) -> tuple[WeightFile, ...]:
    """What the catalogue names, with a pattern for the weights where only the hub can list them."""
    named = tuple(file for file in (*checkpoint.files, *checkpoint.side_files) if file.role in roles)
    if any(file.role is FileRole.MAIN for file in named):
        return named
    prefix = f"{checkpoint.path_prefix.strip('/')}/" if checkpoint.path_prefix else ""
    suffix = "gguf" if checkpoint.format is CheckpointFormat.GGUF else "safetensors"
    weights = WeightFile(path=f"{prefix}*.{suffix}", role=FileRole.MAIN, size_bytes=checkpoint.size_bytes)
    return (weights, *named)
