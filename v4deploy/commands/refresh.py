"""Read the live listings of the catalogue's repositories into a profile beside the user's own."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from v4deploy.commands.catalogue_layers import Layers, read_layers, write_refreshed
from v4deploy.commands.result import Report, Result, Step, StepState
from v4deploy.commands.workspace import Workspace
from v4deploy.domain.counting import counted
from v4deploy.domain.errors import DownloadError
from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.model import Checkpoint, Hub, Model
from v4deploy.domain.source import Source
from v4deploy.pull.access import HubAccess, access_from
from v4deploy.pull.failures import offline
from v4deploy.pull.hubs import list_repository
from v4deploy.pull.listing import Listing
from v4deploy.pull.relist import UnknownSet, as_checkpoint, problem_of, relisted, unknown_sets
from v4deploy.pull.retry import RetryPolicy

# Listings are small; more at once would only meet the hub's limit of requests.
_WORKERS = 6


class ChangeKind(StrEnum):
    """OWN: the user's own profile defines it, so the listing is shown and not written. GONE: not listed any more."""

    NEW = "new"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    OWN = "own"
    GONE = "gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One field that differs; None is what was, or is, not known."""

    field: str
    before: str | int | None
    after: str | int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointChange:
    """What a listing says of one checkpoint."""

    checkpoint: str
    quant: str
    kind: ChangeKind
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryChange:
    """What became of one repository; `revision` None where it could not be listed, which `problem` explains."""

    hub: Hub
    repo: str
    revision: str | None
    problem: str | None
    checkpoints: tuple[CheckpointChange, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshReport:
    """A refresh. `files` were written; in a dry run, and where nothing changed, there are none."""

    as_of: str
    directory: str
    files: tuple[str, ...]
    repositories: tuple[RepositoryChange, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """One repository with the checkpoints that the catalogue has in it."""

    hub: Hub
    repo: str
    checkpoints: tuple[Checkpoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    change: RepositoryChange
    checkpoints: tuple[Checkpoint, ...] = ()
    findings: tuple[Finding, ...] = ()


def refresh(
    workspace: Workspace, *, name: str | None, today: str, report: Report, dry_run: bool = False
) -> Result[RefreshReport]:
    """List every repository of the catalogue (or of one model) and write down what is new.

    `today` is an ISO 8601 date. A repository that cannot be listed is a finding and hides no other.

    Raises:
        UsageError: an unknown model, or a variable that is no address.
        DownloadError: the network is forbidden.
        ProfileError: a profile of the user's is broken.
    """
    accesses = {hub: access_from(workspace.environ, hub) for hub in Hub}
    if any(access.offline for access in accesses.values()):
        raise offline("the file list of each repository")
    layers = read_layers(workspace.environ, workspace.catalogue)
    targets = _targets(workspace, name)
    report(
        Step(
            name="refresh",
            state=StepState.STARTED,
            message=f"listing {counted(len(targets), 'repository', 'repositories')}",
        )
    )
    listings, errors = _list_all(targets, accesses, report)
    outcomes = [
        _outcome(target, listings[target.repo, target.hub], accesses[target.hub], layers, today)
        if (target.repo, target.hub) in listings
        else _unlisted(target, errors[target.repo, target.hub])
        for target in targets
    ]
    changed = [checkpoint for outcome in outcomes for checkpoint in outcome.checkpoints]
    files = write_refreshed(workspace.environ, layers, changed, today=today) if changed and not dry_run else ()
    data = RefreshReport(
        as_of=today,
        directory=str(layers.refreshed),
        files=tuple(map(str, files)),
        repositories=tuple(outcome.change for outcome in outcomes),
        findings=tuple(finding for outcome in outcomes for finding in outcome.findings),
    )
    error = None if listings or not targets else next(iter(errors.values()))
    return Result(kind="models-refresh", data=data, findings=data.findings, error=error)


def _targets(workspace: Workspace, name: str | None) -> tuple[_Target, ...]:
    """The repositories to list, in the catalogue's order."""
    models = workspace.catalogue.models
    if name is not None:
        models = (workspace.catalogue.model_and_release(name)[0],)
    grouped: dict[tuple[Hub, str], list[Checkpoint]] = {}
    for model in models:
        for checkpoint in model.checkpoints:
            grouped.setdefault((checkpoint.hub, checkpoint.repo), []).append(checkpoint)
    return tuple(
        _Target(hub=hub, repo=repo, checkpoints=tuple(known))
        for (hub, repo), known in grouped.items()
        if name is None or _is_meant(name.strip().lower(), models[0], known)
    )


def _is_meant(name: str, model: Model, known: Sequence[Checkpoint]) -> bool:
    """Whether a repository belongs to what was named: the whole model, one release, or this very repository."""
    if name in {model.id, *(alias.lower() for alias in model.aliases)}:
        return True
    return any(name in {checkpoint.release, checkpoint.repo.lower()} for checkpoint in known)


_Key = tuple[str, Hub]


def _list_all(
    targets: Iterable[_Target], accesses: Mapping[Hub, HubAccess], report: Report
) -> tuple[dict[_Key, Listing], dict[_Key, DownloadError]]:
    """Ask for all of them, a few at once. After Ctrl-C nobody waits for a hub that hangs: the threads are daemons."""
    todo: queue.SimpleQueue[_Target] = queue.SimpleQueue()
    answers: queue.SimpleQueue[tuple[_Target, Listing | Exception]] = queue.SimpleQueue()
    for target in targets:
        todo.put(target)
    count = todo.qsize()

    def work() -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                target = todo.get_nowait()
                answers.put((target, _listing_or_error(target, accesses[target.hub])))

    for _ in range(min(_WORKERS, count)):
        threading.Thread(target=work, daemon=True).start()
    listings: dict[_Key, Listing] = {}
    errors: dict[_Key, DownloadError] = {}
    for number in range(1, count + 1):
        target, answer = answers.get()
        if isinstance(answer, Listing):
            listings[target.repo, target.hub] = answer
        elif isinstance(answer, DownloadError):
            errors[target.repo, target.hub] = answer
        else:
            raise answer
        report(Step(name="refresh", state=StepState.NOTE, message=f"{number} of {count}: {target.repo}"))
    return listings, errors


def _listing_or_error(target: _Target, access: HubAccess) -> Listing | Exception:
    """The answer, or what to raise where somebody can hear it."""
    try:
        return list_repository(
            target.repo,
            None,
            access,
            policy=RetryPolicy(),
            pause=lambda _reason, wait_seconds: time.sleep(wait_seconds),
        )
    except Exception as error:  # noqa: BLE001 - raised again by the thread that waits for the answers
        return error


def _unlisted(target: _Target, error: DownloadError) -> _Outcome:
    problem = problem_of(error)
    finding = Finding(
        id="network.hub.not-listed",
        severity=Severity.WARN,
        summary=f"{target.repo} could not be listed: {error.message}",
        evidence=(Evidence(source=target.hub.value),),
        why="what the catalogue says of it stays as it was",
        fix=error.hint,
    )
    change = RepositoryChange(hub=target.hub, repo=target.repo, revision=None, problem=problem, checkpoints=())
    return _Outcome(change=change, findings=(finding,))


def _outcome(target: _Target, listing: Listing, access: HubAccess, layers: Layers, today: str) -> _Outcome:
    where = f"listing of {access.host}/{target.repo} at {listing.revision}"
    source = Source(source=where, as_of=today, confidence="A")
    changes: list[CheckpointChange] = []
    found: list[Checkpoint] = []
    findings: list[Finding] = []
    for known in target.checkpoints:
        try:
            now = relisted(known, listing, source)
        except DownloadError as error:
            changes.append(CheckpointChange(checkpoint=known.id, quant=known.quant, kind=ChangeKind.GONE))
            findings.append(_gone(known, error, where))
            continue
        change = _compared(known, now, own=layers.is_own(known))
        changes.append(change)
        found.append(now)
    new, unclear = _new_checkpoints(target, found, listing, source, layers)
    changes += [_compared(None, checkpoint, own=checkpoint.model not in layers.shipped_models) for checkpoint in new]
    findings += [_unclear(target, one, where) for one in unclear]
    written = {change.checkpoint for change in changes if change.kind in {ChangeKind.NEW, ChangeKind.CHANGED}}
    return _Outcome(
        change=RepositoryChange(
            hub=target.hub, repo=target.repo, revision=listing.revision, problem=None, checkpoints=tuple(changes)
        ),
        checkpoints=tuple(checkpoint for checkpoint in (*found, *new) if checkpoint.id in written),
        findings=tuple(findings),
    )


def _new_checkpoints(
    target: _Target, found: list[Checkpoint], listing: Listing, source: Source, layers: Layers
) -> tuple[list[Checkpoint], list[UnknownSet]]:
    """Sets that the catalogue does not know, and those of them whose release nothing tells."""
    # Names are learnt from what was found; what vanished still says which release the repository is of.
    sets = unknown_sets(found, listing)
    releases = {checkpoint.release for checkpoint in target.checkpoints}
    if len(releases) != 1:
        return [], list(sets)
    sibling = (found or list(target.checkpoints))[0]
    made: list[Checkpoint] = []
    for one in sets:
        identity = layers.free_id(sibling, one.name, taken=[checkpoint.id for checkpoint in made])
        made.append(as_checkpoint(one, sibling, listing, source, identity))
    return made, []


def _compared(before: Checkpoint | None, after: Checkpoint, *, own: bool) -> CheckpointChange:
    changes = tuple(
        Change(field=name, before=old, after=new) for name, (old, new) in _fields(before, after).items() if old != new
    )
    if own:
        kind = ChangeKind.OWN
    elif before is None:
        kind = ChangeKind.NEW
    else:
        kind = ChangeKind.CHANGED if changes else ChangeKind.UNCHANGED
    return CheckpointChange(checkpoint=after.id, quant=after.quant, kind=kind, changes=changes)


def _fields(before: Checkpoint | None, after: Checkpoint) -> dict[str, tuple[str | int | None, str | int | None]]:
    """What a refresh may change, in the words of the report."""
    old_files = {file.path: file for file in (*before.files, *before.side_files)} if before else {}
    fields: dict[str, tuple[str | int | None, str | int | None]] = {
        "revision": (before.revision if before else None, after.revision),
        "size_bytes": (before.size_bytes if before else None, after.size_bytes),
        "shards": (before.shards if before else None, after.shards),
    }
    for file in (*after.files, *after.side_files):
        old = old_files.pop(file.path, None)
        # git's own hash is not kept, so a small file has none on either side.
        if old is not None and (old.size_bytes, old.sha256) != (file.size_bytes, file.sha256):
            fields[f"{file.path} size_bytes"] = (old.size_bytes, file.size_bytes)
            fields[f"{file.path} sha256"] = (old.sha256, file.sha256)
        elif old is None and before is not None:
            fields[file.path] = (None, file.size_bytes)
    # A pattern stood for the names that are known now.
    fields |= {path: (path, None) for path in old_files if not set(path) & set("*?[")}
    return fields


def _gone(checkpoint: Checkpoint, error: DownloadError, where: str) -> Finding:
    return Finding(
        id="network.hub.quant-gone",
        severity=Severity.WARN,
        summary=f"{checkpoint.id}: {error.message}",
        evidence=(Evidence(source=where, value="; ".join(error.details) or None),),
        why="a pull of it at this commit would fail; the catalogue's entry stays as it was",
        fix=error.hint,
    )


def _unclear(target: _Target, found: UnknownSet, where: str) -> Finding:
    return Finding(
        id="network.hub.unknown-weights",
        severity=Severity.INFO,
        summary=f"{target.repo} has weights that the catalogue does not know: {found.name}",
        evidence=(Evidence(source=where, value=", ".join(file.path for file in found.files)),),
        why="the repository holds several releases, and nothing says of which these are, so they were not written down",
        fix="add them to your own profiles/models/ with the release that they belong to",
    )
