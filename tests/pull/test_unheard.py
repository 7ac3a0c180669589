"""Talk that finds no taker, as with `2> FILE` on a full disk or `2>&1 | head`, stops no work and judges no file."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.pull.conftest import Desk
from tests.support.pull_builders import checkpoint
from v4deploy.commands import bundle
from v4deploy.commands.pull import PullChoice, pull
from v4deploy.commands.refresh import refresh
from v4deploy.commands.repair import repair
from v4deploy.commands.result import Step, Transfer
from v4deploy.commands.verify import VerifyRequest
from v4deploy.commands.workspace import Workspace, open_workspace
from v4deploy.pull.verify import verify_directory


def deaf(_event: Step | Transfer) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def workspace(desk: Desk, tmp_path: Path) -> Workspace:
    environ = {"HOME": str(tmp_path), "HF_ENDPOINT": desk.hub.endpoint, "V4DEPLOY_WEIGHTS_DIR": str(desk.weights)}
    return open_workspace(environ)


def test_weights_are_fetched_bundled_and_installed(workspace: Workspace, desk: Desk, tmp_path: Path) -> None:
    choice = PullChoice(checkpoint=checkpoint())
    pulled = pull(workspace, choice, report=deaf).data.done
    assert pulled is not None
    desk.assert_right(pulled)
    output = tmp_path / "bundle"
    request = bundle.BundleRequest(choice=choice, output=output, part_size_bytes=20_000, with_wheels=False)
    assert bundle.create(workspace, request, report=deaf).data.is_written
    away = open_workspace({"HOME": str(tmp_path), "V4DEPLOY_WEIGHTS_DIR": str(tmp_path / "away")})
    installed = bundle.install(away, (output,), output=tmp_path / "launch", report=deaf)
    assert installed.data.installed.installed_bytes == pulled.total_bytes


def test_no_file_is_called_unreadable_for_it(desk: Desk) -> None:
    directory = Path(desk.pull().directory)

    def unheard(_path: str, _done_bytes: int, _size_bytes: int) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    report = verify_directory(directory, max_workers=2, on_bytes=unheard)
    assert report.problems == ()
    assert report.checked_files == len(report.files)


def test_a_refresh_lists_all_the_same(workspace: Workspace) -> None:
    done = refresh(workspace, name="v4-flash-base", today="2026-11-28", report=deaf, dry_run=True)
    assert [change.problem is None for change in done.data.repositories] == [False]


def test_a_repair_repairs(workspace: Workspace, desk: Desk) -> None:
    directory = Path(desk.pull().directory)
    path, right = next(iter(desk.wanted.items()))
    (directory / path).write_bytes(bytes(len(right)))
    done = repair(workspace, VerifyRequest(directory=directory, expected=(checkpoint(),)), report=deaf)
    assert done.error is None
    assert (directory / path).read_bytes() == right
