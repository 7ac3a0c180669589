"""The supervisor against a fake engine: a real process, a real port, real signals."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from v4deploy.documents import to_json
from v4deploy.domain.engine import EngineId, LaunchSpec
from v4deploy.domain.errors import LaunchError, NotReadyError
from v4deploy.serve.run import RunningEngine, ServeOutcome, running_engine, serve
from v4deploy.serve.state import State
from v4deploy.serve.supervisor import ServeEvent

Fake = Callable[..., LaunchSpec]


class Story:
    """Collects events; sets the stop event when a state comes for the nth time."""

    def __init__(self, stop_at: State | None = None, times: int = 1) -> None:
        self.events: list[ServeEvent] = []
        self.stop = threading.Event()
        self._stop_at = stop_at
        self._times = times
        self.on: dict[State, Callable[[], object]] = {}

    def __call__(self, event: ServeEvent) -> None:
        self.events.append(event)
        if event.state in self.on:
            self.on.pop(event.state)()
        if event.state is self._stop_at and self.states.count(event.state) >= self._times:
            self.stop.set()

    @property
    def states(self) -> list[State]:
        return [event.state for event in self.events]


def _serve(spec: LaunchSpec, story: Story, log: Path, api_key: str | None = None) -> ServeOutcome:
    return serve(spec, log_path=log, on_event=story, api_key=api_key, stop=story.stop)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "engine.log"


def test_the_whole_life(fake: Fake, log: Path, tmp_path: Path) -> None:
    story = Story(stop_at=State.READY)
    outcome = _serve(fake("--busy-checks", "2", "--answer", "I am here"), story, log)
    assert story.states == [
        State.STARTING, State.LOADING, State.WARMING, State.READY, State.STOPPING, State.STOPPED,
    ]  # fmt: skip
    assert outcome.first_completion is not None
    assert outcome.first_completion.text == "I am here"
    assert (outcome.exit.code, outcome.exit.forced, outcome.interrupted) == (0, False, False)
    request = json.loads((tmp_path / "request-1.json").read_text())
    assert request["model"] == "v4-fake"


def test_a_slow_start_is_waited_for(fake: Fake, log: Path) -> None:
    story = Story(stop_at=State.READY)
    assert _serve(fake("--closed-seconds", "0.3"), story, log).first_completion is not None


def test_the_engine_may_need_a_key(fake: Fake, log: Path) -> None:
    story = Story(stop_at=State.READY)
    _serve(fake("--key", "sk-1"), story, log, api_key="sk-1")
    assert State.READY in story.states
    assert "sk-1" not in "".join(event.message for event in story.events)


def test_a_wrong_key_is_told_at_once_and_not_after_the_timeout(fake: Fake, log: Path) -> None:
    with pytest.raises(NotReadyError, match=r"HTTP 401.*Invalid API Key"):
        _serve(fake("--key", "sk-1", timeout_seconds=600), Story(), log, api_key="sk-2")


def test_health_alone_is_not_ready(fake: Fake, log: Path) -> None:
    story = Story()
    with pytest.raises(NotReadyError, match="answered with nothing") as caught:
        _serve(fake("--empty", timeout_seconds=600), story, log)
    assert State.READY not in story.states
    assert str(log) in str(caught.value.hint)


def test_one_empty_answer_is_forgiven(fake: Fake, log: Path) -> None:
    story = Story(stop_at=State.READY)
    outcome = _serve(fake("--empty-answers", "1"), story, log)
    assert outcome.first_completion is not None
    assert outcome.first_completion.text == "hello"


@pytest.mark.parametrize(
    ("option", "doing", "timeout_seconds"),
    [
        (("--closed-seconds", "60"), "its port still closed", 0.3),
        # These have to get as far as opening the port, which takes an interpreter's start on a busy machine.
        (("--never-healthy",), "loading the weights", 2.5),
        (("--hang-completion",), "without an answer", 2.5),
    ],
)
def test_not_ready_in_time_says_what_it_was_doing(
    fake: Fake, log: Path, option: tuple[str, ...], doing: str, timeout_seconds: float
) -> None:
    with pytest.raises(NotReadyError, match=doing):
        _serve(fake(*option, timeout_seconds=timeout_seconds), Story(), log)


def test_an_engine_that_ends_while_it_loads(fake: Fake, log: Path) -> None:
    known = "tensor 'output.weight' data is not within the file bounds, model is corrupted or incomplete"
    story = Story()
    with pytest.raises(LaunchError) as caught:
        _serve(fake("--say", known, "--exit-at-start", "1"), story, log)
    assert "exit code 1" in caught.value.message
    assert "cut short" in caught.value.message
    assert "v4deploy verify" in str(caught.value.hint)
    assert caught.value.details == (known,)
    assert story.states == [State.STARTING, State.FAILED]


def test_an_unknown_death_points_at_the_log(fake: Fake, log: Path) -> None:
    with pytest.raises(LaunchError) as caught:
        _serve(fake("--exit-at-start", "3"), Story(), log)
    assert "exit code 3" in caught.value.message
    assert str(log) in str(caught.value.hint)


def test_a_crash_names_the_signal_and_what_it_was_doing(fake: Fake, log: Path) -> None:
    with pytest.raises(LaunchError, match="signal SIGABRT while loading the weights"):
        _serve(fake("--busy-checks", "9", "--crash-at-check", "2"), Story(), log)


def test_a_death_during_the_first_completion(fake: Fake, log: Path) -> None:
    with pytest.raises(LaunchError, match=r"signal SIGKILL while healthy.*memory"):
        _serve(fake("--crash-at-completion"), Story(), log)


def test_a_death_after_it_was_ready(fake: Fake, log: Path) -> None:
    story = Story()
    spec = fake()
    story.on[State.READY] = lambda: psutil.Process(_pid(story)).kill()
    with pytest.raises(LaunchError, match="signal SIGKILL after it had been ready"):
        _serve(spec, story, log)


def test_a_sick_engine_is_degraded_until_it_answers_again(
    fake: Fake, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("v4deploy.serve.supervisor._HEALTH_INTERVAL_SECONDS", 0.05)
    sick = tmp_path / "be-sick"
    story = Story(stop_at=State.READY, times=2)
    story.on[State.READY] = sick.touch
    story.on[State.DEGRADED] = sick.unlink
    _serve(fake(), story, log)
    assert story.states[2:6] == [State.READY, State.DEGRADED, State.WARMING, State.READY]
    assert "HTTP 500" in story.events[3].message


def test_a_stop_while_loading_needs_no_timeout(fake: Fake, log: Path) -> None:
    outcome = _serve(fake("--never-healthy", timeout_seconds=600), Story(stop_at=State.LOADING), log)
    assert (outcome.first_completion, outcome.exit.code) == (None, 0)


def test_a_stop_does_not_wait_for_a_completion(fake: Fake, log: Path) -> None:
    outcome = _serve(fake("--hang-completion", timeout_seconds=600), Story(stop_at=State.WARMING), log)
    assert outcome.elapsed_seconds < 30


def test_what_ignores_the_polite_signal_is_killed(fake: Fake, log: Path) -> None:
    story = Story(stop_at=State.READY)
    outcome = _serve(fake("--ignore-sigterm", stop_timeout_seconds=0.3), story, log)
    assert (outcome.exit.signal, outcome.exit.forced) == ("SIGKILL", True)
    assert "ignored" in story.events[-1].message


def test_a_worker_that_outlives_the_engine_goes_too(fake: Fake, log: Path, tmp_path: Path) -> None:
    # The fixture that looks for orphans is the assertion: the worker ignores SIGTERM, the engine does not.
    _serve(fake("--worker"), Story(stop_at=State.READY), log)
    assert (tmp_path / "worker-runs").exists()


def test_workers_of_an_engine_that_died_go_too(fake: Fake, log: Path) -> None:
    with pytest.raises(LaunchError):
        _serve(fake("--worker", "--exit-at-start", "1"), Story(), log)


def test_a_callback_that_fails_leaves_nothing_running(fake: Fake, log: Path) -> None:
    def fail(event: ServeEvent) -> None:
        if event.state is State.WARMING:
            raise ValueError("the terminal is gone")

    with pytest.raises(ValueError, match="terminal"):
        serve(fake(), log_path=log, on_event=fail, api_key=None, stop=threading.Event())


def test_a_taken_port_is_found_before_anything_starts(fake: Fake, log: Path) -> None:
    spec = fake()
    with (
        running_engine(spec, log_path=log, on_event=Story()),
        pytest.raises(LaunchError, match=rf"port {spec.port} .* is taken by .*pid"),
    ):
        _serve(spec, Story(), log.with_name("second.log"))
    assert not log.with_name("second.log").exists()


@pytest.mark.parametrize(("engine", "hint"), [(EngineId.LLAMA_CPP, "llama-server"), (EngineId.VLLM, "install vLLM")])
def test_a_missing_program(fake: Fake, log: Path, engine: EngineId, hint: str) -> None:
    spec = replace(fake(engine=engine), argv=("/nowhere/llama-server", "--port", "1"))
    with pytest.raises(LaunchError, match=r"`/nowhere/llama-server` cannot be started: No such file") as caught:
        _serve(spec, Story(), log)
    assert hint in str(caught.value.hint)


def test_a_program_that_may_not_be_executed(fake: Fake, log: Path, tmp_path: Path) -> None:
    text = tmp_path / "llama-server"
    text.write_text("not a program")
    with pytest.raises(LaunchError, match="cannot be started: Permission denied"):
        _serve(replace(fake(), argv=(str(text),)), Story(), log)


def test_a_program_for_another_system(fake: Fake, log: Path, tmp_path: Path) -> None:
    program = tmp_path / "llama-server"
    program.write_bytes(b"\x00 no program of this system")
    program.chmod(0o755)
    with pytest.raises(LaunchError, match=r"llama-server` cannot be started: Exec format error"):
        _serve(replace(fake(), argv=(str(program),)), Story(), log)


def test_a_log_that_cannot_be_written(fake: Fake, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LaunchError, match="log cannot be written") as caught:
        _serve(fake(), Story(), tmp_path / "file" / "engine.log")
    assert str(tmp_path / "file") in caught.value.message
    assert "XDG_STATE_HOME" in str(caught.value.hint)


def test_the_log_of_the_run_before_is_kept(fake: Fake, log: Path) -> None:
    for said in ("first run", "second run"):
        _serve(fake("--say", said), Story(stop_at=State.STARTING), log)
    assert "second run" not in log.with_name("engine.log.1").read_text()
    assert log.exists()


def test_only_the_end_of_a_long_log_is_shown(fake: Fake, log: Path) -> None:
    story = Story(stop_at=State.READY)
    story.on[State.WARMING] = lambda: _append(log, "x" * 200 + "\n", times=5000)
    with pytest.raises(NotReadyError) as caught:
        _serve(fake("--empty"), story, log)
    assert len(caught.value.details) == 15


def test_a_block_with_a_running_engine(fake: Fake, log: Path) -> None:
    spec = fake("--answer", "yes")
    with running_engine(spec, log_path=log, on_event=Story()) as engine:
        assert engine.first_completion.text == "yes"
        assert engine.base_url == f"http://127.0.0.1:{spec.port}"
        assert psutil.pid_exists(engine.pid)
    assert not psutil.pid_exists(engine.pid)


def test_an_error_in_the_block_stops_the_engine(fake: Fake, log: Path) -> None:
    def work(engine: RunningEngine) -> None:
        raise RuntimeError(str(engine.pid))

    with (
        pytest.raises(RuntimeError) as caught,
        running_engine(fake("--worker"), log_path=log, on_event=Story()) as engine,
    ):
        work(engine)
    assert not psutil.pid_exists(int(str(caught.value)))


def test_a_signal_while_the_engine_is_being_ended_is_heard(fake: Fake, log: Path) -> None:
    story = Story()
    story.on[State.STOPPED] = lambda: signal.raise_signal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), running_engine(fake(), log_path=log, on_event=story):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no signal for a parent's death")
def test_an_engine_ends_when_we_are_killed(fake: Fake, log: Path, tmp_path: Path) -> None:
    with _driver(fake(), "serve", log, tmp_path) as driver:
        _until(driver, "ready")
        engines = psutil.Process(driver.pid).children()
        driver.kill()
    assert engines
    deadline = time.monotonic() + 10
    while any(_lives(engine) for engine in engines):
        assert time.monotonic() < deadline, "the engine outlived us"
        time.sleep(0.02)


def _lives(process: psutil.Process) -> bool:
    """Whether it runs: in a container its new parent may never take its exit status."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


