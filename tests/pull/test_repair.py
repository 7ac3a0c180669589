from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.pull.conftest import Desk
from tests.support.pull_builders import checkpoint, write
from v4deploy.domain.errors import DownloadError
from v4deploy.pull.access import HubAccess
from v4deploy.pull.adopt.places import Places
from v4deploy.pull.repair import Repaired, repair_directory
from v4deploy.pull.verify import verify_directory

FIRST = "UD-Q4_K_XL/V4-Tiny-UD-Q4_K_XL-00001-of-00003.gguf"


def repair(desk: Desk, directory: Path, *paths: str, places: Places | None = None) -> Repaired:
    return repair_directory(
        directory,
        paths,
        access=HubAccess(endpoint=desk.hub.endpoint),
        fetched_at="2026-11-28",
        places=places or Places(),
        progress=desk.listener,
        control=desk.control(),
    )


def damage(path: Path) -> None:
    """A turned bit that keeps size and time, as a bad disk leaves it."""
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_damaged_file_alone_is_fetched_again(desk: Desk) -> None:
    result = desk.pull()
    directory = Path(result.directory)
    damage(directory / FIRST)
    before = desk.byte_requests()
    done = repair(desk, directory, FIRST)
    desk.assert_right(result)
    assert (done.paths, done.fetched_bytes) == ((FIRST,), len(desk.wanted[FIRST]))
    assert desk.byte_requests() > before
    assert verify_directory(directory, max_workers=2).problems == ()


@pytest.mark.parametrize("harm", ["missing", "cut", "grown"])
def test_other_harm_is_repaired_too(desk: Desk, harm: str) -> None:
    result = desk.pull()
    path = Path(result.directory) / FIRST
    if harm == "missing":
        path.unlink()
    else:
        os.truncate(path, 1000 if harm == "cut" else 10_000_000)
    repair(desk, Path(result.directory), FIRST)
    desk.assert_right(result)


def test_a_directory_that_was_moved_is_repaired_where_it_lies(desk: Desk, tmp_path: Path) -> None:
    result = desk.pull()
    moved = Path(result.directory).rename(tmp_path / "moved")
    damage(moved / FIRST)
    repair(desk, moved, FIRST)
    assert verify_directory(moved, max_workers=2).problems == ()


def test_what_shares_the_bad_file_keeps_its_own(desk: Desk, tmp_path: Path) -> None:
    result = desk.pull()
    path = Path(result.directory) / FIRST
    (tmp_path / "shared").hardlink_to(path)
    damage(path)
    bad = path.read_bytes()
    repair(desk, Path(result.directory), FIRST)
    desk.assert_right(result)
    assert (tmp_path / "shared").read_bytes() == bad


def test_a_repair_that_fails_leaves_the_bad_file(desk: Desk) -> None:
    result = desk.pull()
    path = Path(result.directory) / FIRST
    damage(path)
    bad = path.read_bytes()
    desk.hub.faults.busy_times, desk.hub.faults.busy_status = 1000, 503
    with pytest.raises(DownloadError):
        repair(desk, Path(result.directory), FIRST)
    assert path.read_bytes() == bad
    desk.hub.faults.busy_times = 0
    repair(desk, Path(result.directory), FIRST)
    desk.assert_right(result)


def test_a_good_copy_on_this_machine_is_taken_first(desk: Desk, tmp_path: Path) -> None:
    result = desk.pull()
    write(tmp_path / "backup" / Path(FIRST).name, desk.wanted[FIRST])
    damage(Path(result.directory) / FIRST)
    before = desk.byte_requests()
    done = repair(desk, Path(result.directory), FIRST, places=Places(given=(tmp_path / "backup",)))
    desk.assert_right(result)
    assert (desk.byte_requests(), done.fetched_bytes, len(done.adopted)) == (before, 0, 1)


def test_files_of_two_quants_are_repaired_together(desk: Desk) -> None:
    directory = Path(desk.pull().directory)
    other = desk.pull(desk.request(checkpoint(quant="UD-IQ1_S", prefix="UD-IQ1_S"))).files[0].path
    damage(directory / FIRST)
    damage(directory / other)
    assert repair(desk, directory, FIRST, other).paths == tuple(sorted((FIRST, other)))
    assert verify_directory(directory, max_workers=2).problems == ()


def test_the_room_for_both_is_asked_for(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = Path(desk.pull().directory)
    damage(directory / FIRST)
    monkeypatch.setattr("v4deploy.pull.store.free_bytes", lambda _path: 1000)
    with pytest.raises(DownloadError, match="are missing"):
        repair(desk, directory, FIRST)


def test_without_a_manifest_there_is_nothing_to_repair_by(desk: Desk, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="no manifest"):
        repair(desk, tmp_path, FIRST)
