"""Ready means that the smoke test passed: the supervisor against engines that answer well, badly, or not to the end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from v4deploy.domain.engine import EngineId, LaunchSpec
from v4deploy.domain.errors import CheckFailedError, LaunchError
from v4deploy.serve.keys import key_environment
from v4deploy.serve.loading import doing
from v4deploy.serve.log import cut, rotate, tail
from v4deploy.serve.remarks import remarks
from v4deploy.serve.run import ServeOutcome, serve
from v4deploy.serve.smoke.run import SmokeWish
from v4deploy.serve.state import State
from v4deploy.serve.supervisor import ServeEvent

Fake = Callable[..., LaunchSpec]


def _serve(spec: LaunchSpec, log: Path, events: list[ServeEvent], *, judged: bool = True) -> ServeOutcome:
    stop = threading.Event()

    def on_event(event: ServeEvent) -> None:
        events.append(event)
        if event.state is State.READY:
            stop.set()

    wish = SmokeWish(model=spec.served_name, content_judged=judged)
    return serve(spec, log_path=log, on_event=on_event, api_key=None, stop=stop, smoke=wish)


def test_a_sound_engine_is_ready_after_its_smoke_test(fake: Fake, tmp_path: Path) -> None:
    events: list[ServeEvent] = []
    outcome = _serve(fake("--chat", "none"), tmp_path / "log", events)
    assert outcome.smoke_report is not None
    assert not outcome.smoke_report.failed
    asked = [event.message for event in events if event.state is State.WARMING]
    assert sum(message.startswith("smoke test: asking for") for message in asked) == 5
    assert any(event.message == "ready: a completion came back, and the smoke test passed" for event in events)


def test_garbled_output_behind_a_good_health_check_fails_with_its_evidence(fake: Fake, tmp_path: Path) -> None:
    events: list[ServeEvent] = []
    with pytest.raises(
        CheckFailedError, match=r"healthy and answers, but .* known-answer: it should have said 42"
    ) as caught:
        _serve(fake("--chat", "gibberish"), tmp_path / "log", events)
    assert State.READY not in [event.state for event in events]
    assert events[-1].state is State.FAILED
    evidence = "\n".join(caught.value.details)
    assert "17 plus 25" in evidence
    assert "Zuweisung" in evidence
    assert "--smoke first-answer" in str(caught.value.hint)


def test_what_it_said_in_passing_becomes_a_finding(fake: Fake, tmp_path: Path) -> None:
    said = "W_common_fit_params:_failed_to_fit_params_to_free_device_memory:_n_gpu_layers_already_set".replace("_", " ")
    events: list[ServeEvent] = []
    outcome = _serve(fake("--chat", "none", "--say", said), tmp_path / "log", events)
    (finding,) = outcome.remarks
    assert (finding.id, finding.evidence[0].value) == ("engine.llama-cpp.not-fitted", said)
    assert any(event.message.startswith("warn: llama.cpp could not fit") for event in events)


@pytest.mark.parametrize(
    ("engine", "line", "found"),
    [
        (
            EngineId.LLAMA_CPP,
            (
                "llama_context: layer 2 is assigned to device CUDA0 but Lightning Indexer is assigned to device CPU "
                "(usually due to missing support)"
            ),
            "engine.llama-cpp.indexer-elsewhere",
        ),
        (EngineId.VLLM, "WARNING Unknown vLLM environment variable detected: VLLM_X", "engine.vllm.unknown-variable"),
        (
            EngineId.VLLM,
            (
                "Network filesystem (NFS) detected but checkpoint total size (850.38 GiB) exceeds 90% of available RAM "
                "(322.00 GiB). Skipping auto-prefetch."
            ),
            "engine.vllm.prefetch-skipped",
        ),
        (EngineId.VLLM, "INFO all is well", None),
    ],
)
def test_remarks(engine: EngineId, line: str, found: str | None) -> None:
    assert [finding.id for finding in remarks(engine, ("a", line, "b", line))] == ([found] if found else [])


def test_what_a_toy_says_is_not_held_against_it(fake: Fake, tmp_path: Path) -> None:
    outcome = _serve(fake("--chat", "gibberish"), tmp_path / "log", [], judged=False)
    assert outcome.smoke_report is not None
    assert not outcome.smoke_report.content_judged


def test_a_death_in_the_smoke_test_says_so(fake: Fake, tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match=r"SIGKILL while answering the smoke test \("):
        _serve(fake("--chat", "none", "--crash-at-question", "4"), tmp_path / "log", [])


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (
            ("Starting to load model /w...", "Loading safetensors checkpoint shards:  45% Completed | 22/48 [00:10"),
            "22 of 48",
        ),
        (("load_tensors: loading model tensors, this can take a while...", "...."), "loading the weights"),
        (("Capturing CUDA graphs (decode, FULL):  60%|######",), "60 %"),
        (("Enforce eager set, disabling torch.compile, CUDAGraphs, and JIT kernel warmup",), None),
    ],
)
def test_what_a_loading_engine_says_in_words(lines: tuple[str, ...], words: str | None) -> None:
    assert words in str(doing(lines)) if words else doing(lines) is None


def test_a_key_goes_into_the_environment_of_engines_that_read_no_file() -> None:
    assert key_environment(EngineId.VLLM, "sk") == {"VLLM_API_KEY": "sk"}
    assert key_environment(EngineId.LLAMA_CPP, "sk") == {}
    assert key_environment(EngineId.VLLM, None) == {}


def test_a_log_that_grows_is_cut_while_it_is_written(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    with log.open("ab", buffering=0) as engine:
        engine.write(b"first\n" * 10)
        assert not cut(log, most_bytes=60)
        engine.write(b"more\n")
        assert cut(log, most_bytes=60)
        engine.write(b"last\n")
    assert tail(log, 5) == ("last",)
    assert tail(log.with_name("engine.log.1"), 1) == ("more",)


def test_three_older_logs_are_kept(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    for run in range(6):
        rotate(log)
        log.write_text(f"run {run}\n")
    assert [tail(path, 1)[0] for path in sorted(tmp_path.iterdir())] == ["run 5", "run 4", "run 3", "run 2"]
