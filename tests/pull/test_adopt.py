from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pull.conftest import Desk, Listener
from tests.support.faulty_hub import FaultyHub
from tests.support.pull_builders import REPO, checkpoint, safetensors_bytes, write
from v4deploy.domain.errors import DownloadError
from v4deploy.domain.model import CheckpointFormat
from v4deploy.pull import store
from v4deploy.pull.access import HubAccess, hub_cache
from v4deploy.pull.adopt.places import Origin, Places
from v4deploy.pull.adopt.take import Method
from v4deploy.pull.lock import locked
from v4deploy.pull.part import LEFTOVER_SUFFIXES, part_path
from v4deploy.pull.pull import PullResult
from v4deploy.pull.request import SPARE_BYTES

FIRST = "UD-Q4_K_XL/V4-Tiny-UD-Q4_K_XL-00001-of-00003.gguf"


def pull_with(desk: Desk, **places: object) -> PullResult:
    looked_at = Places(weights_root=desk.weights, **places)  # type: ignore[arg-type]
    return desk.pull(dataclasses.replace(desk.request(), places=looked_at))


def fill_cache(cache: Path, wanted: dict[str, bytes], repo: str = REPO) -> dict[str, Path]:
    """The hub's cache as its client lays it out: content under its hash, paths as links to it."""
    home = cache / f"models--{repo.replace('/', '--')}"
    blobs = {}
    for path, data in wanted.items():
        blob = home / "blobs" / hashlib.sha256(data).hexdigest()
        write(blob, data)
        link = home / "snapshots" / ("0" * 40) / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
        blobs[path] = blob
    return blobs


def test_what_the_hub_client_cached_is_linked_and_not_fetched(desk: Desk, tmp_path: Path) -> None:
    from huggingface_hub import snapshot_download

    snapshot_download(REPO, cache_dir=tmp_path / "hf", endpoint=desk.hub.endpoint, allow_patterns="UD-Q4_K_XL/*")
    before = desk.byte_requests()
    result = pull_with(desk, hub_cache=tmp_path / "hf")
    desk.assert_right(result)
    assert (result.fetched_bytes, desk.byte_requests()) == (0, before)
    assert {adopted.path for adopted in result.adopted} == set(desk.wanted)
    assert {adopted.origin for adopted in result.adopted} == {Origin.HUB_CACHE}
    for adopted in result.adopted:
        shared = Path(adopted.source).stat().st_ino == (Path(result.directory) / adopted.path).stat().st_ino
        assert shared == (adopted.method is Method.HARD_LINK)
        assert adopted.method in {Method.HARD_LINK, Method.REFLINK}
    assert pull_with(desk).adopted == ()


def test_offline_the_hub_cache_is_enough(desk: Desk, tmp_path: Path) -> None:
    from huggingface_hub import snapshot_download

    places = Places(weights_root=desk.weights, hub_cache=tmp_path / "hf")
    request = dataclasses.replace(desk.request(), places=places)
    offline = HubAccess(endpoint=desk.hub.endpoint, offline=True)
    snapshot = Path(
        snapshot_download(
            REPO, cache_dir=tmp_path / "hf", endpoint=desk.hub.endpoint, allow_patterns="UD-Q4_K_XL/*0000[12]-of-*"
        )
    )
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE"):
        desk.pull(request, access=offline)
    snapshot_download(REPO, cache_dir=tmp_path / "hf", endpoint=desk.hub.endpoint, allow_patterns="UD-Q4_K_XL/*")
    desk.hub.faults.seen.clear()
    result = desk.pull(request, access=offline)
    desk.assert_right(result)
    assert (result.revision, result.fetched_bytes, desk.hub.faults.seen) == (snapshot.name, 0, [])
    assert [finding.id for finding in result.findings] == ["network.hub.from-cache"]


