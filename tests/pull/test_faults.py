from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.pull.conftest import Desk
from tests.support.pull_builders import REPO
from v4deploy.domain.errors import DownloadError
from v4deploy.pull.access import HubAccess
from v4deploy.pull.lock import LOCK_NAME
from v4deploy.pull.part import Part, journal_path, part_path
from v4deploy.pull.transport import Transport
from v4deploy.pull.verify import verify_directory

FIRST = "UD-Q4_K_XL/V4-Tiny-UD-Q4_K_XL-00001-of-00003.gguf"


def single(desk: Desk) -> None:
    """Faults hit one file only, so that counting them is exact."""
    desk.hub.faults.only = FIRST


def test_a_cut_connection_goes_on_where_it_was(desk: Desk) -> None:
    single(desk)
    desk.hub.faults.cut_times, desk.hub.faults.cut_after_bytes = 2, 100_000
    result = desk.pull()
    desk.assert_right(result)
    assert result.fetched_bytes == result.total_bytes
    ranges = [seen.range for seen in desk.hub.faults.seen if seen.at_cdn and seen.range]
    last = len(desk.wanted[FIRST]) - 1
    assert {f"bytes=100000-{last}", f"bytes=200000-{last}"} <= set(ranges)
    assert [reason for _, reason, _ in desk.listener.waits if "closed at byte 100000" in reason]


def test_a_connection_that_is_cut_for_ever_ends_with_what_is_safe(desk: Desk) -> None:
    single(desk)
    desk.hub.faults.cut_times, desk.hub.faults.cut_after_bytes = 1000, 10
    with pytest.raises(DownloadError, match="in 6 tries: the connection closed at byte 60") as caught:
        desk.pull(desk.request(max_workers=1))
    assert desk.pauses == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert any("0 of 3 files" in line for line in caught.value.details)
    desk.hub.faults.cut_times = 0
    result = desk.pull()
    desk.assert_right(result)
    assert result.kept_bytes == 60
    assert any(seen.range and seen.range.startswith("bytes=60-") for seen in desk.hub.faults.seen)


def test_a_server_that_ignores_range_never_ruins_a_file(desk: Desk) -> None:
    single(desk)
    desk.hub.faults.cut_times, desk.hub.faults.cut_after_bytes = 1, 100_000
    desk.hub.faults.ignore_range = True
    result = desk.pull()
    desk.assert_right(result)
    assert result.fetched_bytes == result.total_bytes + 100_000


def test_a_server_that_ignores_range_and_always_cuts_is_given_up(desk: Desk) -> None:
    single(desk)
    desk.hub.faults.cut_times, desk.hub.faults.cut_after_bytes = 1000, 100_000
    desk.hub.faults.ignore_range = True
    with pytest.raises(DownloadError, match="in 6 tries"):
        desk.pull()


def test_a_missing_content_length_is_no_reason_to_fail(desk: Desk) -> None:
    desk.hub.faults.drop_length = True
    desk.assert_right(desk.pull())


def test_without_content_length_a_short_body_is_noticed(desk: Desk) -> None:
    single(desk)
    desk.hub.faults.drop_length = True
    desk.hub.faults.cut_times, desk.hub.faults.cut_after_bytes = 1, 7
    desk.assert_right(desk.pull())


def test_wrong_bytes_once_are_fetched_again(desk: Desk) -> None:
    single(desk)
    desk.hub.faults.wrong_times = 1
    result = desk.pull()
    desk.assert_right(result)
    assert result.fetched_bytes == result.total_bytes + len(desk.wanted[FIRST])
    ((path, reason, seconds),) = desk.listener.waits
    assert (path, seconds) == (FIRST, 0.0)
    assert "arrived whole, but with hash" in reason
    assert "fetching it again from 127.0.0.1" in reason


def test_wrong_bytes_twice_name_both_hashes_and_keep_the_other_files(desk: Desk) -> None:
    single(desk)
    desk.hub.faults.wrong_times = 1000
    data = desk.wanted[FIRST]
    found = hashlib.sha256(bytes([data[0] ^ 1]) + data[1:]).hexdigest()
    with pytest.raises(DownloadError) as caught:
        desk.pull(desk.request(max_workers=1))
    assert hashlib.sha256(data).hexdigest() in caught.value.message
    assert found in caught.value.message
    assert any("2 of 3 files" in line for line in caught.value.details)
    directory = desk.weights / REPO.replace("/", "--") / desk.hub.repositories[REPO].commit
    assert not (directory / FIRST).exists()
    # The last try of the file was the last: no connection began on it once more.
    assert len(desk.listener.waits) == 1


