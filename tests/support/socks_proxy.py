"""A SOCKS 5 proxy on loopback, written from RFC 1928 and RFC 1929, that knows names of its own."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

Reader = Callable[[int], bytes]

_NO_AUTHENTICATION, _PASSWORD, _NOTHING_SUITS = 0, 2, 0xFF


@dataclass(kw_only=True)
class SocksProxy:
    """How it behaves, and what it was asked for.

    Attributes:
        names: hosts that only the proxy can resolve.
        credentials: "name:password" that it wants; None lets everybody in.
        reply: the code of its answers to connection requests; 0 connects.
        greeting: what it says instead of speaking SOCKS.
        piece_bytes: how much of an answer it sends at once.
    """

    names: Mapping[str, str]
    credentials: str | None = None
    reply: int = 0
    greeting: bytes | None = None
    piece_bytes: int = 4096
    address: str = ""
    asked: list[tuple[str, int]] = field(default_factory=list)

    def talk(self, client: socket.socket) -> None:
        stream = client.makefile("rb")
        methods = stream.read(stream.read(2)[1])
        if self.greeting is not None:
            client.sendall(self.greeting)
            return
        wanted = _NO_AUTHENTICATION if self.credentials is None else _PASSWORD
        if wanted not in methods:
            client.sendall(bytes((5, _NOTHING_SUITS)))
            return
        client.sendall(bytes((5, wanted)))
        if self.credentials is not None and not self._knows(client, stream.read):
            return
        host, port = self._wanted(stream.read)
        self.asked.append((host, port))
        answer = bytes((5, self.reply, 0, 3, 4)) + b"near" + bytes(2)
        for start in range(0, len(answer), self.piece_bytes):
            client.sendall(answer[start : start + self.piece_bytes])
        if self.reply == 0:
            with socket.create_connection((self.names.get(host, host), port)) as server:
                _join(client, server)

    def _knows(self, client: socket.socket, read: Reader) -> bool:
        name = read(read(2)[1])
        given = name + b":" + read(read(1)[0])
        is_known = given.decode() == self.credentials
        client.sendall(bytes((1, 0 if is_known else 1)))
        return is_known

    def _wanted(self, read: Reader) -> tuple[str, int]:
        kind = read(4)[3]
        host = read(read(1)[0]).decode() if kind == 3 else socket.inet_ntop(socket.AF_INET, read(4))
        return host, int.from_bytes(read(2), "big")


def _join(one: socket.socket, other: socket.socket) -> None:
    def carry(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    back = threading.Thread(target=carry, args=(other, one), daemon=True)
    back.start()
    carry(one, other)
    back.join()


@contextmanager
def serving_socks(proxy: SocksProxy) -> Iterator[SocksProxy]:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            proxy.talk(self.request)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        proxy.address = f"127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()
