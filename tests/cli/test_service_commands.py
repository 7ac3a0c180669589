"""`serve --detach`, `status`, `logs` and `stop` as a user types them, with a `llama-server` that behaves as asked."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cli.conftest import REPOSITORY
from tests.support_cli import V4Deploy
from v4deploy.cli.service_commands import is_read
from v4deploy.commands.serve import free_port
from v4deploy.documents import to_json
from v4deploy.domain.engine import EngineId
from v4deploy.serve.identity import ProcessMark, mark_of
from v4deploy.serve.record import RECORD_SCHEMA, ServedRecord
from v4deploy.serve.state import State

_FAKE_ENGINE = Path(__file__).parents[1] / "serve" / "fake_engine.py"
_GONE = ProcessMark(pid=2**22 - 7, began="another boot 1")
Start = Callable[..., list[str]]


@pytest.fixture
def start(
    overlay: None, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, v4deploy: V4Deploy
) -> Iterator[Start]:
    """Makes the arguments that serve the tiny model with a fake engine; everything that was started is ended after."""
    assert overlay is None

    def make(*misbehaviour: str) -> list[str]:
        program = tmp_path / "bin" / "llama-server"
        program.parent.mkdir(exist_ok=True)
        call = " ".join([sys.executable, str(_FAKE_ENGINE), "--lenient", "--run-dir", str(tmp_path), *misbehaviour])
        said = 'case "$1" in --version) echo "version: 11434 (abc)"; exit;; --help) echo "--load-mode"; exit;; esac'
        program.write_text(f'#!/bin/sh\n{said}\nexec {call} "$@"\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        weights = str(published / REPOSITORY / "tiny")
        return ["serve", "tiny", "--context", "1024", "--weights", weights, "--port", str(free_port()), "--detach"]

    yield make
    for served in v4deploy("status", "--json").document["data"]["served"]:
        v4deploy("stop", str(served["record"]["port"]), "--now")


def test_the_life_of_a_detached_serve(v4deploy: V4Deploy, start: Start) -> None:
    arguments = start("--chat", "none")
    ran = v4deploy(*arguments)
    assert ran.code == 0, ran.stderr
    assert "smoke test passed" in ran.stderr
    (served,) = v4deploy("status", "--json").document["data"]["served"]
    assert (served["standing"], served["health"], served["record"]["state"]) == ("running", "healthy", "ready")
    port = str(served["record"]["port"])
    assert v4deploy("status", "tiny-1").code == 0
    assert "POST /v1/chat/completions" in v4deploy("logs", port, "-n", "5").stdout
    again = v4deploy(*arguments)
    assert again.code == 6
    assert f"port {port} is served already: tiny-1, ready" in again.stderr
    beside = v4deploy(*arguments[:-2], str(free_port()), "--smoke", "first-answer", "--detach")
    assert f"the same weights are served already, on port {port}" in beside.stderr
    assert v4deploy("stop").code == 2  # which one?
    stopped = v4deploy("stop", port, "--json").document
    assert stopped["data"]["ending"] == "stopped"
    assert not psutil.pid_exists(served["record"]["engine_process"]["pid"])
    assert v4deploy("status", port).code == 2


def test_a_detached_serve_that_fails_says_why(v4deploy: V4Deploy, start: Start) -> None:
    ran = v4deploy(*start("--say", "'unknown model architecture: '", "--exit-at-start", "3"))
    assert ran.code == 6
    assert "llama.cpp ended with exit code 3" in ran.stderr
    (served,) = v4deploy("status", "--json").document["data"]["served"]
    assert (served["standing"], served["record"]["state"]) == ("ended", "failed")
    assert "exit code 3" in served["record"]["message"]


def test_a_killed_owner_leaves_a_record_that_is_known_to_be_stale(v4deploy: V4Deploy, start: Start) -> None:
    assert v4deploy(*start("--chat", "none"), "--smoke", "first-answer").code == 0
    (served,) = v4deploy("status", "--json").document["data"]["served"]
    owner, engine = served["record"]["owner"]["pid"], served["record"]["engine_process"]["pid"]
    os.kill(owner, signal.SIGKILL)
    _until(lambda: mark_of(owner) is None and (mark_of(engine) is None or sys.platform != "linux"))
    named = v4deploy("status", str(served["record"]["port"]))
    assert named.code == 7
    assert "gone" in named.stdout or "orphaned" in named.stdout
    assert v4deploy("stop").code == 0
    assert v4deploy("status", "--json").document["data"]["served"] == []


@pytest.fixture
def note(tmp_path: Path) -> Callable[..., ServedRecord]:
    """Writes the record of a serve that this test makes up."""

    def write(**changes: Any) -> ServedRecord:
        record = ServedRecord(
            model="m", engine=EngineId.LLAMA_CPP, bind="127.0.0.1", port=1, base_url="http://127.0.0.1:1",
            weights_dir="/w", api_key_file=None, log=str(tmp_path / "m.log"), stop_timeout_seconds=0.5, owner=_GONE,
            began_at="2026-11-28T00:00:00+00:00", engine_process=_GONE, state=State.READY,
        )  # fmt: skip
        record = replace(record, **changes)
        path = tmp_path / "state" / "v4deploy" / "serve" / f"{record.port}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(to_json(RECORD_SCHEMA, record))
        return record

    return write


@pytest.fixture
def process() -> Iterator[Callable[[str], ProcessMark]]:
    """Starts a Python program that leads its own group, and waits until it says that it runs."""
    started: list[subprocess.Popen[str]] = []

    def run(program: str) -> ProcessMark:
        code = f"import signal, time; {program}; print('runs', flush=True); time.sleep(60)"
        child = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        started.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == "runs\n"
        mark = mark_of(child.pid)
        assert mark is not None
        return mark

    yield run
    for child in started:
        child.kill()
        child.communicate()


Note = Callable[..., ServedRecord]
Process = Callable[[str], ProcessMark]


@pytest.mark.parametrize("name", ["2", "v4-flash-0731", "v4-flash", "http://127.0.0.1:2", "http://127.0.0.1:2/v1/"])
def test_what_a_serve_may_be_called(v4deploy: V4Deploy, note: Note, name: str) -> None:
    note(port=1, model="v4-pro-0731")
    note(port=2, model="v4-flash-0731", base_url="http://127.0.0.1:2")
    (served,) = v4deploy("status", name, "--json").document["data"]["served"]
    assert served["record"]["port"] == 2
    assert v4deploy("status", "v4").code == 2
    assert v4deploy("status", "v4-f").code == 2


def test_a_number_that_was_given_away_is_left_alone(v4deploy: V4Deploy, note: Note, process: Process) -> None:
    foreign = process("pass")
    stale = replace(foreign, began="another boot 9")
    note(owner=stale, engine_process=stale)
    assert "gone" in v4deploy("status").stdout
    assert "nothing ran any more" in v4deploy("stop").stdout
    assert mark_of(foreign.pid) == foreign


@pytest.mark.parametrize("program", ["pass", "signal.signal(signal.SIGTERM, signal.SIG_IGN)"])
def test_an_engine_without_its_supervisor_is_ended(
    v4deploy: V4Deploy, note: Note, process: Process, program: str
) -> None:
    engine = process(program)
    note(engine_process=engine)
    assert "orphaned" in v4deploy("status").stdout
    assert "the engine was ended" in v4deploy("stop").stdout
    assert mark_of(engine.pid) is None


def test_what_failed_earlier_does_not_stand_in_the_way(v4deploy: V4Deploy, note: Note, process: Process) -> None:
    note(port=2, model="old", state=State.FAILED)
    owner = process("pass")
    note(port=3, model="new", owner=owner)
    assert "new on port 3: stopped" in v4deploy("stop", "--now").stdout
    assert mark_of(owner.pid) is None
    assert "old on port 2" in v4deploy("stop").stdout


def test_a_key_file_that_has_gone_keeps_nobody_from_stopping(v4deploy: V4Deploy, note: Note, process: Process) -> None:
    owner = process("pass")
    note(owner=owner, api_key_file="/nowhere/key")
    ran = v4deploy("stop")
    assert ran.code == 0, ran.stderr
    assert "are not waited for: the API key file `/nowhere/key` cannot be read" in ran.stderr
    assert mark_of(owner.pid) is None


def test_a_supervisor_that_does_not_react_is_killed_with_its_engine_when_asked(
    v4deploy: V4Deploy, note: Note, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("v4deploy.commands.stop._MARGIN_SECONDS", 0.3)
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    owner, engine = process(deaf), process(deaf)
    note(owner=owner, engine_process=engine)
    ran = v4deploy("stop")
    assert ran.code == 6
    assert "`v4deploy stop 1 --now` kills it" in ran.stderr
    assert mark_of(owner.pid) == owner
    assert v4deploy("stop", "--now").code == 0
    assert (mark_of(owner.pid), mark_of(engine.pid)) == (None, None)


def test_a_serve_that_nobody_hears_any_more_goes_on(v4deploy: V4Deploy, start: Start) -> None:
    arguments = [*start("--chat", "none")[:-1], "--smoke", "first-answer"]
    argv = [sys.executable, "-m", "v4deploy", *arguments]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as serving:
        assert serving.stderr is not None
        assert b"started llama.cpp" in serving.stderr.readline()
        serving.stderr.close()
        _until(lambda: bool(_states(v4deploy)) and (serving.poll() is not None or _states(v4deploy) == ["ready"]))
        assert serving.poll() is None
        serving.send_signal(signal.SIGINT)
        assert serving.wait(timeout=20) == 130
    assert _states(v4deploy) == []


def test_a_detached_serve_comes_up_when_nobody_hears_it(v4deploy: V4Deploy, start: Start, tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "v4deploy", *start("--chat", "none"), "--smoke", "first-answer"]
    with Path("/dev/full").open("w") as full:
        subprocess.run(argv, stderr=full, stdout=subprocess.DEVNULL, check=True, timeout=30)
    assert _states(v4deploy) == ["ready"]
    assert not list((tmp_path / "state" / "v4deploy" / "serve").glob("*.plan"))


def test_a_stop_that_nobody_hears_stops(v4deploy: V4Deploy, note: Note, process: Process) -> None:
    owner = process("pass")
    note(owner=owner)
    argv = [sys.executable, "-m", "v4deploy", "stop"]
    with Path("/dev/full").open("w") as full:
        subprocess.run(argv, stderr=full, stdout=subprocess.DEVNULL, check=True, timeout=30)
    assert mark_of(owner.pid) is None
    assert _states(v4deploy) == []


def _states(v4deploy: V4Deploy) -> list[str]:
    return [served["record"]["state"] for served in v4deploy("status", "--json").document["data"]["served"]]


def test_requests_are_waited_for_but_not_for_ever(v4deploy: V4Deploy, note: Note, process: Process) -> None:
    with _busy(answers=2) as port:
        note(owner=process("pass"), port=port)
        ran = v4deploy("stop", "--json")
    assert ran.document["data"]["left_requests"] == 0
    with _busy(answers=10**6) as port:
        note(owner=process("pass"), port=port)
        ran = v4deploy("stop", "--drain", "0.3")
    assert ran.code == 0
    assert "1 request cut off" in ran.stdout


def test_a_log_is_followed_over_its_cut_to_the_end_of_the_serve(note: Note, process: Process, tmp_path: Path) -> None:
    log = tmp_path / "m.log"
    log.write_text("one\ntwo\n")
    owner = process("pass")
    note(owner=owner)
    said: list[str] = []
    reader = threading.Thread(target=lambda: said.append(_followed(tmp_path)))
    reader.start()
    _until(lambda: (tmp_path / "followed").exists() and "two" in (tmp_path / "followed").read_text())
    os.truncate(log, 0)
    with log.open("a") as file:
        file.write("3\n")
    _until(lambda: "3" in (tmp_path / "followed").read_text())
    os.killpg(owner.pid, signal.SIGKILL)
    reader.join(timeout=20)
    assert said == ["two\n3\n"]


@pytest.mark.parametrize("lines", ["1", "40"])
def test_following_ends_when_nobody_reads_any_more(note: Note, process: Process, tmp_path: Path, lines: str) -> None:
    (tmp_path / "m.log").write_text("word\n" * 50)
    note(owner=process("pass"))
    argv = [sys.executable, "-m", "v4deploy", "logs", "-f", "-n", lines]
    root = Path(__file__).parents[2]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=root) as follower:
        assert follower.stdout is not None
        assert follower.stderr is not None
        assert follower.stdout.readline() == b"word\n"
        follower.stdout.close()
        assert follower.wait(timeout=20) == 0
        assert follower.stderr.read() == b""


def test_a_stdout_that_is_closed_or_a_file_is_no_reader_that_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with (tmp_path / "out").open("w") as file:
        monkeypatch.setattr("sys.stdout", file)
        assert is_read()
    monkeypatch.setattr("sys.stdout", None)
    assert is_read()


def test_a_log_that_is_not_there(v4deploy: V4Deploy, note: Note, process: Process) -> None:
    note()
    assert "m.log is gone" in v4deploy("logs").stderr
    note(owner=process("pass"))
    ran = v4deploy("logs")
    assert (ran.code, "m.log is not there yet" in ran.stderr) == (2, True)


def _followed(tmp_path: Path) -> str:
    with (tmp_path / "followed").open("w") as file:
        argv = [sys.executable, "-m", "v4deploy", "logs", "-f", "-n", "1"]
        subprocess.run(argv, stdout=file, check=True, cwd=Path(__file__).parents[2], timeout=30)
    return (tmp_path / "followed").read_text()


def test_a_state_directory_that_is_relative_is_found_by_the_record(
    v4deploy: V4Deploy, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    assert v4deploy(*start("--chat", "none"), "--smoke", "first-answer").code == 0
    (served,) = v4deploy("status", "--json").document["data"]["served"]
    assert Path(served["record"]["log"]).parent == tmp_path / "state" / "v4deploy"


@pytest.mark.parametrize("content", ["{", '{"schema": "v4deploy.served/9", "data": {}}', ""])
def test_a_record_that_cannot_be_read_is_not_nothing(
    v4deploy: V4Deploy, note: Note, tmp_path: Path, content: str
) -> None:
    note()
    path = tmp_path / "state" / "v4deploy" / "serve" / "18080.json"
    path.write_text(content)
    ran = v4deploy("status")
    assert (ran.code, "gone" in ran.stdout, str(path) in ran.stdout) == (0, True, True)
    assert v4deploy("status", "--json").document["data"]["unread"] == [str(path)]


def test_no_record_at_all(v4deploy: V4Deploy) -> None:
    assert "nothing is served here" in v4deploy("status").stdout
    assert v4deploy("stop").code == 2
    assert v4deploy("logs").code == 2
    assert v4deploy("status", "x", "--unit", "y").code == 2
    assert v4deploy("stop", "--user").code == 2
    assert v4deploy("stop", "--unit", "-x").code == 2


def test_another_supervisor_that_is_not_here(v4deploy: V4Deploy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    for command in ("status", "stop", "logs"):
        ran = v4deploy(command, "--compose", "compose.yaml")
        assert ran.code == 6
        assert "there is no `docker` on this machine" in ran.stderr


def _until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class _busy:  # noqa: N801 - used as a function
    """A server whose only slot works for so many answers."""

    def __init__(self, *, answers: int) -> None:
        class Handler(BaseHTTPRequestHandler):
            left = answers

            def do_GET(self) -> None:
                Handler.left -= 1
                body = json.dumps([{"is_processing": Handler.left >= 0}]).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> int:
        self._thread.start()
        return int(self._server.server_address[1])

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
