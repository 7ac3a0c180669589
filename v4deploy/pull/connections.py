"""HTTP/1.1 connections that outlive a request: through proxies, over TLS, watched, and cut off together."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import SplitResult, urlsplit

from v4deploy.domain.errors import DownloadError
from v4deploy.pull import failures, socks
from v4deploy.pull.access import basic_credentials
from v4deploy.pull.retry import CONNECT_SECONDS, TransferError

_DEFAULT_PORTS = {"http": 80, "https": 443}
# The whole of an answer's head has to be there by then: a server may send a byte now and then for ever.
_HEAD_SECONDS = 60.0
# The rest of an answer that nobody wants (a redirect's page) is read, to use the connection again, up to this.
_SMALL_BODY_BYTES = 64 * 1024


class Response(HTTPResponse):
    """http.client's response, which has no way to read what is there into a buffer that exists."""

    def readinto1(self, buffer: memoryview) -> int:  # type: ignore[override]
        """What has arrived, at least a byte; 0 at the end of the body."""
        if self.chunked:
            data = self.read1(len(buffer))
            buffer[: len(data)] = data
            return len(data)
        most = len(buffer) if self.length is None else min(len(buffer), self.length)
        if not most or self.isclosed():
            return 0
        count = self.fp.readinto1(buffer[:most])
        if self.length is not None:
            self.length -= count
        return count


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """How to get to a server; connections of the same way can stand in for each other."""

    scheme: str
    host: str
    port: int
    http_proxy: SplitResult | None
    socks_proxy: SplitResult | None


