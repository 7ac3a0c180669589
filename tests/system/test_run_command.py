from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from v4deploy.system.base import Failure
from v4deploy.system.run import run_command

ENVIRON = {"PATH": os.environ["PATH"], "LANG": "de_DE.UTF-8"}


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def test_output_and_exit_status_come_back_apart() -> None:
    ran = run_command(
        python("import sys; print('out'); print('err', file=sys.stderr); sys.exit(7)"),
        timeout_seconds=10,
        environ=ENVIRON,
    )
    assert (ran.exit_status, ran.stdout, ran.stderr, ran.failure) == (7, "out\n", "err\n", None)


def test_output_is_not_localised_and_input_is_closed() -> None:
    ran = run_command(
        python("import os, sys; print(os.environ['LC_ALL'], repr(sys.stdin.read()))"),
        timeout_seconds=10,
        environ=ENVIRON,
    )
    assert ran.stdout == "C ''\n"


def test_a_hanging_command_is_killed_with_its_children_and_keeps_its_words(tmp_path: Path) -> None:
    mark = tmp_path / "child"
    code = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(mark)!r}, 'w').write(str(child.pid))\n"
        "print('partial', flush=True)\n"
        "time.sleep(60)\n"
    )
    ran = run_command(python(code), timeout_seconds=4, environ=ENVIRON)
    assert (ran.failure, ran.exit_status, ran.stdout) == (Failure.TIMED_OUT, None, "partial\n")
    assert ended(int(mark.read_text()))


def test_a_command_that_ignores_the_polite_signal_is_killed_all_the_same() -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    assert run_command(python(code), timeout_seconds=0.5, environ=ENVIRON).failure is Failure.TIMED_OUT


def test_a_command_that_closes_its_output_and_runs_on_is_still_limited() -> None:
    code = "import os, time; os.close(1); os.close(2); time.sleep(60)"
    assert run_command(python(code), timeout_seconds=0.5, environ=ENVIRON).failure is Failure.TIMED_OUT


def test_a_daemon_that_keeps_the_pipe_open_does_not_hold_us_up() -> None:
    code = (
        "import subprocess, sys\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(5)'], start_new_session=True)\n"
        "print('done')\n"
    )
    started = time.monotonic()
    ran = run_command(python(code), timeout_seconds=60, environ=ENVIRON)
    assert (ran.exit_status, ran.stdout) == (0, "done\n")
    assert time.monotonic() - started < 60


def test_endless_output_is_cut_and_the_command_stopped() -> None:
    code = "import sys\nwhile True: sys.stdout.write('x' * 65536)"
    ran = run_command(python(code), timeout_seconds=60, environ=ENVIRON, max_output_bytes=100_000)
    assert (ran.failure, ran.exit_status, len(ran.stdout)) == (Failure.UNREADABLE, None, 100_000)


def test_output_that_is_no_text_is_kept_as_far_as_it_goes() -> None:
    code = "import sys; sys.stdout.buffer.write(b'a\\xff\\x00b')"
    assert run_command(python(code), timeout_seconds=10, environ=ENVIRON).stdout == "a\ufffd\0b"


def test_a_killed_command_reports_its_signal() -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGABRT)"
    assert run_command(python(code), timeout_seconds=10, environ=ENVIRON).exit_status == -6


@pytest.mark.parametrize(
    ("name", "mode", "failure"),
    [
        ("absent", None, Failure.NOT_FOUND),
        ("data", 0o755, Failure.UNREADABLE),
        ("locked", 0o644, Failure.NO_PERMISSION),
    ],
)
def test_a_program_that_cannot_start_says_why(tmp_path: Path, name: str, mode: int | None, failure: Failure) -> None:
    program = tmp_path / name
    if mode is not None:
        program.write_text("neither script nor binary")
        program.chmod(mode)
    assert run_command((str(program),), timeout_seconds=10, environ=ENVIRON).failure is failure


def ended(pid: int) -> bool:
    """Whether a process ends soon: a killed one may be seen for a moment while the kernel takes it down."""
    deadline = time.monotonic() + 10
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not is_running(pid)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
