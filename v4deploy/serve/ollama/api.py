"""The calls of Ollama's API that an import and a load take. No proxy is ever used."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from v4deploy.serve.wire import Endpoint, connect, fetch

_BLOCK_BYTES = 1024 * 1024
_VERSION_SECONDS = 5.0
_ANSWER_SECONDS = 30.0
_MOST_BYTES = 64 * 1024


class OllamaRefusedError(Exception):
    """Ollama answered that it will not, or broke off; the message is its own where it said one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateStep:
    """A line of the create API's answer: `status`, and how far that is, where it tells."""

    status: str
    done_bytes: int | None
    total_bytes: int | None


class OllamaApi:
    """One server.

    Every call raises:
        OllamaRefusedError: it answered with an error.
        OSError: nobody listens, or the connection broke.
        http.client.HTTPException: what came back is no HTTP.
    """

    def __init__(self, endpoint: Endpoint, *, patience_seconds: float) -> None:
        """`patience_seconds`: the longest silence while it works: Ollama says nothing while it merges or loads."""
        self._endpoint = endpoint
        self._patience_seconds = patience_seconds

    def version(self) -> str:
        """As it tells it: `0.33.0`."""
        return read_version(_accepted(*self._ask("GET", "/api/version", None, _VERSION_SECONDS)))

    def has_blob(self, sha256: str) -> bool:
        """Whether a file with this content is in its store."""
        status, body = self._ask("HEAD", f"/api/blobs/sha256:{sha256}", None, _ANSWER_SECONDS)
        if status == http.client.NOT_FOUND:
            return False
        _accepted(status, body)
        return True

    def send_blob(self, path: Path, sha256: str, *, on_bytes: Callable[[int], None]) -> None:
        """Copy a file into its store; it checks the content while it writes. `on_bytes` hears the running sum."""
        connection = connect(self._endpoint, self._patience_seconds)
        try:
            with path.open("rb", buffering=0) as file:
                connection.putrequest("POST", f"/api/blobs/sha256:{sha256}")
                connection.putheader("Content-Type", "application/octet-stream")
                connection.putheader("Content-Length", str(path.stat().st_size))
                connection.endheaders()
                sent_bytes = 0
                try:
                    while block := file.read(_BLOCK_BYTES):
                        connection.send(block)
                        sent_bytes += len(block)
                        on_bytes(sent_bytes)
                except (BrokenPipeError, ConnectionResetError):
                    # A server that refuses early closes its side; its reason is still to be read.
                    _accepted(*_read(connection))
                    raise
            _accepted(*_read(connection))
        finally:
            connection.close()

    def create(self, request: Mapping[str, Any]) -> Iterator[CreateStep]:
        """Make a model; yields what it says it is doing, and ends when it says that it succeeded."""
        connection = connect(self._endpoint, self._patience_seconds)
        try:
            body = json.dumps({**request, "stream": True}).encode()
            connection.request("POST", "/api/create", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            if response.status != http.client.OK:
                _accepted(response.status, response.read(_MOST_BYTES))
            while line := response.readline(_MOST_BYTES):
                if line.strip():
                    yield (step := read_step(line))
                    if step.status == "success":
                        return
            raise OllamaRefusedError("it broke off before it was done")
        finally:
            connection.close()

    def load(self, model: str) -> None:
        """Load a model, and keep it loaded; returns when it is."""
        body = json.dumps({"model": model, "keep_alive": -1, "stream": False}).encode()
        _accepted(*self._ask("POST", "/api/generate", body, self._patience_seconds))

    def _ask(self, method: str, path: str, body: bytes | None, timeout_seconds: float) -> tuple[int, bytes]:
        connection = connect(self._endpoint, timeout_seconds)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            return _read(connection)
        finally:
            connection.close()


def version_at(endpoint: Endpoint) -> str | None:
    """The version of the Ollama that listens there; None where nobody does, or somebody else."""
    try:
        # Bounded as a whole, unlike the calls to an Ollama of ours: this may be anybody.
        reply = fetch(endpoint, "/api/version", timeout_seconds=_VERSION_SECONDS)
        return read_version(_accepted(reply.status, reply.body))
    except (OllamaRefusedError, OSError, http.client.HTTPException):
        return None


def read_version(body: bytes) -> str:
    """Of the answer to /api/version.

    Raises:
        OllamaRefusedError: it is no answer of Ollama's.
    """
    try:
        data: Any = json.loads(body)
        version = data["version"]
    except (ValueError, LookupError, TypeError, RecursionError):
        version = None
    if not isinstance(version, str):
        raise OllamaRefusedError("it does not answer like Ollama")
    return version


def read_step(line: bytes) -> CreateStep:
    """One line of the create API's stream. An error comes in it, behind a status of 200.

    Raises:
        OllamaRefusedError: it is an error, or no line of that API.
    """
    try:
        data: Any = json.loads(line)
        if error := data.get("error"):
            raise OllamaRefusedError(str(error))
        status, done, total = data["status"], data.get("completed"), data.get("total")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise OllamaRefusedError(f"its answer cannot be read: {line[:200].decode('utf-8', 'replace')}") from error
    return CreateStep(
        status=str(status),
        done_bytes=done if isinstance(done, int) else None,
        total_bytes=total if isinstance(total, int) and total else None,
    )


def refusal_of(status: int, body: bytes) -> str:
    """Why it refused, in its own words: `{"error": "..."}`."""
    try:
        data: Any = json.loads(body)
        words = data["error"]
    except (ValueError, LookupError, TypeError):
        words = body.decode("utf-8", "replace")
    text = " ".join(str(words).split())
    return f"HTTP {status}: {text[:1000]}" if text else f"HTTP {status}"


def _read(connection: http.client.HTTPConnection) -> tuple[int, bytes]:
    response = connection.getresponse()
    return response.status, response.read(_MOST_BYTES)


def _accepted(status: int, body: bytes) -> bytes:
    if status not in (http.client.OK, http.client.CREATED):
        raise OllamaRefusedError(refusal_of(status, body))
    return body
