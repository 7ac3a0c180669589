"""A user at a keyboard: an empty home, a command line, and what came back."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support_cli import Ran, V4Deploy
from v4deploy.cli.main import main
from v4deploy.shapes.hub_server import LoopbackHub
from v4deploy.shapes.profile import tiny_profile
from v4deploy.shapes.write import write_tiny

REPOSITORY = "someone/Tiny-GGUF"


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


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that a hub can publish: the tiny model in two shards."""
    root = tmp_path_factory.mktemp("published")
    write_tiny(root / REPOSITORY / "tiny", seed=1)
    return root


@pytest.fixture
def overlay(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own catalogue entry for it."""
    files = [
        (f"tiny/{path.name}", path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted((published / REPOSITORY / "tiny").iterdir())
    ]
    profile = tmp_path / "overlay" / "profiles" / "models" / "tiny.yaml"
    profile.parent.mkdir(parents=True)
    profile.write_text(yaml.safe_dump(tiny_profile(model="tiny", release="tiny-1", repository=REPOSITORY, files=files)))
    monkeypatch.setenv("V4DEPLOY_OVERLAY", str(tmp_path / "overlay"))


@pytest.fixture
def hub(published: Path, overlay: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    assert overlay is None
    with LoopbackHub(published) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield hub
