"""The real llama.cpp from the wheel, serving the tiny V4."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from v4deploy.domain.engine import LaunchSpec
from v4deploy.domain.errors import LaunchError
from v4deploy.serve.embedded_flags import parse_flags
from v4deploy.serve.locate import locate_llama_cpp
from v4deploy.serve.run import RunningEngine, running_engine, serve
from v4deploy.serve.state import State
from v4deploy.serve.supervisor import ServeEvent
from v4deploy.shapes.write import write_tiny

pytest.importorskip("xllamacpp", reason="the extra `embedded` is not installed")
pytest.importorskip("gguf", reason="the extra `embedded` is not installed")
pytestmark = pytest.mark.engine

Launch = Callable[..., LaunchSpec]
_NO_EVENTS: Callable[[ServeEvent], None] = lambda _event: None  # noqa: E731 - a typed constant


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    return write_tiny(tmp_path_factory.mktemp("tiny"), seed=7)


@pytest.fixture
def launch(fake: Launch, shards: tuple[Path, ...], free_port: int) -> Launch:
    """The launch of the wheel with the flags of our launch files, and more from the test."""

    def make(*options: str, model: Path = shards[0]) -> LaunchSpec:
        flags = (
            "--model", str(model), "--alias", "v4-fake", "--ctx-size", "2048", "--parallel", "2", "--no-kv-unified",
            "--host", "127.0.0.1", "--port", str(free_port), "--load-mode", "mmap", "--no-repack", "--fit", "off",
            "--device", "none", "--temp", "1.0", "--top-p", "1.0", "--min-p", "0", "--jinja", "--metrics",
            "--cors-origins", "http://127.0.0.1", *options,
        )  # fmt: skip
        return locate_llama_cpp(None).launch(replace(fake(timeout_seconds=60), argv=("llama-server", *flags)))

    return make


def _get(engine: RunningEngine, path: str, key: str | None = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(engine.base_url.removeprefix("http://"), timeout=20)
    connection.request("GET", path, headers={"Authorization": f"Bearer {key}"} if key else {})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, body if path == "/metrics" else json.loads(body)


def _chat(engine: RunningEngine, text: str) -> Any:
    connection = http.client.HTTPConnection(engine.base_url.removeprefix("http://"), timeout=20)
    request = {"messages": [{"role": "user", "content": text}], "max_tokens": 8, "temperature": 0}
    connection.request("POST", "/v1/chat/completions", json.dumps(request), {"Content-Type": "application/json"})
    answer = json.load(connection.getresponse())
    connection.close()
    return answer


def test_the_tiny_v4_answers(launch: Launch, tmp_path: Path) -> None:
    with running_engine(launch(), log_path=tmp_path / "log", on_event=_NO_EVENTS) as engine:
        assert engine.first_completion.text.isprintable()
        assert engine.first_completion.completion_tokens == 16
        models = _get(engine, "/v1/models")[1]
        assert models["data"][0]["id"] == "v4-fake"
        assert models["data"][0]["meta"]["n_ctx_train"] == 65_536
        assert _get(engine, "/metrics")[0] == 200
        # More tokens than the window and than one HCA block, so that every kind of cache entry is written and read.
        long = _chat(engine, "hello " * 100)
        assert long["usage"]["prompt_tokens"] > 512
        assert long["usage"]["completion_tokens"] == 8
        assert long["choices"][0]["message"]["content"].isprintable()


def test_slots_and_context_are_as_asked(launch: Launch, tmp_path: Path) -> None:
    with running_engine(launch(), log_path=tmp_path / "log", on_event=_NO_EVENTS) as engine:
        assert _get(engine, "/props")[1]["total_slots"] == 2
        assert _get(engine, "/slots")[1][0]["n_ctx"] == 1024


def test_a_key_is_asked_for(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-7\n")
    spec = launch("--api-key-file", str(tmp_path / "key"))
    with running_engine(spec, log_path=tmp_path / "log", on_event=_NO_EVENTS, api_key="sk-7") as engine:
        assert _get(engine, "/v1/models")[0] == 401
        assert _get(engine, "/v1/models", "sk-7")[0] == 200
    assert "sk-7" not in (tmp_path / "log").read_text()


def test_a_quantised_cache(launch: Launch, tmp_path: Path) -> None:
    spec = launch("--cache-type-k", "q8_0", "--cache-type-v", "q8_0", "--n-cpu-moe", "2", "--numa", "distribute")
    with running_engine(spec, log_path=tmp_path / "log", on_event=_NO_EVENTS) as engine:
        assert engine.first_completion.answered


def test_it_stops_politely(launch: Launch, tmp_path: Path) -> None:
    stop = threading.Event()

    def stop_when_ready(event: ServeEvent) -> None:
        if event.state is State.READY:
            stop.set()

    outcome = serve(launch(), log_path=tmp_path / "log", on_event=stop_when_ready, api_key=None, stop=stop)
    assert (outcome.exit.code, outcome.exit.forced) == (0, False)


def test_it_stops_at_once_in_the_middle_of_an_answer(launch: Launch, tmp_path: Path) -> None:
    spec = replace(launch("--ctx-size", "60000", "--parallel", "1"), stop_timeout_seconds=20)
    stop = threading.Event()

    def ask_for_much(event: ServeEvent) -> None:
        if event.state is State.READY:
            threading.Thread(target=_long_request, args=(spec.port,), daemon=True).start()
            threading.Thread(target=_set_when_busy, args=(spec.port, stop), daemon=True).start()

    outcome = serve(spec, log_path=tmp_path / "log", on_event=ask_for_much, api_key=None, stop=stop)
    assert (outcome.exit.code, outcome.exit.forced) == (0, False)


def _long_request(port: int) -> None:
    """Ask for more than is generated in a minute, in one piece, and wait for it until the engine is gone."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    request = {"prompt": "hi", "max_tokens": 59_000, "ignore_eos": True}
    with contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("POST", "/v1/completions", json.dumps(request), {"Content-Type": "application/json"})
        connection.getresponse().read()
    connection.close()


