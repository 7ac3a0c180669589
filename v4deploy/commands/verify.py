"""Check weights on the disk against their manifest, without the network."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from v4deploy.commands.result import Report, Result, Transfer
from v4deploy.commands.weights import pulled_directory
from v4deploy.commands.workspace import Workspace
from v4deploy.domain.catalogue import resolve_quant
from v4deploy.domain.errors import DownloadError, UsageError
from v4deploy.pull import store
from v4deploy.pull.verify import ProblemKind, VerifyReport, verify_directory


def verify(directory: Path, *, report: Report | None = None) -> Result[VerifyReport]:
    """Hash every file of a pulled directory; problems end with exit code 5.

    Raises:
        DownloadError: nothing was pulled there.
        ProfileError: its manifest is broken.
    """
    manifest = store.read_manifest(directory)
    total_bytes = sum(file.size_bytes for file in manifest.files) if manifest else 0
    done = verify_directory(directory, max_workers=os.cpu_count() or 1, on_bytes=_totals(report, total_bytes))
    if done.is_right:
        return Result(kind="verify", data=done)
    bad = [problem for problem in done.problems if problem.kind is not ProblemKind.EXTRA]
    error = DownloadError(
        f"{len(bad)} of {done.files} files in {done.directory} are not what was published",
        hint="remove the files named above and run `v4deploy pull` again: it fetches only what is missing",
        details=tuple(f"{problem.path}: {problem.kind}: {problem.summary}" for problem in bad),
    )
    return Result(kind="verify", data=done, error=error)


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
        for checkpoint in found.checkpoints
        if checkpoint.release == release.id
        and wanted in {None, checkpoint.quant}
        and (directory := pulled_directory(workspace, checkpoint)) is not None
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


def _totals(report: Report | None, total_bytes: int) -> Callable[[str, int, int], None]:
    files: dict[str, int] = {}

    def on_bytes(path: str, done_bytes: int, _size_bytes: int) -> None:
        files[path] = done_bytes
        if report is not None:
            report(Transfer(path=path, done_bytes=sum(list(files.values())), total_bytes=total_bytes))

    return on_bytes
