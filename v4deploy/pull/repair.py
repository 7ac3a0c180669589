"""Fetches the files of a pulled directory again that were found wrong, and these alone."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from v4deploy.domain.errors import DownloadError
from v4deploy.domain.finding import Finding
from v4deploy.pull import store
from v4deploy.pull.access import HubAccess
from v4deploy.pull.adopt.adopt import Adopted
from v4deploy.pull.adopt.places import Places
from v4deploy.pull.download import Control, Progress
from v4deploy.pull.fill import Filled, Order, fill_directory


@dataclass(frozen=True, slots=True, kw_only=True)
class Repaired:
    """Paths that are right again, hashed on their way; `fetched_bytes` came over the network."""

    paths: tuple[str, ...]
    fetched_bytes: int
    adopted: tuple[Adopted, ...]
    findings: tuple[Finding, ...]


def repair_directory(  # noqa: PLR0913 - what a pull is given, and the paths
    directory: Path,
    paths: Collection[str],
    *,
    access: HubAccess,
    fetched_at: str,
    places: Places,
    progress: Progress,
    control: Control | None = None,
) -> Repaired:
    """Replace these files by what the manifest says, from elsewhere on this machine or from the hub.

    A bad file stays until its replacement is complete, and is replaced, never written to: others may share it.

    Raises:
        DownloadError: there is no manifest, or not all of them could be had.
        ProfileError: the manifest is broken.
        KeyboardInterrupt: after all threads have ended and their parts are journalled.
    """
    manifest = store.read_manifest(directory)
    if manifest is None:
        raise DownloadError(f"{directory} has no manifest that says what belongs there", hint="v4deploy pull MODEL")
    left = {file.path for file in manifest.files} & set(paths)
    filled: list[Filled] = []
    for selection in manifest.selections:
        bad = left & set(selection.paths)
        left -= bad
        if not bad:
            continue
        order = Order(
            directory=directory,
            repo=manifest.repo,
            hub=manifest.hub,
            revision=manifest.revision,
            checkpoint=selection.checkpoint,
            roles=selection.roles,
            files=tuple(file for file in manifest.files if file.path in bad),
            places=places,
            distrusted=frozenset(bad),
        )
        filled.append(
            fill_directory(order, access=access, fetched_at=fetched_at, progress=progress, control=control or Control())
        )
    return Repaired(
        paths=tuple(sorted(file.path for done in filled for file in done.files)),
        fetched_bytes=sum(done.fetched_bytes for done in filled),
        adopted=tuple(adopted for done in filled for adopted in done.adopted),
        findings=tuple(finding for done in filled for finding in done.findings),
    )
