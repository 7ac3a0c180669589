"""A fake engine to launch, a free port for it, and the proof that no test leaves a process behind."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from v4deploy.domain.engine import EngineId, LaunchSpec, ReadyCheck

FAKE_ENGINE = Path(__file__).with_name("fake_engine.py")


def _ours(mark: str) -> list[int]:
    """Living processes whose command line holds a path of this test run, wherever init may have put them."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and any(mark in part for part in process.cmdline()):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


@pytest.fixture
def no_orphans(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    mark = str(tmp_path_factory.getbasetemp())
    before = set(_ours(mark))
    yield
    deadline = time.monotonic() + 2
    while set(_ours(mark)) - before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not set(_ours(mark)) - before, "a test left processes behind"


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def fake(tmp_path: Path, free_port: int, no_orphans: None) -> Callable[..., LaunchSpec]:  # noqa: ARG001 - its end checks
    """Makes the launch of a fake engine: its options as arguments. What it starts has to be gone after the test."""

    def launch(
        *options: str,
        timeout_seconds: float = 10.0,
        stop_timeout_seconds: float = 5.0,
        engine: EngineId = EngineId.LLAMA_CPP,
    ) -> LaunchSpec:
        return LaunchSpec(
            engine=engine,
            argv=(sys.executable, str(FAKE_ENGINE), "--port", str(free_port), "--run-dir", str(tmp_path), *options),
            env=(("V4DEPLOY_TEST", "1"),),
            bind="127.0.0.1",
            port=free_port,
            served_name="v4-fake",
            ready=ReadyCheck(
                health_path="/health", completion_path="/v1/chat/completions", timeout_seconds=timeout_seconds
            ),
            stop_timeout_seconds=stop_timeout_seconds,
        )

    return launch
