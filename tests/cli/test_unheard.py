"""Talk that finds no taker, as with `2> FILE` on a full disk, stops no work and judges no file."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from v4deploy.cli.main import main
from v4deploy.domain.errors import ExitCode

pytestmark = [
    pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full"),
    pytest.mark.usefixtures("hub"),
]


def unheard(*arguments: str) -> int:
    """The command's exit code with a stderr that takes nothing."""
    with pytest.MonkeyPatch.context() as patch, Path("/dev/full").open("w") as full:
        patch.setattr(sys, "stderr", full)
        return main(list(arguments))


def pulled(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "weights").rglob("*.gguf"))


@pytest.mark.parametrize("progress", ["plain", "json", "none"])
def test_weights_are_fetched_and_none_is_called_unreadable(tmp_path: Path, progress: str) -> None:
    assert unheard("pull", "tiny", "--progress", progress) == ExitCode.OK
    assert len(pulled(tmp_path)) == 2
    assert unheard("verify", "tiny") == ExitCode.OK


def test_a_repair_repairs(tmp_path: Path) -> None:
    unheard("pull", "tiny")
    victim = pulled(tmp_path)[0]
    right = victim.read_bytes()
    victim.write_bytes(bytes(len(right)))
    assert unheard("verify", "tiny", "--repair") == ExitCode.OK
    assert victim.read_bytes() == right


def test_a_bundle_is_made_and_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unheard("pull", "tiny")
    bundle = str(tmp_path / "bundle")
    assert unheard("bundle", "create", "tiny", "--no-wheels", "--output", bundle) == ExitCode.OK
    monkeypatch.setenv("V4DEPLOY_WEIGHTS_DIR", str(tmp_path / "away"))
    assert unheard("bundle", "install", bundle, "--output", str(tmp_path / "launch")) == ExitCode.OK
    assert len(list((tmp_path / "away").rglob("*.gguf"))) == 2


def test_a_refresh_says_what_it_got_and_not_that_it_could_not_speak() -> None:
    # The loopback hub has none of these repositories.
    assert unheard("models", "v4-flash-base", "--refresh", "--dry-run") == ExitCode.DOWNLOAD_FAILED
