"""How many requests an engine is working on."""

from __future__ import annotations

import http.client
import json
import re
from typing import Any

from v4deploy.domain.engine import EngineId
from v4deploy.serve.health import Endpoint, fetch

_SECONDS = 5.0
_VLLM = re.compile(r"^vllm:num_requests_(?:running|waiting)(?:\{[^}]*\})?\s+([0-9.e+]+)\s*$", re.MULTILINE)


def requests_in_flight(endpoint: Endpoint, engine: EngineId) -> int | None:
    """Running and waiting ones; None where the engine does not tell. Never raises for what a server can do."""
    path = {EngineId.LLAMA_CPP: "/slots", EngineId.VLLM: "/metrics", EngineId.MINDIE: "/metrics"}.get(engine)
    if path is None:
        return None
    try:
        status, body = fetch(endpoint, path, timeout_seconds=_SECONDS)
    except (OSError, http.client.HTTPException):
        return None
    if status != http.client.OK:
        return None
    text = body.decode("utf-8", "replace")
    return busy_slots(text) if engine is EngineId.LLAMA_CPP else vllm_requests(text)


def busy_slots(text: str) -> int | None:
    """Of llama-server's `/slots`. Requests that wait for a slot are not among them."""
    try:
        slots: Any = json.loads(text)
        return sum(bool(slot["is_processing"]) for slot in slots)
    except (ValueError, LookupError, TypeError):
        return None


def vllm_requests(text: str) -> int | None:
    """Of vLLM's `/metrics`."""
    counts = _VLLM.findall(text)
    return round(sum(float(count) for count in counts)) if counts else None
