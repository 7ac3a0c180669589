"""Directories that nobody pulled: what the hub's client left, what the catalogue pins, and what nobody vouches for."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path

import pytest

from tests.pull.conftest import Desk
from tests.support.faulty_hub import FaultyHub
from tests.support.pull_builders import (
    REPO,
    checkpoint,
    gguf_bytes,
    gguf_head,
    gguf_tensor,
    safetensors_bytes,
    text_key,
    write,
)
from v4deploy.domain.errors import DownloadError, UsageError
from v4deploy.domain.model import Checkpoint, FileRole, WeightFile
from v4deploy.pull.proof.report import Basis, FileState, ProblemKind, VerifyReport
from v4deploy.pull.verify import verify_directory

FIRST = "UD-Q4_K_XL/V4-Tiny-UD-Q4_K_XL-00001-of-00003.gguf"
ARCHITECTURES = ("deepseek4", "deepseek41")


def verify(directory: Path, *catalogue: Checkpoint, quick: bool = False) -> VerifyReport:
    return verify_directory(directory, max_workers=2, catalogue=catalogue, architectures=ARCHITECTURES, quick=quick)


def found(report: VerifyReport) -> list[tuple[str, ProblemKind]]:
    return [(problem.path, problem.kind) for problem in report.problems]


def states(report: VerifyReport) -> set[FileState]:
    return {file.state for file in report.files}


def pinning(files: dict[str, bytes], **changes: str) -> Checkpoint:
    pinned = tuple(
        WeightFile(path=path, role=FileRole.MAIN, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
        for path, data in files.items()
    )
    return dataclasses.replace(checkpoint(files=pinned, revision="a" * 40), **changes)  # type: ignore[arg-type]


def flip(path: Path, place: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    target = path.resolve()
    target.write_bytes(data)


@pytest.fixture
def cached(desk: Desk, tmp_path: Path) -> Path:
    """A snapshot in the hub's own cache, made by its own client."""
    from huggingface_hub import snapshot_download

    return Path(
        snapshot_download(REPO, cache_dir=tmp_path / "hf", endpoint=desk.hub.endpoint, allow_patterns="UD-Q4_K_XL/*")
    )


def test_a_snapshot_of_the_hub_cache_is_proven_by_the_names_of_its_blobs(cached: Path) -> None:
    report = verify(cached)
    assert (report.basis, report.repo, report.revision) == (Basis.HUB_CACHE, REPO, cached.name)
    assert (report.problems, states(report)) == ((), {FileState.PROVEN})
    assert verify(cached.parents[1]).directory == str(cached)


def test_damage_in_the_hub_cache_is_found(cached: Path) -> None:
    flip(cached / FIRST)
    second = FIRST.replace("00001", "00002")
    (cached / second).resolve().unlink()
    (cached / FIRST.replace("00001", "00003")).unlink()
    assert found(verify(cached)) == [
        ("UD-Q4_K_XL/V4-Tiny-UD-Q4_K_XL-*-of-00003.gguf", ProblemKind.MISSING),
        (FIRST, ProblemKind.CORRUPT),
        (second, ProblemKind.MISSING),
    ]


def test_a_cached_repository_with_several_snapshots_asks_which(cached: Path) -> None:
    (cached.parent / ("f" * 40)).mkdir()
    assert verify(cached.parents[1]).revision == cached.name
    (cached.parents[1] / "refs" / "main").unlink()
    with pytest.raises(UsageError, match="holds 2 snapshots"):
        verify(cached.parents[1])


def test_what_hf_download_wrote_down_proves_a_local_directory(desk: Desk, tmp_path: Path) -> None:
    from huggingface_hub import snapshot_download

    snapshot_download(
        REPO, local_dir=tmp_path / "local", endpoint=desk.hub.endpoint, allow_patterns=["UD-Q4_K_XL/*", "config.json"]
    )
    report = verify(tmp_path / "local")
    assert (report.basis, report.revision) == (Basis.HUB_DOWNLOAD, desk.hub.repositories[REPO].commit)
    assert (report.problems, states(report), len(report.files)) == ((), {FileState.PROVEN}, 4)
    flip(tmp_path / "local" / FIRST)
    (tmp_path / "local" / "config.json").unlink()
    assert found(verify(tmp_path / "local")) == [
        (FIRST, ProblemKind.CORRUPT),
        ("config.json", ProblemKind.MISSING),
    ]


