"""Fetch the weights that a plan, or a name, asks for."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from v4deploy.commands.result import Report, Result, Step, StepState, Transfer
from v4deploy.commands.weights import roles_of
from v4deploy.commands.workspace import Workspace
from v4deploy.domain.catalogue import resolve_quant
from v4deploy.domain.errors import InterruptedRunError, UsageError
from v4deploy.domain.model import Checkpoint, FileRole, QuantAlias, Runnable
from v4deploy.domain.plan import Plan
from v4deploy.domain.units import format_gb
from v4deploy.pull.access import access_from, hub_cache, modelscope_caches
from v4deploy.pull.adopt.places import Places
from v4deploy.pull.download import Control
from v4deploy.pull.pull import PullResult, pull_checkpoint
from v4deploy.pull.rate import Throttle
from v4deploy.pull.request import CONNECTIONS, PullPreview, PullRequest, preview_pull, with_adoptable
from v4deploy.pull.selection import DEFAULT_ROLES


@dataclass(frozen=True, slots=True, kw_only=True)
class PullChoice:
    """What to pull: a checkpoint, and how its name was understood.

    `others` are repositories of the same release that carry the same quant; `repo` chooses one of them.
    """

    checkpoint: Checkpoint
    alias: QuantAlias | None = None
    others: tuple[str, ...] = ()
    roles: tuple[FileRole, ...] = DEFAULT_ROLES


@dataclass(frozen=True, slots=True, kw_only=True)
class PullReport:
    """A pull, or (`done` None) what it would do. `others`: repositories that offer the same quant."""

    alias: QuantAlias | None
    others: tuple[str, ...]
    preview: PullPreview
    done: PullResult | None


def choose_checkpoint(workspace: Workspace, *, model: str, quant: str | None, repo: str | None = None) -> PullChoice:
    """The checkpoint that a model and a quant name; without a quant the release's official weights.

    Raises:
        UsageError: an unknown name, or a quant that nothing carries for this release.
    """
    found, release = workspace.catalogue.model_and_release(model)
    candidates = [checkpoint for checkpoint in found.checkpoints if checkpoint.release == release.id]
    if repo is not None:
        candidates = [checkpoint for checkpoint in candidates if checkpoint.repo.lower() == repo.lower()]
    elif "/" in model:
        candidates = [checkpoint for checkpoint in candidates if checkpoint.repo.lower() == model.strip().lower()]
    alias = None
    if quant is None:
        candidates.sort(key=lambda checkpoint: not checkpoint.official)
    else:
        name, alias = resolve_quant(found, release, quant)
        candidates = [checkpoint for checkpoint in candidates if checkpoint.quant == name]
        # Engines that v4deploy drives come before forks; among equals the catalogue's order stands.
        candidates.sort(key=lambda checkpoint: checkpoint.runnable is not Runnable.DRIVEN)
    if not candidates:
        what = f"no repository {repo}" if repo is not None else "no repository"
        carries = f" that carries `{quant}`" if quant is not None else ""
        raise UsageError(
            f"{release.id} has {what}{carries} in the catalogue", hint=f"see `v4deploy models {release.id}`"
        )
    chosen, *rest = candidates
    others = tuple(checkpoint.repo for checkpoint in rest if checkpoint.quant == chosen.quant)
    return PullChoice(checkpoint=chosen, alias=alias, others=others)


def choice_of(plan: Plan) -> PullChoice:
    """What a plan chose."""
    return PullChoice(checkpoint=plan.chosen.checkpoint, alias=plan.alias, roles=roles_of(plan))


def pull(  # noqa: PLR0913 - one argument an option
    workspace: Workspace,
    choice: PullChoice,
    *,
    report: Report,
    revision: str | None = None,
    dry_run: bool = False,
    adopt_from: tuple[Path, ...] = (),
    limit_rate: int | None = None,
    connections: int = CONNECTIONS,
) -> Result[PullReport]:
    """Fetch a checkpoint, or (dry run) say from the catalogue alone what would be fetched.

    What earlier pulls, the hub's own cache or the directories of `adopt_from` hold is taken over instead of fetched.
    `limit_rate`: bytes a second over all connections; None sets no limit.

    Raises:
        UsageError: one of `adopt_from` is not a directory.
        DownloadError: not all of it could be had; what is complete stays.
        InterruptedRunError: Ctrl-C; the next pull goes on from there.
    """
    request = PullRequest(
        checkpoint=choice.checkpoint,
        weights_root=workspace.weights_root,
        revision=revision,
        roles=choice.roles,
        places=places_of(workspace, choice.checkpoint.repo, adopt_from),
        max_workers=connections,
    )
    preview = preview_pull(request)
    if dry_run:
        preview = with_adoptable(preview, request.places)
        return Result(
            kind="pull", data=PullReport(alias=choice.alias, others=choice.others, preview=preview, done=None)
        )
    done = _pulled(workspace, request, preview, report, limit_rate)
    return Result(
        kind="pull",
        data=PullReport(alias=choice.alias, others=choice.others, preview=preview, done=done),
        findings=done.findings,
    )


def _pulled(
    workspace: Workspace, request: PullRequest, preview: PullPreview, report: Report, limit_rate: int | None
) -> PullResult:
    totals = Totals(report, preview.total_bytes)
    try:
        return pull_checkpoint(
            request,
            access=access_from(workspace.environ, request.checkpoint.hub),
            fetched_at=datetime.now(UTC).isoformat(timespec="seconds"),
            progress=totals,
            control=Control(throttle=Throttle(limit_rate, time.monotonic) if limit_rate else None),
        )
    except KeyboardInterrupt:
        so_far = f"{format_gb(totals.done_bytes)} of {format_gb(totals.total_bytes)}"
        raise InterruptedRunError(
            f"interrupted; {so_far} have arrived in {preview.directory} and are kept",
            hint="run the same command again: it goes on from there",
        ) from None


def places_of(workspace: Workspace, repo: str, given: tuple[Path, ...] = ()) -> Places:
    """Where weights of a repository may lie on this machine already.

    Raises:
        UsageError: a directory that was named is not there.
    """
    for directory in given:
        if not directory.is_dir():
            raise UsageError(f"`--from {directory}` is not a directory", hint="name one that holds weight files")
    return Places(
        weights_root=workspace.weights_root,
        hub_cache=hub_cache(workspace.environ),
        repository_caches=modelscope_caches(workspace.environ, repo),
        given=given,
    )


class Totals:
    """Adds the files' progress up; the downloader calls from several threads.

    Attributes:
        done_bytes, total_bytes: over all files that were heard of.
    """

    def __init__(self, report: Report, total_bytes: int | None) -> None:
        self._report = report
        self._expected_bytes = total_bytes or 0
        self._files: dict[str, tuple[int, int]] = {}
        self._sizes_bytes = 0
        self._lock = threading.Lock()
        self.done_bytes = 0

    @property
    def total_bytes(self) -> int:
        return max(self._expected_bytes, self._sizes_bytes)

    def advanced(self, path: str, done_bytes: int, size_bytes: int) -> None:
        with self._lock:
            self._count(path, done_bytes, size_bytes)
            self._report(self._event(path))

    def checking(self, path: str, done_bytes: int, size_bytes: int) -> None:
        with self._lock:
            self._count(path, size_bytes, size_bytes)
            self._report(replace(self._event(path), file_checked_bytes=done_bytes))

    def finished(self, path: str, size_bytes: int) -> None:
        with self._lock:
            self._count(path, size_bytes, size_bytes)
            self._report(replace(self._event(path), is_file_finished=True))

    def waiting(self, path: str, reason: str, wait_seconds: float) -> None:
        with self._lock:
            again = f"; trying again in {wait_seconds:.0f} s" if wait_seconds else ""
            self._report(Step(name="pull", state=StepState.NOTE, message=f"{path}: {reason}{again}"))

    def _count(self, path: str, done_bytes: int, size_bytes: int) -> None:
        before, size_before = self._files.get(path, (0, 0))
        self._files[path] = (done_bytes, size_bytes)
        self.done_bytes += done_bytes - before
        self._sizes_bytes += size_bytes - size_before

    def _event(self, path: str) -> Transfer:
        done_bytes, size_bytes = self._files[path]
        return Transfer(
            path=path,
            done_bytes=self.done_bytes,
            total_bytes=self.total_bytes,
            file_done_bytes=done_bytes,
            file_size_bytes=size_bytes,
        )
