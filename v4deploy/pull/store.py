"""Where weights live: `<root>/<owner>--<name>/<commit>/` with the repository's own paths, and what is there."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from v4deploy.domain.errors import DownloadError
from v4deploy.domain.model import FileRole
from v4deploy.pull import manifest as manifests
from v4deploy.pull.lock import LEASE_NAME, LOCK_NAME
from v4deploy.pull.manifest import MANIFEST_NAME, FilePlan, Manifest
from v4deploy.pull.part import resumable_bytes, sync_directory, write_atomically

# Where files of a bundle grow until they are whole.
STAGING_FOLDER = ".v4deploy-bundle"
OWN_FILES = frozenset({MANIFEST_NAME, f"{MANIFEST_NAME}.new", LOCK_NAME, LEASE_NAME})


def repository_directory(root: Path, repo: str) -> Path:
    """All revisions of a repository."""
    return root / repo.replace("/", "--")


def target_directory(root: Path, repo: str, revision: str) -> Path:
    """The directory of one commit; below it the files have the paths that they have in the repository."""
    return repository_directory(root, repo) / revision


def read_manifest(directory: Path) -> Manifest | None:
    """The manifest of a target directory; None when nothing was pulled there.

    Raises:
        ProfileError: there is one, but it is not readable as a manifest.
        DownloadError: there is one, but the disk or its permissions do not let us read it.
    """
    path = directory / MANIFEST_NAME
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DownloadError(f"cannot read {path}: {error.strerror}", hint="check its owner and permissions") from error
    return manifests.from_json(text, name=str(path))


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Replace the manifest atomically.

    Raises:
        OSError: it cannot be written.
    """
    write_atomically(directory / MANIFEST_NAME, manifests.to_json(manifest))
    sync_directory(directory)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """A directory in which a checkpoint was selected; its files may still be incomplete."""

    directory: Path
    manifest: Manifest
    files: tuple[FilePlan, ...]

    @property
    def is_complete(self) -> bool:
        """Whether all files are as a finished pull left them, by size and modification time."""
        return all(is_untouched(self.directory, file) for file in self.files)


def find_pulled(
    root: Path, repo: str, checkpoint: str, *, revision: str | None, roles: Collection[FileRole]
) -> Pulled | None:
    """The newest pull of a checkpoint with at least these roles, at this revision or (None) at any.

    Raises:
        ProfileError: a manifest on the way is broken.
    """
    base = repository_directory(root, repo)
    directories = sorted(base.iterdir()) if revision is None and base.is_dir() else [base / (revision or "-")]
    found = [pulled for directory in directories if (pulled := _pulled(directory, checkpoint, roles))]
    return max(found, key=lambda pulled: pulled.manifest.fetched_at, default=None)


def _pulled(directory: Path, checkpoint: str, roles: Collection[FileRole]) -> Pulled | None:
    manifest = read_manifest(directory) if directory.is_dir() else None
    selection = manifest.selection(checkpoint) if manifest else None
    if manifest is None or selection is None or not set(roles) <= set(selection.roles):
        return None
    paths = set(selection.paths)
    files = tuple(file for file in manifest.files if file.path in paths and file.role in roles)
    return Pulled(directory=directory, manifest=manifest, files=files)


def is_untouched(directory: Path, file: FilePlan) -> bool:
    """Whether a finished file is still as it was left, by size and modification time."""
    try:
        status = (directory / file.path).stat()
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) == (file.size_bytes, file.modified_nanoseconds)


def kept_bytes(directory: Path, file: FilePlan) -> int:
    """Bytes that need no fetching: all of a file of the right size, else what its part's journal vouches for."""
    destination = directory / file.path
    with contextlib.suppress(OSError):
        if destination.stat().st_size == file.size_bytes:
            return file.size_bytes
    return resumable_bytes(destination, file)


def free_bytes(path: Path) -> int | None:
    """Free space for this user on the file system that `path` is or will be on; None when it cannot be asked."""
    for existing in (path, *path.parents):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            try:
                return shutil.disk_usage(existing).free
            except PermissionError:
                return None
    return None
