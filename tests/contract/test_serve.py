"""Real engines under `serve`: vLLM on the CPU and llama-server, whole, and broken in the ways that users meet."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tests.contract.serving_programs import llama_server, vllm_program, write_tiny_llama, write_tiny_v4
from v4deploy.commands.serve import free_port
from v4deploy.domain.engine import EngineId, LaunchSpec, ReadyCheck
from v4deploy.domain.errors import LaunchError, NotReadyError, V4DeployError
from v4deploy.serve.run import ServeOutcome, serve
from v4deploy.serve.smoke.result import CheckId, Outcome
from v4deploy.serve.smoke.run import SmokeWish
from v4deploy.serve.state import State
from v4deploy.serve.supervisor import ServeEvent
from v4deploy.shapes.write import write_tiny

pytestmark = pytest.mark.contract

_KEY = "sk-contract"
_VLLM_ENVIRONMENT = (
    ("VLLM_NO_USAGE_STATS", "1"),
    ("HF_HUB_OFFLINE", "1"),
    ("CUDA_VISIBLE_DEVICES", ""),
    ("VLLM_CPU_KVCACHE_SPACE", "1"),
)


def _spec(engine: EngineId, argv: tuple[str, ...], port: int, *, seconds: float = 300) -> LaunchSpec:
    return LaunchSpec(
        engine=engine,
        argv=argv,
        env=_VLLM_ENVIRONMENT if engine is EngineId.VLLM else (),
        bind="127.0.0.1",
        port=port,
        served_name="tiny",
        ready=ReadyCheck(health_path="/health", completion_path="/v1/chat/completions", timeout_seconds=seconds),
        stop_timeout_seconds=30,
    )


def _vllm(model: Path, *more: str) -> LaunchSpec:
    port = free_port()
    flags = (
        "--load-format", "dummy", "--host", "127.0.0.1", "--port", str(port), "--served-model-name", "tiny",
        "--max-model-len", "4096", "--max-num-batched-tokens", "512", "--enforce-eager", "--dtype", "bfloat16",
    )  # fmt: skip
    return _spec(EngineId.VLLM, (str(vllm_program()), "serve", str(model), *flags, *more), port)


def _llama(model: Path) -> LaunchSpec:
    port = free_port()
    flags = (
        "--model", str(model), "--alias", "tiny", "--ctx-size", "4096", "--parallel", "1", "--no-kv-unified",
        "--ubatch-size", "512", "--host", "127.0.0.1", "--port", str(port), "--no-repack", "--fit", "off", "--jinja",
    )  # fmt: skip
    return _spec(EngineId.LLAMA_CPP, (str(llama_server()), *flags), port, seconds=60)


class _Told(list[ServeEvent]):
    """What was told, and a stop when it is ready, or in the state that a test names."""

    def __init__(self, stop_at: State = State.READY) -> None:
        super().__init__()
        self.stop = threading.Event()
        self._stop_at = stop_at

    def __call__(self, event: ServeEvent) -> None:
        self.append(event)
        if event.state is self._stop_at:
            self.stop.set()


def _serve(spec: LaunchSpec, log: Path, told: _Told, *, key: str | None = None) -> ServeOutcome:
    wish = SmokeWish(model="tiny", content_judged=False, micro_batch_tokens=512, context_tokens=4096)
    return serve(spec, log_path=log, on_event=told, api_key=key, stop=told.stop, smoke=wish)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    return write_tiny(tmp_path_factory.mktemp("tiny"), seed=3)


def _outcomes(outcome: ServeOutcome) -> dict[CheckId, Outcome]:
    assert outcome.smoke_report is not None
    return {check.id: check.outcome for check in outcome.smoke_report.checks}


def test_vllm_serves_behind_a_key_and_passes_the_smoke_test(tmp_path: Path) -> None:
    told = _Told()
    arguments: list[str] = []

    def note(event: ServeEvent) -> None:
        if event.state is State.READY:
            assert event.pid is not None
            family = [psutil.Process(event.pid), *psutil.Process(event.pid).children(recursive=True)]
            arguments.extend(word for process in family for word in process.cmdline())
        told(event)

    spec = _vllm(write_tiny_llama(tmp_path / "model"))
    wish = SmokeWish(model="tiny", content_judged=False, micro_batch_tokens=512, context_tokens=4096)
    log = tmp_path / "log"
    outcome = serve(spec, log_path=log, on_event=note, api_key=_KEY, stop=told.stop, smoke=wish)
    found = _outcomes(outcome)
    for check in (CheckId.CHAT, CheckId.STREAM, CheckId.LONG_PROMPT, CheckId.SECOND_TURN):
        assert found[check] is Outcome.PASS
    # It was started without a tool parser, and says so itself.
    assert found[CheckId.TOOLS] is Outcome.NOT_SUPPORTED
    assert not [word for word in arguments if _KEY in word]
    assert _KEY not in log.read_text()
    assert outcome.exit.code == 0


def test_vllm_loads_the_true_architecture_on_a_cpu_and_its_first_answer_shows_that_it_cannot_run_it(
    tmp_path: Path,
) -> None:
    told = _Told()
    with pytest.raises(V4DeployError, match="Triton") as caught:
        _serve(_vllm(write_tiny_v4(tmp_path / "model"), "--max-model-len", "2048"), tmp_path / "log", told)
    assert isinstance(caught.value, (LaunchError, NotReadyError))
    states = [event.state for event in told]
    assert State.WARMING in states  # its health check was good
    assert State.READY not in states


def test_vllm_refuses_a_flag_of_another_release(tmp_path: Path) -> None:
    model = write_tiny_llama(tmp_path / "model")
    with pytest.raises(LaunchError, match="does not know `--num-scheduler-steps"):
        _serve(_vllm(model, "--num-scheduler-steps", "4"), tmp_path / "log", _Told())


def test_llama_server_serves_the_true_architecture(shards: tuple[Path, ...], tmp_path: Path) -> None:
    outcome = _serve(_llama(shards[0]), tmp_path / "log", _Told())
    assert set(_outcomes(outcome).values()) == {Outcome.PASS, Outcome.NOT_JUDGED}
    assert outcome.smoke_report is not None
    second = next(check for check in outcome.smoke_report.checks if check.id is CheckId.SECOND_TURN)
    assert "from the prefix cache" in second.summary
    assert (outcome.exit.code, outcome.exit.forced) == (0, False)


def test_llama_server_killed_while_it_loads(shards: tuple[Path, ...], tmp_path: Path) -> None:
    told = _Told(stop_at=State.STOPPED)

    def kill(event: ServeEvent) -> None:
        told(event)
        if event.state is State.STARTING and event.pid is not None:
            os.kill(event.pid, signal.SIGKILL)

    with pytest.raises(LaunchError, match=r"signal SIGKILL while .*memory"):
        serve(_llama(shards[0]), log_path=tmp_path / "log", on_event=kill, api_key=None, stop=told.stop)


def test_llama_server_with_a_truncated_shard(shards: tuple[Path, ...], tmp_path: Path) -> None:
    for path in shards:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    os.truncate(tmp_path / shards[1].name, shards[1].stat().st_size - 1000)
    with pytest.raises(LaunchError, match=r"exit code 1 .*is cut short: the tensor `blk") as caught:
        _serve(_llama(tmp_path / shards[0].name), tmp_path / "log", _Told())
    assert "v4deploy verify" in str(caught.value.hint)


def test_llama_server_whose_port_is_stolen_between_the_look_and_the_start(
    shards: tuple[Path, ...], tmp_path: Path
) -> None:
    spec = _llama(shards[0])
    started: list[subprocess.Popen[bytes]] = []
    # The thief comes first, and the engine after it: as if it had come between our look at the port and the engine's.
    late = replace(spec, argv=(sys.executable, "-c", _WAIT, str(tmp_path / "go"), *spec.argv))

    def steal(event: ServeEvent) -> None:
        if event.state is State.STARTING and not started:
            process = subprocess.Popen([sys.executable, "-c", _THIEF, str(spec.port)], stdout=subprocess.PIPE)
            started.append(process)
            assert process.stdout is not None
            process.stdout.readline()
            (tmp_path / "go").touch()

    try:
        with pytest.raises(LaunchError, match="another server took the port"):
            serve(late, log_path=tmp_path / "log", on_event=steal, api_key=None, stop=threading.Event())
    finally:
        for process in started:
            process.kill()
            process.communicate()
    with socket.create_server(("127.0.0.1", spec.port)):
        pass


_THIEF = """
import socket, sys, time
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print(flush=True)
time.sleep(60)
"""
_WAIT = """
import os, sys, time
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
os.execv(sys.argv[2], sys.argv[2:])
"""
