from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from tests.pull.conftest import Desk
from tests.support.pull_builders import COMMIT, gguf_bytes, safetensors_bytes, write
from v4deploy.domain.errors import DownloadError
from v4deploy.domain.model import FileRole, Hub
from v4deploy.pull import store
from v4deploy.pull.manifest import FilePlan, Manifest, role_of
from v4deploy.pull.proof.report import ProblemKind, VerifyReport
from v4deploy.pull.store import STAGING_FOLDER
from v4deploy.pull.verify import verify_directory

FIRST = "UD-Q4_K_XL/V4-Tiny-UD-Q4_K_XL-00001-of-00003.gguf"


def verify(directory: str | Path) -> VerifyReport:
    return verify_directory(Path(directory), max_workers=3)


def found(report: VerifyReport) -> list[tuple[str, ProblemKind]]:
    return [(problem.path, problem.kind) for problem in report.problems]


def test_what_was_pulled_is_right(desk: Desk) -> None:
    result = desk.pull()
    heard: dict[str, int] = {}
    report = verify_directory(
        Path(result.directory), max_workers=3, on_bytes=lambda path, done, _size: heard.update({path: done})
    )
    assert report.is_right
    assert report.problems == ()
    assert (len(report.files), report.checked_files, report.checked_bytes) == (3, 3, result.total_bytes)
    assert heard == {path: len(data) for path, data in desk.wanted.items()}


def test_a_flipped_byte_that_kept_size_and_time_is_found(desk: Desk) -> None:
    path = Path(desk.pull().directory) / FIRST
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    report = verify(path.parents[1])
    assert found(report) == [(FIRST, ProblemKind.CORRUPT)]
    assert hashlib.sha256(desk.wanted[FIRST]).hexdigest() in report.problems[0].summary
    assert not report.is_right


def test_a_truncated_file_is_found(desk: Desk) -> None:
    path = Path(desk.pull().directory) / FIRST
    os.truncate(path, 1000)
    report = verify(path.parents[1])
    assert found(report) == [(FIRST, ProblemKind.WRONG_SIZE)]
    assert report.problems[0].summary == f"has 1000 bytes instead of {len(desk.wanted[FIRST])}"


def test_zeros_at_the_end_are_found_though_the_length_is_right(desk: Desk) -> None:
    path = Path(desk.pull().directory) / FIRST
    data = desk.wanted[FIRST]
    path.write_bytes(data[:-5000] + bytes(5000))
    assert found(verify(path.parents[1])) == [(FIRST, ProblemKind.CORRUPT)]


def test_a_missing_file_is_found_and_a_part_of_it_mentioned(desk: Desk) -> None:
    path = Path(desk.pull().directory) / FIRST
    path.rename(path.with_name(path.name + ".part"))
    report = verify(path.parents[1])
    assert found(report) == [(FIRST, ProblemKind.MISSING)]
    assert "pull again" in report.problems[0].summary


def test_an_extra_file_is_named_but_the_weights_stay_right(desk: Desk) -> None:
    directory = Path(desk.pull().directory)
    write(directory / "UD-Q4_K_XL/other.gguf", b"GGUF")
    report = verify(directory)
    assert found(report) == [("UD-Q4_K_XL/other.gguf", ProblemKind.EXTRA)]
    assert report.is_right


def test_what_an_unfinished_installation_of_a_bundle_keeps_is_no_extra_file(desk: Desk) -> None:
    directory = Path(desk.pull().directory)
    write(directory / STAGING_FOLDER / "0123" / "00000", b"growing")
    assert verify(directory).problems == ()


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.gguf")
    (problem,) = verify(tmp_path).problems
    assert (problem.kind, problem.summary) == (ProblemKind.UNREADABLE, "is no regular file")


def test_all_problems_are_found_at_once(desk: Desk) -> None:
    directory = Path(desk.pull().directory)
    one, two, three = (directory / path for path in desk.wanted)
    one.unlink()
    os.truncate(two, 5)
    three.write_bytes(bytes(three.stat().st_size))
    write(directory / "stray", b"")
    kinds = [kind for _, kind in found(verify(directory))]
    assert kinds == [ProblemKind.MISSING, ProblemKind.WRONG_SIZE, ProblemKind.CORRUPT, ProblemKind.EXTRA]


def test_a_directory_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="neither a manifest nor weight files"):
        verify(tmp_path)


def published(directory: Path, contents: dict[str, bytes]) -> Path:
    """A directory whose hashes are all right, so that only headers can be wrong."""
    files = []
    for path, data in contents.items():
        write(directory / path, data)
        digest = hashlib.sha256(data).hexdigest()
        files.append(FilePlan(path=path, size_bytes=len(data), role=role_of(path), sha256=digest))
    empty = Manifest(
        repo="a/b",
        hub=Hub.HUGGINGFACE,
        revision=COMMIT,
        endpoint_host="h",
        fetched_at="2026-11-22",
        files=(),
        selections=(),
    )
    store.write_manifest(directory, empty.with_selection("c", (FileRole.MAIN,), files))
    return directory


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("m.gguf", b"version https://git-lfs.github.com/spec/v1\n", "begins with b'vers'"),
        ("m.gguf", b"", "is empty"),
        ("m.gguf", b"GGUF\x09\x00\x00\x00" + bytes(16), "version 9"),
        ("m.gguf", gguf_bytes(seed=1, body_bytes=0)[:60], "ends inside its own header"),
        ("m.gguf", gguf_bytes(seed=1, body_bytes=9, part=1, parts=2), "its name says part 1 of 1"),
        ("m-00001-of-00001.gguf", gguf_bytes(seed=1, body_bytes=9, part=2, parts=3), "says it is part 2 of 3"),
        ("m.safetensors", safetensors_bytes(seed=1, body_bytes=50)[:-1], "has tensors up to byte"),
        ("m.safetensors", safetensors_bytes(seed=1, body_bytes=50) + b"x", "has tensors up to byte"),
        ("m.safetensors", b"<html>", "is too short"),
        ("m.safetensors", b"<html>no weights</html>", "claims a header"),
        ("m.safetensors", b"\x02\0\0\0\0\0\0\0[]", "no JSON object"),
    ],
)
def test_a_header_that_lies_is_found_behind_a_right_hash(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    report = verify(published(tmp_path, {name: data}))
    assert found(report) == [(name, ProblemKind.BAD_HEADER)]
    assert words in report.problems[0].summary


def test_right_headers_pass(tmp_path: Path) -> None:
    contents = {
        "m.gguf": gguf_bytes(seed=1, body_bytes=9),
        "q/m-00001-of-00002.gguf": gguf_bytes(seed=1, body_bytes=9, part=1, parts=2),
        "q/m-00002-of-00002.gguf": gguf_bytes(seed=2, body_bytes=9, part=2, parts=2),
        "m.safetensors": safetensors_bytes(seed=1, body_bytes=50),
        "config.json": b"{}",
    }
    assert verify(published(tmp_path, contents)).problems == ()


def test_a_set_that_was_recorded_incomplete_is_reported(tmp_path: Path) -> None:
    report = verify(published(tmp_path, {"m-00001-of-00002.gguf": gguf_bytes(seed=1, body_bytes=9, part=1, parts=2)}))
    assert found(report) == [("m-*-of-00002.gguf", ProblemKind.MISSING)]
