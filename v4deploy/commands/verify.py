"""Check weights on the disk, without the network."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from v4deploy.commands.result import Report, Result, Transfer
from v4deploy.commands.weights import pulled_directory
from v4deploy.commands.workspace import Workspace
from v4deploy.domain.catalogue import resolve_quant
from v4deploy.domain.errors import DownloadError, InterruptedRunError, UsageError, V4DeployError
from v4deploy.domain.model import Checkpoint, FileRole
from v4deploy.pull.hashing import hashing_workers
from v4deploy.pull.proof.report import Basis, FileProblem, ProblemKind, VerifyReport
from v4deploy.pull.verify import verify_directory

# The path of a problem with all of a directory.
_ALL = "."


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyRequest:
    """What to check.

    Attributes:
        directory: with a manifest, of the hub's cache, of `hf download`, or with weight files from anywhere.
        expected: checkpoints of which it should be one; empty: any.
        quick: sizes and headers only.
        jobs: files to hash at once; None: one a core.
    """

    directory: Path
    expected: tuple[Checkpoint, ...] = ()
    quick: bool = False
    jobs: int | None = None


def verify(workspace: Workspace, request: VerifyRequest, *, report: Report | None = None) -> Result[VerifyReport]:
    """Hash every file; problems, and files that nobody vouches for, end with exit code 5.

    Raises:
        DownloadError: there are no weights.
        UsageError: there is no such directory, or it holds several cached snapshots.
        ProfileError: its manifest is broken.
        InterruptedRunError: Ctrl-C.
    """
    catalogue = [checkpoint for model in workspace.catalogue.models for checkpoint in model.checkpoints]
    totals = _Totals(report)
    try:
        done = verify_directory(
            request.directory,
            max_workers=request.jobs or hashing_workers(),
            quick=request.quick,
            catalogue=request.expected or catalogue,
            architectures={model.architecture.gguf_arch for model in workspace.catalogue.models},
            on_begin=totals.begin,
            on_bytes=totals.on_bytes,
        )
    except KeyboardInterrupt:
        raise InterruptedRunError("interrupted; verifying changes nothing", hint="run the same command again") from None
    pulling = _pulling(done, request.expected or catalogue)
    return judged(_compared(done, request.expected), quick=request.quick, pulling=pulling)


def judged(done: VerifyReport, *, quick: bool, pulling: str = "v4deploy pull MODEL") -> Result[VerifyReport]:
    """The report with the error that it amounts to. `pulling`: the command that fetches these weights."""
    return Result(kind="verify", data=done, error=_error(done, quick=quick, pulling=pulling))


def _pulling(done: VerifyReport, catalogue: Sequence[Checkpoint]) -> str:
    """The command, with names in it where the files' names leave no doubt which checkpoint they are of."""
    names = {PurePosixPath(file.path).name for file in done.files}
    found = [
        checkpoint
        for checkpoint in catalogue
        if done.repo in {None, checkpoint.repo}
        and any(PurePosixPath(file.path).name in names for file in checkpoint.files if file.role is FileRole.MAIN)
    ]
    match found:
        case [one]:
            words = f"{one.release} --quant {shlex.quote(one.quant)} --repo {one.repo}"
        case _:
            words = "MODEL --quant NAME"
    return f"v4deploy pull {words} --from {shlex.quote(done.directory)}"


def problem_lines(done: VerifyReport) -> tuple[str, ...]:
    """What is wrong, a line a file."""
    return tuple(f"{problem.path}: {problem.kind}: {problem.summary}" for problem in done.wrong)


def _error(done: VerifyReport, *, quick: bool, pulling: str) -> V4DeployError | None:
    if done.wrong:
        bad = {problem.path for problem in done.wrong} - {_ALL}
        if not bad:
            return DownloadError(
                f"{done.directory} {done.wrong[0].summary}",
                hint=f"`v4deploy verify {shlex.quote(done.directory)}` checks it as what it is",
            )
        return DownloadError(
            f"{len(bad)} of {len(done.files)} files in {done.directory} are not right",
            hint=_way_out(done, pulling),
        )
    if done.not_proven and not quick:
        return DownloadError(
            f"{len(done.not_proven)} of {len(done.files)} files in {done.directory} are not proven: their headers are "
            "right, but nothing here knows their hashes",
            hint=f"`{pulling}` proves them against the hub and adopts them; `--quick` is content with headers",
        )
    return None


