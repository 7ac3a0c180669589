from __future__ import annotations

import dataclasses
import hashlib
import shutil
from pathlib import Path

import pytest

from tests.pull.conftest import Desk
from tests.support.pull_builders import REPO, checkpoint, pinned, safetensors_bytes, write
from v4deploy.domain.errors import DownloadError, ProfileError
from v4deploy.domain.model import CheckpointFormat, FileRole
from v4deploy.pull import store
from v4deploy.pull.access import HubAccess
from v4deploy.pull.adopt.places import Adoptable, Places
from v4deploy.pull.manifest import MANIFEST_NAME
from v4deploy.pull.request import SPARE_BYTES, preview_pull, with_adoptable


def test_a_pull_brings_exactly_the_files_of_the_quant(desk: Desk) -> None:
    result = desk.pull()
    desk.assert_right(result)
    names = {path.relative_to(result.directory).as_posix() for path in Path(result.directory).rglob("*.*")}
    assert {name for name in names if not name.startswith(".v4deploy")} == {*desk.wanted, MANIFEST_NAME}
    commit = desk.hub.repositories[REPO].commit
    assert result.revision == commit
    assert result.directory == str(desk.weights / "tiny--V4-Tiny-GGUF" / commit)
    assert result.model_path == "UD-Q4_K_XL/V4-Tiny-UD-Q4_K_XL-00001-of-00003.gguf"
    assert result.fetched_bytes == result.total_bytes == sum(map(len, desk.wanted.values()))
    assert desk.listener.last == {path: len(data) for path, data in desk.wanted.items()}


def test_a_second_pull_fetches_nothing(desk: Desk) -> None:
    desk.pull()
    before = desk.byte_requests()
    result = desk.pull()
    assert (result.fetched_bytes, result.kept_bytes) == (0, result.total_bytes)
    assert desk.byte_requests() == before


def test_a_pinned_commit_that_is_complete_needs_no_hub(desk: Desk) -> None:
    pinned = checkpoint(revision=desk.hub.repositories[REPO].commit)
    desk.pull(desk.request(pinned))
    desk.hub.faults.seen.clear()
    assert desk.pull(desk.request(pinned)).fetched_bytes == 0
    assert not desk.hub.faults.seen


def test_a_missing_file_alone_is_fetched_again(desk: Desk) -> None:
    result = desk.pull()
    lost = next(iter(desk.wanted))
    (Path(result.directory) / lost).unlink()
    again = desk.pull()
    desk.assert_right(again)
    assert again.fetched_bytes == len(desk.wanted[lost])


def test_a_file_that_lost_its_time_is_hashed_not_fetched(desk: Desk) -> None:
    result = desk.pull()
    path = Path(result.directory) / next(iter(desk.wanted))
    shutil.copy(path, path.with_suffix(".copy"))
    path.with_suffix(".copy").replace(path)
    assert desk.pull().fetched_bytes == 0


def test_a_changed_file_of_the_same_size_is_replaced(desk: Desk) -> None:
    result = desk.pull()
    path = Path(result.directory) / next(iter(desk.wanted))
    path.write_bytes(b"\0" * path.stat().st_size)
    again = desk.pull()
    desk.assert_right(again)
    assert again.fetched_bytes == path.stat().st_size


def test_two_quants_of_one_repository_share_a_directory(desk: Desk) -> None:
    first = desk.pull()
    other = checkpoint(quant="UD-IQ1_S", prefix="UD-IQ1_S")
    second = desk.pull(desk.request(other))
    assert first.directory == second.directory
    assert desk.pull().fetched_bytes == 0
    manifest = store.read_manifest(Path(first.directory))
    assert manifest is not None
    assert {selection.checkpoint for selection in manifest.selections} == {"v4-tiny-ud-q4_k_xl", "v4-tiny-ud-iq1_s"}
    assert len(manifest.files) == 6


def test_a_draft_comes_when_it_is_asked_for(desk: Desk) -> None:
    request = dataclasses.replace(desk.request(), roles=(FileRole.MAIN, FileRole.DRAFT))
    roles = {file.path: file.role for file in desk.pull(request).files}
    assert roles.pop("dspark-V4-Tiny-Q8_0.gguf") is FileRole.DRAFT
    assert set(roles) == set(desk.wanted)


