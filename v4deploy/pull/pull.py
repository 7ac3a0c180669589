"""One checkpoint onto the disk: resolve, choose, check the space, fetch, write down. What the command `pull` calls."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from v4deploy.domain.errors import DownloadError
from v4deploy.domain.finding import Finding, Severity
from v4deploy.domain.model import Checkpoint, Hub
from v4deploy.domain.units import format_gb
from v4deploy.pull import failures, store
from v4deploy.pull.access import HubAccess, file_url
from v4deploy.pull.download import Control, Fetched, Job, OneFileError, Progress, disk_error, fetch_file
from v4deploy.pull.hashing import StoppedError
from v4deploy.pull.hub import list_repository
from v4deploy.pull.manifest import MANIFEST_NAME, FilePlan, Manifest
from v4deploy.pull.request import SPARE_BYTES, PullRequest
from v4deploy.pull.selection import compare_with_catalogue, first_main_path, select_files
from v4deploy.pull.transport import Transport
from v4deploy.pull.workers import run_all


@dataclass(frozen=True, slots=True, kw_only=True)
class PullResult:
    """A checkpoint that is complete on disk, every byte hashed.

    Attributes:
        directory: holds the files under their repository paths.
        model_path: what an engine is pointed at, relative to `directory`: the first GGUF; None for formats that are
            opened by their directory.
        fetched_bytes: came over the network in this run.
        kept_bytes: were there already, or in a part.
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
    findings: tuple[Finding, ...] = ()