def _way_out(done: VerifyReport, pulling: str) -> str:
    match done.basis:
        case Basis.MANIFEST:
            return f"`v4deploy verify {shlex.quote(done.directory)} --repair` fetches the bad files alone"
        case Basis.HUB_CACHE:
            return "`hf cache rm` the repository and download it again, or `v4deploy pull`: it adopts what is right"
        case Basis.HUB_DOWNLOAD | Basis.CATALOGUE | Basis.NONE:
            return f"`{pulling}` adopts what is right and fetches the rest"


def _compared(done: VerifyReport, expected: tuple[Checkpoint, ...]) -> VerifyReport:
    """With a problem more when the directory holds another repository than the one that was named."""
    repos = sorted({checkpoint.repo for checkpoint in expected})
    if not repos or done.repo is None or done.repo.lower() in {repo.lower() for repo in repos}:
        return done
    problem = FileProblem(
        path=_ALL, kind=ProblemKind.WRONG_REPOSITORY, summary=f"holds {done.repo}, not {' or '.join(repos)}"
    )
    return replace(done, problems=(problem, *done.problems))


def directory_of(workspace: Workspace, *, model: str, quant: str | None) -> Path:
    """Where a checkpoint was pulled to: the one of that quant, or without a quant the only one of the release.

    Raises:
        DownloadError: none was pulled.
        UsageError: several were, and no quant says which.
    """
    found, release = workspace.catalogue.model_and_release(model)
    wanted = resolve_quant(found, release, quant)[0] if quant is not None else None
    pulled = [
        (checkpoint, directory)
        for checkpoint in checkpoints_of(workspace, model=model, quant=quant)
        if (directory := pulled_directory(workspace, checkpoint)) is not None
    ]
    directories = {directory for _, directory in pulled}
    if len(directories) == 1:
        return directories.pop()
    if not directories:
        raise DownloadError(
            f"nothing of {release.id}{f' ({wanted})' if wanted else ''} was pulled to {workspace.weights_root}",
            hint=f"v4deploy pull {release.id}{f' --quant {wanted}' if wanted else ''}",
        )
    names = ", ".join(f"`--quant {checkpoint.quant}` ({checkpoint.repo})" for checkpoint, _ in pulled)
    raise UsageError(f"several checkpoints of {release.id} were pulled", hint=f"choose one: {names}, or `--directory`")


def checkpoints_of(workspace: Workspace, *, model: str, quant: str | None) -> tuple[Checkpoint, ...]:
    """What a model, or a repository, and a quant can mean.

    Raises:
        UsageError: an unknown name.
    """
    found, release = workspace.catalogue.model_and_release(model)
    wanted = resolve_quant(found, release, quant)[0] if quant is not None else None
    repo = model.strip().lower() if "/" in model else None
    return tuple(
        checkpoint
        for checkpoint in found.checkpoints
        if checkpoint.release == release.id
        and wanted in {None, checkpoint.quant}
        and repo in {None, checkpoint.repo.lower()}
    )


class _Totals:
    """Adds the files' progress up; the threads that hash call at once."""

    def __init__(self, report: Report | None) -> None:
        self._report = report
        self._total_bytes = 0
        self._files: dict[str, int] = {}
        self._lock = threading.Lock()

    def begin(self, total_bytes: int) -> None:
        self._total_bytes = total_bytes

    def on_bytes(self, path: str, done_bytes: int, _size_bytes: int) -> None:
        if self._report is None:
            return
        with self._lock:
            self._files[path] = done_bytes
            total = sum(self._files.values())
            self._report(Transfer(path=path, done_bytes=total, total_bytes=self._total_bytes))