def test_files_of_two_commits_are_named(desk: Desk, tmp_path: Path) -> None:
    from huggingface_hub import hf_hub_download

    hf_hub_download(REPO, FIRST, local_dir=tmp_path / "local", endpoint=desk.hub.endpoint)
    write(tmp_path / "published" / REPO / "README.md", b"# another commit\n")
    with FaultyHub(tmp_path / "published") as hub:
        for part in ("00002", "00003"):
            hf_hub_download(REPO, FIRST.replace("00001", part), local_dir=tmp_path / "local", endpoint=hub.endpoint)
    report = verify(tmp_path / "local")
    assert (found(report), report.is_right, report.revision) == ([(".", ProblemKind.MIXED)], True, None)


def test_the_catalogue_proves_files_of_its_names_and_sizes(tmp_path: Path) -> None:
    parts = {
        f"q/m-0000{part}-of-00002.gguf": gguf_bytes(seed=part, body_bytes=640, part=part, parts=2) for part in (1, 2)
    }
    for path, data in parts.items():
        write(tmp_path / "flat" / Path(path).name, data)
    other = pinning({"q/m-00001-of-00002.gguf": b"x"}, repo="other/one")
    report = verify(tmp_path / "flat", other, pinning(parts))
    assert (report.basis, report.repo, report.revision) == (Basis.CATALOGUE, REPO, "a" * 40)
    assert (report.problems, states(report)) == ((), {FileState.PROVEN})
    flip(tmp_path / "flat" / "m-00002-of-00002.gguf")
    assert found(verify(tmp_path / "flat", pinning(parts))) == [("m-00002-of-00002.gguf", ProblemKind.CORRUPT)]


def test_two_checkpoints_that_pin_the_same_names_are_both_right(tmp_path: Path) -> None:
    data = gguf_bytes(seed=1, body_bytes=64)
    write(tmp_path / "m.gguf", data)
    report = verify(tmp_path, pinning({"m.gguf": data[:-1] + b"x"}, repo="a/b"), pinning({"m.gguf": data}, repo="c/d"))
    assert (states(report), report.repo) == ({FileState.PROVEN}, None)


def test_what_nobody_vouches_for_is_not_proven(tmp_path: Path) -> None:
    write(tmp_path / "m.gguf", gguf_bytes(seed=1, body_bytes=64))
    write(tmp_path / "notes.json", b"{}")
    report = verify(tmp_path)
    assert (report.basis, report.problems) == (Basis.NONE, ())
    assert [(file.path, file.state, file.found_hash) for file in report.files] == [
        ("m.gguf", FileState.NOT_PROVEN, None)
    ]


def test_a_quick_look_reads_headers_only(desk: Desk) -> None:
    directory = Path(desk.pull().directory)
    flip(directory / FIRST)
    report = verify(directory, quick=True)
    assert (report.problems, states(report), report.checked_bytes) == ((), {FileState.NOT_PROVEN}, 0)
    os.truncate(directory / FIRST, 1000)
    assert found(verify(directory, quick=True)) == [(FIRST, ProblemKind.WRONG_SIZE)]


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        (LFS, ProblemKind.BAD_HEADER, "a git-LFS pointer: the repository was cloned without `git lfs pull`"),
        (b"<!DOCTYPE html><p>404", ProblemKind.BAD_HEADER, "a web page: an error or a login was saved"),
        (b"", ProblemKind.BAD_HEADER, "is empty"),
        (gguf_bytes(seed=1, body_bytes=640)[:-100], ProblemKind.BAD_HEADER, "has tensor `blk.1.ffn` up to byte"),
        (
            gguf_head(1, text_key("general.architecture", "qwen3"), [gguf_tensor("a", (32,))]) + b"q" * 32,
            ProblemKind.WRONG_REPOSITORY,
            "is of architecture qwen3, not deepseek4 or deepseek41",
        ),
        (
            gguf_bytes(seed=1, body_bytes=200_000)[:-100_000] + bytes(100_000),
            ProblemKind.SUSPECT,
            "ends in 65536 zeros or more",
        ),
    ],
)
def test_what_a_header_shows_without_any_hash(tmp_path: Path, data: bytes, kind: ProblemKind, words: str) -> None:
    write(tmp_path / "m.gguf", data)
    report = verify(tmp_path)
    assert found(report) == [("m.gguf", kind)]
    assert words in report.problems[0].summary


