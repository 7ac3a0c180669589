"""Reads what an endpoint says that it serves: `GET /v1/models`, and what came back in its place. Pure."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any

from v4deploy.domain.errors import CheckFailedError, NotReadyError, UsageError, V4DeployError
from v4deploy.serve.smoke.text import redirect_target, shortened, waiting_words
from v4deploy.serve.wire import Endpoint, Reply

MODELS_PATH = "/v1/models"
_CONTEXT_KEYS = ("max_model_len", "context_length", "max_context_length")
_KEY_WANTED = (http.client.UNAUTHORIZED, http.client.FORBIDDEN)
_NO_LIST_HERE = (http.client.NOT_FOUND, http.client.METHOD_NOT_ALLOWED, http.client.NOT_IMPLEMENTED)
_GATEWAY = (http.client.BAD_GATEWAY, http.client.GATEWAY_TIMEOUT)
_REDIRECTS = range(300, 400)
_SHOWN_CHARACTERS = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedModel:
    """An entry of `/v1/models`. `context_tokens` None: the server does not say."""

    id: str
    context_tokens: int | None


def refusal_of(reply: Reply, endpoint: Endpoint) -> V4DeployError | None:
    """Why it makes no sense to ask this endpoint on; None where it does, with or without a list."""
    where, status = endpoint.base_url, f"HTTP {reply.status}"
    if reply.status in _KEY_WANTED:
        wrong = "another key than the one given" if endpoint.api_key else "a key"
        return UsageError(f"{where} asks for {wrong} ({status})", hint="give it with `--key-file FILE`")
    if reply.status == http.client.SERVICE_UNAVAILABLE:
        return NotReadyError(
            f"{where} says that it is not ready ({came_back(reply)})", hint=waiting_words(reply.retry_after)
        )
    if reply.status == http.client.TOO_MANY_REQUESTS:
        return NotReadyError(
            f"{where} takes no more requests now ({came_back(reply)})", hint=waiting_words(reply.retry_after)
        )
    if reply.status in _GATEWAY:
        return NotReadyError(
            f"a gateway at {where} reaches no server behind it: {came_back(reply)}",
            hint="is the server behind it up, and is this its way? Ask it without the gateway",
        )
    if reply.status in _REDIRECTS:
        return CheckFailedError(
            f"{where}{MODELS_PATH} sends its clients elsewhere: {came_back(reply)}", hint=_on(reply)
        )
    if reply.status == http.client.BAD_REQUEST and not endpoint.is_tls and b"https" in reply.body.lower():
        # nginx and Go's servers say so to whoever speaks plain HTTP on a port with TLS.
        tls = where.replace("http:", "https:", 1)
        return CheckFailedError(f"{where} wants TLS: {came_back(reply)}", hint=f"ask it so: `v4deploy smoke {tls}`")
    return None


def no_list(reply: Reply, endpoint: Endpoint) -> V4DeployError:
    """What to say where the model has to be named by somebody, and this reply does not."""
    where = f"{endpoint.base_url}{MODELS_PATH}"
    if reply.status in _NO_LIST_HERE:
        return UsageError(
            f"{where} has no list of models: {came_back(reply)}",
            hint="is this the address of the API? Where a server has no such list, name the model: `--model NAME`",
        )
    if reply.status == http.client.OK and "html" in (reply.content_type or "").lower():
        hint = "that is a web page: give the address of the API itself, such as `http://127.0.0.1:8080`"
    elif reply.status == http.client.OK:
        hint = "is this the address of the API? If it is, name the model: `--model NAME`"
    else:
        hint = "read the server's log; `--model NAME` tests it without its list"
    return CheckFailedError(f"{where} answers with no list of models: {came_back(reply)}", hint=hint)


def parse_models(body: bytes) -> tuple[ListedModel, ...] | None:
    """Read a list of models, without entries that name none; None where it is no such list."""
    try:
        entries: Any = json.loads(body)["data"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    if not isinstance(entries, list):
        return None
    named = [entry for entry in entries if isinstance(entry, dict) and _is_name(entry.get("id"))]
    if entries and not named:
        return None
    return tuple(ListedModel(id=entry["id"], context_tokens=_context(entry)) for entry in named)


def came_back(reply: Reply) -> str:
    """Status, kind and beginning of a reply, on one line. Of a redirect where it leads, without what may be secret."""
    words = [f"HTTP {reply.status}"]
    if reply.location and (target := redirect_target(reply.location)):
        return f"{words[0]} to {target}"
    words.append(reply.content_type or "no content type")
    text = shortened(reply.body.decode("utf-8", "replace"), _SHOWN_CHARACTERS)
    return f"{', '.join(words)}: {text}" if text else f"{', '.join(words)}, empty"


def _is_name(value: Any) -> bool:
    """What can be asked for, and shown on a terminal."""
    return isinstance(value, str) and bool(value) and value.isprintable()


def _context(entry: dict[str, Any]) -> int | None:
    """What vLLM calls `max_model_len`, and llama.cpp `n_ctx` of one slot in `meta`."""
    meta = entry.get("meta")
    said = [entry.get(key) for key in _CONTEXT_KEYS] + [meta.get("n_ctx") if isinstance(meta, dict) else None]
    return next((value for value in said if type(value) is int and value > 0), None)


def _on(reply: Reply) -> str:
    target = redirect_target(reply.location or "")
    if target.startswith(("http://", "https://")) and target.rstrip("/").endswith(MODELS_PATH):
        return f"ask there: `v4deploy smoke {target.rstrip('/').removesuffix(MODELS_PATH)}`"
    return "give the address of the API itself; a login page in front of it lets no client through"
