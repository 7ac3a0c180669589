"""Shared fixtures. No test reaches out of this machine: sockets and names stay on loopback."""

from __future__ import annotations

import socket
from typing import Any

import pytest

_LOOPBACK = ("127.", "::1", "localhost")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    real_connect = socket.socket.connect
    real_getaddrinfo = socket.getaddrinfo

    def connect(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and not str(address[0]).startswith(_LOOPBACK):
            raise AssertionError(f"a test tried to reach {address}")
        real_connect(self, address)

    def getaddrinfo(host: Any, *arguments: Any, **options: Any) -> Any:
        if host is not None and not str(host).startswith((*_LOOPBACK, "0.0.0.0", "::")):  # noqa: S104
            raise AssertionError(f"a test tried to look up {host}")
        return real_getaddrinfo(host, *arguments, **options)

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