def test_a_draft_may_be_of_another_architecture(tmp_path: Path) -> None:
    draft = gguf_head(1, text_key("general.architecture", "deepseek4-dspark"), [gguf_tensor("a", (32,))]) + b"q" * 32
    write(tmp_path / "dspark-m.gguf", draft)
    assert verify(tmp_path).problems == ()


def test_a_preallocated_file_is_suspect(tmp_path: Path) -> None:
    data = gguf_bytes(seed=1, body_bytes=4_000_000)
    path = tmp_path / "m.gguf"
    path.write_bytes(data[:1_000_000])
    os.truncate(path, len(data))
    if path.stat().st_blocks * 512 >= len(data):
        pytest.skip("this file system has no holes")
    with path.open("r+b") as stream:
        stream.seek(len(data) - 100_000)
        stream.write(data[-100_000:])
    report = verify(tmp_path)
    assert found(report) == [("m.gguf", ProblemKind.SUSPECT)]
    assert "was never written from byte" in report.problems[0].summary


def indexed(directory: Path, weight_map: dict[str, str]) -> None:
    text = json.dumps({"metadata": {"total_size": 0}, "weight_map": weight_map}).encode()
    write(directory / "model.safetensors.index.json", text)


def test_an_index_and_its_files(tmp_path: Path) -> None:
    one = "model-00001-of-00001.safetensors"
    write(tmp_path / one, safetensors_bytes(seed=1, body_bytes=100))
    indexed(tmp_path, {"weight": one})
    assert found(verify(tmp_path)) == []
    write(tmp_path / "old-00001-of-00001.safetensors", safetensors_bytes(seed=1, body_bytes=100))
    indexed(tmp_path, {"weight": one, "bias": one, "other": "gone.safetensors"})
    report = verify(tmp_path)
    assert found(report) == [
        ("gone.safetensors", ProblemKind.MISSING),
        (one, ProblemKind.INCONSISTENT),
        ("old-00001-of-00001.safetensors", ProblemKind.STALE),
    ]
    assert "lacks 1 of the tensors that model.safetensors.index.json promises, for example `bias`" in str(report)
    write(tmp_path / "model.safetensors.index.json", b"{")
    assert (("model.safetensors.index.json", ProblemKind.BAD_HEADER)) in found(verify(tmp_path))


def test_split_parts_that_contradict_each_other(tmp_path: Path) -> None:
    names = [f"m-0000{part}-of-00002.gguf" for part in (1, 2)]
    write(tmp_path / names[0], gguf_bytes(seed=1, body_bytes=64, part=1, parts=2))
    write(tmp_path / names[1], gguf_bytes(seed=1, body_bytes=0, part=2, parts=2))
    report = verify(tmp_path)
    assert {(path, kind) for path, kind in found(report)} == {
        (names[0], ProblemKind.INCONSISTENT),
        (names[1], ProblemKind.INCONSISTENT),
    }
    (tmp_path / names[0]).rename(tmp_path / "swap")
    (tmp_path / names[1]).rename(tmp_path / names[0])
    (tmp_path / "swap").rename(tmp_path / names[1])
    assert set(found(verify(tmp_path))) == {(name, ProblemKind.BAD_HEADER) for name in names}


def test_nothing_to_check(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a directory"):
        verify(tmp_path / "nowhere")
    write(tmp_path / "README.md", b"")
    with pytest.raises(DownloadError, match="neither a manifest nor weight files"):
        verify(tmp_path)
