"""`serve --engine ollama` as a user types it, with a stand-in for Ollama on PATH."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tests.cli.conftest import REPOSITORY
from tests.serve.fake_ollama import FakeOllama, serving
from tests.support_cli import V4Deploy
from v4deploy.commands.serve import free_port
from v4deploy.domain.engine import EngineId
from v4deploy.serve.traffic import port_argument, requests_in_flight
from v4deploy.serve.wire import Endpoint
from v4deploy.system.base import DiskUsage

_FAKE_OLLAMA = Path(__file__).parents[1] / "serve" / "fake_ollama.py"
Arguments = Callable[..., list[str]]


@pytest.fixture
def arguments(
    overlay: None, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, v4deploy: V4Deploy
) -> Iterator[Arguments]:
    """Those that serve the tiny model with Ollama, on a port; everything that was started is ended after."""
    assert overlay is None
    profile = tmp_path / "overlay" / "profiles" / "models" / "tiny.yaml"
    entry = yaml.safe_load(profile.read_text())
    entry["repositories"][0]["engines"].append("ollama")
    profile.write_text(yaml.safe_dump(entry))
    program = tmp_path / "bin" / "ollama"
    program.parent.mkdir()
    # Its version without an interpreter, which would take longer than the rest of a refusal.
    said = 'case "$1" in --version) echo "Warning: client version is ${FAKE_OLLAMA_VERSION:-0.33.0}"; exit;; esac'
    program.write_text(f'#!/bin/sh\n{said}\nexec {sys.executable} {_FAKE_OLLAMA} "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "store"))
    weights = str(published / REPOSITORY / "tiny")

    def make(port: int, *more: str) -> list[str]:
        options = ["--engine", "ollama", "--context", "1024", "--weights", weights, "--port", str(port)]
        return ["serve", "tiny", *options, *more]

    yield make
    for served in v4deploy("status", "--json").document["data"]["served"]:
        v4deploy("stop", str(served["record"]["port"]), "--now")


@pytest.mark.slow
def test_the_life_of_a_detached_ollama(v4deploy: V4Deploy, arguments: Arguments, tmp_path: Path) -> None:
    port = free_port()
    ran = v4deploy(*arguments(port, "--detach"))
    assert ran.code == 0, ran.stderr
    assert "smoke test passed" in ran.stderr
    (served,) = v4deploy("status", "--json").document["data"]["served"]
    assert (served["standing"], served["health"], served["record"]["state"]) == ("running", "healthy", "ready")
    assert "POST /api/create" in v4deploy("logs", str(port), "-n", "200").stdout
    again = v4deploy(*arguments(port))
    assert (again.code, f"port {port} is served already: tiny-1, ready" in again.stderr) == (6, True)
    assert v4deploy("stop", str(port), "--json").document["data"]["ending"] == "stopped"
    assert not psutil.pid_exists(served["record"]["engine_process"]["pid"])
    ran = v4deploy(*arguments(port, "--detach"))
    assert ran.code == 0, ran.stderr
    assert '"POST /api/blobs' not in v4deploy("logs", str(port), "-n", "200").stdout
    # The copies of the parts went when it started again.
    assert len(list((tmp_path / "store" / "blobs").iterdir())) == 4


def test_an_ollama_that_listens_there_already_is_named(
    v4deploy: V4Deploy, arguments: Arguments, tmp_path: Path
) -> None:
    with serving(FakeOllama(tmp_path / "other", version="0.34.1")) as port:
        ran = v4deploy(*arguments(port))
    assert ran.code == 6
    assert f"an Ollama 0.34.1 listens on port {port} already" in ran.stderr
    assert "v4deploy render --engine ollama" in ran.stderr


def test_ollamas_service_is_named(v4deploy: V4Deploy, arguments: Arguments, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "systemctl"
    program.write_text("#!/bin/sh\n[ \"$*\" = 'is-active ollama.service' ] && echo active\n")
    program.chmod(0o755)
    with serving(FakeOllama(tmp_path / "other")) as port:
        ran = v4deploy(*arguments(port))
    assert "(ollama.service is active)" in ran.stderr
    assert "`sudo systemctl stop ollama`" in ran.stderr


def test_a_store_without_room_is_told_before_anything_starts(
    v4deploy: V4Deploy, arguments: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "v4deploy.system.live.LiveSystem.disk_usage",
        lambda _, path: DiskUsage(path=path, total_bytes=10**9, free_bytes=10**7),
    )
    ran = v4deploy(*arguments(free_port()))
    assert ran.code == 6
    assert "has 10.0 MB free, and the import of tiny-1 takes 17.1 MB" in ran.stderr
    assert "OLLAMA_MODELS=DIR" in ran.stderr
    assert not (tmp_path / "store").exists()


def test_an_ollama_is_asked_not_to_think_by_the_smoke_test_of_an_address(v4deploy: V4Deploy, tmp_path: Path) -> None:
    """The stand-in thinks all its tokens away, as models in Ollama do unless they are asked not to."""
    fake = FakeOllama(tmp_path / "other")
    digest = f"sha256:{hashlib.sha256(b'GGUF').hexdigest()}"
    fake.receive(digest, b"GGUF")
    list(fake.create({"model": "v4", "files": {"v4.gguf": digest}}))
    with serving(fake) as port:
        ran = v4deploy("smoke", f"http://127.0.0.1:{port}", "--long-prompt", "256")
    assert ran.code == 0, ran.stderr


def test_an_ollama_that_is_too_old_is_told(
    v4deploy: V4Deploy, arguments: Arguments, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_OLLAMA_VERSION", "0.32.5")
    ran = v4deploy(*arguments(free_port()))
    assert ran.code == 3
    assert "Ollama 0.32.5 is too old" in ran.stderr


def test_an_ollama_that_is_not_here_is_told(v4deploy: V4Deploy, arguments: Arguments, tmp_path: Path) -> None:
    (tmp_path / "bin" / "ollama").unlink()
    ran = v4deploy(*arguments(free_port()))
    assert ran.code == 6
    assert "there is no `ollama` on PATH" in ran.stderr


class Slots(BaseHTTPRequestHandler):
    """Two slots of a llama-server, one of them at work."""

    def do_GET(self) -> None:
        body = json.dumps([{"is_processing": True}, {"is_processing": False}]).encode()
        self.send_response(200 if self.path == "/slots" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        pass


def test_requests_are_counted_by_the_server_that_ollama_starts() -> None:
    """It listens on a port of its own, which only its command line tells."""
    assert port_argument(["llama-server", "--model", "m", "--port", "4711", "--host", "127.0.0.1"]) == 4711
    assert port_argument(["llama-server", "--port"]) is None
    ollama = Endpoint(bind="127.0.0.1", port=free_port())
    server = HTTPServer(("127.0.0.1", 0), Slots)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.005})
    thread.start()
    started = 'sh -c "sleep 60; :" llama-server --port "$1" & echo; wait'
    argv = ["sh", "-c", started, "ollama", str(server.server_address[1])]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        _until(lambda: requests_in_flight(ollama, EngineId.OLLAMA, parent.pid) == 1)
        os.killpg(parent.pid, signal.SIGKILL)
    server.shutdown()
    thread.join()
    server.server_close()
    assert requests_in_flight(ollama, EngineId.OLLAMA, parent.pid) is None
    assert requests_in_flight(ollama, EngineId.OLLAMA) is None


def _until(done: Callable[[], bool]) -> None:
    """The child is there a moment before it has its own command line."""
    deadline = time.monotonic() + 10
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)