def _set_when_busy(port: int, busy: threading.Event) -> None:
    while not busy.is_set():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", "/slots")
        if any(slot["is_processing"] for slot in json.load(connection.getresponse())):
            busy.set()
        connection.close()


def _break(shards: tuple[Path, ...], directory: Path, fault: str) -> Path:
    first, second = (Path(shutil.copy(shard, directory)) for shard in shards)
    data = second.read_bytes()
    if fault == "cut":
        second.write_bytes(data[:-1000])
    elif fault == "missing":
        second.unlink()
    elif fault == "pointer":
        second.write_text("version https://git-lfs.github.com/spec/v1\n")
    elif fault == "second":
        return second
    elif fault == "renamed":
        return first.rename(directory / "model.gguf")
    return first


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("cut", "is cut short: the tensor `blk"),
        ("missing", "00002-of-00002.gguf` is missing"),
        ("pointer", "no GGUF file"),
        ("second", "another shard than the first"),
        ("renamed", "a shard was renamed"),
    ],
)
def test_a_broken_file_is_named(
    launch: Launch, shards: tuple[Path, ...], tmp_path: Path, fault: str, cause: str
) -> None:
    spec = launch(model=_break(shards, tmp_path, fault))
    with (
        pytest.raises(LaunchError) as caught,
        running_engine(spec, log_path=tmp_path / "log", on_event=_NO_EVENTS),
    ):
        pass
    assert cause in caught.value.message
    assert "exit code 1" in caught.value.message
    assert caught.value.details


_LOGS_AND_ENDS = """
import ctypes, os, xllamacpp
from v4deploy.serve.embedded import end_log
library = ctypes.CDLL(xllamacpp.xllamacpp.__file__)
log = library["_Z15common_log_mainv"]
log.restype = ctypes.c_void_p
add = library["_Z14common_log_addP10common_log14ggml_log_levelPKcz"]
add.argtypes = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
for number in range(200):
    add(log(), 4, b"line %d %s" % (number, b"." * 90 + bytes([10])))
print("logged", flush=True)
end_log(xllamacpp)
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(fcntl, "F_SETPIPE_SZ"), reason="the pipe's size can be set on Linux only")
def test_the_last_line_of_the_log_outlives_the_process() -> None:
    # The pipe takes a fifth of the lines, so llama.cpp's thread is still writing when the process comes to its end.
    read_end, write_end = os.pipe()
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4096)
    with (
        os.fdopen(read_end, "rb") as log,
        subprocess.Popen([sys.executable, "-c", _LOGS_AND_ENDS], stdout=subprocess.PIPE, stderr=write_end) as child,
    ):
        os.close(write_end)
        assert child.stdout is not None
        assert child.stdout.readline() == b"logged\n"
        lines = log.read().splitlines()
    assert lines[-1].startswith(b"line 199 ")
    assert len(lines) == 200


def test_cache_types_that_differ_are_explained(launch: Launch, tmp_path: Path) -> None:
    with (
        pytest.raises(LaunchError, match="both equal"),
        running_engine(launch("--cache-type-k", "q8_0"), log_path=tmp_path / "log", on_event=_NO_EVENTS),
    ):
        pass


def test_an_unknown_flag_ends_with_2_and_its_name() -> None:
    argv = [sys.executable, "-m", "v4deploy.serve.embedded", "--", "--model", "x", "--no-mmap"]
    ended = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "`--no-mmap`" in ended.stderr


def test_every_setting_exists_in_this_wheel(launch: Launch) -> None:
    import xllamacpp

    from v4deploy.serve.embedded import _apply

    more = (
        "--batch-size 512 --ubatch-size 512 --threads 1 --threads-batch 1 --n-gpu-layers all --split-mode layer "
        "--tensor-split 1,2 --flash-attn auto --top-k 0 --no-warmup "
        "--spec-type draft-dspark --spec-draft-model d.gguf --spec-draft-n-max 5"
    )
    parameters = xllamacpp.CommonParams()
    for setting in parse_flags((*launch().argv[4:], *more.split())):
        _apply(xllamacpp, parameters, setting)
    assert (parameters.n_gpu_layers, parameters.n_batch, parameters.tensor_split[1]) == (-2, 512, 2.0)
    assert parameters.speculative.types == [xllamacpp.common_speculative_type.COMMON_SPECULATIVE_TYPE_DRAFT_DSPARK]
    assert (parameters.speculative.draft.n_max, parameters.speculative.draft.mparams.path) == (5, "d.gguf")
