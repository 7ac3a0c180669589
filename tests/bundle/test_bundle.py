"""Weights cut into parts, carried, and put together: whatever happens on the way, no wrong byte gets a name."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bundle.conftest import PART_BYTES, Courier
from v4deploy.bundle.index import INDEX_NAME, UNFINISHED_NAME
from v4deploy.bundle.staging import Staging
from v4deploy.domain.errors import DownloadError, ProfileError
from v4deploy.pull import store
from v4deploy.pull.lock import locked
from v4deploy.pull.part import write_atomically


def parts(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.tar.*"))


def failure(courier: Courier, *directories: Path) -> DownloadError:
    with pytest.raises(DownloadError) as caught:
        courier.install(*directories)
    assert caught.value.hint
    return caught.value


def test_a_bundle_arrives_whole_and_known_to_pull_and_verify(courier: Courier) -> None:
    index = courier.create()
    assert len(index.parts) == len(parts(courier.output)) == 5
    assert all(path.stat().st_size == PART_BYTES for path in parts(courier.output)[:-1])
    installed = courier.install()
    courier.assert_right(installed)
    assert installed.installed_bytes == installed.total_bytes
    manifest = store.read_manifest(courier.target)
    assert manifest is not None
    assert manifest.selection(index.checkpoint) == courier.pulled.manifest.selection(index.checkpoint)


def test_tar_alone_unpacks_it_and_sha256sum_checks_it(courier: Courier, tmp_path: Path) -> None:
    courier.create()
    subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=courier.output, check=True)
    data = b"".join(path.read_bytes() for path in parts(courier.output))
    subprocess.run(["tar", "-xf", "-"], cwd=tmp_path, input=data, check=True)
    by_hand = store.target_directory(tmp_path / "weights", courier.pulled.manifest.repo, "")
    unpacked = by_hand / courier.pulled.manifest.revision
    for path, content in courier.contents.items():
        assert (unpacked / path).read_bytes() == content
    manifest = store.read_manifest(unpacked)
    assert manifest is not None
    assert [file.modified_nanoseconds for file in manifest.files] == [None] * 4


def test_what_is_there_already_needs_no_part(courier: Courier) -> None:
    courier.create()
    courier.install()
    for path in parts(courier.output):
        path.unlink()
    again = courier.install()
    assert again.installed_bytes == 0
    courier.assert_right(again)


def test_a_file_that_somebody_put_there_is_read_and_taken(courier: Courier) -> None:
    courier.create()
    name = "model-00002-of-00002.safetensors"
    courier.target.mkdir(parents=True)
    (courier.target / name).write_bytes(courier.contents[name])
    installed = courier.install()
    courier.assert_right(installed)
    assert installed.installed_bytes == installed.total_bytes - len(courier.contents[name])


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (4, 3, 2, 1, 0), (2, 0, 4, 1, 3)])
def test_parts_may_come_one_medium_after_the_other(courier: Courier, tmp_path: Path, order: tuple[int, ...]) -> None:
    courier.create()
    names = [path.name for path in parts(courier.output)]
    for number in order[:-1]:
        medium = tmp_path / f"medium-{number}"
        medium.mkdir()
        shutil.copy(courier.output / INDEX_NAME, medium)
        shutil.move(courier.output / names[number], medium)
        error = failure(courier, medium)
        assert "parts" in error.message
        assert names[number] not in error.message
        shutil.rmtree(medium)
    courier.assert_right(courier.install())


def test_parts_may_lie_in_several_directories(courier: Courier, tmp_path: Path) -> None:
    courier.create()
    other = tmp_path / "other"
    other.mkdir()
    for path in parts(courier.output)[::2]:
        shutil.move(path, other)
    courier.assert_right(courier.install(other, courier.output))


def truncated(courier: Courier) -> str:
    path = parts(courier.output)[1]
    path.write_bytes(path.read_bytes()[:-1])
    return "it was cut while it was copied"


def longer(courier: Courier) -> str:
    path = parts(courier.output)[1]
    path.write_bytes(path.read_bytes() + b"\0")
    return "something was appended to it"


def flipped(courier: Courier) -> str:
    path = parts(courier.output)[1]
    data = bytearray(path.read_bytes())
    data[7] ^= 1
    path.write_bytes(data)
    return "it was damaged on the way, or belongs to another bundle"


def swapped(courier: Courier) -> str:
    _, second, third, *_ = parts(courier.output)
    data = second.read_bytes()
    second.write_bytes(third.read_bytes())
    third.write_bytes(data)
    return f"holds another part of this bundle, {third.name}, under this name"


def missing(courier: Courier) -> str:
    parts(courier.output)[1].unlink()
    return "1 of 5 parts (20.0 kB) are not in"


@pytest.mark.parametrize("harm", [truncated, longer, flipped, swapped, missing])
def test_a_wrong_part_is_named_and_the_others_stay(courier: Courier, harm: Callable[[Courier], str]) -> None:
    courier.create()
    whole = {path: path.read_bytes() for path in parts(courier.output)}
    mended = tuple(whole)[1:3]
    words = harm(courier)
    error = failure(courier)
    assert words in error.message
    assert mended[0].name in error.message
    complete = 2 if harm is swapped else 3
    assert error.details[-1] == f"complete and checked: {complete} of 4 files, in {courier.target}"
    assert not (courier.target / "model-00001-of-00002.safetensors").exists()
    # Only the harmed parts are read again.
    for path, data in whole.items():
        path.write_bytes(data if path in mended else b"gone")
    courier.assert_right(courier.install())


def test_parts_of_another_bundle_are_told_apart(courier: Courier, tmp_path: Path) -> None:
    courier.create()
    foreign = Courier(
        pulled=courier.pulled, output=tmp_path / "foreign", arrival=courier.arrival, contents=courier.contents
    )
    foreign.create(part_size_bytes=30_000)
    for path in parts(courier.output):
        path.unlink()
    for path in parts(foreign.output):
        shutil.copy(path, courier.output)
    error = failure(courier)
    assert "5 of 5 parts" in error.message
    assert error.details[0].startswith("of another bundle: v4-tiny-native-")
    assert "different bundles" in failure(courier, courier.output, foreign.output).message


def test_a_directory_without_index_says_what_to_copy(courier: Courier, tmp_path: Path) -> None:
    assert f"has no {INDEX_NAME}" in failure(courier, tmp_path).message
    (tmp_path / UNFINISHED_NAME).write_text("{}")
    assert "was never finished" in failure(courier, tmp_path).message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("id", "0" * 64),
        ("stream_bytes", 10**6),
        ("part_size_bytes", 0),
        ("members", []),
        ("files", [{"path": "../x", "size_bytes": 1, "sha256": ""}]),
    ],
)
def test_a_damaged_index_is_not_followed(courier: Courier, key: str, value: object) -> None:
    courier.create()
    path = courier.output / INDEX_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(ProfileError, match=INDEX_NAME):
        courier.install()
    assert not courier.arrival.exists()


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("repo", "../..", "is no repository at a commit"),
        ("repo", "..", "is no repository at a commit"),
        ("revision", "../../elsewhere", "is no repository at a commit"),
        ("files", [{"path": "x", "size_bytes": 1, "role": "main"}], "has no hash"),
        ("files", [{"path": "../x", "size_bytes": 1, "role": "main", "sha256": "a" * 64}], "no path inside"),
    ],
)
def test_a_manifest_that_leads_elsewhere_is_not_followed(courier: Courier, key: str, value: object, words: str) -> None:
    courier.create()
    path = courier.output / INDEX_NAME
    document = json.loads(path.read_text())
    document["manifest"][key] = value
    path.write_text(json.dumps(document))
    with pytest.raises(ProfileError, match=words):
        courier.install()
    assert not courier.arrival.exists()


def test_a_part_name_does_not_lead_elsewhere(courier: Courier) -> None:
    courier.create()
    path = courier.output / INDEX_NAME
    document = json.loads(path.read_text())
    document["parts"][0]["name"] = "../../etc/passwd"
    path.write_text(json.dumps(document))
    with pytest.raises(ProfileError, match="no name of a part"):
        courier.install()


def test_too_little_room_is_said_before_anything_is_written(courier: Courier, monkeypatch: pytest.MonkeyPatch) -> None:
    courier.create()
    monkeypatch.setattr(store, "free_bytes", lambda _: 10_000)
    assert "are missing" in failure(courier).message
    assert not list(courier.target.glob("model*"))


def test_weights_that_rotted_are_not_bundled(courier: Courier) -> None:
    path = courier.pulled.directory / "model-00002-of-00002.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DownloadError, match="is not what was pulled: its hash is"):
        courier.create()
    assert not (courier.output / INDEX_NAME).exists()
    path.write_bytes(courier.contents[path.name])
    courier.create()
    courier.assert_right(courier.install())


def test_weights_that_became_shorter_are_not_bundled(courier: Courier) -> None:
    path = courier.pulled.directory / "model-00001-of-00002.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DownloadError, match="has fewer than"):
        courier.create()


@pytest.mark.parametrize("survivors", range(5))
def test_creation_goes_on_after_the_parts_that_are_finished(
    courier: Courier, monkeypatch: pytest.MonkeyPatch, survivors: int
) -> None:
    class Killed(BaseException):
        pass

    finished = 0
    real = write_atomically

    def dying(path: Path, text: str) -> None:
        nonlocal finished
        if finished == survivors:
            raise Killed
        finished += 1
        real(path, text)

    monkeypatch.setattr("v4deploy.bundle.create.write_atomically", dying)
    with pytest.raises(Killed):
        courier.create()
    monkeypatch.setattr("v4deploy.bundle.create.write_atomically", real)
    kept = {path: path.stat().st_mtime_ns for path in parts(courier.output)[:survivors]}
    index = courier.create()
    assert index.is_finished
    assert kept == {path: path.stat().st_mtime_ns for path in parts(courier.output)[:survivors]}
    courier.assert_right(courier.install())


def test_a_finished_bundle_is_not_written_again(courier: Courier) -> None:
    index = courier.create()
    before = {path: path.stat().st_mtime_ns for path in parts(courier.output)}
    assert courier.create() == index
    assert before == {path: path.stat().st_mtime_ns for path in parts(courier.output)}


def test_another_bundle_in_the_directory_is_not_overwritten(courier: Courier) -> None:
    courier.create()
    with pytest.raises(DownloadError, match="holds another bundle"):
        courier.create(part_size_bytes=30_000)


@pytest.mark.parametrize("survivors", range(5))
def test_installation_goes_on_after_a_kill(courier: Courier, monkeypatch: pytest.MonkeyPatch, survivors: int) -> None:
    class Killed(BaseException):
        pass

    courier.create()
    real = Staging.add_part

    def dying(self: Staging, number: int) -> None:
        if number == survivors:
            raise Killed
        real(self, number)

    monkeypatch.setattr(Staging, "add_part", dying)
    with pytest.raises(Killed):
        courier.install()
    monkeypatch.setattr(Staging, "add_part", real)
    for path in parts(courier.output)[:survivors]:
        path.write_bytes(b"")
    courier.assert_right(courier.install())


def test_staged_bytes_that_rot_are_found_before_they_get_a_name(courier: Courier) -> None:
    courier.create()
    last = parts(courier.output)[-2]
    data = last.read_bytes()
    last.unlink()
    failure(courier)
    staged = max((courier.target / ".v4deploy-bundle").rglob("0*"), key=lambda path: path.stat().st_size)
    rotten = bytearray(staged.read_bytes())
    rotten[100] ^= 1
    staged.write_bytes(rotten)
    last.write_bytes(data)
    assert "came out wrong though its parts were right" in failure(courier).message
    courier.assert_right(courier.install())


def test_staged_files_that_vanished_are_read_again(courier: Courier) -> None:
    courier.create()
    last = parts(courier.output)[-2]
    data = last.read_bytes()
    last.unlink()
    failure(courier)
    for staged in (courier.target / ".v4deploy-bundle").rglob("0*"):
        staged.unlink()
    last.write_bytes(data)
    courier.assert_right(courier.install())


def test_two_installations_at_once_are_refused(courier: Courier) -> None:
    courier.create()
    courier.target.mkdir(parents=True)
    with locked(courier.target, since="now"):
        assert "is running" in failure(courier).message
