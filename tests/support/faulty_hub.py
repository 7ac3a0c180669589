"""A loopback hub that misbehaves on request, and remembers what it was asked."""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

from v4deploy.shapes.hub_content import HubFile
from v4deploy.shapes.hub_server import HubHandler, LoopbackHub, Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A request as it arrived."""

    at_cdn: bool
    method: str
    path: str
    authorization: str | None
    range: str | None


@dataclass(slots=True, kw_only=True)
class Faults:
    """What goes wrong; a number of times means the next so many requests for a file's bytes."""

    cut_times: int = 0
    cut_after_bytes: int = 0
    ignore_range: bool = False
    wrong_times: int = 0
    busy_times: int = 0
    busy_status: int = 429
    retry_after: str | None = None
    expired_times: int = 0
    drop_length: bool = False
    gzip_times: int = 0
    shifted_times: int = 0
    chunk_bytes: int = 0
    chunk_seconds: float = 0.0
    stall_times: int = 0
    drip_times: int = 0
    wrong_length_times: int = 0
    revoke_after: int = 0
    revoked: bool = False
    missing: bool = False
    only: str = ""
    api_status: int | None = None
    api_error_code: str = ""
    api_times: int = 1_000_000
    api_body: bytes = b"{}"
    token: str | None = None
    mirror_hash: str | None = None
    seen: list[Seen] = field(default_factory=list)
    resume: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, name: str) -> bool:
        """Whether this request gets the fault that is counted by `name`."""
        with self._lock:
            left: int = getattr(self, name)
            setattr(self, name, max(0, left - 1))
            return left > 0

    def is_time_to_revoke(self) -> bool:
        """Whether this is the request, once, after which `revoke_after` of them were made for bytes."""
        with self._lock:
            reached = 0 < self.revoke_after <= sum(1 for seen in self.seen if seen.at_cdn)
            if reached:
                self.revoke_after = 0
                self.revoked = True
            return reached


class FaultyHub(LoopbackHub):
    def __init__(self, root: Path, *, page_entries: int = 1000) -> None:
        super().__init__(root, page_entries=page_entries)
        self.faults = Faults()

    def __exit__(self, *details: object) -> None:
        self.faults.resume.set()
        super().__exit__(*details)

    def serve_hub(self, handler: HubHandler) -> None:
        self._note(handler, at_cdn=False)
        faults = self.faults
        if faults.token is not None and handler.headers.get("Authorization") != f"Bearer {faults.token}":
            handler.send_reply(Reply(status=HTTPStatus.UNAUTHORIZED, body=b"{}"))
        elif faults.api_status is not None and handler.path.startswith("/api/") and faults.take("api_times"):
            named = {"X-Error-Code": faults.api_error_code, "Retry-After": faults.retry_after or ""}
            headers = tuple((name, value) for name, value in named.items() if value)
            handler.send_reply(Reply(status=HTTPStatus(faults.api_status), headers=headers, body=faults.api_body))
        else:
            super().serve_hub(handler)

    def answer(self, url: str) -> Reply | HubFile:
        reply = super().answer(url)
        if isinstance(reply, Reply) and self.faults.mirror_hash and reply.status == HTTPStatus.FOUND:
            headers = dict(reply.headers) | {"X-Linked-Etag": f'"{self.faults.mirror_hash}"'}
            return Reply(status=reply.status, headers=tuple(headers.items()))
        return reply

    def serve_cdn(self, handler: HubHandler) -> None:
        self._note(handler, at_cdn=True)
        if self.faults.is_time_to_revoke():
            # All addresses that were signed so far are worthless from here on.
            self._key = secrets.token_bytes(32)
        super().serve_cdn(handler)

    def link_seconds(self) -> float:
        return -10.0 if self.faults.take("expired_times") else super().link_seconds()

    def send_file(self, handler: HubHandler, file: HubFile, headers: tuple[tuple[str, str], ...]) -> None:
        faults = self.faults
        if faults.only not in file.path:
            super().send_file(handler, file, headers)
            return
        if faults.missing:
            handler.send_reply(Reply(status=HTTPStatus.NOT_FOUND))
            return
        if faults.take("busy_times"):
            extra = (("Retry-After", faults.retry_after),) if faults.retry_after else ()
            handler.send_reply(Reply(status=HTTPStatus(faults.busy_status), headers=extra))
            return
        if faults.ignore_range and "Range" in handler.headers:
            del handler.headers["Range"]
        if faults.take("gzip_times"):
            headers = (*headers, ("Content-Encoding", "gzip"))
        if faults.take("stall_times"):
            handler.send_head(HTTPStatus.OK, headers, file.size_bytes)
            faults.resume.wait(30)
            handler.close_connection = True
            return
        _Misbehaving(handler, faults).send(super().send_file, file, headers)

    def _note(self, handler: HubHandler, *, at_cdn: bool) -> None:
        self.faults.seen.append(
            Seen(
                at_cdn=at_cdn,
                method=handler.command,
                path=handler.path,
                authorization=handler.headers.get("Authorization"),
                range=handler.headers.get("Range"),
            )
        )


class _Misbehaving:
    """Wraps a handler's two ways of sending for one answer."""

    def __init__(self, handler: HubHandler, faults: Faults) -> None:
        self._handler = handler
        self._faults = faults
        self._cut = faults.take("cut_times")
        self._wrong = faults.take("wrong_times")
        self._shifted = faults.take("shifted_times")
        self._drips = faults.take("drip_times")
        self._lies = faults.take("wrong_length_times")

    def send(self, send_file: object, file: HubFile, headers: tuple[tuple[str, str], ...]) -> None:
        handler = self._handler
        real_head, real_span = handler.send_head, handler.send_span
        handler.send_head = self._head  # type: ignore[method-assign]
        handler.send_span = self._span  # type: ignore[method-assign]
        try:
            assert callable(send_file)
            send_file(handler, file, headers)
        finally:
            handler.send_head, handler.send_span = real_head, real_span  # type: ignore[method-assign]

    def _head(self, status: HTTPStatus, headers: tuple[tuple[str, str], ...], length: int) -> None:
        if self._shifted:
            headers = tuple(
                (name, value.replace("bytes ", "bytes 1") if name == "Content-Range" else value)
                for name, value in headers
            )
        if self._lies:
            self._handler.close_connection = True
            length -= 1
        if not self._faults.drop_length:
            HubHandler.send_head(self._handler, status, headers, length)
            return
        self._handler.send_response(status)
        for name, value in headers:
            self._handler.send_header(name, value)
        self._handler.send_header("Connection", "close")
        self._handler.end_headers()

    def _span(self, source: Path, first: int, end: int) -> None:
        data = source.read_bytes()[first:end]
        if self._wrong and data:
            data = bytes([data[0] ^ 1]) + data[1:]
        if self._drips:
            self._drip(data)
            return
        if self._cut:
            data = data[: self._faults.cut_after_bytes]
            self._handler.close_connection = True
        step = self._faults.chunk_bytes or len(data) or 1
        for start in range(0, len(data), step):
            self._handler.wfile.write(data[start : start + step])
            if self._faults.chunk_seconds:
                time.sleep(self._faults.chunk_seconds)

    def _drip(self, data: bytes) -> None:
        """A byte now and then, so that no limit on silence strikes; until the client has had enough."""
        self._handler.close_connection = True
        for byte in data:
            if self._faults.resume.wait(0.01):
                return
            self._handler.wfile.write(bytes([byte]))
