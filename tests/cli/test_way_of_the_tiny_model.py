"""pull, verify, serve and demo: a real engine, a real model of the V4 architecture, a real hub on loopback."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.support_cli import Ran, V4Deploy
from v4deploy.commands.doctor import DoctorRequest
from v4deploy.commands.result import Step, StepState
from v4deploy.commands.up import UpRequest, prepare
from v4deploy.commands.workspace import Workspace, open_workspace
from v4deploy.domain.engine import LaunchOptions
from v4deploy.domain.errors import CheckFailedError, DownloadError, ExitCode
from v4deploy.domain.plan import Request

Trouble = Callable[[pytest.MonkeyPatch, Path], tuple[str, ...]]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def shards(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "weights").rglob("*.gguf"))


def test_a_dry_run_needs_no_network(v4deploy: V4Deploy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    ran = v4deploy("pull", "v4-flash", "--quant", "q4_k_m", "--dry-run")
    assert ran.code == ExitCode.OK
    assert "`q4_k_m` means UD-Q4_K_XL" in ran.stdout
    assert "155.1 GB" in ran.stdout
    assert "00001-of-00005.gguf" in ran.stdout
    assert "free on the target" in ran.stdout


@pytest.mark.usefixtures("hub")
def test_pull_fetches_once_and_verify_needs_no_hub(
    v4deploy: V4Deploy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = v4deploy("pull", "tiny", "--json").document["data"]["done"]
    assert first["fetched_bytes"] == first["total_bytes"] == sum(path.stat().st_size for path in shards(tmp_path))
    assert v4deploy("pull", "tiny", "--json").document["data"]["done"]["fetched_bytes"] == 0
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    verified = v4deploy("verify", "tiny", "--json")
    assert verified.code == ExitCode.OK
    assert verified.document["data"]["checked_files"] == 2


@pytest.mark.usefixtures("overlay")
def test_an_unreachable_hub_ends_with_5_and_the_way_on(v4deploy: V4Deploy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("v4deploy.pull.download.Control.wait", lambda *_: None)
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    ran = v4deploy("pull", "tiny")
    assert ran.code == ExitCode.DOWNLOAD_FAILED
    assert "hint:" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.usefixtures("hub")
def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    v4deploy: V4Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert v4deploy("pull", "tiny").code == ExitCode.OK


@pytest.mark.usefixtures("hub")
def test_a_repository_that_is_not_there(v4deploy: V4Deploy) -> None:
    ran = v4deploy("pull", "v4-flash", "--quant", "UD-Q4_K_XL")
    assert ran.code == ExitCode.DOWNLOAD_FAILED
    assert "unsloth/DeepSeek-V4-Flash-0731-GGUF" in ran.stderr


@pytest.mark.usefixtures("overlay")
def test_offline_says_what_is_missing(v4deploy: V4Deploy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    ran = v4deploy("pull", "tiny")
    assert ran.code == ExitCode.DOWNLOAD_FAILED
    assert "HF_HUB_OFFLINE" in ran.stderr


@pytest.mark.usefixtures("overlay")
def test_serve_without_weights_names_the_pull(v4deploy: V4Deploy) -> None:
    ran = v4deploy("serve", "tiny", "--port", str(free_port()))
    assert ran.code == ExitCode.LAUNCH_FAILED
    assert "v4deploy pull tiny-1" in ran.stderr


@pytest.mark.usefixtures("overlay")
def test_serve_looks_for_the_engine_before_the_weights(v4deploy: V4Deploy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("v4deploy.serve.locate.wheel_version", lambda: None)
    ran = v4deploy("serve", "tiny", "--context", "1024", "--port", str(free_port()))
    assert ran.code == ExitCode.LAUNCH_FAILED
    assert "there is no llama.cpp on this machine" in ran.stderr


def no_engine(monkeypatch: pytest.MonkeyPatch, _: Path) -> tuple[str, ...]:
    monkeypatch.setattr("v4deploy.serve.locate.wheel_version", lambda: None)
    return ()


def no_key(_: pytest.MonkeyPatch, tmp_path: Path) -> tuple[str, ...]:
    return ("--api-key-file", str(tmp_path / "no-key"))


def open_key(_: pytest.MonkeyPatch, tmp_path: Path) -> tuple[str, ...]:
    key = tmp_path / "open-key"
    key.write_text("sk-test\n")
    key.chmod(0o644)
    return ("--api-key-file", str(key))


def no_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[str, ...]:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    return ()


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("trouble", "code", "said"),
    [
        (no_engine, ExitCode.LAUNCH_FAILED, "pip install 'v4deploy[embedded]'"),
        (no_key, ExitCode.USAGE, "no-key` cannot be read"),
        (open_key, ExitCode.USAGE, "everybody on this machine may read the key file"),
        (no_state, ExitCode.LAUNCH_FAILED, "XDG_STATE_HOME"),
    ],
)
def test_up_finds_before_the_pull_that_it_could_not_start(  # noqa: PLR0913, PLR0917 - one argument a column
    v4deploy: V4Deploy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: Trouble, code: ExitCode, said: str
) -> None:
    options = trouble(monkeypatch, tmp_path)
    ran = v4deploy("up", "tiny", "--context", "1024", "--port", str(free_port()), "--ignore-checks", *options)
    assert ran.code == code
    assert said in ran.stderr
    assert not shards(tmp_path)


@pytest.mark.usefixtures("hub")
def test_up_on_a_taken_port_pulls_nothing(v4deploy: V4Deploy, tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        ran = v4deploy("up", "tiny", "--context", "1024", "--port", str(port), "--ignore-checks")
    assert ran.code == ExitCode.LAUNCH_FAILED
    assert f"port {port}" in ran.stderr
    assert not shards(tmp_path)


@pytest.mark.usefixtures("hub")
def test_serve_without_a_place_for_its_log(v4deploy: V4Deploy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    v4deploy("pull", "tiny")
    no_state(monkeypatch, tmp_path)
    ran = v4deploy("serve", "tiny", "--context", "1024", "--port", str(free_port()))
    assert ran.code == ExitCode.LAUNCH_FAILED
    assert str(tmp_path / "file") in ran.stderr
    assert "XDG_STATE_HOME" in ran.stderr


@pytest.mark.usefixtures("overlay")
def test_up_asks_doctor_about_its_own_model(v4deploy: V4Deploy, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def doctor(_: Workspace, request: DoctorRequest) -> None:
        asked.append(request.model)
        raise CheckFailedError("enough")

    monkeypatch.setattr("v4deploy.commands.up.doctor", doctor)
    assert v4deploy("up", "tiny").code == ExitCode.CHECK_FAILED
    assert asked == ["tiny-1"]


@pytest.mark.engine
@pytest.mark.usefixtures("hub")
def test_a_stop_before_the_first_answer_says_so(v4deploy: V4Deploy) -> None:
    v4deploy("pull", "tiny")
    arguments = ["serve", "tiny", "--context", "1024", "--port", str(free_port())]
    argv = [sys.executable, "-m", "v4deploy", *arguments]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any("started llama.cpp" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        stdout, talk = process.communicate(timeout=30)
    assert process.returncode == ExitCode.INTERRUPTED
    assert "tiny-1 never answered" in stdout
    assert "was served" not in stdout
    assert "press Ctrl-C again to end it at once" in talk


@pytest.mark.engine
@pytest.mark.usefixtures("hub")
def test_serve_on_a_taken_port(v4deploy: V4Deploy) -> None:
    v4deploy("pull", "tiny")
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        ran = v4deploy("serve", "tiny", "--context", "1024", "--port", str(port))
    assert ran.code == ExitCode.LAUNCH_FAILED
    assert str(port) in ran.stderr


def copies(tmp_path: Path) -> list[Path]:
    """The pulled shards as somebody's own files, which no manifest vouches for."""
    directory = tmp_path / "damaged"
    directory.mkdir()
    for path in shards(tmp_path):
        (directory / path.name).write_bytes(path.read_bytes())
    return sorted(directory.iterdir())


