"""Ranged GET requests over HTTP/1.1; redirects keep the token at the hub; proxies; and a way to cut all off."""

from __future__ import annotations

import contextlib
import re
import ssl
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPMessage
from urllib.parse import SplitResult, urljoin, urlsplit

from v4deploy.domain.errors import DownloadError
from v4deploy.pull import failures
from v4deploy.pull.access import HubAccess
from v4deploy.pull.connections import Connections, Response, faults_translated
from v4deploy.pull.retry import TransferError

_REDIRECTS = {301, 302, 303, 307, 308}
_MOST_REDIRECTS = 5
# What a storage server answers to a signed address whose time is over.
_EXPIRED = {401, 403, 404, 410}
_SHA256 = re.compile(r'(?:W/)?"?([0-9a-f]{64})"?')


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A response whose body has not been read.

    Attributes:
        from_hub: False when a redirect led to another origin, a CDN with a signed address.
        declared_sha256: what the hub says the content hashes to (X-Linked-Etag); None when it does not say.
    """

    status: int
    headers: HTTPMessage
    host: str
    from_hub: bool
    declared_sha256: str | None
    _response: Response

    def read(self, most_bytes: int) -> bytes:
        """What has arrived, at least a byte; empty at the end of the body.

        Raises:
            TransferError: the connection broke or stalled.
        """
        with faults_translated():
            return self._response.read1(most_bytes)

    def read_into(self, buffer: memoryview) -> int:
        """Put what has arrived, at least a byte, into the buffer; how many, 0 at the end of the body.

        Raises:
            TransferError: the connection broke or stalled.
        """
        with faults_translated():
            return self._response.readinto1(buffer)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shortcut:
    """Where the hub sent us for a file's bytes, and what it said about them."""

    url: str
    declared_sha256: str | None


