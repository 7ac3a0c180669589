"""Renders at once into one directory: each waits for the other, and what is there at the end is of one of them."""

from __future__ import annotations

import multiprocessing
import threading
from pathlib import Path

import pytest

from tests.render.test_history import contents, rendered
from v4deploy.domain.errors import UsageError
from v4deploy.render.agreement import file_mismatches
from v4deploy.render.exclusive import alone_in
from v4deploy.render.history import undo
from v4deploy.render.lock import read_lock
from v4deploy.render.write import write

PROCESSES = 6


def render_often(directory: Path, text: str) -> None:
    for _ in range(5):
        write(rendered(a=f"{text}\n", b=f"{text}\n"), directory)


def test_renders_at_once_never_mix(tmp_path: Path) -> None:
    spawning = multiprocessing.get_context("spawn")
    workers = [spawning.Process(target=render_often, args=(tmp_path, str(number))) for number in range(PROCESSES)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * PROCESSES
    lock = read_lock(tmp_path)
    assert lock is not None
    assert file_mismatches(lock, tmp_path) == ()
    assert (tmp_path / "a").read_text() == (tmp_path / "b").read_text()


def test_undo_waits_for_a_render(tmp_path: Path) -> None:
    write(rendered(a="1\n"), tmp_path)
    waiting = threading.Thread(target=undo, args=(tmp_path,))
    with alone_in(tmp_path):
        waiting.start()
        assert "a" in contents(tmp_path)
    waiting.join()
    assert list(tmp_path.iterdir()) == []


def test_who_waits_too_long_is_told(tmp_path: Path) -> None:
    with (
        alone_in(tmp_path),
        pytest.raises(UsageError, match="another render has been writing"),
        alone_in(tmp_path, patience_seconds=0.0),
    ):
        pass


def test_nothing_of_the_lock_stays(tmp_path: Path) -> None:
    with alone_in(tmp_path / "new"):
        assert (tmp_path / "new" / ".v4deploy" / "lock").exists()
    assert list((tmp_path / "new").iterdir()) == []
