from __future__ import annotations

from pathlib import Path

import pytest

from v4deploy.domain.errors import UsageError
from v4deploy.serve.keys import read_api_keys


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
