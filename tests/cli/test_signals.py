"""Ctrl-C, SIGTERM and SIGHUP: one line or one document, exit code 130, nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support_cli import V4Deploy
from v4deploy.domain.errors import ExitCode

# A command that takes its time, so that there is something to interrupt.
_SLOW = """
import sys, time
import v4deploy.commands.models as command
def slow(*_, **__):
    print("begun", file=sys.stderr, flush=True)
    time.sleep(60)
command.models = slow
from v4deploy.cli.main import main
sys.exit(main())
"""


def _interrupted(argv: list[str], at: str, number: signal.Signals, **options: Any) -> tuple[int, str, str]:
    """Run a program, send the signal once stderr has the line, and give exit code, stdout, and stderr after it."""
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options) as process:
        assert process.stderr is not None
        assert any(at in line for line in process.stderr), "it ended too early"
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=30)
    return process.returncode, stdout, stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_any_command_says_that_it_was_interrupted(number: signal.Signals) -> None:
    ended = _interrupted([sys.executable, "-c", _SLOW, "models"], "begun", number)
    assert ended == (ExitCode.INTERRUPTED, "", "interrupted\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_in_json_it_is_one_document(number: signal.Signals) -> None:
    code, stdout, stderr = _interrupted([sys.executable, "-c", _SLOW, "models", "--json"], "begun", number)
    document = json.loads(stdout)
    assert (code, stderr) == (ExitCode.INTERRUPTED, "")
    assert (document["schema"], document["ok"]) == ("v4deploy.models/1", False)
    assert document["error"]["code"] == "interrupted"


def test_also_while_the_result_is_printed(v4deploy: V4Deploy, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("v4deploy.cli.output.Output.finish", interrupted)
    ran = v4deploy("models")
    assert (ran.code, ran.stdout, ran.stderr) == (ExitCode.INTERRUPTED, "", "interrupted\n")


def test_also_while_an_error_is_printed(v4deploy: V4Deploy, monkeypatch: pytest.MonkeyPatch) -> None:
    from v4deploy.cli import main

    fail, interrupts = main._fail, [KeyboardInterrupt]

    def interrupted_once(arguments: list[str], error: Any) -> int:
        if interrupts:
            raise interrupts.pop()
        return fail(arguments, error)

    monkeypatch.setattr(main, "_fail", interrupted_once)
    ran = v4deploy("models", "no-such-model")
    assert (ran.code, ran.stdout, ran.stderr) == (ExitCode.INTERRUPTED, "", "interrupted\n")


@pytest.mark.engine
@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)])
def test_a_demo_that_is_ended_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    argv = [sys.executable, "-m", "v4deploy", "demo"]
    environ = {**os.environ, "TMPDIR": str(scratch)}
    code, stdout, stderr = _interrupted(argv, "started llama.cpp", number, env=environ)
    assert code == ExitCode.INTERRUPTED
    assert stdout == ""
    assert stderr.endswith("interrupted\n")
    assert not list(scratch.iterdir())
    assert not [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if any(str(scratch) in part for part in process.info["cmdline"] or ())
    ]
