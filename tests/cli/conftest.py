"""A user at a keyboard: an empty home, a command line, and what came back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support_cli import Ran, V4Deploy
from v4deploy.cli.main import main


@pytest.fixture(autouse=True)
def _empty_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty home, and no variables of the developer's."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("HF_TOKEN", "HF_ENDPOINT", "HF_HOME", "HF_HUB_OFFLINE", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("V4DEPLOY_WEIGHTS_DIR", str(tmp_path / "weights"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture
def v4deploy(capsys: pytest.CaptureFixture[str]) -> V4Deploy:
    """Runs `v4deploy ARGUMENTS` in this process."""

    def run(*arguments: str) -> Ran:
        code = main(list(arguments))
        captured = capsys.readouterr()
        return Ran(code=code, stdout=captured.out, stderr=captured.err)

    return run
