"""How many requests an engine is working on."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import re
from typing import Any

import psutil

from v4deploy.domain.engine import EngineId
from v4deploy.serve.wire import Endpoint, fetch

_SECONDS = 5.0
_VLLM = re.compile(r"^vllm:num_requests_(?:running|waiting)(?:\{[^}]*\})?\s+([0-9.e+]+)\s*$", re.MULTILINE)


def requests_in_flight(endpoint: Endpoint, engine: EngineId, pid: int | None = None) -> int | None:
    """Running and waiting ones; None where the engine does not tell. Never raises for what a server can do.

    Args:
        endpoint: where the engine listens.
        engine: which one it is.
        pid: its process; only Ollama's has to be known.
    """
    path = "/slots" if engine in {EngineId.LLAMA_CPP, EngineId.OLLAMA} else "/metrics"
    if engine is EngineId.OLLAMA:
        # It does not tell itself; the llama-server that it has started does.
        port = None if pid is None else _runner_port(pid)
        if port is None:
            return None
        endpoint = Endpoint(bind="127.0.0.1", port=port)
    try:
        reply = fetch(endpoint, path, timeout_seconds=_SECONDS)
    except (OSError, http.client.HTTPException):
        return None
    if reply.status != http.client.OK:
        return None
    text = reply.body.decode("utf-8", "replace")
    return busy_slots(text) if path == "/slots" else vllm_requests(text)


def busy_slots(text: str) -> int | None:
    """Of llama-server's `/slots`. Requests that wait for a slot are not among them."""
    try:
        slots: Any = json.loads(text)
        return sum(bool(slot["is_processing"]) for slot in slots)
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


def vllm_requests(text: str) -> int | None:
    """Of vLLM's `/metrics`."""
    counts = _VLLM.findall(text)
    try:
        return round(sum(float(count) for count in counts)) if counts else None
    except (ValueError, OverflowError):
        return None


def port_argument(argv: list[str]) -> int | None:
    """The value of `--port` in a command line; None where it has none."""
    values = [value for flag, value in itertools.pairwise(argv) if flag == "--port" and value.isdecimal()]
    return int(values[0]) if values else None


def _runner_port(pid: int) -> int | None:
    try:
        children = psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return None
    ports = []
    for child in children:
        # One that has just ended has no command line any more.
        with contextlib.suppress(psutil.Error):
            ports += [port for port in (port_argument(child.cmdline()),) if port is not None]
    # With one model there is one; of several nobody knows which is meant.
    return ports[0] if len(ports) == 1 else None