def test_safetensors_come_with_their_side_files_and_nothing_else(desk: Desk, tmp_path: Path) -> None:
    home = tmp_path / "published" / "tiny/V4-Tiny"
    weights = safetensors_bytes(seed=5, body_bytes=5000)
    write(home / "model-00001-of-00001.safetensors", weights)
    for name in ("config.json", "tokenizer.json", "README.md", "inference/config.json", "inference/model.py"):
        write(home / name, name.encode())
    with type(desk.hub)(tmp_path / "published") as hub:
        request = desk.request(
            checkpoint(repo="tiny/V4-Tiny", quant="native", prefix="", form=CheckpointFormat.SAFETENSORS)
        )
        result = desk.pull(request, access=HubAccess(endpoint=hub.endpoint))
    assert {file.path: file.role for file in result.files} == {
        "model-00001-of-00001.safetensors": FileRole.MAIN,
        "config.json": FileRole.CONFIG,
        "tokenizer.json": FileRole.TOKENIZER,
    }
    assert (Path(result.directory) / "config.json").read_bytes() == b"config.json"
    assert result.model_path is None


def test_the_dry_run_answers_without_a_hub(desk: Desk) -> None:
    request = desk.request(checkpoint(size_bytes=900_000))
    preview = preview_pull(request)
    assert [file.path for file in preview.files] == ["UD-Q4_K_XL/*.gguf"]
    assert (preview.total_bytes, preview.kept_bytes, preview.revision) == (900_000, 0, None)
    assert preview.free_bytes is not None
    assert not desk.hub.faults.seen
    assert not desk.weights.exists()


def test_the_dry_run_knows_what_is_there_already(desk: Desk) -> None:
    result = desk.pull()
    preview = preview_pull(desk.request())
    assert (preview.revision, preview.directory) == (result.revision, result.directory)
    assert preview.kept_bytes == preview.total_bytes == result.total_bytes


def test_the_dry_run_counts_what_needs_no_room(desk: Desk, tmp_path: Path) -> None:
    for path, data in desk.wanted.items():
        write(tmp_path / "given" / Path(path).name, data)
    sizes = {path: len(data) for path, data in desk.wanted.items()}
    files = tuple(
        pinned(path, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
        for path, data in desk.wanted.items()
    )
    preview = preview_pull(desk.request(checkpoint(size_bytes=sum(sizes.values()), files=files)))
    tight = dataclasses.replace(preview, free_bytes=SPARE_BYTES)
    found = with_adoptable(tight, Places(given=(tmp_path / "given",)))
    assert found.adoptable == Adoptable(size_bytes=sum(sizes.values()), linkable_bytes=sum(sizes.values()))
    assert (tight.missing_bytes, found.missing_bytes) == (sum(sizes.values()), 0)
    first = next(iter(desk.wanted))
    (tmp_path / "given" / Path(first).name).chmod(0o666)
    assert with_adoptable(tight, Places(given=(tmp_path / "given",))).missing_bytes == sizes[first]


def test_without_space_nothing_is_fetched(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    total = sum(map(len, desk.wanted.values()))
    monkeypatch.setattr(store, "free_bytes", lambda _path: total + SPARE_BYTES - 1000)
    with pytest.raises(DownloadError, match=r"1\.0 kB are missing"):
        desk.pull()
    assert desk.byte_requests() == 0
    preview = preview_pull(desk.request(checkpoint(size_bytes=total)))
    assert preview.missing_bytes == 1000


def test_offline_takes_what_an_earlier_pull_left(desk: Desk) -> None:
    desk.pull()
    desk.hub.faults.seen.clear()
    result = desk.pull(access=HubAccess(endpoint=desk.hub.endpoint, offline=True))
    assert [finding.id for finding in result.findings] == ["network.hub.offline"]
    assert not desk.hub.faults.seen


def test_offline_without_an_earlier_pull_says_which_switch_forbids_it(desk: Desk) -> None:
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE"):
        desk.pull(access=HubAccess(endpoint=desk.hub.endpoint, offline=True))
    assert not desk.hub.faults.seen


def test_offline_never_repairs_from_the_network(desk: Desk) -> None:
    result = desk.pull()
    path = Path(result.directory) / next(iter(desk.wanted))
    path.write_bytes(b"\0" * path.stat().st_size)
    desk.hub.faults.seen.clear()
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE"):
        desk.pull(access=HubAccess(endpoint=desk.hub.endpoint, offline=True))
    assert not desk.hub.faults.seen


def test_a_broken_manifest_says_how_to_go_on(desk: Desk) -> None:
    result = desk.pull()
    manifest = Path(result.directory) / MANIFEST_NAME
    manifest.write_text("{")
    with pytest.raises(ProfileError) as caught:
        desk.pull()
    assert caught.value.hint is not None
    assert str(manifest) in caught.value.hint
    manifest.unlink()
    assert desk.pull().fetched_bytes == 0


def test_a_directory_that_may_not_be_written_is_named(desk: Desk, tmp_path: Path) -> None:
    write(tmp_path / "weights", b"a file where the directory should be")
    with pytest.raises(DownloadError, match=r"cannot write .*weights"):
        desk.pull()
