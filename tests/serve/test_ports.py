from __future__ import annotations

import os
import socket

import pytest

from v4deploy.domain.errors import LaunchError
from v4deploy.serve.ports import require_free_port


def test_a_free_port_is_fine(free_port: int) -> None:
    require_free_port("127.0.0.1", free_port)


@pytest.mark.parametrize("listener", ["127.0.0.1", "0.0.0.0"])  # noqa: S104 - a wildcard takes the port on every address
def test_a_taken_port_is_named_with_its_holder(listener: str) -> None:
    with socket.create_server((listener, 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(LaunchError) as caught:
            require_free_port("127.0.0.1", port)
    assert f"port {port} on 127.0.0.1 is taken by " in caught.value.message
    assert f"(pid {os.getpid()})" in caught.value.message


def test_an_address_of_another_machine() -> None:
    with pytest.raises(LaunchError, match=r"192\.0\.2\.1"):
        require_free_port("192.0.2.1", 18080)


def test_a_port_that_was_just_in_use_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        peer, _ = server.accept()
        # The side that closes first keeps the port in TIME_WAIT.
        peer.close()
        client.close()
    require_free_port("127.0.0.1", port)