def test_small_files_are_adopted_by_their_git_hash(desk: Desk, tmp_path: Path) -> None:
    home = tmp_path / "published" / "tiny/V4-Tiny"
    write(home / "model-00001-of-00001.safetensors", safetensors_bytes(seed=5, body_bytes=5000))
    write(home / "config.json", b'{"architectures": []}')
    with FaultyHub(tmp_path / "published") as hub:
        from huggingface_hub import snapshot_download

        snapshot_download("tiny/V4-Tiny", cache_dir=tmp_path / "hf", endpoint=hub.endpoint)
        request = dataclasses.replace(
            desk.request(checkpoint(repo="tiny/V4-Tiny", quant="native", prefix="", form=CheckpointFormat.SAFETENSORS)),
            places=Places(hub_cache=tmp_path / "hf"),
        )
        result = desk.pull(request, access=HubAccess(endpoint=hub.endpoint))
    assert result.fetched_bytes == 0
    assert {adopted.path for adopted in result.adopted} == {"config.json", "model-00001-of-00001.safetensors"}


def test_a_cached_file_that_is_corrupt_is_fetched_and_named(desk: Desk, tmp_path: Path) -> None:
    blob = fill_cache(tmp_path / "hf", desk.wanted)[FIRST]
    wrong = bytes(len(desk.wanted[FIRST]))
    blob.write_bytes(wrong)
    result = pull_with(desk, hub_cache=tmp_path / "hf")
    desk.assert_right(result)
    assert result.fetched_bytes == len(wrong)
    assert blob.read_bytes() == wrong
    (finding,) = result.findings
    assert (finding.id, str(blob) in finding.summary) == ("storage.adopt.bad-source", True)
    assert hashlib.sha256(wrong).hexdigest() in finding.summary


def test_a_file_that_both_sides_share_is_replaced_and_never_written_to(desk: Desk, tmp_path: Path) -> None:
    blob = fill_cache(tmp_path / "hf", desk.wanted)[FIRST]
    result = pull_with(desk, hub_cache=tmp_path / "hf")
    damaged = b"x" + desk.wanted[FIRST][1:]
    blob.write_bytes(damaged)
    again = pull_with(desk, hub_cache=tmp_path / "hf")
    desk.assert_right(again)
    assert blob.read_bytes() == damaged
    assert blob.stat().st_ino != (Path(result.directory) / FIRST).stat().st_ino


def test_an_earlier_pull_at_another_commit_gives_what_is_still_the_same(desk: Desk, tmp_path: Path) -> None:
    first = desk.pull()
    write(tmp_path / "published" / REPO / "README.md", b"# another commit\n")
    with FaultyHub(tmp_path / "published") as hub:
        desk.hub.faults.seen.clear()
        request = dataclasses.replace(desk.request(), places=Places(weights_root=desk.weights))
        second = desk.pull(request, access=HubAccess(endpoint=hub.endpoint))
        assert second.directory != first.directory
        desk.assert_right(second)
        assert second.fetched_bytes == 0
        assert {adopted.origin for adopted in second.adopted} == {Origin.EARLIER_PULL}
    desk.assert_right(first)


def test_an_unfinished_download_of_an_earlier_commit_goes_on(desk: Desk, tmp_path: Path) -> None:
    desk.hub.faults.only = FIRST
    desk.hub.faults.cut_times, desk.hub.faults.cut_after_bytes = 6, 25_000
    with pytest.raises(DownloadError):
        desk.pull(desk.request(max_workers=1))
    old = store.target_directory(desk.weights, REPO, desk.hub.repositories[REPO].commit)
    begun = part_path(old / FIRST).stat().st_size
    assert begun == 150_000
    write(tmp_path / "published" / REPO / "README.md", b"# another commit\n")
    with FaultyHub(tmp_path / "published") as hub:
        request = dataclasses.replace(desk.request(), places=Places(weights_root=desk.weights))
        result = desk.pull(request, access=HubAccess(endpoint=hub.endpoint))
        desk.assert_right(result)
        assert f"bytes={begun}-" in {(seen.range or "").partition("-")[0] + "-" for seen in hub.faults.seen}
    moved = next(adopted for adopted in result.adopted if adopted.method is Method.MOVE)
    assert (moved.path, moved.size_bytes, moved.source) == (FIRST, begun, str(old / FIRST))
    assert not [suffix for suffix in LEFTOVER_SUFFIXES if (old / (FIRST + suffix)).exists()]


