"""A model hub on loopback: serves directories as repositories over the Hub's HTTP API, large files from a second port.

Only the standard library. Two ports make two origins, as with the real hub and its CDN: a client that carries its
token to the CDN is found out.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from v4deploy.shapes.hub_content import HubFile, HubRepository, model_info, read_repositories, tree_entries

_PAGE_ENTRIES = 1000
_LINK_SECONDS = 3600.0
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer without body bytes from a file: status, headers, and a small body."""

    status: HTTPStatus
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


class LoopbackHub:
    """Serves `<root>/<owner>/<name>/` as repository `owner/name`, as the files are when it is entered.

    Attributes:
        endpoint: what HF_ENDPOINT has to say; empty outside the `with` block.
        partial_status: with which a range is answered.
    """

    partial_status = HTTPStatus.PARTIAL_CONTENT

    def __init__(self, root: Path, *, page_entries: int = _PAGE_ENTRIES) -> None:
        self._root = root
        self._page_entries = page_entries
        self._key = secrets.token_bytes(32)
        self._stack = contextlib.ExitStack()
        self.repositories: dict[str, HubRepository] = {}
        self.endpoint = ""
        self.cdn_endpoint = ""

    def __enter__(self) -> Self:
        self.repositories = {repository.name: repository for repository in read_repositories(self._root)}
        self.endpoint = self._stack.enter_context(_serving(_handler(self.serve_hub)))
        self.cdn_endpoint = self._stack.enter_context(_serving(_handler(self.serve_cdn)))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def serve_hub(self, handler: HubHandler) -> None:
        """One request to the first port: the API, small files, and the way to large ones."""
        answer = self.answer(handler.path)
        if isinstance(answer, Reply):
            handler.send_reply(answer)
        else:
            commit = next(one.commit for one in self.repositories.values() if answer in one.files)
            self.send_file(handler, answer, (("ETag", f'"{answer.git_sha1}"'), ("X-Repo-Commit", commit)))

    def serve_cdn(self, handler: HubHandler) -> None:
        """One request to the second port: large files, at signed addresses only."""
        file = self.file_of_signed_url(handler.path)
        if file is None:
            handler.send_reply(Reply(status=HTTPStatus.FORBIDDEN, body=b"AccessDenied: the address has expired"))
        else:
            self.send_file(handler, file, (("ETag", f'"{file.sha256}"'),))

    def signed_url(self, file: HubFile) -> str:
        """An address at the second port that is good for an hour."""
        expires = str(int(time.time() + self.link_seconds()))
        query = urlencode({"Expires": expires, "Signature": self._signature(file.sha256, expires)})
        return f"{self.cdn_endpoint}/cdn/{file.sha256}?{query}"

    def link_seconds(self) -> float:
        """How long a signed address is good."""
        return _LINK_SECONDS

    def file_of_signed_url(self, url: str) -> HubFile | None:
        """The file of an address that is genuine and has not expired; None otherwise."""
        parts = urlsplit(url)
        query = parse_qs(parts.query)
        sha256 = parts.path.removeprefix("/cdn/")
        expires, signature = query.get("Expires", ["0"])[0], query.get("Signature", [""])[0]
        genuine = hmac.compare_digest(signature, self._signature(sha256, expires))
        if not genuine or not expires.isdecimal() or int(expires) < time.time():
            return None
        files = (file for repository in self.repositories.values() for file in repository.files)
        return next((file for file in files if file.sha256 == sha256), None)

    def _signature(self, sha256: str, expires: str) -> str:
        return hmac.new(self._key, f"{sha256} {expires}".encode(), hashlib.sha256).hexdigest()

    def answer(self, url: str) -> Reply | HubFile:
        """What the hub's port answers to a GET: a reply, or a small file to send."""
        parts = urlsplit(url)
        path = unquote(parts.path)
        for name, repository in self.repositories.items():
            if path.startswith(f"/{name}/resolve/"):
                return self._resolve(repository, path.removeprefix(f"/{name}/resolve/"))
            if path == f"/api/models/{name}" or path.startswith(f"/api/models/{name}/"):
                return self._api(repository, path.removeprefix(f"/api/models/{name}").strip("/"), parts.query)
        return _error("RepoNotFound", "Repository not found")

    def _api(self, repository: HubRepository, rest: str, query_text: str) -> Reply:
        action, _, place = rest.partition("/")
        revision, _, folder = place.partition("/")
        query = {name: values[0] for name, values in parse_qs(query_text).items()}
        if action in {"revision", "tree"} and revision not in {"main", repository.commit}:
            return _error("RevisionNotFound", f"Invalid rev id: {revision}")
        if action in {"", "revision"}:
            return _json(model_info(repository, with_blobs=query.get("blobs", "").lower() in {"true", "1"}))
        if action == "tree":
            return self._tree(repository, revision, folder, query)
        return _error("EntryNotFound", "no such endpoint")

    def _tree(self, repository: HubRepository, revision: str, folder: str, query: dict[str, str]) -> Reply:
        entries = tree_entries(repository, folder, recursive=query.get("recursive", "").lower() in {"true", "1"})
        first = int(query.get("cursor", "0"))
        page = entries[first : first + self._page_entries]
        headers: tuple[tuple[str, str], ...] = ()
        if first + self._page_entries < len(entries):
            rest = urlencode(query | {"cursor": str(first + self._page_entries)})
            place = quote(f"/api/models/{repository.name}/tree/{revision}" + (f"/{folder}" if folder else ""))
            headers = (("Link", f'<{self.endpoint}{place}?{rest}>; rel="next"'),)
        return _json(page, headers)

    def _resolve(self, repository: HubRepository, place: str) -> Reply | HubFile:
        revision, _, path = place.partition("/")
        if revision not in {"main", repository.commit}:
            return _error("RevisionNotFound", f"Invalid rev id: {revision}")
        file = repository.file(path)
        if file is None:
            return _error("EntryNotFound", "Entry not found")
        if not file.is_lfs:
            return file
        headers = (
            ("Location", self.signed_url(file)),
            ("X-Repo-Commit", repository.commit),
            ("X-Linked-Size", str(file.size_bytes)),
            ("X-Linked-Etag", f'"{file.sha256}"'),
            ("ETag", f'"{file.sha256}"'),
        )
        return Reply(status=HTTPStatus.FOUND, headers=headers)

    def send_file(self, handler: HubHandler, file: HubFile, headers: tuple[tuple[str, str], ...]) -> None:
        """Send a file or the range of it that was asked for."""
        span = _requested_range(handler.headers.get("Range"), file.size_bytes)
        if span is None:
            handler.send_head(
                HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, (("Content-Range", f"bytes */{file.size_bytes}"),), 0
            )
            return
        first, end = span
        partial = "Range" in handler.headers
        if partial:
            headers = (*headers, ("Content-Range", f"bytes {first}-{end - 1}/{file.size_bytes}"))
        status = self.partial_status if partial else HTTPStatus.OK
        handler.send_head(status, (*headers, ("Accept-Ranges", "bytes")), end - first)
        if handler.command != "HEAD":
            handler.send_span(file.source, first, end)