def serve_own(v4deploy: V4Deploy, directory: Path) -> Ran:
    return v4deploy("serve", "tiny", "--context", "1024", "--weights", str(directory), "--port", str(free_port()))


@pytest.mark.usefixtures("hub")
def test_a_truncated_shard_is_told_before_the_engine_starts(v4deploy: V4Deploy, tmp_path: Path) -> None:
    v4deploy("pull", "tiny")
    victim = copies(tmp_path)[1]
    victim.write_bytes(victim.read_bytes()[:-100_000])
    ran = serve_own(v4deploy, victim.parent)
    assert ran.code == ExitCode.LAUNCH_FAILED
    assert f"not complete in {victim.parent}: {victim.name} has tensor" in ran.stderr
    assert "hint: v4deploy pull" in ran.stderr
    assert "exit code" not in ran.stderr
    victim.write_bytes(b"<!DOCTYPE html>\n")
    assert "it is a web page" in serve_own(v4deploy, victim.parent).stderr


@pytest.mark.engine
@pytest.mark.usefixtures("hub")
def test_weights_that_the_engine_refuses_end_with_6_and_the_cause(v4deploy: V4Deploy, tmp_path: Path) -> None:
    v4deploy("pull", "tiny")
    paths = copies(tmp_path)
    for path in paths:
        path.write_bytes(path.read_bytes().replace(b"output_norm.weight", b"output_nose.weight"))
    ran = serve_own(v4deploy, paths[0].parent)
    assert ran.code == ExitCode.LAUNCH_FAILED
    assert "`output_norm.weight` is missing" in ran.stderr
    assert "hint:" in ran.stderr
    assert ran.stderr.count("ended with exit code 1") == 1


@pytest.mark.engine
@pytest.mark.usefixtures("hub")
def test_an_answer_that_does_not_come_in_time_ends_with_7(v4deploy: V4Deploy) -> None:
    v4deploy("pull", "tiny")
    arguments = ("--context", "1024", "--port", str(free_port()), "--timeout", "0.01")
    ran = v4deploy("serve", "tiny", *arguments)
    assert ran.code == ExitCode.NOT_READY
    assert "was not ready" in ran.stderr


