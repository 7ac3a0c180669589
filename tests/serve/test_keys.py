from __future__ import annotations

from pathlib import Path

import pytest

from v4deploy.domain.engine import EngineId
from v4deploy.domain.errors import UsageError
from v4deploy.serve.keys import check_key_file, read_api_keys, unused_keys


def test_one_key_a_line_without_comments(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# for the team\nsk-one\n\n  sk-two  \n")
    assert read_api_keys(str(file)) == ("sk-one", "sk-two")


@pytest.mark.parametrize("content", [b"", b"# only a comment\n", b"\xff\xfe\x00"])
def test_a_file_without_a_key_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "keys"
    file.write_bytes(content)
    with pytest.raises(UsageError, match="keys"):
        read_api_keys(str(file))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_api_keys(str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("sk-ключ-7\n".encode(), "the key in line 1"),
        ("# ours\nsk-one\nsk-schlüssel\n".encode(), "the key in line 3"),
        (b"sk-\x00one\n", "the key in line 1"),
        (b"sk-\x1bone\n", "the key in line 1"),
        (b"\xef\xbb\xbfsk-one\n", "byte order mark"),
        ("sk-schlüssel".encode("latin-1"), "no UTF-8 text"),
        ("sk-one\n".encode("utf-16"), "no UTF-8 text"),
    ],
)
def test_a_key_that_no_header_carries_is_refused_and_not_repeated(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "keys"
    file.write_bytes(content)
    for read in (read_api_keys, check_key_file):
        with pytest.raises(UsageError, match=words) as caught:
            read(str(file))
        told = f"{caught.value.message} {caught.value.hint}"
        assert str(file) in told
        assert not any(part in told for part in ("sk-", "0xfc", "0xff", "ü", "ключ"))


def test_comments_may_say_what_they_like(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# für alle\nsk-one\n", encoding="utf-8")
    assert read_api_keys(str(file)) == ("sk-one",)


def test_a_file_that_others_will_read_need_not_be_here(tmp_path: Path) -> None:
    check_key_file(str(tmp_path / "none"))
    (tmp_path / "empty").touch()
    check_key_file(str(tmp_path / "empty"))


@pytest.mark.parametrize(
    "content", [b"sk-one\r\n", b" sk-one\n", b"sk-one\t\n", b"  # ours\nsk-one\n", b"sk-one\n  \n"]
)
def test_a_line_that_engines_take_whole_has_nothing_around_its_key(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "keys"
    file.write_bytes(content)
    assert read_api_keys(str(file)) == ("sk-one",)
    with pytest.raises(UsageError, match=r"line [12] of .* begins or ends with blanks") as caught:
        check_key_file(str(file))
    assert "sk-one" not in f"{caught.value.message} {caught.value.hint}"


def test_keys_that_an_engine_does_not_take_are_told_without_them() -> None:
    (finding,) = unused_keys(EngineId.VLLM, ("sk-one", "sk-two"))
    assert "only the first of 2" in finding.summary
    assert "sk-" not in repr(finding)
    assert unused_keys(EngineId.VLLM, ("sk-one",)) == ()
    assert unused_keys(EngineId.LLAMA_CPP, ("sk-one", "sk-two")) == ()
