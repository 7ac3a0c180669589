"""Replies of servers that go on for ever, or break off: bounded in time and bytes, and told in words."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from v4deploy.serve.health import Health, check_health, complete
from v4deploy.serve.ollama.api import version_at
from v4deploy.serve.smoke.answer import Exchange, NoAnswerError, read_answer
from v4deploy.serve.smoke.client import post_chat
from v4deploy.serve.wire import Endpoint, fetch

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
_EVENT = b'data: {"choices": [{"delta": {"content": "hi"}}]}\n\n'
_REQUEST = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
_SECONDS, _SHORT_SECONDS = 0.3, 0.1
Says = Callable[..., Endpoint]


@pytest.fixture
def says() -> Iterator[Says]:
    """A server that sends one thing, then another again and again, a while apart, until its client goes."""
    listeners: list[socket.socket] = []
    ended = threading.Event()

    def talk(listener: socket.socket, first: bytes, then: bytes, pause_seconds: float) -> None:
        with suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                _read_request(connection)
                connection.sendall(first)
                while then and not ended.wait(pause_seconds):
                    connection.sendall(then)

    def start(first: bytes, then: bytes = b"", pause_seconds: float = 0.02) -> Endpoint:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        threading.Thread(target=talk, args=(listener, first, then, pause_seconds), daemon=True).start()
        return Endpoint(bind="127.0.0.1", port=listener.getsockname()[1])

    yield start
    ended.set()
    for listener in listeners:
        listener.close()


def _read_request(connection: socket.socket) -> None:
    """All of it: what is left unread would reset the connection at its end."""
    with connection.makefile("rb") as file:
        lines = iter(file.readline, b"\r\n")
        lengths = [int(line.split(b":")[1]) for line in lines if line.lower().startswith(b"content-length:")]
        file.read(sum(lengths))


def _chat(endpoint: Endpoint, seconds: float = _SECONDS) -> Exchange:
    return post_chat(endpoint, "/v1/chat/completions", _REQUEST, timeout_seconds=seconds)


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X-Slow: 1\r\n"),
        (b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x"),
        (_HEAD + b"Content-Length: 100000\r\n\r\n", b" "),
        (_HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (_HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;", b"x"),
        (_HEAD + b"\r\n", b" "),
    ],
)
def test_a_byte_now_and_then_is_no_answer(
    says: Says, first: bytes, then: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("v4deploy.serve.ollama.api._VERSION_SECONDS", _SHORT_SECONDS)
    assert version_at(says(first, then)) is None
    with pytest.raises(TimeoutError):
        fetch(says(first, then), "/v1/models", timeout_seconds=_SHORT_SECONDS)
    assert check_health(says(first, then), "/health", timeout_seconds=_SHORT_SECONDS).health is Health.UNHEALTHY
    assert "no answer in" in str(complete(says(first, then), "/v1", model="m", timeout_seconds=_SHORT_SECONDS).failure)
    with pytest.raises(NoAnswerError, match="silent for"):
        read_answer(_chat(says(first, then), _SHORT_SECONDS))


def test_a_stream_that_only_keeps_its_connection_open_is_silent(says: Says) -> None:
    exchange = _chat(says(_STREAM + b"\r\n" + _EVENT, b": still here\n\n"))
    answer = read_answer(exchange)
    assert (answer.text, answer.is_finished) == ("hi", False)
    assert "silent for" in str(exchange.failure)


def test_a_stream_may_take_longer_than_the_longest_silence(says: Says) -> None:
    # Each event begins the time anew; all of them together take longer.
    exchange = _chat(
        says(_STREAM + b"Content-Length: %d\r\n\r\n" % (len(_EVENT) * 8), _EVENT, pause_seconds=_SECONDS / 5)
    )
    assert exchange.failure is None
    assert exchange.duration_seconds > _SECONDS
    assert read_answer(exchange).text == "hi" * 8


def test_what_never_ends_is_left(says: Says) -> None:
    exchange = _chat(says(_HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b" " * 65536 + b"\r\n", 0))
    with pytest.raises(NoAnswerError, match="more than 8 MiB"):
        read_answer(exchange)
    streamed = _chat(says(_STREAM + b"\r\n", _EVENT * 5000, 0))
    assert "more than 8 MiB" in str(streamed.failure)
    assert not read_answer(streamed).is_finished


def test_a_body_that_breaks_off_is_told(says: Says) -> None:
    with pytest.raises(http.client.IncompleteRead):
        fetch(says(_HEAD + b'Content-Length: 100\r\n\r\n{"data"'), "/v1/models", timeout_seconds=5)
    with pytest.raises(NoAnswerError, match="IncompleteRead"):
        read_answer(_chat(says(_HEAD + b'Content-Length: 100\r\n\r\n{"choi')))


def test_the_end_mark_needs_no_space_and_no_end_of_the_connection(says: Says) -> None:
    exchange = _chat(says(_STREAM + b"\r\n" + _EVENT + b"data:[DONE]\n\n", b": bye\n\n"))
    assert exchange.failure is None
    assert read_answer(exchange).is_finished