def test_a_running_pull_keeps_its_parts(desk: Desk, tmp_path: Path) -> None:
    desk.hub.faults.only = FIRST
    desk.hub.faults.cut_times, desk.hub.faults.cut_after_bytes = 6, 25_000
    with pytest.raises(DownloadError):
        desk.pull(desk.request(max_workers=1))
    old = store.target_directory(desk.weights, REPO, desk.hub.repositories[REPO].commit)
    write(tmp_path / "published" / REPO / "README.md", b"# another commit\n")
    with FaultyHub(tmp_path / "published") as hub, locked(old, since="now"):
        request = dataclasses.replace(desk.request(), places=Places(weights_root=desk.weights))
        result = desk.pull(request, access=HubAccess(endpoint=hub.endpoint))
    desk.assert_right(result)
    assert part_path(old / FIRST).stat().st_size == 150_000


def left_by_the_client(desk: Desk, cache: Path, data: bytes) -> Path:
    """What a killed `hf download` leaves: a part of the first file, named by the whole one's hash."""
    name = f"{hashlib.sha256(desk.wanted[FIRST]).hexdigest()}.0123abcd.incomplete"
    path = cache / f"models--{REPO.replace('/', '--')}" / "blobs" / name
    write(path, data)
    return path


def test_what_a_killed_client_left_goes_on_from_its_last_whole_block(desk: Desk, tmp_path: Path) -> None:
    block_bytes = desk.control().block_bytes
    usable_bytes = 100_000 // block_bytes * block_bytes
    left = left_by_the_client(desk, tmp_path / "hf", desk.wanted[FIRST][:100_000])
    result = pull_with(desk, hub_cache=tmp_path / "hf")
    desk.assert_right(result)
    assert [(one.path, one.size_bytes, one.source, one.method) for one in result.adopted] == [
        (FIRST, usable_bytes, str(left), Method.BEGINNING)
    ]
    assert 0 < usable_bytes == result.total_bytes - result.fetched_bytes
    assert left.read_bytes() == desk.wanted[FIRST][:100_000]


def test_a_wrong_beginning_costs_a_second_fetch_and_never_a_wrong_byte(desk: Desk, tmp_path: Path) -> None:
    left_by_the_client(desk, tmp_path / "hf", b"x" * 200_000)
    result = pull_with(desk, hub_cache=tmp_path / "hf")
    desk.assert_right(result)
    assert result.fetched_bytes > result.total_bytes - 200_000


def test_bytes_behind_a_hole_do_not_count(desk: Desk, tmp_path: Path) -> None:
    block_bytes = desk.control().block_bytes
    data = desk.wanted[FIRST]
    left = left_by_the_client(desk, tmp_path / "hf", data[: 2 * block_bytes])
    with left.open("r+b") as stream:
        stream.seek(4 * block_bytes)
        stream.write(data[4 * block_bytes :][:1000])
    if left.stat().st_blocks * 512 >= left.stat().st_size:
        pytest.skip("this file system has no holes")
    result = pull_with(desk, hub_cache=tmp_path / "hf")
    desk.assert_right(result)
    assert result.adopted[0].size_bytes == 2 * block_bytes


@pytest.mark.parametrize("form", ["as published", "flat", "renamed", "by hash", "linked"])
def test_a_directory_that_is_named_is_searched_through(desk: Desk, tmp_path: Path, form: str) -> None:
    place = tmp_path / "somewhere"
    for number, (path, data) in enumerate(desk.wanted.items()):
        match form:
            case "as published":
                write(place / "deep" / path, data)
            case "flat":
                write(place / Path(path).name, data)
            case "renamed":
                write(place / f"{9 - number}.bin", data)
            case "by hash":
                write(place / f"sha256-{hashlib.sha256(data).hexdigest()}", data)
            case _:
                write(tmp_path / "elsewhere" / Path(path).name, data)
                place.mkdir(exist_ok=True)
                (place / Path(path).name).symlink_to(tmp_path / "elsewhere" / Path(path).name)
    result = pull_with(desk, given=(place,))
    desk.assert_right(result)
    assert result.fetched_bytes == 0
    assert {adopted.origin for adopted in result.adopted} == {Origin.GIVEN}
    assert result.findings == ()
    assert not any((Path(result.directory) / path).is_symlink() for path in desk.wanted)


@pytest.fixture
def other_device(tmp_path: Path) -> Iterator[Path]:
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system to write to")
    with tempfile.TemporaryDirectory(dir=shared) as place:
        yield Path(place)


