from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from v4deploy.system.base import CommandRun, Failure
from v4deploy.system.live import MAX_FILE_BYTES, LiveSystem, parse_library_answer


def test_a_file_is_read_as_text(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"NVIDIA Jetson\0\xff")
    assert LiveSystem().read_text(str(tmp_path / "model")).text == "NVIDIA Jetson\0\ufffd"


def test_a_file_without_end_is_read_up_to_the_limit() -> None:
    text = LiveSystem().read_text("/dev/zero").text
    assert text is not None
    assert len(text) == MAX_FILE_BYTES


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux kernel files")
def test_kernel_files_that_refuse_large_reads_are_read() -> None:
    assert LiveSystem().read_text("/proc/sys/kernel/osrelease").text == f"{os.uname().release}\n"


def test_why_a_file_gave_nothing(tmp_path: Path) -> None:
    system = LiveSystem()
    assert system.read_text(str(tmp_path / "absent")).failure is Failure.NOT_FOUND
    assert system.read_text(str(tmp_path)).failure is Failure.UNREADABLE


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_forbidden_file_is_not_an_absent_one(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "secret").chmod(0)
    assert LiveSystem().read_text(str(tmp_path / "secret")).failure is Failure.NO_PERMISSION


def test_directories(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        (tmp_path / name).touch()
    system = LiveSystem()
    assert system.list_dir(str(tmp_path)) == ("a", "b", "c")
    assert system.list_dir(str(tmp_path / "absent")) is None
    assert system.exists(str(tmp_path / "a"))
    assert not system.exists(str(tmp_path / "d"))


def test_the_disk_of_a_path_that_does_not_exist_yet_is_its_parents(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "data")
    usage = LiveSystem().disk_usage(str(tmp_path / "link" / "new" / "weights"))
    assert usage.resolved_path == str((tmp_path / "data" / "new" / "weights").resolve())
    assert usage.total_bytes == os.statvfs(tmp_path).f_blocks * os.statvfs(tmp_path).f_frsize


def test_programs_are_looked_up_on_the_path_that_was_given(tmp_path: Path) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho fake $1\n")
    program.chmod(0o755)
    system = LiveSystem({"PATH": str(tmp_path)})
    assert system.which("nvidia-smi") == str(program)
    ran = system.run(("nvidia-smi", "-L"), timeout_seconds=10)
    assert (ran.argv, ran.stdout) == (("nvidia-smi", "-L"), "fake -L\n")
    assert system.run(("sh",), timeout_seconds=10).failure is Failure.NOT_FOUND


def test_a_library_reader_runs_in_a_child(tmp_path: Path) -> None:
    (tmp_path / "pynvml.py").write_text(
        "class NVMLError(Exception): value = 9\ndef nvmlInit(): raise NVMLError('down')\n"
    )
    system = LiveSystem({**os.environ, "PYTHONPATH": str(tmp_path)})
    answer = system.library("nvml", timeout_seconds=30)
    assert answer.data == {"module_is_old": True, "init": {"error": "down", "code": 9}}


def test_a_python_module_in_the_working_directory_is_not_taken_for_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pynvml.py").write_text("raise SystemExit(3)\n")
    monkeypatch.chdir(tmp_path)
    assert LiveSystem().library("nvml", timeout_seconds=30).data is not None


def test_a_reader_that_does_not_exist_is_an_error_not_a_crash() -> None:
    answer = LiveSystem().library("absent", timeout_seconds=30)
    assert answer.data is None
    assert "absent_reader" in (answer.error or "")


@pytest.mark.parametrize(
    ("ran", "words"),
    [
        (
            CommandRun(argv=("x",), exit_status=None, stdout='{"init"', failure=Failure.TIMED_OUT),
            "gave no answer in 10 s",
        ),
        (CommandRun(argv=("x",), exit_status=-11, stderr="Traceback\nSegmentation fault\n"), "-11: Segmentation fault"),
        (CommandRun(argv=("x",), exit_status=1), "no message"),
        (CommandRun(argv=("x",), exit_status=0, stdout=""), "no JSON"),
        (CommandRun(argv=("x",), exit_status=0, stdout='{"init": {"val'), "no JSON"),
        (CommandRun(argv=("x",), exit_status=0, stdout="[1]"), "no object"),
    ],
    ids=["hangs", "crashes", "fails-silently", "empty", "truncated", "other-json"],
)
def test_what_a_broken_reader_printed_becomes_an_error(ran: CommandRun, words: str) -> None:
    answer = parse_library_answer("nvml", ran, timeout_seconds=10)
    assert answer.data is None
    assert words in (answer.error or "")


def test_facts_are_those_of_this_machine() -> None:
    facts = LiveSystem().facts()
    assert facts.system == os.uname().sysname
    assert facts.usable_cpus is not None
    assert facts.usable_cpus > 0
    assert LiveSystem().package_version("v4deploy") is not None
    assert LiveSystem().package_version("no-such-distribution") is None