class _Silent:
    def advanced(self, path: str, done_bytes: int, size_bytes: int) -> None:
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
    if checkpoint.hub is not Hub.HUGGINGFACE:
        raise _other_hub(checkpoint)
    progress = progress or _Silent()
    wanted = _resolve(request, access, control, progress)
    pull = _Pull(request, wanted, access, control, progress)
    try:
        pull.directory.mkdir(parents=True, exist_ok=True)
        with store.locked(pull.directory, since=fetched_at):
            done = pull.run(fetched_at)
    except OSError as error:
        raise disk_error(error, pull.directory / MANIFEST_NAME) from error
    total_bytes = sum(file.size_bytes for file in done)
    return PullResult(
        checkpoint=checkpoint.id,
        repo=checkpoint.repo,
        revision=wanted.revision,
        directory=str(pull.directory),
        model_path=first_main_path(done),
        files=done,
        total_bytes=total_bytes,
        fetched_bytes=pull.fetched_bytes,
        kept_bytes=max(0, total_bytes - pull.fetched_bytes),
        findings=wanted.findings,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What a request came down to: files at a commit."""

    revision: str
    files: tuple[FilePlan, ...]
    findings: tuple[Finding, ...]


def _other_hub(checkpoint: Checkpoint) -> DownloadError:
    return DownloadError(
        f"{checkpoint.repo} is published on {checkpoint.hub.value}, from which v4deploy cannot download",
        hint=f"fetch it with `modelscope download --model {checkpoint.repo} --local_dir DIRECTORY`",
    )


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

    def pause(reason: str, wait_seconds: float) -> None:
        progress.waiting("file list", reason, wait_seconds)
        control.wait(wait_seconds)

    listing = list_repository(checkpoint.repo, request.wanted_revision, access, policy=control.policy, pause=pause)
    files = select_files(checkpoint, listing.files, revision=listing.revision, roles=roles)
    findings = compare_with_catalogue(checkpoint, files, revision=listing.revision)
    return _Wanted(revision=listing.revision, files=files, findings=findings)


def _unresolved(manifest: Manifest) -> Finding:
    return Finding(
        id="network.hub.offline",
        severity=Severity.INFO,
        summary=f"offline: {manifest.repo} stays at commit {manifest.revision[:12]}, pulled {manifest.fetched_at}",
        why="the repository may have a newer commit",
        fix="unset HF_HUB_OFFLINE and pull again",
    )


class _Pull:
    """A pull that holds its directory: the manifest grows as files finish, in this thread only."""

    def __init__(
        self, request: PullRequest, wanted: _Wanted, access: HubAccess, control: Control, progress: Progress
    ) -> None:
        self.directory = store.target_directory(request.weights_root, request.checkpoint.repo, wanted.revision)
        self.fetched_bytes = 0
        self._request = request
        self._wanted = wanted
        self._access = access
        self._control = control
        self._progress = progress
        self._transport = Transport(access)
        self._manifest = self._empty_manifest()
        self._errors: list[DownloadError] = []

    def run(self, fetched_at: str) -> tuple[FilePlan, ...]:
        """Bring all files in place; their entries."""
        # Read only now that the directory is ours: another pull may have added its files meanwhile.
        before = store.read_manifest(self.directory) or self._empty_manifest()
        self._manifest = dataclasses.replace(
            before, endpoint_host=self._access.host, fetched_at=fetched_at
        ).with_selection(self._request.checkpoint.id, self._request.roles, self._wanted.files)
        complete, incomplete = self._sorted_out()
        self._check_network_and_space(incomplete)
        store.write_manifest(self.directory, self._manifest)
        for file in complete:
            self._progress.advanced(file.path, file.size_bytes, file.size_bytes)
        run_all(
            self._fetch, incomplete, on_result=self._note, max_workers=self._request.max_workers, on_stop=self._stop
        )
        complete, incomplete = self._sorted_out()
        if self._errors or incomplete:
            raise self._failure(complete)
        return complete

    def _empty_manifest(self) -> Manifest:
        return Manifest(
            repo=self._request.checkpoint.repo,
            hub=self._request.checkpoint.hub,
            revision=self._wanted.revision,
            endpoint_host=self._access.host,
            fetched_at="",
            files=(),
            selections=(),
        )

    def _sorted_out(self) -> tuple[tuple[FilePlan, ...], tuple[FilePlan, ...]]:
        """The wanted files that are complete, and those that are not."""
        paths = {file.path for file in self._wanted.files}
        files = [file for file in self._manifest.files if file.path in paths]
        complete = tuple(file for file in files if store.is_untouched(self.directory, file))
        return complete, tuple(file for file in files if file not in complete)

    def _check_network_and_space(self, incomplete: Sequence[FilePlan]) -> None:
        needed = [file.size_bytes - store.kept_bytes(self.directory, file) for file in incomplete]
        if self._access.offline and any(needed):
            raise failures.offline(f"{sum(1 for size in needed if size)} of {len(incomplete)} files")
        free = store.free_bytes(self.directory)
        if free is None or sum(needed) + SPARE_BYTES <= free or not any(needed):
            return
        raise DownloadError(
            f"{self.directory} has {format_gb(free)} free; {format_gb(sum(needed))} are still to come, and "
            f"{format_gb(SPARE_BYTES)} have to stay free: {format_gb(sum(needed) + SPARE_BYTES - free)} are missing",
            hint="free space there, or set V4DEPLOY_WEIGHTS_DIR to a larger disk; nothing was fetched",
        )

    def _fetch(self, file: FilePlan) -> Fetched:
        job = Job(
            file=file,
            repo=self._manifest.repo,
            host=self._access.host,
            url=file_url(self._access, self._manifest.repo, self._manifest.revision, file.path),
            destination=self.directory / file.path,
        )
        return fetch_file(
            job,
            transport=self._transport,
            control=self._control,
            progress=self._progress,
        )

    def _note(self, file: FilePlan, future: Future[Fetched]) -> None:
        """Write down a finished file at once; go on after trouble with one file, end after trouble with all."""
        try:
            fetched = future.result()
        except StoppedError:
            return
        except DownloadError as error:
            self._errors.append(error)
            if not isinstance(error, OneFileError):
                self._stop()
            return
        self.fetched_bytes += fetched.fetched_bytes
        self._manifest = self._manifest.with_file(fetched.file)
        store.write_manifest(self.directory, self._manifest)
        self._progress.advanced(file.path, file.size_bytes, file.size_bytes)

    def _stop(self) -> None:
        self._control.stop.set()
        self._transport.abort()

    def _failure(self, complete: Sequence[FilePlan]) -> DownloadError:
        errors = self._errors or [DownloadError("the pull was stopped", hint=failures.GO_ON)]
        first, *others = errors
        complete_bytes = sum(file.size_bytes for file in complete)
        safe = (
            f"complete and checked: {len(complete)} of {len(self._wanted.files)} files, "
            f"{format_gb(complete_bytes)}, in {self.directory}"
        )
        details = (*first.details, *dict.fromkeys(error.message for error in others), safe)
        return DownloadError(first.message, hint=first.hint, details=details)
