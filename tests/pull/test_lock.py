"""Who may work in a directory: across processes, and across machines whose locks do not reach each other."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from pathlib import Path

import pytest

from v4deploy import documents
from v4deploy.domain.errors import DownloadError
from v4deploy.pull import lock
from v4deploy.pull.lock import LEASE_NAME, Lease, Watch, locked, our_lease

QUICK = Watch(beat_seconds=0.02, dead_seconds=0.3, look_seconds=0.02)


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory on what looks like a network file system."""
    monkeypatch.setattr(lock, "filesystem_of", lambda _path: "nfs4")
    return tmp_path


def elsewhere(directory: Path) -> Lease:
    """The lease of another machine, as it lies there."""
    lease = dataclasses.replace(our_lease("noon"), host="other-host", kernel="another kernel")
    (directory / LEASE_NAME).write_text(documents.to_json("v4deploy.lease/1", lease))
    return lease


def test_a_lease_is_there_while_the_work_goes_on(tmp_path: Path) -> None:
    with locked(tmp_path, since="noon"):
        assert f'"process": {os.getpid()}' in (tmp_path / LEASE_NAME).read_text()
    assert not (tmp_path / LEASE_NAME).exists()


def test_another_machine_that_works_there_is_respected(shared: Path) -> None:
    elsewhere(shared)
    over = threading.Event()

    def beat() -> None:
        while not over.wait(0.02):
            os.utime(shared / LEASE_NAME)

    heart = threading.Thread(target=beat)
    heart.start()
    told: list[str] = []
    watch = dataclasses.replace(QUICK, tell=lambda reason, _seconds: told.append(reason))
    try:
        with (
            pytest.raises(DownloadError, match=r"is running: process \d+ on other-host, since noon"),
            locked(shared, since="now", watch=watch),
        ):
            pass
    finally:
        over.set()
        heart.join()
    assert told == [f"looking whether process {os.getpid()} on other-host, since noon still works there"]
    assert "other-host" in (shared / LEASE_NAME).read_text()


def test_another_machine_that_died_is_followed(shared: Path) -> None:
    elsewhere(shared)
    with locked(shared, since="now", watch=QUICK):
        assert "other-host" not in (shared / LEASE_NAME).read_text()


def test_its_clock_does_not_matter(shared: Path) -> None:
    elsewhere(shared)
    year = 365 * 86400
    os.utime(shared / LEASE_NAME, (time.time() + year, time.time() + year))
    with locked(shared, since="now", watch=QUICK):
        pass


def test_a_lease_that_cannot_be_read_is_waited_for_too(shared: Path) -> None:
    (shared / LEASE_NAME).write_bytes(b"")
    with locked(shared, since="now", watch=QUICK):
        pass


def test_on_a_disk_of_our_own_the_dead_are_known_at_once(tmp_path: Path) -> None:
    elsewhere(tmp_path)
    with locked(tmp_path, since="now", watch=Watch(dead_seconds=3600)):
        pass


def test_what_our_own_kernel_left_is_known_at_once(shared: Path) -> None:
    left = our_lease("noon")
    (shared / LEASE_NAME).write_text(documents.to_json("v4deploy.lease/1", left))
    with locked(shared, since="now", watch=Watch(dead_seconds=3600)):
        pass


def test_our_lease_beats(shared: Path) -> None:
    with locked(shared, since="now", watch=QUICK):
        first = (shared / LEASE_NAME).stat().st_mtime_ns
        deadline = time.monotonic() + 10
        while (shared / LEASE_NAME).stat().st_mtime_ns == first:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_lease_that_was_taken_from_us_is_not_thrown_away(shared: Path) -> None:
    with locked(shared, since="now", watch=QUICK):
        (shared / LEASE_NAME).unlink()
        elsewhere(shared)
    assert "other-host" in (shared / LEASE_NAME).read_text()
