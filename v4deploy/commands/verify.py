"""Check weights on the disk against their manifest, without the network."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from v4deploy.commands.result import Report, Result, Transfer
from v4deploy.commands.weights import pulled_directory
from v4deploy.commands.workspace import Workspace
from v4deploy.domain.errors import DownloadError
from v4deploy.domain.model import Checkpoint
from v4deploy.pull.verify import ProblemKind, VerifyReport, verify_directory


def verify(directory: Path, *, report: Report | None = None) -> Result[VerifyReport]:
    """Hash every file of a pulled directory; problems end with exit code 5.

    Raises:
        DownloadError: nothing was pulled there.
        ProfileError: its manifest is broken.
    """
    done = verify_directory(directory, max_workers=os.cpu_count() or 1, on_bytes=_totals(report))
    if done.is_right:
        return Result(kind="verify", data=done)
    bad = [problem for problem in done.problems if problem.kind is not ProblemKind.EXTRA]
    error = DownloadError(
        f"{len(bad)} of {done.files} files in {done.directory} are not what was published",
        hint="remove the files named above and run `v4deploy pull` again: it fetches only what is missing",
        details=tuple(f"{problem.path}: {problem.kind}: {problem.summary}" for problem in bad),
    )
    return Result(kind="verify", data=done, error=error)


def directory_of(workspace: Workspace, checkpoint: Checkpoint) -> Path:
    """Where a checkpoint was pulled to.

    Raises:
        DownloadError: it was not.
    """
    found = pulled_directory(workspace, checkpoint)
    if found is None:
        raise DownloadError(
            f"{checkpoint.repo} ({checkpoint.quant}) was not pulled to {workspace.weights_root}",
            hint=f"v4deploy pull {checkpoint.release} --quant {checkpoint.quant}",
        )
    return found


def _totals(report: Report | None) -> Callable[[str, int, int], None]:
    files: dict[str, tuple[int, int]] = {}

    def on_bytes(path: str, done_bytes: int, size_bytes: int) -> None:
        files[path] = (done_bytes, size_bytes)
        if report is not None:
            done, total = (sum(pair[number] for pair in list(files.values())) for number in (0, 1))
            report(Transfer(path=path, done_bytes=done, total_bytes=total))

    return on_bytes
