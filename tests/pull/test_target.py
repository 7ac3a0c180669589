"""The file system that weights go to: what it cannot hold is said before the first byte."""

from __future__ import annotations

import dataclasses
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pull.conftest import Desk
from tests.support.pull_builders import listed
from v4deploy.domain.errors import DownloadError
from v4deploy.domain.model import FileRole
from v4deploy.pull import target
from v4deploy.pull.selection import DEFAULT_ROLES
from v4deploy.pull.target import Target, check

HERE = Path("/mnt/weights")
LARGE = listed("a.gguf", size_bytes=5 * 10**9)


def looked_at(filesystem: str = "ext4", *, files: int | None = None, largest: int | None = None) -> Target:
    return Target(filesystem=filesystem, free_files=files, largest_file_bytes=largest)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (looked_at("vfat"), "where no file can have 4 GiB; a.gguf has 5.0 GB"),
        (looked_at(largest=4 * 10**9), r"no file beyond 4.0 GB \(ulimit -f\); a.gguf has 5.0 GB"),
        (looked_at(files=17), r"room for 17 more files \(inodes\), 18 are needed"),
    ],
)
def test_what_it_cannot_hold_is_named(found: Target, words: str) -> None:
    with pytest.raises(DownloadError, match=words) as caught:
        check(found, HERE, LARGE)
    assert "nothing was fetched" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "found",
    [
        looked_at("xfs", files=18, largest=5 * 10**9),
        looked_at("exfat"),
        Target(filesystem=None, free_files=None, largest_file_bytes=None),
    ],
)
def test_what_it_can_hold_is_no_news(found: Target) -> None:
    assert check(found, HERE, LARGE) == ()


def test_memory_is_no_disk() -> None:
    (finding,) = check(looked_at("tmpfs"), HERE, LARGE)
    assert finding.id == "storage.weights-on-tmpfs"
    assert check(looked_at("vfat"), HERE, ()) == ()


def test_a_limit_of_the_shell_is_noticed_before_the_first_byte(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (100_000, 100_000))
    with pytest.raises(DownloadError, match="ulimit -f"):
        desk.pull()
    assert desk.byte_requests() == 0


def test_a_target_in_memory_works_and_is_pointed_out(desk: Desk) -> None:
    shared = Path("/dev/shm")
    if target.filesystem_of(shared) != "tmpfs":
        pytest.skip("/dev/shm is no tmpfs here")
    with tempfile.TemporaryDirectory(dir=shared) as place:
        desk.weights = Path(place)
        result = desk.pull()
        desk.assert_right(result)
    assert [finding.id for finding in result.findings] == ["storage.weights-on-tmpfs"]


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "read-only"
    place.mkdir()
    mount = shutil.which("mount")
    tried = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "ro", "tmpfs", str(place)], check=False, capture_output=True
    )
    if not tried or tried.returncode:
        pytest.skip("this user cannot mount a tmpfs")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_read_only_target_is_named_and_nothing_is_fetched(desk: Desk, read_only: Path) -> None:
    desk.weights = read_only
    with pytest.raises(DownloadError, match="is on a file system that is mounted read-only"):
        desk.pull()
    assert desk.byte_requests() == 0


def test_what_is_complete_on_a_read_only_target_needs_no_writing(desk: Desk, read_only: Path) -> None:
    def remount(option: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{option}", str(read_only)], check=True)

    desk.weights = read_only
    remount("rw")
    first = desk.pull()
    remount("ro")
    again = desk.pull()
    desk.assert_right(again)
    assert (again.fetched_bytes, again.files) == (0, first.files)
    with pytest.raises(DownloadError, match="mounted read-only"):
        desk.pull(dataclasses.replace(desk.request(), roles=(*DEFAULT_ROLES, FileRole.DRAFT)))
    remount("rw")
    (Path(first.directory) / next(iter(desk.wanted))).unlink()
    remount("ro")
    with pytest.raises(DownloadError, match="mounted read-only"):
        desk.pull()
