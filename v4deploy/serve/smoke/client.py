"""The smoke test's HTTP edge: posts a chat request, and records what comes back with its times."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping
from typing import Any

from v4deploy.serve.health import Endpoint, connect, headers_of
from v4deploy.serve.smoke.answer import Exchange

_MOST_BYTES = 8 * 1024 * 1024


def post_chat(endpoint: Endpoint, path: str, request: Mapping[str, Any], *, timeout_seconds: float) -> Exchange:
    """Ask once. Never raises for what a network or a server can do.

    Args:
        endpoint: its key goes into a header, and nowhere else.
        path: of chat completions.
        request: the body; with `stream` the answer's lines are kept with their times.
        timeout_seconds: longest silence.
    """
    turns = [str(message["content"]) for message in request["messages"]]
    kept = _Kept()
    begun = time.monotonic()
    failure = None
    connection = connect(endpoint, timeout_seconds)
    try:
        connection.request("POST", endpoint.prefix + path, json.dumps(request).encode(), headers_of(endpoint))
        kept.read(connection.getresponse(), begun)
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
    )


class _Kept:
    """What has come back so far, so that a stream that breaks off is judged by its part."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.body = ""
        self.lines: list[tuple[float, str]] = []

    def read(self, response: http.client.HTTPResponse, begun: float) -> None:
        self.status = response.status
        if "text/event-stream" not in (response.getheader("Content-Type") or ""):
            self.body = response.read(_MOST_BYTES).decode("utf-8", "replace")
            return
        read_bytes = 0
        while read_bytes < _MOST_BYTES and (line := response.readline(_MOST_BYTES)):
            read_bytes += len(line)
            if text := line.decode("utf-8", "replace").strip():
                self.lines.append((time.monotonic() - begun, text))
            if text == "data: [DONE]":
                return
