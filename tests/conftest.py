"""Shared fixtures. No test reaches out of this machine: sockets and names stay on loopback."""

from __future__ import annotations

import gc
import os
import signal
import socket
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Property tests draw new examples in every run, so the fast suite takes few of them; `make test-slow` takes more.
# How long an example takes to make or to run says how busy the machine is, and nothing about the code.
_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("sampled", _PATIENT, max_examples=40)
settings.register_profile("thorough", _PATIENT, max_examples=400)
settings.load_profile("sampled")

# A shell that starts the tests in the background makes them ignore Ctrl-C, and nohup the end of the terminal, and
# everything that they start inherits it.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Programs that the tests start buffer what they say, as they do for users.
os.environ.pop("PYTHONUNBUFFERED", None)

# As v4deploy's own main() has it: looking for garbage every 700 objects takes a twelfth of the suite.
gc.set_threshold(50_000, 20, 20)

_LOOPBACK = ("127.", "::1", "localhost")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
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