class HubHandler(BaseHTTPRequestHandler):
    """One connection; keeps it open between requests, as clients expect."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def send_head(self, status: HTTPStatus, headers: tuple[tuple[str, str], ...], length: int) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def send_reply(self, reply: Reply) -> None:
        self.send_head(reply.status, reply.headers, len(reply.body))
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    def send_span(self, source: Path, first: int, end: int) -> None:
        """Bytes `first` to before `end`."""
        if end > first:
            with source.open("rb") as stream:
                self.connection.sendfile(stream, first, end - first)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Stay silent: stderr belongs to the command that runs this."""


def _handler(respond: Callable[[HubHandler], None]) -> type[HubHandler]:
    class Handler(HubHandler):
        def do_GET(self) -> None:
            respond(self)

        def do_HEAD(self) -> None:
            respond(self)

    return Handler


class _Server(ThreadingHTTPServer):
    """Closes the connections that clients keep open, or leaving would wait for them."""

    daemon_threads = True

    def __init__(self, handler: type[HubHandler]) -> None:
        self.open_connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open_connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.open_connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""


@contextlib.contextmanager
def _serving(handler: type[HubHandler]) -> Iterator[str]:
    server = _Server(handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        for connection in tuple(server.open_connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        server.server_close()


def _requested_range(header: str | None, size_bytes: int) -> tuple[int, int] | None:
    """First byte and the one after the last; None when the range lies outside of the file."""
    match = _RANGE.fullmatch(header or "bytes=0-")
    if match is None:
        return 0, size_bytes
    first = int(match[1])
    end = min(int(match[2]) + 1, size_bytes) if match[2] else size_bytes
    return (first, end) if first < end or (header is None and size_bytes == 0) else None


def _json(value: object, headers: tuple[tuple[str, str], ...] = ()) -> Reply:
    body = json.dumps(value).encode()
    return Reply(status=HTTPStatus.OK, headers=(("Content-Type", "application/json"), *headers), body=body)


def _error(code: str, message: str) -> Reply:
    headers = (("X-Error-Code", code), ("X-Error-Message", message), ("Content-Type", "application/json"))
    return Reply(status=HTTPStatus.NOT_FOUND, headers=headers, body=json.dumps({"error": message}).encode())
