from __future__ import annotations

from pathlib import Path

from v4deploy.domain import errors
from v4deploy.domain.errors import ExitCode, V4DeployError

_CLASSES = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, V4DeployError)]


def test_each_error_owns_its_code() -> None:
    codes = [kind.code for kind in _CLASSES]
    assert len(codes) == len(set(codes))


def test_each_exit_code_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "exit-codes.md").read_text()
    for code in ExitCode:
        assert f"| {code.value} |" in text, code


def test_each_error_code_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "exit-codes.md").read_text()
    for kind in _CLASSES:
        assert f"`{kind.code}`" in text or kind is V4DeployError, kind