def test_retry_after_is_honoured(desk: Desk) -> None:
    single(desk)
    desk.hub.faults.busy_times, desk.hub.faults.retry_after = 2, "17"
    desk.assert_right(desk.pull())
    assert desk.pauses == [17.0, 17.0]


def test_a_retry_after_of_an_hour_ends_the_pull(desk: Desk) -> None:
    desk.hub.faults.busy_times, desk.hub.faults.retry_after = 1000, "3600"
    with pytest.raises(DownloadError, match=r"too many requests \(429\) and asks to wait 3600 seconds"):
        desk.pull()
    assert desk.pauses == []


def test_a_server_error_is_tried_again(desk: Desk) -> None:
    desk.hub.faults.busy_times, desk.hub.faults.busy_status = 2, 503
    desk.assert_right(desk.pull(desk.request(max_workers=1)))
    assert desk.pauses == [1.0, 2.0]


def test_an_expired_address_is_resolved_again(desk: Desk) -> None:
    desk.hub.faults.expired_times = 2
    desk.assert_right(desk.pull(desk.request(max_workers=1)))
    assert [reason for _, reason, _ in desk.listener.waits] == ["HTTP 403 from the storage server (127.0.0.1)"]
    first_three = [seen.path for seen in desk.hub.faults.seen if seen.at_cdn][:3]
    assert first_three[1] != first_three[2]


def test_a_compressed_body_is_refused(desk: Desk) -> None:
    single(desk)
    desk.hub.faults.gzip_times = 1
    desk.assert_right(desk.pull())
    assert any("gzip" in reason for _, reason, _ in desk.listener.waits)


def test_another_range_than_the_one_asked_for_is_refused(desk: Desk) -> None:
    single(desk)
    desk.hub.faults.shifted_times = 1
    desk.assert_right(desk.pull())
    assert any("asked for bytes from 0" in reason for _, reason, _ in desk.listener.waits)


def test_a_mirror_that_offers_another_file_is_noticed_before_the_first_byte(desk: Desk) -> None:
    desk.hub.faults.mirror_hash = "f" * 64
    with pytest.raises(DownloadError, match="offers another file"):
        desk.pull()
    assert all(done == 0 for done in desk.listener.last.values())


def test_long_files_are_asked_for_in_bounded_ranges(desk: Desk) -> None:
    desk.assert_right(desk.pull(control=desk.control(longest_request_bytes=100_000)))
    # Whole blocks of 64 KiB, so a file of 300 kB takes five requests.
    assert desk.byte_requests() == 3 * 5
    assert desk.pauses == []


