"""What `serve`, `up` and `demo` refuse before anything starts, and the engines that they do not start."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.support_cli import V4Deploy
from v4deploy.commands.plan import read_plan
from v4deploy.commands.result import Result
from v4deploy.domain.errors import ExitCode


@pytest.mark.parametrize("command", ["serve", "up"])
@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--timeout", "0"), ("--timeout", "-1"), ("--timeout", "nan"), ("--timeout", "inf"), ("--timeout", "1e12"),
        ("--host", ""), ("--host", " "), ("--host", "127.0.0.1 "),
    ],
)  # fmt: skip
def test_what_no_machine_could_grant_is_a_usage_error(
    v4deploy: V4Deploy, command: str, option: str, value: str
) -> None:
    ran = v4deploy(command, "v4-flash", option, value)
    assert ran.code == ExitCode.USAGE
    assert f"error: `{option} " in ran.stderr
    assert "doctor" not in ran.stderr


@pytest.mark.parametrize("command", ["serve", "up", "render"])
def test_a_key_that_no_request_can_carry_is_refused(v4deploy: V4Deploy, tmp_path: Path, command: str) -> None:
    key = tmp_path / "key"
    key.write_text("sk-geheimer-schlüssel\n", encoding="utf-8")
    key.chmod(0o600)
    ran = v4deploy(command, "v4-flash", "--api-key-file", str(key))
    assert ran.code == ExitCode.USAGE
    assert f"line 1 of `{key}` cannot be sent" in ran.stderr
    assert "geheimer" not in ran.stdout + ran.stderr


@pytest.fixture
def mindie_plan(v4deploy: V4Deploy, tmp_path: Path) -> Path:
    path = tmp_path / "plan.json"
    path.write_text(
        v4deploy("plan", "v4-flash", "--hardware", "16x ascend-910c", "--engine", "mindie", "--json").stdout
    )
    return path


def test_serve_names_the_way_for_an_engine_that_it_does_not_start(v4deploy: V4Deploy, mindie_plan: Path) -> None:
    ran = v4deploy("serve", "--plan", str(mindie_plan))
    assert ran.code == ExitCode.USAGE
    assert "start llama.cpp, vLLM and Ollama; this plan is for mindie" in ran.stderr
    assert "v4deploy pull v4-flash-0731 --quant" in ran.stderr
    assert "--engine mindie" in ran.stderr


def test_up_refuses_such_an_engine_before_the_pull(
    v4deploy: V4Deploy, mindie_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = read_plan(mindie_plan)
    monkeypatch.setattr("v4deploy.commands.up.make_plan", lambda *_: Result(kind="plan", data=plan))
    ran = v4deploy("up", "v4-flash", "--ignore-checks")
    assert ran.code == ExitCode.USAGE
    assert "v4deploy render v4-flash-0731" in ran.stderr
    assert not (tmp_path / "weights").exists()


def test_a_plan_that_is_none_is_explained(v4deploy: V4Deploy, tmp_path: Path) -> None:
    ran = v4deploy("pull", "--plan", "nowhere.json")
    assert ran.code == ExitCode.USAGE
    assert "v4deploy plan --json > plan.json" in ran.stderr
    (tmp_path / "weights.gguf").write_bytes(b"GGUF\xff\xfe")
    ran = v4deploy("pull", "--plan", "weights.gguf")
    assert ran.code == ExitCode.USAGE
    assert "weights.gguf is not JSON" in ran.stderr


@pytest.mark.parametrize("command", ["serve", "up"])
def test_help_says_what_is_started(v4deploy: V4Deploy, command: str) -> None:
    assert "llama.cpp" in v4deploy(command, "--help").stdout.split("Options")[0]


@pytest.mark.parametrize("name", ["", "  "])
def test_a_demo_kept_nowhere(v4deploy: V4Deploy, tmp_path: Path, name: str) -> None:
    before = sorted(tmp_path.iterdir())
    ran = v4deploy("demo", "--keep", name)
    assert ran.code == ExitCode.USAGE
    assert "`--keep`" in ran.stderr
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_demo_kept_where_no_directory_can_be(v4deploy: V4Deploy, tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    ran = v4deploy("demo", "--keep", str(tmp_path / "file" / below))
    assert ran.code == ExitCode.USAGE
    assert str(tmp_path / "file" / below) in ran.stderr
    assert "--keep" in ran.stderr


def test_a_demo_without_a_temporary_directory(v4deploy: V4Deploy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nowhere/at/all")
    ran = v4deploy("demo")
    assert ran.code == ExitCode.LAUNCH_FAILED
    assert "/nowhere/at/all" in ran.stderr
    assert "TMPDIR" in ran.stderr


def test_a_demo_on_a_full_disk(v4deploy: V4Deploy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("v4deploy.commands.demo.write_tiny", full)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ran = v4deploy("demo")
    assert ran.code == ExitCode.LAUNCH_FAILED
    assert "No space left on device" in ran.stderr
    assert f"{tmp_path}/v4deploy-demo-" in ran.stderr
    assert "TMPDIR" in ran.stderr
    assert not list(tmp_path.glob("v4deploy-demo-*"))
