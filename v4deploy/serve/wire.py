"""HTTP to an engine: one request, one reply, bounded in bytes and time. Standard library; no proxy is ever used."""

from __future__ import annotations

import http.client
import io
import socket
import time
from dataclasses import dataclass, field
from typing import Any

MOST_BYTES = 8 * 1024 * 1024
"""More than any answer that is asked for here; a server that goes on for ever is left there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where an engine listens, and the key that it asks for (None: none), which is never printed.

    `bind` may be a wildcard; it is then asked on loopback. `prefix` stands before every path, as behind a proxy.
    """

    bind: str
    port: int
    api_key: str | None = field(default=None, repr=False)
    is_tls: bool = False
    prefix: str = ""

    @property
    def host(self) -> str:
        return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.bind, self.bind)  # noqa: S104 - compared, not bound

    @property
    def base_url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.is_tls else 'http'}://{host}:{self.port}{self.prefix}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back. Headers are None where the server sent none of that name; a longer body ends at MOST_BYTES."""

    status: int
    body: bytes
    content_type: str | None = None
    location: str | None = None
    retry_after: str | None = None


def fetch(endpoint: Endpoint, path: str, *, timeout_seconds: float, body: bytes | None = None) -> Reply:
    """GET a path, or POST a JSON body to it.

    Args:
        endpoint: its key goes into a header, and nowhere else.
        path: behind the endpoint's prefix.
        timeout_seconds: for the whole reply; a server that sends a byte now and then gets no longer.
        body: None: GET.

    Raises:
        OSError: nobody listens, or the reply took too long (TimeoutError).
        http.client.HTTPException: what came back is no HTTP, or broke off.
    """
    connection = connect_bounded(endpoint, timeout_seconds)
    try:
        connection.request("POST" if body else "GET", endpoint.prefix + path, body, headers_of(endpoint))
        response = connection.getresponse()
        return Reply(
            status=response.status,
            body=read_whole(response),
            content_type=response.getheader("Content-Type"),
            location=response.getheader("Location"),
            retry_after=response.getheader("Retry-After"),
        )
    finally:
        connection.close()


def connect(endpoint: Endpoint, timeout_seconds: float) -> http.client.HTTPConnection:
    """A connection that was not opened yet. The timeout is the longest silence, and every byte begins it anew."""
    # Not urllib: it would send a request for loopback through HTTP_PROXY.
    kind = http.client.HTTPSConnection if endpoint.is_tls else http.client.HTTPConnection
    return kind(endpoint.host, endpoint.port, timeout=timeout_seconds)


def connect_bounded(endpoint: Endpoint, timeout_seconds: float) -> http.client.HTTPConnection:
    """A connection that was not opened yet, whose replies are `BoundedResponse`."""
    connection = connect(endpoint, timeout_seconds)
    connection.response_class = BoundedResponse
    return connection


def headers_of(endpoint: Endpoint) -> dict[str, str]:
    """Of a request with a JSON body."""
    headers = {"Content-Type": "application/json"}
    if endpoint.api_key:
        headers["Authorization"] = f"Bearer {endpoint.api_key}"
    return headers


def read_whole(response: http.client.HTTPResponse) -> bytes:
    """The body, up to MOST_BYTES.

    Raises:
        http.client.IncompleteRead: it ended before the length that was promised.
    """
    body = response.read(MOST_BYTES)
    # Asked for so many bytes, http.client takes an early end for the end.
    if response.length and len(body) < MOST_BYTES:
        raise http.client.IncompleteRead(body, response.length)
    return body


class BoundedResponse(http.client.HTTPResponse):
    """A reply that has to be there, byte by byte if it likes, within the connection's timeout; else TimeoutError."""

    def __init__(self, sock: socket.socket, *args: Any, **more: Any) -> None:
        super().__init__(sock, *args, **more)
        self.fp.close()
        self._arrivals = _Arrivals(sock)
        self.fp = io.BufferedReader(self._arrivals)

    def go_on(self) -> None:
        """Something of use came: what follows has the whole time again."""
        self._arrivals.begin()


class _Arrivals(io.RawIOBase):
    """A socket's bytes until a deadline."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._file = sock.makefile("rb", buffering=0)
        self._seconds = sock.gettimeout()
        self.begin()

    def begin(self) -> None:
        self._begun = time.monotonic()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._seconds is not None:
            left_seconds = self._begun + self._seconds - time.monotonic()
            if left_seconds <= 0:
                raise TimeoutError("timed out")
            self._sock.settimeout(left_seconds)
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()
