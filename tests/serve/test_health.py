from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from v4deploy.serve.health import Completion, Health, check_health, complete, parse_completion
from v4deploy.serve.wire import Endpoint


class _Server(ThreadingHTTPServer):
    """Answers every request with what the test put there, and keeps the last request's headers."""

    status = 200
    body = b"{}"
    seen: dict[str, str]


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, _Server)
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        server.seen = dict(self.headers)
        self.send_response(server.status)
        self.send_header("Content-Length", str(len(server.body)))
        self.end_headers()
        self.wfile.write(server.body)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        pass


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server(("127.0.0.1", 0), _Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def _endpoint(server: _Server, api_key: str | None = None) -> Endpoint:
    return Endpoint(bind="127.0.0.1", port=server.server_address[1], api_key=api_key)


def _ask(server: _Server, api_key: str | None = None) -> Completion:
    return complete(_endpoint(server, api_key), "/v1/chat/completions", model="m", timeout_seconds=5)


@pytest.mark.parametrize(
    ("status", "health"),
    [(200, Health.HEALTHY), (503, Health.LOADING), (500, Health.UNHEALTHY), (404, Health.UNHEALTHY)],
)
def test_health_from_status(server: _Server, status: int, health: Health) -> None:
    server.status = status
    assert check_health(_endpoint(server), "/health", timeout_seconds=5).health is health


def test_nobody_listens(free_port: int) -> None:
    report = check_health(Endpoint(bind="127.0.0.1", port=free_port), "/health", timeout_seconds=5)
    assert report.health is Health.REFUSED


def test_a_server_that_says_nothing_is_unhealthy_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = Endpoint(bind="127.0.0.1", port=silent.getsockname()[1])
        report = check_health(endpoint, "/health", timeout_seconds=0.05)
    assert (report.health, report.detail) == (Health.UNHEALTHY, "no answer in 0.05 s")


def test_a_server_that_speaks_no_http_is_unhealthy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def talk() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(1000)
                peer.sendall(b"SSH-2.0-OpenSSH\r\n")

        thread = threading.Thread(target=talk)
        thread.start()
        endpoint = Endpoint(bind="127.0.0.1", port=listener.getsockname()[1])
        report = check_health(endpoint, "/health", timeout_seconds=5)
        thread.join()
    assert report.health is Health.UNHEALTHY
    assert "BadStatusLine" in report.detail


def test_a_proxy_in_the_environment_is_not_asked(server: _Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert check_health(_endpoint(server), "/health", timeout_seconds=5).health is Health.HEALTHY


def test_the_key_goes_into_the_header_and_nowhere_else(server: _Server) -> None:
    server.body = json.dumps({"choices": [{"message": {"content": "hi"}}]}).encode()
    assert _ask(server, "sk-secret").answered
    assert server.seen["Authorization"] == "Bearer sk-secret"
    assert "sk-secret" not in repr(_endpoint(server, "sk-secret"))


def test_no_key_no_header(server: _Server) -> None:
    _ask(server)
    assert "Authorization" not in server.seen


@pytest.mark.parametrize(("status", "refused"), [(401, True), (400, True), (404, True), (429, False), (500, False)])
def test_what_is_worth_another_try(server: _Server, status: int, refused: bool) -> None:  # noqa: FBT001
    server.status, server.body = status, b'{"error": "why"}'
    completion = _ask(server)
    assert completion.failure == f'HTTP {status}: {{"error": "why"}}'
    assert completion.refused is refused
    assert not completion.answered


def test_a_completion_without_a_server_fails_and_does_not_raise(free_port: int) -> None:
    completion = complete(Endpoint(bind="127.0.0.1", port=free_port), "/x", model="m", timeout_seconds=5)
    assert completion.failure is not None
    assert "ConnectionRefusedError" in completion.failure


@pytest.mark.parametrize(
    ("message", "tokens", "answered"),
    [
        ({"content": "hi"}, 1, True),
        ({"content": None, "reasoning_content": "hm"}, None, True),
        ({"content": ""}, 16, True),
        ({"content": " \n"}, 0, False),
        ({"content": ""}, None, False),
    ],
)
def test_an_answer_needs_content_or_tokens(message: dict[str, str], tokens: int | None, answered: bool) -> None:  # noqa: FBT001
    body = json.dumps({"choices": [{"message": message}], "usage": {"completion_tokens": tokens}})
    assert parse_completion(body.encode(), duration_seconds=1).answered is answered


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"{}", b'{"choices": []}', b'{"choices": [{"message": {"content": 5}}]}', b"\xff\xfe"],
)
def test_what_is_no_completion_is_a_failure_that_quotes_it(body: bytes) -> None:
    completion = parse_completion(body, duration_seconds=1)
    assert not completion.answered
    assert completion.failure is not None
    assert "no chat completion" in completion.failure


@pytest.mark.parametrize(
    ("bind", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:80"),  # noqa: S104 - the case under test
        ("::", "http://[::1]:80"),
        ("192.0.2.7", "http://192.0.2.7:80"),
    ],
)
def test_a_wildcard_is_asked_on_loopback(bind: str, url: str) -> None:
    assert Endpoint(bind=bind, port=80).base_url == url
