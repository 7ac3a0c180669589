"""Asks an engine over HTTP: is it healthy, and does it answer a chat. Standard library; no proxy is ever used."""

from __future__ import annotations

import http.client
import json
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from v4deploy.serve.wire import Endpoint, Reply, fetch

_PROMPT = "Say hello."
_ANSWER_TOKENS = 16
_EXCERPT_CHARACTERS = 300
_REQUEST_TIMEOUT, _TOO_MANY_REQUESTS, _CLIENT_ERRORS = 408, 429, range(400, 500)


class Health(StrEnum):
    """REFUSED: nobody listens. LOADING: 503. HEALTHY: 200. UNHEALTHY: another answer, a broken one, or none in time."""

    REFUSED = "refused"
    LOADING = "loading"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthReport:
    """One health check. `detail` quotes what came back; empty for a plain 200."""

    health: Health
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One chat completion, or why there was none.

    Attributes:
        text: content of the answer; the reasoning where the content is empty; "" when the request failed.
        completion_tokens: as the engine counts them; None when it does not say.
        duration_seconds: from the request to the whole answer.
        failure: None when the engine answered, else what happened in one line.
        refused: asking again is pointless: the engine says that the request or the key is wrong.
    """

    text: str = ""
    completion_tokens: int | None = None
    duration_seconds: float = 0.0
    failure: str | None = None
    refused: bool = False

    @property
    def answered(self) -> bool:
        """Whether it shows that the model works: something was generated."""
        return self.failure is None and bool(self.text.strip() or self.completion_tokens)


def check_health(endpoint: Endpoint, path: str, *, timeout_seconds: float) -> HealthReport:
    """One health check. Never raises for what a network or a server can do."""
    try:
        reply = fetch(endpoint, path, timeout_seconds=timeout_seconds)
    except ConnectionRefusedError as error:
        return HealthReport(health=Health.REFUSED, detail=str(error))
    except TimeoutError:
        return HealthReport(health=Health.UNHEALTHY, detail=f"no answer in {timeout_seconds:g} s")
    except (OSError, http.client.HTTPException) as error:
        return HealthReport(health=Health.UNHEALTHY, detail=f"{type(error).__name__}: {error}")
    if reply.status == http.client.OK:
        return HealthReport(health=Health.HEALTHY)
    loading = reply.status == http.client.SERVICE_UNAVAILABLE
    return HealthReport(health=Health.LOADING if loading else Health.UNHEALTHY, detail=_excerpt(reply))


def complete(endpoint: Endpoint, path: str, *, model: str, timeout_seconds: float) -> Completion:
    """One real chat completion. Never raises for what a network or a server can do.

    Args:
        endpoint: where the engine listens; its key is sent as a bearer token.
        path: the OpenAI chat completions path.
        model: the served name.
        timeout_seconds: for the whole answer.
    """
    request = {
        "model": model,
        "messages": [{"role": "user", "content": _PROMPT}],
        "max_tokens": _ANSWER_TOKENS,
        "stream": False,
    }
    begun = time.monotonic()
    try:
        reply = fetch(endpoint, path, timeout_seconds=timeout_seconds, body=json.dumps(request).encode())
    except TimeoutError:
        return Completion(failure=f"no answer in {timeout_seconds:g} s")
    except (OSError, http.client.HTTPException) as error:
        return Completion(failure=f"{type(error).__name__}: {error}")
    duration_seconds = time.monotonic() - begun
    if reply.status != http.client.OK:
        refused = reply.status in _CLIENT_ERRORS and reply.status not in (_REQUEST_TIMEOUT, _TOO_MANY_REQUESTS)
        return Completion(failure=_excerpt(reply), refused=refused)
    return parse_completion(reply.body, duration_seconds=duration_seconds)


def parse_completion(body: bytes, *, duration_seconds: float) -> Completion:
    """Read an OpenAI chat completion; `failure` says what is missing in it."""
    whole = Reply(status=http.client.OK, body=body)
    try:
        data: Any = json.loads(body)
        message = data["choices"][0]["message"]
        text = message.get("content") or message.get("reasoning_content") or message.get("reasoning") or ""
        tokens = (data.get("usage") or {}).get("completion_tokens")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return Completion(failure=f"the answer is no chat completion: {_excerpt(whole)}")
    if not isinstance(text, str) or not (tokens is None or isinstance(tokens, int)):
        return Completion(failure=f"the answer is no chat completion: {_excerpt(whole)}")
    return Completion(text=text, completion_tokens=tokens, duration_seconds=duration_seconds)


def _excerpt(reply: Reply) -> str:
    text = " ".join(reply.body.decode("utf-8", "replace").split())
    return f"HTTP {reply.status}: {text[:_EXCERPT_CHARACTERS]}" if text else f"HTTP {reply.status}"
