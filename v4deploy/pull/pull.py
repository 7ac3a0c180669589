"""One checkpoint onto the disk: resolve, choose, fill its directory. What the command `pull` calls."""

from __future__ import annotations

from dataclasses import dataclass

from v4deploy.domain.errors import DownloadError
from v4deploy.domain.finding import Finding, Severity
from v4deploy.domain.model import CheckpointFormat, Hub
from v4deploy.pull import store
from v4deploy.pull.access import HubAccess
from v4deploy.pull.adopt.adopt import Adopted
from v4deploy.pull.adopt.cached import cached_listing
from v4deploy.pull.download import Control, Progress
from v4deploy.pull.fill import Order, fill_directory
from v4deploy.pull.hubs import list_repository
from v4deploy.pull.manifest import FilePlan, Manifest
from v4deploy.pull.request import PullRequest
from v4deploy.pull.selection import SIDE_ROLES, compare_with_catalogue, first_main_path, select_files


@dataclass(frozen=True, slots=True, kw_only=True)
class PullResult:
    """A checkpoint that is complete on disk, every byte hashed.

    Attributes:
        directory: holds the files under their repository paths.
        model_path: what an engine is pointed at, relative to `directory`: the first GGUF; None for formats that are
            opened by their directory.
        fetched_bytes: came over the network in this run.
        kept_bytes: were on this machine already: in place, in a part, or elsewhere.
        adopted: what was elsewhere.
    """

    checkpoint: str
    repo: str
    revision: str
    directory: str
    model_path: str | None
    files: tuple[FilePlan, ...]
    total_bytes: int
    fetched_bytes: int
    kept_bytes: int
    adopted: tuple[Adopted, ...] = ()
    findings: tuple[Finding, ...] = ()


class _Silent:
    def advanced(self, path: str, done_bytes: int, size_bytes: int) -> None:
        pass

    def checking(self, path: str, done_bytes: int, size_bytes: int) -> None:
        pass

    def finished(self, path: str, size_bytes: int) -> None:
        pass

    def waiting(self, path: str, reason: str, wait_seconds: float) -> None:
        pass


def pull_checkpoint(
    request: PullRequest,
    *,
    access: HubAccess,
    fetched_at: str,
    progress: Progress | None = None,
    control: Control | None = None,
) -> PullResult:
    """Fetch what is missing of a checkpoint. Called again after any interruption, it goes on where it was.

    `fetched_at` is the ISO 8601 time for the manifest; `access` says where the hub is.

    Raises:
        DownloadError: not all of it could be had; what is complete stays and is not fetched again.
        ProfileError: the manifest of an earlier pull is broken.
        KeyboardInterrupt: after all threads have ended and their parts are journalled.
    """
    control = control or Control()
    checkpoint = request.checkpoint
    progress = progress or _Silent()
    wanted = _resolve(request, access, control, progress)
    order = Order(
        directory=store.target_directory(request.weights_root, checkpoint.repo, wanted.revision),
        repo=checkpoint.repo,
        hub=checkpoint.hub,
        revision=wanted.revision,
        checkpoint=checkpoint.id,
        roles=request.roles,
        files=wanted.files,
        max_workers=request.max_workers,
        places=request.places,
    )
    done = fill_directory(order, access=access, fetched_at=fetched_at, progress=progress, control=control)
    total_bytes = sum(file.size_bytes for file in done.files)
    return PullResult(
        checkpoint=checkpoint.id,
        repo=checkpoint.repo,
        revision=wanted.revision,
        directory=str(order.directory),
        model_path=first_main_path(done.files),
        files=done.files,
        total_bytes=total_bytes,
        fetched_bytes=done.fetched_bytes,
        kept_bytes=max(0, total_bytes - done.fetched_bytes),
        adopted=done.adopted,
        findings=(*wanted.findings, *done.findings),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What a request came down to: files at a commit."""

    revision: str
    files: tuple[FilePlan, ...]
    findings: tuple[Finding, ...]


def _resolve(request: PullRequest, access: HubAccess, control: Control, progress: Progress) -> _Wanted:
    """A commit that was listed before needs no second listing: commits do not change."""
    checkpoint, roles = request.checkpoint, request.roles
    if request.commit or access.offline:
        pulled = store.find_pulled(
            request.weights_root, checkpoint.repo, checkpoint.id, revision=request.commit, roles=roles
        )
        if pulled:
            return _Wanted(
                revision=pulled.manifest.revision,
                files=pulled.files,
                findings=() if request.commit else (_unresolved(pulled.manifest),),
            )
    if access.offline and (cached := _from_cache(request)) is not None:
        return cached

    def pause(reason: str, wait_seconds: float) -> None:
        progress.waiting("file list", reason, wait_seconds)
        control.wait(wait_seconds)

    listing = list_repository(checkpoint.repo, request.wanted_revision, access, policy=control.policy, pause=pause)
    files = select_files(checkpoint, listing.files, revision=listing.revision, roles=roles)
    findings = compare_with_catalogue(checkpoint, files, revision=listing.revision)
    return _Wanted(revision=listing.revision, files=files, findings=findings)


def _from_cache(request: PullRequest) -> _Wanted | None:
    """Offline, what the hub's own client has fetched may be all that is needed; None where it is not.

    Only GGUF: its file names say whether a set is whole, while a tokenizer that was never fetched would not be missed.
    """
    checkpoint, hub_cache = request.checkpoint, request.places.hub_cache
    is_plain = checkpoint.hub is Hub.HUGGINGFACE and checkpoint.format is CheckpointFormat.GGUF
    listing = cached_listing(hub_cache, checkpoint.repo, request.commit) if is_plain and hub_cache else None
    if listing is None:
        return None
    try:
        files = select_files(checkpoint, listing.files, revision=listing.revision, roles=request.roles)
    except DownloadError:
        # Not all of it was fetched. That the network is needed for the rest is what comes next.
        return None
    if not set(request.roles) & SIDE_ROLES <= {file.role for file in files}:
        return None
    finding = Finding(
        id="network.hub.from-cache",
        severity=Severity.INFO,
        summary=f"offline: {checkpoint.repo} at commit {listing.revision[:12]}, as the hub's cache has it",
        why="the repository may have a newer commit",
        fix="unset HF_HUB_OFFLINE and pull again",
    )
    differences = compare_with_catalogue(checkpoint, files, revision=listing.revision)
    return _Wanted(revision=listing.revision, files=files, findings=(finding, *differences))


def _unresolved(manifest: Manifest) -> Finding:
    return Finding(
        id="network.hub.offline",
        severity=Severity.INFO,
        summary=f"offline: {manifest.repo} stays at commit {manifest.revision[:12]}, pulled {manifest.fetched_at}",
        why="the repository may have a newer commit",
        fix="unset HF_HUB_OFFLINE and pull again",
    )