class Connections:
    """Requests over connections that are opened as needed and used again. Used by many threads at once."""

    def __init__(
        self,
        *,
        proxies: Mapping[str, str],
        ssl_context: ssl.SSLContext | None,
        stall_seconds: float,
        head_seconds: float = _HEAD_SECONDS,
    ) -> None:
        self._proxies = proxies
        self._ssl_context = ssl_context
        self._stall_seconds = stall_seconds
        self._head_seconds = head_seconds
        self._lock = threading.Lock()
        self._idle: dict[_Way, list[HTTPConnection]] = {}
        self._busy: set[socket.socket] = set()
        self._aborted = False

    def abort(self) -> None:
        """Cut all connections, so that no thread waits for a server that has stalled."""
        with self._lock:
            self._aborted = True
            for connected in self._busy:
                _cut(connected)
        self.close()

    def close(self) -> None:
        """Close the connections that wait for the next request."""
        with self._lock:
            idle = [connection for waiting in self._idle.values() for connection in waiting]
            self._idle.clear()
        for connection in idle:
            connection.close()

    @contextmanager
    def request(self, parts: SplitResult, headers: Mapping[str, str]) -> Iterator[Response]:
        """The answer to a GET; its connection goes back when the body has been read to its end.

        Raises:
            TransferError: no answer; worth another try.
            DownloadError: a certificate that is not trusted, or a proxy that cannot be used.
        """
        way = self._way(parts)
        with contextlib.ExitStack() as cleanup:
            with faults_translated():
                connection, response = self._answered(way, parts, headers)
                # The response takes the socket over when the server wants to close, so it is closed on its own.
                cleanup.callback(self._give_back, way, connection, connection.sock, response)
            yield response

    def _answered(self, way: _Way, parts: SplitResult, headers: Mapping[str, str]) -> tuple[HTTPConnection, Response]:
        with self._lock:
            waiting = self._idle.get(way)
            connection = waiting.pop() if waiting else None
        if connection is not None:
            # The server may have closed it meanwhile: that is no failure, the request goes over a new one.
            with contextlib.suppress(ConnectionError, HTTPException, ssl.SSLError):
                return connection, self._ask(connection, way, parts, headers)
        connection = self._opened(way)
        return connection, self._ask(connection, way, parts, headers)

    def _ask(self, connection: HTTPConnection, way: _Way, parts: SplitResult, headers: Mapping[str, str]) -> Response:
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        more: dict[str, str] = {}
        if way.http_proxy is not None and way.scheme == "http":
            target = f"http://{parts.netloc.rpartition('@')[2]}{target}"
            more = _proxy_credentials(way.http_proxy)
        try:
            if connection.sock is None:
                self._connect(connection, way)
            with self._watched(connection.sock):
                connection.request("GET", target, headers={**headers, **more})
                response = connection.getresponse()
        except BaseException:
            self._forget(connection.sock)
            connection.close()
            raise
        assert isinstance(response, Response), "the connection's response class makes all responses"
        return response

    def _connect(self, connection: HTTPConnection, way: _Way) -> None:
        handles: list[socket.socket] = []
        connection._create_connection = partial(self._dial, way.socks_proxy, handles)  # type: ignore[attr-defined] # noqa: SLF001 - http.client has no other way
        with self._cut_when_late(handles) as overdue:
            try:
                connection.connect()
            except ssl.SSLCertVerificationError:
                raise
            except OSError as error:
                why = "nothing for too long" if isinstance(error, TimeoutError) else error.strerror or error
                if overdue.is_set():
                    why = f"not within {self._head_seconds:.0f} seconds"
                through = f" through {way.socks_proxy.hostname}" if way.socks_proxy is not None else ""
                raise TransferError(
                    f"no connection to {connection.host}{through} ({why})", is_unreachable=True
                ) from error
            finally:
                for handle in handles:
                    self._forget(handle)
                    handle.close()
        connection.sock.settimeout(self._stall_seconds)

    def _dial(
        self,
        proxy: SplitResult | None,
        handles: list[socket.socket],
        address: tuple[str, int],
        timeout: float,
        _source: object = None,
    ) -> socket.socket:
        """socket.create_connection, with a handle by which the connection can be cut before the other side has
        answered: a second descriptor, as TLS takes the first one over while it still shakes hands.
        """
        failed: OSError | None = None
        first = address if proxy is None else (proxy.hostname or "", proxy.port or socks.DEFAULT_PORT)
        for family, kind, protocol, _, place in socket.getaddrinfo(*first, type=socket.SOCK_STREAM):
            with contextlib.ExitStack() as unless_connected:
                tried = unless_connected.enter_context(socket.socket(family, kind, protocol))
                handles.append(tried.dup())
                self._remember(handles[-1])
                try:
                    tried.settimeout(timeout)
                    tried.connect(place)
                    if proxy is not None:
                        socks.reach(tried, proxy, *address)
                except OSError as error:
                    failed = error
                else:
                    unless_connected.pop_all()
                    return tried
        raise failed or OSError(f"{first[0]} has no address")

    @contextmanager
    def _watched(self, connected: socket.socket) -> Iterator[None]:
        """Remember a socket from here on, and cut it when the answer's head takes too long."""
        self._remember(connected)
        with self._cut_when_late([connected]) as overdue:
            try:
                yield
            except (OSError, HTTPException) as error:
                if overdue.is_set():
                    raise TransferError(f"no whole answer came within {self._head_seconds:.0f} seconds") from error
                raise

    @contextmanager
    def _cut_when_late(self, sockets: Sequence[socket.socket]) -> Iterator[threading.Event]:
        """Bound what a server, or a proxy, may take as a whole: a byte now and then satisfies each single read."""
        overdue = threading.Event()

        def strike() -> None:
            overdue.set()
            for connected in tuple(sockets):
                _cut(connected)

        timer = threading.Timer(self._head_seconds, strike)
        timer.daemon = True
        timer.start()
        try:
            yield overdue
        finally:
            timer.cancel()

    def _give_back(
        self, way: _Way, connection: HTTPConnection, connected: socket.socket | None, response: Response
    ) -> None:
        self._forget(connected)
        with contextlib.suppress(OSError, HTTPException, ValueError):
            if response.length is not None and response.length <= _SMALL_BODY_BYTES:
                response.read()
        usable = response.isclosed() and not response.will_close and connection.sock is not None
        response.close()
        with self._lock:
            if usable and not self._aborted:
                self._idle.setdefault(way, []).append(connection)
                return
        connection.close()

    def _remember(self, connected: socket.socket) -> None:
        with self._lock:
            if self._aborted:
                raise TransferError("stopped")
            self._busy.add(connected)

    def _forget(self, connected: socket.socket | None) -> None:
        with self._lock:
            if connected is not None:
                self._busy.discard(connected)

    def _opened(self, way: _Way) -> HTTPConnection:
        host, port, proxy = way.host, way.port, way.http_proxy
        if proxy is not None:
            host, port = proxy.hostname or "", proxy.port or _DEFAULT_PORTS["http"]
        timeout = min(self._stall_seconds, CONNECT_SECONDS)
        if way.scheme == "http":
            connection = HTTPConnection(host, port, timeout=timeout)
        else:
            connection = HTTPSConnection(host, port, timeout=timeout, context=self._tls())
            if proxy is not None:
                connection.set_tunnel(way.host, way.port, headers=_proxy_credentials(proxy))
        connection.response_class = Response
        return connection

    def _way(self, parts: SplitResult) -> _Way:
        host, proxy = parts.hostname or "", self._proxy(parts)
        is_socks = proxy is not None and proxy.scheme in socks.SCHEMES
        return _Way(
            scheme=parts.scheme,
            host=host,
            port=parts.port or _DEFAULT_PORTS[parts.scheme],
            http_proxy=None if is_socks else proxy,
            socks_proxy=proxy if is_socks else None,
        )

    def _proxy(self, parts: SplitResult) -> SplitResult | None:
        address = self._proxies.get(parts.scheme) or self._proxies.get("all")
        if not address or urllib.request.proxy_bypass(parts.hostname or ""):
            return None
        try:
            proxy = urlsplit(address if "://" in address else f"http://{address}")
            # Reading a port that is none, or is too large, raises.
            is_usable = proxy.scheme in {"http", *socks.SCHEMES} and bool(proxy.hostname) and proxy.port != 0
        except ValueError:
            raise failures.unusable_proxy(f"the proxy for {parts.scheme}") from None
        if not is_usable:
            raise failures.unusable_proxy(f"the proxy for {parts.scheme} ({proxy.scheme}://)")
        return proxy

    def _tls(self) -> ssl.SSLContext:
        """The same trust as the API client's: SSL_CERT_FILE, SSL_CERT_DIR, else the system's certificates."""
        with self._lock:
            if self._ssl_context is None:
                import httpx2

                self._ssl_context = httpx2.create_ssl_context()
            return self._ssl_context


@contextmanager
def faults_translated() -> Iterator[None]:
    """Give what goes wrong on a connection the words that the user reads.

    Raises:
        TransferError: worth another try.
        DownloadError: a certificate that is not trusted; no try will change that.
    """
    try:
        yield
    except TimeoutError as error:
        raise TransferError("no bytes arrived for too long") from error
    except ssl.SSLCertVerificationError as error:
        raise DownloadError(
            f"the server's certificate is not trusted: {error.verify_message}",
            hint="behind a proxy that opens TLS, set SSL_CERT_FILE to your organisation's certificates",
        ) from error
    except (OSError, HTTPException, ValueError, AttributeError) as error:
        # ValueError, AttributeError: what http.client and ssl raise when another thread shuts their socket down.
        raise TransferError(f"the connection broke ({str(error) or type(error).__name__})") from error


def _cut(connected: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)


def _proxy_credentials(proxy: SplitResult) -> dict[str, str]:
    basic = basic_credentials(proxy)
    return {} if basic is None else {"Proxy-Authorization": basic}
