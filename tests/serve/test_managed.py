"""What Docker Compose and systemd are asked, and what their answers mean; and what engines say of their traffic."""

from __future__ import annotations

import pytest

from v4deploy.serve.managed import ManagedTarget, Manager, read_compose, read_systemd
from v4deploy.serve.traffic import busy_slots, vllm_requests

_COMPOSE = ManagedTarget(manager=Manager.COMPOSE, name="/srv/v4/compose.yaml")
_UNIT = ManagedTarget(manager=Manager.SYSTEMD, name="v4.service", is_user=True)


def test_what_is_asked() -> None:
    assert _COMPOSE.status_argv == (
        "docker", "compose", "--file", "/srv/v4/compose.yaml", "ps", "--all", "--format", "json",
    )  # fmt: skip
    assert _COMPOSE.stop_argv[-1] == "stop"
    assert _COMPOSE.logs_argv(lines=5, follow=True)[-4:] == ("logs", "--tail", "5", "--follow")
    assert _UNIT.stop_argv == ("systemctl", "--user", "--no-ask-password", "stop", "v4.service")
    assert _UNIT.logs_argv(lines=5, follow=False) == ("journalctl", "--user-unit", "v4.service", "--lines", "5")


@pytest.mark.parametrize(
    ("text", "is_running", "words"),
    [
        ('{"Name":"v4-1","State":"running","Health":"healthy","ExitCode":0}\n', True, "v4-1: running, healthy"),
        ('[{"Name":"v4-1","State":"exited","Health":"","ExitCode":137}]', False, "exited with exit code 137"),
        ("", False, "no container"),
        ('{"Name":"a","State":"running"}\n{"Name":"b","State":"restarting"}', False, "b: restarting"),
    ],
)
def test_compose(text: str, words: str, is_running: bool) -> None:  # noqa: FBT001
    state = read_compose(text)
    assert state.is_running is is_running
    assert words in state.words


@pytest.mark.parametrize("text", ["no such file", "[1]", '"x"'])
def test_compose_that_says_something_else(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        read_compose(text)


@pytest.mark.parametrize(
    ("text", "is_running", "words"),
    [
        (
            "LoadState=loaded\nActiveState=active\nSubState=running\nResult=success\nNRestarts=0",
            True,
            "active (running)",
        ),
        (
            "LoadState=loaded\nActiveState=failed\nSubState=failed\nResult=exit-code\nNRestarts=3",
            False,
            "failed (failed), last ended with exit-code, restarted 3 times",
        ),
        ("LoadState=not-found\nActiveState=inactive", False, "no such unit (not-found)"),
        ("", False, "nothing was said"),
    ],
)
def test_systemd(text: str, words: str, is_running: bool) -> None:  # noqa: FBT001
    state = read_systemd(text)
    assert state.is_running is is_running
    assert words in state.words


def test_traffic_of_llama_server() -> None:
    assert busy_slots('[{"id":0,"is_processing":true},{"id":1,"is_processing":false}]') == 1
    assert busy_slots('{"error": "this server does not support slots"}') is None


def test_traffic_of_vllm() -> None:
    text = (
        "# HELP vllm:num_requests_running Number of requests in model execution batches.\n"
        'vllm:num_requests_running{engine="0",model_name="v4"} 2.0\n'
        'vllm:num_requests_waiting{engine="0",model_name="v4"} 1.0\n'
        'vllm:num_requests_waiting_by_reason{engine="0"} 9.0\n'
    )
    assert vllm_requests(text) == 3
    assert vllm_requests("# nothing") is None
    assert vllm_requests("vllm:num_requests_running 1e999\n") is None
    assert vllm_requests("vllm:num_requests_running ..\n") is None