def test_from_another_device_it_is_copied(desk: Desk, other_device: Path) -> None:
    fill_cache(other_device, desk.wanted)
    result = pull_with(desk, hub_cache=other_device)
    desk.assert_right(result)
    assert {adopted.method for adopted in result.adopted} == {Method.COPY}


def test_what_needs_no_copy_comes_first(desk: Desk, other_device: Path, tmp_path: Path) -> None:
    fill_cache(other_device, desk.wanted)
    for path, data in desk.wanted.items():
        write(tmp_path / "near" / path, data)
    result = pull_with(desk, hub_cache=other_device, given=(tmp_path / "near",))
    assert Method.COPY not in {adopted.method for adopted in result.adopted}


def test_a_file_that_others_may_write_to_is_not_shared(desk: Desk, tmp_path: Path) -> None:
    blobs = fill_cache(tmp_path / "hf", desk.wanted)
    for blob in blobs.values():
        blob.chmod(0o666)
    result = pull_with(desk, hub_cache=tmp_path / "hf")
    desk.assert_right(result)
    for adopted in result.adopted:
        assert adopted.method is not Method.HARD_LINK
        assert Path(adopted.source).stat().st_ino != (Path(result.directory) / adopted.path).stat().st_ino


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_cache_that_may_not_be_read_is_no_obstacle(desk: Desk, tmp_path: Path) -> None:
    for blob in fill_cache(tmp_path / "hf", desk.wanted).values():
        blob.chmod(0)
    desk.assert_right(pull_with(desk, hub_cache=tmp_path / "hf"))


def test_linking_needs_no_space(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_cache(tmp_path / "hf", desk.wanted)
    monkeypatch.setattr(store, "free_bytes", lambda _path: SPARE_BYTES - 1)
    assert pull_with(desk, hub_cache=tmp_path / "hf").fetched_bytes == 0


def test_a_stop_while_adopting_leaves_nothing_half_done(desk: Desk, tmp_path: Path) -> None:
    fill_cache(tmp_path / "hf", desk.wanted)
    control = desk.control(stop=threading.Event())

    class Stopping(Listener):
        def advanced(self, _path: str, _done_bytes: int, _size_bytes: int) -> None:
            control.stop.set()

    desk.listener = Stopping()
    request = dataclasses.replace(desk.request(), places=Places(hub_cache=tmp_path / "hf"))
    with pytest.raises(DownloadError):
        desk.pull(request, control=control)
    assert not list(desk.weights.rglob("*.adopting"))
    assert desk.byte_requests() == 0


@pytest.mark.parametrize("in_cache", [True, False])
def test_what_a_kill_left_of_an_adoption_is_cleared_away(desk: Desk, tmp_path: Path, in_cache: bool) -> None:  # noqa: FBT001
    if in_cache:
        fill_cache(tmp_path / "hf", desk.wanted)
    directory = store.target_directory(desk.weights, REPO, desk.hub.repositories[REPO].commit)
    write(directory / f"{FIRST}.adopting", b"half")
    result = pull_with(desk, hub_cache=tmp_path / "hf")
    desk.assert_right(result)
    assert not list(desk.weights.rglob("*.adopting"))


def test_a_broken_manifest_elsewhere_is_no_obstacle(desk: Desk) -> None:
    result = desk.pull()
    other = desk.weights / "a--b" / ("1" * 40)
    shutil.copytree(result.directory, other)
    write(other / "v4deploy-manifest.json", b"{")
    (Path(result.directory) / FIRST).unlink()
    desk.assert_right(pull_with(desk))


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"HF_HUB_CACHE": "/c", "HF_HOME": "/h"}, "/c"),
        ({"HUGGINGFACE_HUB_CACHE": "/old"}, "/old"),
        ({"HF_HOME": "/h", "XDG_CACHE_HOME": "/x"}, "/h/hub"),
        ({"XDG_CACHE_HOME": "/x", "HOME": "/u"}, "/x/huggingface/hub"),
        ({"HOME": "/u"}, "/u/.cache/huggingface/hub"),
    ],
)
def test_the_hub_cache_is_where_its_own_client_has_it(environ: dict[str, str], expected: str) -> None:
    assert hub_cache(environ) == Path(expected)