@pytest.mark.engine
@pytest.mark.usefixtures("hub")
def test_weights_that_change_behind_the_pull_stop_up(tmp_path: Path) -> None:
    def damage(event: object) -> None:
        if isinstance(event, Step) and (event.name, event.state) == ("pull", StepState.DONE):
            victim = shards(tmp_path)[0]
            data = bytearray(victim.read_bytes())
            data[-1] ^= 1
            victim.write_bytes(data)

    request = UpRequest(
        request=Request(model="tiny", release="tiny-1", context_tokens=1024),
        options=LaunchOptions(weights_dir="", port=free_port()),
        output=tmp_path / "launch",
    )
    with pytest.raises(DownloadError, match=r"1 of 2 files in .* are not right"):
        prepare(open_workspace(dict(os.environ)), request, report=damage)
    assert not (tmp_path / "launch").exists()


@pytest.mark.engine
def test_the_demo_removes_what_it_made(v4deploy: V4Deploy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    assert v4deploy("demo", "--quiet").code == ExitCode.OK
    assert not list((tmp_path / "scratch").iterdir())


@pytest.mark.engine
def test_the_demo_goes_the_whole_way_and_leaves_nothing(v4deploy: V4Deploy, tmp_path: Path) -> None:
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    ran = v4deploy("demo", "--keep", str(tmp_path / "kept"), "--json")
    data = ran.document["data"]
    assert ran.code == ExitCode.OK
    assert data["random_weights"] is True
    assert data["answer"]["completion_tokens"] > 0
    assert data["plan"]["chosen"]["checkpoint"]["quant"] == "tiny"
    assert (tmp_path / "kept" / "launch-files" / "run-llama-server.sh").is_file()
    assert {process.pid for process in psutil.Process().children(recursive=True)} <= before
    port = int(data["base_url"].rsplit(":", 1)[1])
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.engine
@pytest.mark.usefixtures("hub")
def test_a_plan_file_is_pulled_as_it_says(v4deploy: V4Deploy, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(v4deploy("plan", "tiny", "--context", "1024", "--json").stdout)
    assert json.loads(plan.read_text())["data"]["request"]["release"] == "tiny-1"
    assert v4deploy("pull", "--plan", str(plan)).code == ExitCode.OK
    assert len(shards(tmp_path)) == 2


@pytest.mark.engine
@pytest.mark.usefixtures("hub")
def test_up_serves_until_ctrl_c_and_leaves_no_process(tmp_path: Path) -> None:
    port = free_port()
    arguments = ["up", "tiny", "--context", "1024", "--port", str(port), "--output", str(tmp_path / "launch")]
    arguments += ["--smoke", "first-answer"]
    argv = [sys.executable, "-m", "v4deploy", *arguments]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        talk = []
        for line in process.stderr:
            talk.append(line)
            if "ready" in line:
                break
        children = psutil.Process(process.pid).children(recursive=True)
        assert children, "".join(talk)
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/chat/completions",
            data=json.dumps({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            assert json.load(response)["usage"]["completion_tokens"] == 4
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == ExitCode.INTERRUPTED
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive


@pytest.mark.usefixtures("hub")
def test_ctrl_c_during_a_pull_says_how_to_go_on(v4deploy: V4Deploy, tmp_path: Path) -> None:
    argv = [sys.executable, "-c", _SLOW_PULL, "pull", "tiny"]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: list((tmp_path / "weights").rglob("*.part")))
        process.send_signal(signal.SIGINT)
        _, talk = process.communicate(timeout=30)
    assert process.returncode == ExitCode.INTERRUPTED
    assert "run the same command again" in talk
    assert "Traceback" not in talk
    assert v4deploy("pull", "tiny").code == ExitCode.OK
    assert v4deploy("verify", "tiny").code == ExitCode.OK


# A real pull whose every chunk takes its time, so that there is something to interrupt.
_SLOW_PULL = """
import sys, time
from v4deploy.pull import download
download.CHUNK_BYTES = 4096
check = download.Control.check
def slow(self):
    time.sleep(0.01)
    check(self)
download.Control.check = slow
from v4deploy.cli.main import main
sys.exit(main())
"""


def wait_for(condition: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


@pytest.mark.usefixtures("hub")
def test_a_launch_file_names_the_program_that_is_here_by_its_whole_path(
    v4deploy: V4Deploy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    v4deploy("pull", "tiny")
    arguments = ("render", "tiny", "--context", "1024", "--output", str(tmp_path / "out"), "--json")
    without = v4deploy(*arguments).document
    assert "engine.llama-cpp.not-on-path" in {finding["id"] for finding in without["findings"]}
    program = tmp_path / "bin" / "llama-server"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'version: 0.6.0-dev (build 11434, commit abc)'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    assert "engine.llama-cpp.not-on-path" not in {
        finding["id"] for finding in v4deploy(*arguments).document["findings"]
    }
    assert str(program) in (tmp_path / "out" / "run-llama-server.sh").read_text()
