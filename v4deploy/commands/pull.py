"""Fetch the weights that a plan, or a name, asks for."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from v4deploy.commands.result import Report, Result, Step, StepState, Transfer
from v4deploy.commands.weights import roles_of
from v4deploy.commands.workspace import Workspace
from v4deploy.domain.catalogue import resolve_quant
from v4deploy.domain.errors import InterruptedRunError, UsageError
from v4deploy.domain.model import Checkpoint, FileRole, QuantAlias, Runnable
from v4deploy.domain.plan import Plan
from v4deploy.pull.access import access_from, hub_cache, modelscope_caches
from v4deploy.pull.adopt.places import Places
from v4deploy.pull.pull import PullResult, pull_checkpoint
from v4deploy.pull.request import PullPreview, PullRequest, preview_pull
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
        raise UsageError(
            f"no repository of {release.id} in the catalogue carries this", hint=f"see `v4deploy models {release.id}`"
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
) -> Result[PullReport]:
    """Fetch a checkpoint, or (dry run) say from the catalogue alone what would be fetched.

    What earlier pulls, the hub's own cache or the directories of `adopt_from` hold is taken over instead of fetched.

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
    )
    preview = preview_pull(request)
    if dry_run:
        return Result(
            kind="pull", data=PullReport(alias=choice.alias, others=choice.others, preview=preview, done=None)
        )
    try:
        done = pull_checkpoint(
            request,
            access=access_from(workspace.environ, choice.checkpoint.hub),
            fetched_at=datetime.now(UTC).isoformat(timespec="seconds"),
            progress=Totals(report, preview.total_bytes),
        )
    except KeyboardInterrupt:
        raise InterruptedRunError(
            f"interrupted; what has arrived in {preview.directory} is kept",
            hint="run the same command again: it goes on from there",
        ) from None
    return Result(
        kind="pull",
        data=PullReport(alias=choice.alias, others=choice.others, preview=preview, done=done),
        findings=done.findings,
    )


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
    """Adds the files' progress up; the downloader calls from several threads."""

    def __init__(self, report: Report, total_bytes: int | None) -> None:
        self._report = report
        self._expected_bytes = total_bytes or 0
        self._files: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def advanced(self, path: str, done_bytes: int, size_bytes: int) -> None:
        with self._lock:
            self._files[path] = (done_bytes, size_bytes)
            done = sum(pair[0] for pair in self._files.values())
            total = max(self._expected_bytes, sum(pair[1] for pair in self._files.values()))
            self._report(Transfer(path=path, done_bytes=done, total_bytes=total))

    def checking(self, path: str, done_bytes: int, size_bytes: int) -> None:
        pass

    def waiting(self, path: str, reason: str, wait_seconds: float) -> None:
        with self._lock:
            message = f"{path}: {reason}; trying again in {wait_seconds:.0f} s"
            self._report(Step(name="pull", state=StepState.NOTE, message=message))
