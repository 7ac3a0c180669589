"""Streams that misbehave: readers that go away, full disks, closed outputs, encodings that cannot carry a letter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from v4deploy.domain.errors import ExitCode


def run(shell_words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The command in a real shell, whose redirections are the point."""
    command = shell_words.replace("v4deploy ", f"{sys.executable} -m v4deploy ", 1)
    argv = ["bash", "-c", command]
    return subprocess.run(argv, capture_output=True, text=True, check=False, env={**os.environ, **environ})


@pytest.mark.parametrize("command", ["models", "models --json", "plan --hardware 'cpu 16GB'"])
def test_a_reader_that_goes_away_is_no_defect(command: str) -> None:
    done = run(f"v4deploy {command} 2>talk.txt | true; echo ${{PIPESTATUS[0]}}")
    expected = ExitCode.NOTHING_FITS if "plan" in command else ExitCode.OK
    assert done.stdout.split()[-1] == str(int(expected))
    assert "Traceback" not in Path("talk.txt").read_text()
    assert "defect" not in Path("talk.txt").read_text()


def test_an_error_to_a_reader_that_went_away_keeps_its_code() -> None:
    done = run("v4deploy plan --foo --json 2>talk.txt | true; echo ${PIPESTATUS[0]}")
    assert done.stdout.split()[-1] == str(int(ExitCode.USAGE))
    assert Path("talk.txt").read_text() == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("command", ["models", "models --json"])
def test_a_full_disk_behind_stdout_is_told_in_one_line(command: str) -> None:
    done = run(f"v4deploy {command} > /dev/full")
    assert done.returncode == ExitCode.USAGE
    assert "the output cannot be written: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_closed_stdout_is_no_defect() -> None:
    done = run("v4deploy models >&-")
    assert "Traceback" not in done.stderr
    assert done.returncode == ExitCode.OK


def test_json_is_ascii_whatever_was_typed() -> None:
    done = run("v4deploy plan $'v4-\\xff' --json", PYTHONIOENCODING="utf-8:strict")
    assert done.returncode == ExitCode.USAGE
    assert json.loads(done.stdout)["error"]["code"] == "usage"
    assert done.stdout.isascii()


def test_an_encoding_that_cannot_carry_a_letter_gets_another() -> None:
    done = run("v4deploy plan é", PYTHONIOENCODING="ascii")
    assert done.returncode == ExitCode.USAGE
    assert "no model is called" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("options", ["", " --json > /dev/null"])
def test_an_error_that_nobody_hears_keeps_its_exit_code(options: str) -> None:
    # Buffered, as it is for users: what could not be written must not be tried again while the interpreter exits.
    done = run(f"unset PYTHONUNBUFFERED; v4deploy plan nonsense{options} 2> /dev/full; echo $?")
    assert done.stdout.splitlines()[-1] == "2"
