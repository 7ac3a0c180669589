"""What a listing says of checkpoints, old and new: the pull's own rules, and nothing guessed."""

from __future__ import annotations

import dataclasses

import pytest

from tests.support.pull_builders import COMMIT, QUANT, checkpoint, listed, pinned
from v4deploy.domain.errors import DownloadError
from v4deploy.domain.model import Checkpoint, CheckpointFormat, FileRole, Runnable, WeightFile
from v4deploy.domain.source import Source
from v4deploy.pull.listing import Listing
from v4deploy.pull.manifest import FilePlan
from v4deploy.pull.relist import as_checkpoint, relisted, unknown_sets

SOURCE = Source(source="listing of hub.test", as_of="2026-11-28", confidence="A")
NEWER = "f" * 40


def listing(*files: FilePlan, revision: str = NEWER) -> Listing:
    return Listing(repo="tiny/V4-Tiny-GGUF", revision=revision, files=files)


def paths(quant: str, parts: int, folder: str | None = None) -> tuple[str, ...]:
    home = quant if folder is None else folder
    return tuple(f"{home}/V4-Tiny-{quant}-{part:05d}-of-{parts:05d}.gguf" for part in range(1, parts + 1))


def known(**changes: object) -> Checkpoint:
    return dataclasses.replace(checkpoint(), **changes)  # type: ignore[arg-type]


def test_an_upload_in_other_parts_is_taken_over_with_size_and_hashes() -> None:
    before = known(revision=COMMIT, size_bytes=30, files=tuple(pinned(path) for path in paths(QUANT, 2)))
    after = relisted(before, listing(*listed(*paths(QUANT, 3), "README.md")), SOURCE)
    assert (after.revision, after.size_bytes, after.shards, after.path_prefix) == (NEWER, 30, 3, QUANT)
    assert [file.path for file in after.files] == list(paths(QUANT, 3))
    assert all(file.sha256 and file.size_bytes == 10 for file in after.files)
    assert (after.id, after.engines, after.source) == (before.id, before.engines, SOURCE)


def test_what_was_measured_on_other_bytes_is_forgotten() -> None:
    before = known(size_bytes=30_000, dense_bytes=7, draft_bytes=5, quality="PPL 4.5", offloadable_bytes=1)
    near = relisted(before, listing(*listed(*paths(QUANT, 3), size_bytes=10_003)), SOURCE)
    assert (near.size_bytes, near.dense_bytes, near.draft_bytes, near.quality) == (30_009, 7, 5, "PPL 4.5")
    far = relisted(before, listing(*listed(*paths(QUANT, 3), size_bytes=11_000)), SOURCE)
    assert (far.dense_bytes, far.draft_bytes, far.quality) == (None, None, None)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (listed("README.md"), "no weight files"),
        (listed(*paths(QUANT, 3)[:2]), "is not whole"),
        (listed(*paths(QUANT, 2), *paths(QUANT, 3)), "is not whole"),
    ],
)
def test_a_quant_that_is_not_there_whole_is_refused(files: tuple[FilePlan, ...], words: str) -> None:
    with pytest.raises(DownloadError, match=words):
        relisted(known(), listing(*files), SOURCE)


def test_the_only_set_is_not_taken_for_a_quant_that_it_does_not_name() -> None:
    before = known(path_prefix="", files=(pinned("Q2.gguf"),))
    with pytest.raises(DownloadError, match=f"nothing in its name says `{QUANT}`"):
        relisted(before, listing(*listed("Something-New.gguf")), SOURCE)


def test_another_listing_of_the_same_commit_is_a_contradiction() -> None:
    path = paths(QUANT, 1)[0]
    before = known(revision=COMMIT, files=(pinned(path, size_bytes=11),))
    with pytest.raises(DownloadError, match="contradicts the catalogue"):
        relisted(before, listing(*listed(path), revision=COMMIT), SOURCE)


def test_safetensors_keep_their_small_files_only_where_a_hash_is_known() -> None:
    config = FilePlan(path="config.json", size_bytes=3, role=FileRole.CONFIG, git_sha1="a" * 40)
    pin = WeightFile(path="config.json", role=FileRole.CONFIG, sha256="c" * 64)
    before = known(format=CheckpointFormat.SAFETENSORS, path_prefix="", revision=COMMIT, files=(pin,))
    files = (*listed("model-00001-of-00001.safetensors", "tokenizer.json"), config)
    at_home = relisted(before, listing(*files, revision=COMMIT), SOURCE)
    assert {file.path for file in at_home.files} == {
        "config.json",
        "model-00001-of-00001.safetensors",
        "tokenizer.json",
    }
    assert at_home.shards == 1
    later = relisted(before, listing(*files), SOURCE)
    assert {file.path for file in later.files} == {"model-00001-of-00001.safetensors", "tokenizer.json"}


def test_side_files_follow_the_listing() -> None:
    sides = (
        WeightFile(path="dspark-a.gguf", role=FileRole.DRAFT, size_bytes=1),
        WeightFile(path="mmproj-*.gguf", role=FileRole.MMPROJ),
        WeightFile(path="dspark-gone.gguf", role=FileRole.DRAFT),
    )
    after = relisted(known(side_files=sides), listing(*listed(*paths(QUANT, 1), "dspark-a.gguf")), SOURCE)
    assert [file.path for file in after.side_files] == ["dspark-a.gguf", "mmproj-*.gguf"]
    assert after.side_files[0].size_bytes == 10


def test_a_new_quant_has_the_name_that_the_publisher_gave_it() -> None:
    now = listing(*listed(*paths(QUANT, 2), *paths("UD-Q5_K_NEW", 2), "odd/Something.gguf", "dspark-x.gguf"))
    found = unknown_sets([relisted(known(), now, SOURCE)], now)
    assert [(one.name, len(one.files)) for one in found] == [("UD-Q5_K_NEW", 2), ("Something", 1)]
    made = as_checkpoint(found[0], known(), now, SOURCE, "v4-tiny-0101-ud-q5_k_new")
    assert (made.quant, made.size_bytes, made.shards, made.path_prefix) == ("UD-Q5_K_NEW", 20, 2, "UD-Q5_K_NEW")
    assert (made.engines, made.runnable, made.quality, made.dense_bytes) == ((), Runnable.OTHER_ENGINE, None, None)


def test_a_name_that_does_not_follow_the_others_is_not_taken_apart() -> None:
    now = listing(*listed(*paths(QUANT, 1), *paths("UD-Q5_K_NEW", 1, folder="other")))
    found = unknown_sets([relisted(known(), now, SOURCE)], now)
    assert [one.name for one in found] == ["V4-Tiny-UD-Q5_K_NEW"]


def test_a_set_that_is_still_uploading_is_not_new() -> None:
    now = listing(*listed(*paths(QUANT, 1), *paths("UD-Q5_K_NEW", 3)[:2]))
    assert unknown_sets([relisted(known(), now, SOURCE)], now) == ()