def test_a_stalled_connection_is_opened_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Transport.__init__

    def impatient(self: Transport, access: HubAccess) -> None:
        real(self, access, stall_seconds=0.2)

    monkeypatch.setattr(Transport, "__init__", impatient)
    desk.hub.faults.stall_times = 1
    desk.assert_right(desk.pull())
    assert [reason for _, reason, _ in desk.listener.waits] == ["no bytes arrived for too long"]


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "the disk of .* is full"), (errno.EDQUOT, "your quota on the disk of .* is full")],
)
def test_a_full_disk_says_what_is_safe_and_the_next_pull_goes_on(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    real = Part.write

    def write(self: Part, offset: int, data: memoryview) -> None:
        if offset >= 128 * 1024:
            raise OSError(number, os.strerror(number))
        real(self, offset, data)

    monkeypatch.setattr(Part, "write", write)
    with pytest.raises(DownloadError, match=words) as caught:
        desk.pull(desk.request(max_workers=1))
    assert any("0 of 3 files" in line for line in caught.value.details)
    monkeypatch.setattr(Part, "write", real)
    result = desk.pull()
    desk.assert_right(result)
    assert result.kept_bytes == 128 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    mount = shutil.which("mount")
    tried = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=640k", "tmpfs", str(place)], check=False, capture_output=True
    )
    if not tried or tried.returncode:
        pytest.skip("this user cannot mount a tmpfs")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_fills_up_in_the_middle(
    desk: Desk, small_disk: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("v4deploy.pull.store.free_bytes", lambda _path: None)
    desk.weights = small_disk
    with pytest.raises(DownloadError, match="is full") as caught:
        desk.pull(desk.request(max_workers=1))
    # Files that have arrived may still be being hashed when the disk is full; their bytes are kept.
    assert any("of 3 files" in line for line in caught.value.details)
    desk.weights = tmp_path / "larger"
    shutil.copytree(small_disk, desk.weights, copy_function=shutil.copy2)
    result = desk.pull()
    desk.assert_right(result)
    assert result.kept_bytes >= len(desk.wanted[FIRST])


def test_two_pulls_at_once_the_second_says_who_is_first(desk: Desk) -> None:
    desk.hub.faults.stall_times = 1
    first = threading.Thread(target=desk.pull)
    first.start()
    try:
        directory = desk.weights / REPO.replace("/", "--") / desk.hub.repositories[REPO].commit
        soon((directory / "v4deploy-manifest.json").exists)
        with pytest.raises(DownloadError, match=rf"is running: process {os.getpid()} on .* since 2026-11-22"):
            desk.pull()
    finally:
        desk.hub.faults.resume.set()
        first.join(timeout=20)
    assert not first.is_alive()
    assert (directory / LOCK_NAME).exists()
    desk.assert_right(desk.pull())


def test_ctrl_c_leaves_parts_that_can_be_used(desk: Desk) -> None:
    desk.hub.faults.cut_times, desk.hub.faults.cut_after_bytes = 1, 150_000

    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        desk.pull(desk.request(max_workers=1), control=desk.control(pause=interrupted))
    directory = desk.weights / REPO.replace("/", "--") / desk.hub.repositories[REPO].commit
    assert part_path(directory / FIRST).stat().st_size == 150_000
    result = desk.pull()
    desk.assert_right(result)
    assert result.kept_bytes == 150_000


def test_ctrl_c_wakes_threads_that_wait_for_a_stalled_server(desk: Desk) -> None:
    desk.hub.faults.stall_times = 1000
    main_thread = threading.main_thread().ident
    assert main_thread is not None

    def interrupt() -> None:
        soon(lambda: desk.byte_requests() >= 2)
        signal.pthread_kill(main_thread, signal.SIGINT)

    helper = threading.Thread(target=interrupt)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - the signal may come while the helper is joined
        helper.start()
        desk.pull()
        helper.join()
    # The stalled connections alone would have held us for 30 seconds.
    assert time.monotonic() - started < 15


def test_a_part_without_a_trustworthy_journal_is_not_trusted(desk: Desk) -> None:
    desk.hub.faults.cut_times, desk.hub.faults.cut_after_bytes = 1000, 10
    with pytest.raises(DownloadError):
        desk.pull(desk.request(max_workers=1))
    directory = desk.weights / REPO.replace("/", "--") / desk.hub.repositories[REPO].commit
    part = part_path(directory / FIRST)
    part.write_bytes(b"\0" * 200_000)
    journal_path(directory / FIRST).write_text('{"hash": "another", "verified_bytes": 200000}')
    desk.hub.faults.cut_times = 0
    result = desk.pull()
    desk.assert_right(result)
    assert result.fetched_bytes == result.total_bytes


def test_a_part_that_changed_on_disk_costs_one_more_fetch_and_never_a_wrong_byte(desk: Desk) -> None:
    single(desk)
    desk.hub.faults.cut_times, desk.hub.faults.cut_after_bytes = 6, 40_000
    with pytest.raises(DownloadError):
        desk.pull(desk.request(max_workers=1))
    directory = desk.weights / REPO.replace("/", "--") / desk.hub.repositories[REPO].commit
    part = part_path(directory / FIRST)
    data = bytearray(part.read_bytes())
    assert len(data) > 1000
    data[500] ^= 255
    part.write_bytes(data)
    desk.hub.faults.cut_times = 0
    desk.assert_right(desk.pull())
    assert verify_directory(directory, max_workers=2).is_right


def test_bytes_beyond_the_journal_are_not_believed(desk: Desk) -> None:
    single(desk)
    desk.hub.faults.cut_times, desk.hub.faults.cut_after_bytes = 6, 40_000
    with pytest.raises(DownloadError):
        desk.pull(desk.request(max_workers=1))
    directory = desk.weights / REPO.replace("/", "--") / desk.hub.repositories[REPO].commit
    with part_path(directory / FIRST).open("ab") as stream:
        stream.write(b"\xff" * 400_000)
    desk.hub.faults.cut_times = 0
    result = desk.pull()
    desk.assert_right(result)
    assert result.fetched_bytes + result.kept_bytes == result.total_bytes


def soon(condition: Callable[[], bool]) -> None:
    """Wait for what another thread brings about; fails instead of waiting for ever."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)
