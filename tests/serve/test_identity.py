from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from v4deploy.serve import identity
from v4deploy.serve.identity import ProcessMark, lives, mark_of, send, send_to_group


def _sleeper(*, leads: bool = False) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=leads)


def test_a_mark_means_one_process_only() -> None:
    mine = mark_of(os.getpid())
    assert mine == mark_of(os.getpid())
    assert lives(mine)
    assert mine is not None
    assert not lives(replace(mine, began="another boot 5"))
    assert not lives(None)


def test_what_has_ended_has_no_mark_even_before_anybody_waited() -> None:
    process = _sleeper()
    mark = mark_of(process.pid)
    assert mark is not None
    assert send(mark, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert mark_of(process.pid) is None
    process.wait()
    assert not send(mark, signal.SIGKILL)


def test_a_number_that_was_given_away_is_never_signalled() -> None:
    process = _sleeper(leads=True)
    try:
        stale = ProcessMark(pid=process.pid, began="another boot 5")
        assert not send(stale, signal.SIGKILL)
        assert not send_to_group(stale, signal.SIGKILL)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_a_group_is_signalled_by_its_leader_only() -> None:
    process = _sleeper()
    mark = mark_of(process.pid)
    assert mark is not None
    try:
        assert not send_to_group(mark, signal.SIGTERM)  # it is in our own group
    finally:
        process.kill()
        process.wait()


def test_without_proc_the_time_of_the_start_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "_BOOT_ID", Path("/nowhere"))
    mine = mark_of(os.getpid())
    assert mine is not None
    assert lives(mine)
    assert mark_of(2**22 + 1) is None