class Transport:
    """Opens requests for one hub. Used by many threads at once; `abort` wakes them all, `close` ends it.

    Connections are kept open between requests, and so are signed addresses: asking the hub for a new one before each
    range would run into its limits. One that has expired is replaced at once.

    Attributes:
        is_unreachable: a file was given up here because no connection came about; others had better begin elsewhere.
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
        if proxies is None:
            proxies = {} if access.is_loopback else urllib.request.getproxies()
        self._connections = Connections(proxies=proxies, ssl_context=ssl_context, stall_seconds=stall_seconds)
        self._lock = threading.Lock()
        self._shortcuts: dict[str, _Shortcut] = {}
        self.is_unreachable = False

    @property
    def access(self) -> HubAccess:
        """Which hub it asks, and how."""
        return self._access

    def abort(self) -> None:
        """Cut all connections, so that no thread waits for a server that has stalled."""
        self._connections.abort()

    def close(self) -> None:
        """Close the connections that wait for the next request."""
        self._connections.close()

    @contextmanager
    def get(self, url: str, *, first_byte: int, last_byte: int) -> Iterator[Answer]:
        """GET `first_byte` to `last_byte` (both included) of a file of the hub.

        Raises:
            TransferError: no answer; worth another try.
            DownloadError: a redirect that must not be followed, or a proxy that cannot be used.
        """
        if self._access.offline:
            raise failures.offline(urlsplit(url).path)
        with contextlib.ExitStack() as open_requests:
            answer = self._get_by_shortcut(url, first_byte, last_byte, open_requests)
            yield answer or self._get_from_hub(url, first_byte, last_byte, open_requests)

    def _get_by_shortcut(
        self, url: str, first_byte: int, last_byte: int, open_requests: contextlib.ExitStack
    ) -> Answer | None:
        """The answer at the signed address of an earlier request; None where there is none, or its time is over."""
        with self._lock:
            known = self._shortcuts.get(url)
        if known is None:
            return None
        with contextlib.ExitStack() as request:
            parts = urlsplit(known.url)
            headers = self._headers(first_byte, last_byte, from_hub=False)
            response = request.enter_context(self._connections.request(parts, headers))
            if response.status not in _EXPIRED:
                open_requests.push(request.pop_all())
                return _answer(response, parts, from_hub=False, declared_sha256=known.declared_sha256)
        with self._lock:
            # Another connection may have put a new one in its place meanwhile.
            if self._shortcuts.get(url) is known:
                del self._shortcuts[url]
        return None

    def _get_from_hub(self, url: str, first_byte: int, last_byte: int, open_requests: contextlib.ExitStack) -> Answer:
        """The answer at a new address. One that is over before it is used is asked for once more: keys may change, and
        much time go by, between its making and its use.
        """
        with contextlib.ExitStack() as first_try:
            answer = self._follow(url, first_byte, last_byte, first_try)
            if answer.from_hub or answer.status not in _EXPIRED:
                open_requests.push(first_try.pop_all())
                return answer
        return self._follow(url, first_byte, last_byte, open_requests)

    def _follow(self, url: str, first_byte: int, last_byte: int, open_requests: contextlib.ExitStack) -> Answer:
        declared_sha256: str | None = None
        target = url
        for _ in range(_MOST_REDIRECTS):
            parts = urlsplit(target)
            from_hub = _origin(parts) == self._origin
            with contextlib.ExitStack() as request:
                headers = self._headers(first_byte, last_byte, from_hub=from_hub)
                response = request.enter_context(self._connections.request(parts, headers))
                if from_hub:
                    declared_sha256 = _declared_sha256(response.headers) or declared_sha256
                if response.status not in _REDIRECTS:
                    if not from_hub and response.status < HTTPStatus.BAD_REQUEST:
                        with self._lock:
                            self._shortcuts[url] = _Shortcut(url=target, declared_sha256=declared_sha256)
                    open_requests.push(request.pop_all())
                    return _answer(response, parts, from_hub=from_hub, declared_sha256=declared_sha256)
                target = _redirect_target(target, response.headers, self._access)
        raise DownloadError(
            f"{urlsplit(target).hostname} redirects in circles",
            hint=f"{failures.another_address(self._access)}, then pull again",
        )

    def _headers(self, first_byte: int, last_byte: int, *, from_hub: bool) -> dict[str, str]:
        # identity: a compressed body has other bytes and another length than the file.
        headers = {
            "Range": f"bytes={first_byte}-{last_byte}",
            "Accept-Encoding": "identity",
            "User-Agent": "v4deploy",
        }
        return headers | self._access.credentials if from_hub else headers


def _answer(response: Response, parts: SplitResult, *, from_hub: bool, declared_sha256: str | None) -> Answer:
    return Answer(
        status=_true_status(response),
        headers=response.headers,
        host=parts.hostname or "",
        from_hub=from_hub,
        declared_sha256=declared_sha256,
        _response=response,
    )


def _origin(parts: SplitResult) -> tuple[str, str, int | None]:
    default = {"http": 80, "https": 443}
    return parts.scheme, (parts.hostname or "").lower(), parts.port or default.get(parts.scheme)


def _redirect_target(url: str, headers: HTTPMessage, access: HubAccess) -> str:
    try:
        target = urljoin(url, headers.get("Location", ""))
        parts = urlsplit(target)
        # Reading a port that is none, or is too large, raises.
        leads_on = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise TransferError("a redirect led nowhere") from None
    if not leads_on or "Location" not in headers:
        raise TransferError("a redirect led nowhere")
    if urlsplit(url).scheme == "https" and parts.scheme == "http":
        raise DownloadError(
            f"{urlsplit(url).hostname} redirects from https to an unencrypted address",
            hint=f"{failures.another_address(access)}, then pull again",
        )
    return target


def _true_status(response: Response) -> int:
    """ModelScope serves the range that was asked for, and calls it 200 instead of 206 (modelscope_hub issue 50)."""
    if response.status == HTTPStatus.OK and "Content-Range" in response.headers:
        return HTTPStatus.PARTIAL_CONTENT
    return response.status


def _declared_sha256(headers: HTTPMessage) -> str | None:
    match = _SHA256.fullmatch(headers.get("X-Linked-Etag", ""))
    return match[1] if match else None