_DRIVER = """
import sys, threading, time
from pathlib import Path
from v4deploy.documents import from_json
from v4deploy.domain.engine import LaunchSpec
from v4deploy.serve.run import running_engine, serve

mode, spec_file, log = sys.argv[1:]
spec = from_json(LaunchSpec, "test", Path(spec_file).read_text(), name="spec")
show = lambda event: print(event.state, flush=True)
try:
    if mode == "serve":
        outcome = serve(spec, log_path=Path(log), on_event=show, api_key=None, stop=threading.Event())
        print("interrupted" if outcome.interrupted else "not interrupted", flush=True)
    else:
        with running_engine(spec, log_path=Path(log), on_event=show):
            time.sleep(60)
except KeyboardInterrupt:
    print("KeyboardInterrupt", flush=True)
"""


@pytest.mark.parametrize(
    ("number", "mode", "options", "at", "said"),
    [
        (signal.SIGINT, "serve", ("--worker",), "ready", "interrupted"),
        (signal.SIGTERM, "serve", ("--worker",), "ready", "interrupted"),
        (signal.SIGHUP, "serve", ("--worker", "--never-healthy"), "loading", "interrupted"),
        (signal.SIGINT, "block", ("--worker",), "ready", "KeyboardInterrupt"),
        (signal.SIGTERM, "block", ("--worker",), "ready", "KeyboardInterrupt"),
        (signal.SIGHUP, "block", ("--worker", "--hang-completion"), "warming", "KeyboardInterrupt"),
    ],
)
def test_a_signal_to_us_stops_the_engine(  # noqa: PLR0913, PLR0917 - one argument a column
    fake: Fake, log: Path, tmp_path: Path, number: int, mode: str, options: tuple[str, ...], at: str, said: str
) -> None:
    with _driver(fake(*options), mode, log, tmp_path) as driver:
        lines = _until(driver, at)
        driver.send_signal(number)
        lines += driver.communicate(timeout=20)[0].splitlines()
    assert lines[-1] == said
    assert "stopped" in lines


