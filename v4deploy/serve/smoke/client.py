"""The smoke test's HTTP edge: posts a chat request, and records what comes back with its times."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping
from typing import Any

from v4deploy.serve.smoke.answer import Exchange, is_end
from v4deploy.serve.wire import MOST_BYTES, BoundedResponse, Endpoint, connect_bounded, headers_of, read_whole

_TOO_LONG = f"it sent more than {MOST_BYTES // 1024**2} MiB without coming to an end"


def post_chat(endpoint: Endpoint, path: str, request: Mapping[str, Any], *, timeout_seconds: float) -> Exchange:
    """Ask once. Never raises for what a network or a server can do.

    Args:
        endpoint: its key goes into a header, and nowhere else.
        path: of chat completions.
        request: the body; with `stream` the answer's lines are kept with their times.
        timeout_seconds: longest time for an answer in one piece, or without an event of a streamed one; comments that
            keep a connection open are no event.
    """
    turns = [str(message["content"]) for message in request["messages"]]
    kept = _Kept()
    begun = time.monotonic()
    failure = None
    connection = connect_bounded(endpoint, timeout_seconds)
    try:
        connection.request("POST", endpoint.prefix + path, json.dumps(request).encode(), headers_of(endpoint))
        response = connection.getresponse()
        assert isinstance(response, BoundedResponse), "the connection makes no others"
        failure = kept.read(response, begun)
    except TimeoutError:
        failure = f"it was silent for {timeout_seconds:g} s"
    except (OSError, http.client.HTTPException) as error:
        failure = f"{type(error).__name__}: {error}"
    finally:
        connection.close()
    return Exchange(
        asked=turns[-1],
        asked_characters=sum(len(turn) for turn in turns),
        status=kept.status,
        body=kept.body,
        lines=tuple(kept.lines),
        duration_seconds=time.monotonic() - begun,
        failure=failure,
        location=kept.location,
        retry_after=kept.retry_after,
    )


class _Kept:
    """What has come back so far, so that a stream that breaks off is judged by its part."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.location: str | None = None
        self.retry_after: str | None = None
        self.body = ""
        self.lines: list[tuple[float, str]] = []

    def read(self, response: BoundedResponse, begun: float) -> str | None:
        """Why it is not whole; None where it is."""
        self.status = response.status
        self.location, self.retry_after = response.getheader("Location"), response.getheader("Retry-After")
        if "text/event-stream" not in (response.getheader("Content-Type") or ""):
            body = read_whole(response)
            self.body = body.decode("utf-8", "replace")
            return _TOO_LONG if len(body) >= MOST_BYTES else None
        read_bytes = 0
        while line := response.readline(MOST_BYTES):
            read_bytes += len(line)
            if read_bytes >= MOST_BYTES:
                return _TOO_LONG
            text = line.decode("utf-8", "replace").strip()
            if not text:
                continue
            self.lines.append((time.monotonic() - begun, text))
            if is_end(text):
                return None
            if text.startswith("data:"):
                response.go_on()
        return None
