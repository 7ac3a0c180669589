"""Ranged GET requests over HTTP/1.1; redirects keep the token at the hub; proxies; and a way to cut all off."""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import ssl
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPMessage, HTTPResponse, HTTPSConnection
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from v4deploy.domain.errors import DownloadError
from v4deploy.pull import failures
from v4deploy.pull.access import HubAccess
from v4deploy.pull.retry import TransferError

_REDIRECTS = {301, 302, 303, 307, 308}
_MOST_REDIRECTS = 5
_SHA256 = re.compile(r'(?:W/)?"?([0-9a-f]{64})"?')
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A response whose body has not been read.

    Attributes:
        from_hub: False when a redirect led to another origin, a CDN with a signed address.
        declared_sha256: what the hub says the content hashes to (X-Linked-Etag); None when it does not say.
    """

    status: int
    headers: HTTPMessage
    from_hub: bool
    declared_sha256: str | None
    _response: HTTPResponse

    def read(self, most_bytes: int) -> bytes:
        """What has arrived, at least a byte; empty at the end of the body.

        Raises:
            TransferError: the connection broke or stalled.
        """
        with _faults_translated():
            return self._response.read1(most_bytes)


class Transport:
    """Opens requests for one hub. Used by many threads at once; `abort` wakes them all.

    Each request begins at the hub's own address, so a signed address that has expired is never used twice.
    """

    def __init__(
        self,
        access: HubAccess,
        *,
        ssl_context: ssl.SSLContext | None = None,
        proxies: Mapping[str, str] | None = None,
        stall_seconds: float = 30.0,
    ) -> None:
        self._origin = _origin(urlsplit(access.endpoint))
        self._access = access
        self._ssl_context = ssl_context
        if proxies is None:
            proxies = {} if access.is_loopback else urllib.request.getproxies()
        self._proxies = proxies
        self._stall_seconds = stall_seconds
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._aborted = False

    @property
    def access(self) -> HubAccess:
        """Which hub it asks, and how."""
        return self._access

    def abort(self) -> None:
        """Cut all connections, so that no thread waits for a server that has stalled."""
        with self._lock:
            self._aborted = True
            for connected in self._sockets:
                with contextlib.suppress(OSError):
                    connected.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def get(self, url: str, *, first_byte: int, last_byte: int) -> Iterator[Answer]:
        """GET `first_byte` to `last_byte` (both included) of a file of the hub.

        Raises:
            TransferError: no answer; worth another try.
            DownloadError: a redirect that must not be followed, or a proxy that cannot be used.
        """
        if self._access.offline:
            raise failures.offline(urlsplit(url).path)
        declared_sha256: str | None = None
        for _ in range(_MOST_REDIRECTS):
            parts = urlsplit(url)
            from_hub = _origin(parts) == self._origin
            with self._request(parts, self._headers(first_byte, last_byte, from_hub=from_hub)) as response:
                if from_hub:
                    declared_sha256 = _declared_sha256(response.headers) or declared_sha256
                if response.status not in _REDIRECTS:
                    yield Answer(
                        status=_true_status(response),
                        headers=response.headers,
                        from_hub=from_hub,
                        declared_sha256=declared_sha256,
                        _response=response,
                    )
                    return
                url = _redirect_target(url, response.headers)
        raise DownloadError(
            f"{urlsplit(url).hostname} redirects in circles",
            hint="unset HF_ENDPOINT if it names a mirror, then pull again",
        )

    def _headers(self, first_byte: int, last_byte: int, *, from_hub: bool) -> dict[str, str]:
        # identity: a compressed body has other bytes and another length than the file.
        headers = {
            "Range": f"bytes={first_byte}-{last_byte}",
            "Accept-Encoding": "identity",
            "User-Agent": "v4deploy",
            "Connection": "close",
        }
        return headers | self._access.credentials if from_hub else headers

    @contextmanager
    def _request(self, parts: SplitResult, headers: dict[str, str]) -> Iterator[HTTPResponse]:
        connection, target, more_headers = self._connection(parts)
        with contextlib.closing(connection), contextlib.ExitStack() as cleanup:
            with _faults_translated():
                connection.connect()
                # The response takes the socket over, so it has to be remembered before.
                cleanup.callback(self._forget, self._remember(connection.sock))
                connection.request("GET", target, headers=headers | more_headers)
                response = cleanup.enter_context(contextlib.closing(connection.getresponse()))
            yield response

    def _connection(self, parts: SplitResult) -> tuple[HTTPConnection, str, dict[str, str]]:
        """The connection, what to ask it for, and headers for a proxy."""
        host = parts.hostname or ""
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        proxy = self._proxy(parts)
        secure = parts.scheme == "https"
        near = proxy or parts
        port = near.port or _DEFAULT_PORTS["http" if proxy else parts.scheme]
        if secure:
            connection: HTTPConnection = HTTPSConnection(
                near.hostname or host, port, timeout=self._stall_seconds, context=self._tls()
            )
        else:
            connection = HTTPConnection(near.hostname or host, port, timeout=self._stall_seconds)
        if proxy is None:
            return connection, target, {}
        credentials = _proxy_credentials(proxy)
        if secure:
            connection.set_tunnel(host, parts.port or _DEFAULT_PORTS["https"], headers=credentials)
            return connection, target, {}
        return connection, f"http://{parts.netloc.rpartition('@')[2]}{target}", credentials

    def _proxy(self, parts: SplitResult) -> SplitResult | None:
        address = self._proxies.get(parts.scheme) or self._proxies.get("all")
        if not address or urllib.request.proxy_bypass(parts.hostname or ""):
            return None
        proxy = urlsplit(address if "://" in address else f"http://{address}")
        if proxy.scheme != "http" or not proxy.hostname:
            raise DownloadError(
                f"the proxy for {parts.scheme} is of a kind that cannot be used here ({proxy.scheme}://)",
                hint="set HTTPS_PROXY to an http:// proxy, or list the hub in NO_PROXY",
            )
        return proxy

    def _tls(self) -> ssl.SSLContext:
        """The same trust as the API client's: SSL_CERT_FILE, SSL_CERT_DIR, else the system's certificates."""
        with self._lock:
            if self._ssl_context is None:
                import httpx2

                self._ssl_context = httpx2.create_ssl_context()
            return self._ssl_context

    def _remember(self, connected: socket.socket) -> socket.socket:
        with self._lock:
            if self._aborted:
                raise TransferError("stopped")
            self._sockets.add(connected)
        return connected

    def _forget(self, connected: socket.socket) -> None:
        with self._lock:
            self._sockets.discard(connected)


@contextmanager
def _faults_translated() -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise TransferError("no bytes arrived for too long") from error
    except ssl.SSLCertVerificationError as error:
        raise DownloadError(
            f"the server's certificate is not trusted: {error.verify_message}",
            hint="behind a proxy that opens TLS, set SSL_CERT_FILE to your organisation's certificates",
        ) from error
    except socket.gaierror as error:
        raise TransferError(f"its name cannot be resolved ({error.strerror})") from error
    except (OSError, HTTPException, ValueError, AttributeError) as error:
        # ValueError, AttributeError: what http.client and ssl raise when another thread shuts their socket down.
        raise TransferError(f"the connection broke ({str(error) or type(error).__name__})") from error


def _origin(parts: SplitResult) -> tuple[str, str, int | None]:
    return parts.scheme, (parts.hostname or "").lower(), parts.port or _DEFAULT_PORTS.get(parts.scheme)


def _redirect_target(url: str, headers: HTTPMessage) -> str:
    target = urljoin(url, headers.get("Location", ""))
    parts = urlsplit(target)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or "Location" not in headers:
        raise TransferError("a redirect led nowhere")
    if urlsplit(url).scheme == "https" and parts.scheme == "http":
        raise DownloadError(
            f"{urlsplit(url).hostname} redirects from https to an unencrypted address",
            hint="unset HF_ENDPOINT if it names a mirror, then pull again",
        )
    return target


def _true_status(response: HTTPResponse) -> int:
    """ModelScope serves the range that was asked for, and calls it 200 instead of 206 (modelscope_hub issue 50)."""
    if response.status == HTTPStatus.OK and "Content-Range" in response.headers:
        return HTTPStatus.PARTIAL_CONTENT
    return response.status


def _declared_sha256(headers: HTTPMessage) -> str | None:
    match = _SHA256.fullmatch(headers.get("X-Linked-Etag", ""))
    return match[1] if match else None


def _proxy_credentials(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