def test_a_second_signal_kills_at_once(fake: Fake, log: Path, tmp_path: Path) -> None:
    spec = fake("--ignore-sigterm", stop_timeout_seconds=600)
    with _driver(spec, "serve", log, tmp_path) as driver:
        _until(driver, "ready")
        driver.terminate()
        _until(driver, "stopping")
        driver.terminate()
        driver.communicate(timeout=20)
    assert driver.returncode == 0


def _driver(spec: LaunchSpec, mode: str, log: Path, tmp_path: Path) -> subprocess.Popen[str]:
    script, document = tmp_path / "driver.py", tmp_path / "spec.json"
    script.write_text(_DRIVER)
    document.write_text(to_json("test", spec))
    argv = [sys.executable, str(script), mode, str(document), str(log)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def _until(driver: subprocess.Popen[str], state: str) -> list[str]:
    assert driver.stdout is not None
    lines = []
    for line in driver.stdout:
        lines.append(line.strip())
        if lines[-1] == state:
            return lines
    raise AssertionError(f"the driver ended after {lines}")


def _pid(story: Story) -> int:
    return int(story.events[0].message.split("(pid ")[1].split(")")[0])


def _append(path: Path, text: str, *, times: int) -> None:
    with path.open("a") as file:
        file.write(text * times)
