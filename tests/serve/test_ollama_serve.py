"""Serving with Ollama from its start to its end: a stand-in for it as a real process."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from v4deploy.domain.engine import EngineId, LaunchSpec
from v4deploy.domain.errors import LaunchError, NotReadyError, V4DeployError
from v4deploy.domain.model_import import ImportedFile, ModelImport
from v4deploy.serve.intake import Intake
from v4deploy.serve.ollama.api import OllamaApi
from v4deploy.serve.ollama.importing import OllamaJob
from v4deploy.serve.ollama.store import Store
from v4deploy.serve.run import ServeOutcome, serve
from v4deploy.serve.smoke.run import SmokeWish
from v4deploy.serve.state import State
from v4deploy.serve.supervisor import ServeEvent
from v4deploy.serve.wire import Endpoint

FAKE_OLLAMA = Path(__file__).with_name("fake_ollama.py")


class Serving:
    """One serve of the stand-in; stopped when it is in a state."""

    def __init__(self, spec: LaunchSpec, wanted: ModelImport, tmp_path: Path) -> None:
        self.events: list[ServeEvent] = []
        self.stop = threading.Event()
        self.stop_at = State.READY
        self._spec = spec
        self._wanted = wanted
        self._tmp_path = tmp_path

    def run(self, *, faults: str = "", timeout_seconds: float = 20, import_seconds: float = 20) -> ServeOutcome:
        env = (
            ("FAKE_OLLAMA", faults),
            ("OLLAMA_HOST", f"127.0.0.1:{self._spec.port}"),
            ("OLLAMA_MODELS", str(self._tmp_path / "store")),
        )
        spec = replace(self._spec, env=env, ready=replace(self._spec.ready, timeout_seconds=timeout_seconds))
        api = OllamaApi(Endpoint(bind=spec.bind, port=spec.port), patience_seconds=20)
        store = Store(self._tmp_path / "store", receipts=self._tmp_path / "receipts")
        job = OllamaJob(api, replace(self._wanted, timeout_seconds=import_seconds), store)
        return serve(
            spec,
            log_path=self._tmp_path / "ollama.log",
            on_event=self._on_event,
            api_key=None,
            stop=self.stop,
            smoke=SmokeWish(model=spec.served_name, takes_effort=True),
            intake=Intake(job),
        )

    def fails(self, **how: object) -> V4DeployError:
        with pytest.raises(V4DeployError) as caught:
            self.run(**how)  # type: ignore[arg-type]
        return caught.value

    def _on_event(self, event: ServeEvent) -> None:
        self.events.append(event)
        if event.state is self.stop_at:
            self.stop.set()


@pytest.fixture
def serving(fake: Callable[..., LaunchSpec], tmp_path: Path) -> Serving:
    weights = tmp_path / "v4.gguf"
    weights.write_bytes(b"GGUF of no model")
    spec = replace(fake(engine=EngineId.OLLAMA), argv=(sys.executable, str(FAKE_OLLAMA), "serve"))
    spec = replace(spec, ready=replace(spec.ready, health_path="/api/version"))
    wanted = ModelImport(
        model=spec.served_name,
        files=(ImportedFile(path=str(weights), name=weights.name, sha256=None),),
        parameters=(("num_ctx", 4096),),
        license="MIT",
        minimum_version="0.32.6",
        is_merged=True,
        timeout_seconds=20,
    )
    return Serving(spec, wanted, tmp_path)


def test_the_model_is_brought_in_before_it_is_asked(serving: Serving) -> None:
    outcome = serving.run()
    assert list(dict.fromkeys(event.state for event in serving.events)) == [
        State.STARTING, State.LOADING, State.WARMING, State.READY, State.STOPPING, State.STOPPED,
    ]  # fmt: skip
    told = [event.message for event in serving.events if event.state is State.LOADING]
    assert told[0].startswith("copying file 1 of 1 into Ollama's store")
    assert told[1:-1] == [
        f"making the model: {step}"
        for step in ("parsing GGUF", "validating GGUF model", "verifying conversion", "writing manifest", "success")
    ]
    assert told[-1] == "loading v4-fake"
    assert outcome.smoke_report is not None
    assert not outcome.smoke_report.failed


def test_an_ollama_that_dies_while_it_loads(serving: Serving) -> None:
    error = serving.fails(faults="dies-in-load")
    assert isinstance(error, LaunchError)
    assert "ollama ended with exit code 2 while loading the weights" in error.message
    assert "does not know the architecture `deepseek4`" in error.message
    assert "unknown model architecture" in "\n".join(error.details)


def test_an_ollama_that_does_not_take_the_model(serving: Serving) -> None:
    error = serving.fails(faults="breaks-create")
    assert isinstance(error, LaunchError)
    assert "Ollama could not make the model v4-fake: failed to validate GGUF with llama-quantize" in error.message
    assert "update Ollama" in str(error.hint)
    assert serving.events[-1].state is State.FAILED


@pytest.mark.parametrize(
    ("faults", "times", "doing"),
    [
        ("hangs-create", {"import_seconds": 0.2}, "making the model|copying"),
        # It has to get as far as loading, which takes an interpreter's start on a busy machine.
        pytest.param("hangs-load", {"timeout_seconds": 2.5}, "loading the weights", marks=pytest.mark.slow),
    ],
)
def test_an_ollama_that_is_not_ready_in_time(
    serving: Serving, faults: str, times: dict[str, float], doing: str
) -> None:
    error = serving.fails(faults=faults, **times)
    assert isinstance(error, NotReadyError)
    assert any(words in error.message for words in doing.split("|"))


def test_a_stop_does_not_wait_for_the_import(serving: Serving) -> None:
    serving.stop_at = State.LOADING
    outcome = serving.run(faults="hangs-create")
    assert outcome.first_completion is None
    assert outcome.elapsed_seconds < 10
