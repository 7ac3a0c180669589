"""A stand-in for Ollama, as a program or in a thread: its store, its API and its prunings, without any model.

It does what ollama/ollama does at 2026-08-21 (server/routes.go, server/create.go, server/images.go, manifest/), or from
0.35.0 on what its server/create_split_gguf.go does. What it says about the model's insides is made up.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[2]))  # it is run as a program

from tests.serve.fake_chat import chat, stream

NAME = "a stand-in for Ollama, made for tests"
FAULTS = (
    "dies-in-create", "dies-in-load", "refuses-create", "breaks-create", "ends-create", "refuses-load", "hangs-create",
    "hangs-load", "no-room", "busy",
)  # fmt: skip
_SPLIT = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf")
_EFFORTS = ("high", "medium", "low", "none")
_LAYER = "application/vnd.ollama.image."


class RefusedError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class FakeOllama:
    """One server and its store. `asked`: method and path of every request but the health checks."""

    def __init__(self, store: Path, *, version: str = "0.33.0", faults: str = "", prunes: bool = True) -> None:
        self.store = store
        self.version = version
        self.faults = frozenset(faults.split(",")) - {""}
        self.asked: list[str] = []
        self.created: list[dict[str, Any]] = []
        self.loaded: set[str] = set()
        self._blobs.mkdir(parents=True, exist_ok=True)
        if prunes:
            self._prune()

    @property
    def _blobs(self) -> Path:
        return self.store / "blobs"

    @property
    def merges(self) -> bool:
        return tuple(map(int, self.version.split("."))) < (0, 35)

    def blob(self, digest: str) -> Path:
        if not re.fullmatch(r"sha256[:-][0-9a-f]{64}", digest):
            raise RefusedError(400, "invalid digest format")
        return self._blobs / digest.replace(":", "-")

    def receive(self, digest: str, body: bytes) -> int:
        if self.blob(digest).exists():
            return 200
        if "no-room" in self.faults:
            raise RefusedError(500, f"write {self._blobs}/sha256-123: no space left on device")
        found = f"sha256:{hashlib.sha256(body).hexdigest()}"
        self.blob(found).write_bytes(body)
        if found != digest:
            raise RefusedError(400, f'digest mismatch, expected "{digest}", got "{found}"')
        return 201

    def create(self, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The lines of the answer. What is wrong with the request itself is raised before the first one."""
        self.created.append(request)
        if "refuses-create" in self.faults:
            raise RefusedError(400, "invalid model name")
        files: dict[str, str] = request.get("files") or {}
        if not files and not request.get("from"):
            raise RefusedError(400, "neither 'from' or 'files' was specified")
        return self._making(request, files)

    def _making(self, request: dict[str, Any], files: dict[str, str]) -> Iterator[dict[str, Any]]:
        if "dies-in-create" in self.faults:
            sys.stderr.write("fatal error: the stand-in dies while it makes a model\n")
            os._exit(2)
        if "hangs-create" in self.faults:
            time.sleep(30)
        yield from ({"status": "parsing GGUF"} for _ in files)
        if (wrong := self._wrong(request, files)) is not None:
            yield wrong
            return
        weights = yield from self._weights(request, files)
        yield {"status": "writing manifest"}
        if "ends-create" in self.faults:
            return
        more = [self._layer("params", json.dumps(request.get("parameters") or {}).encode())]
        more += [self._layer("license", str(request["license"]).encode())] if request.get("license") else []
        manifest = {"schemaVersion": 2, "config": self._layer("config", b"{}"), "layers": [*weights, *more]}
        path = self._manifest(request["model"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(manifest))
        yield {"status": "success"}

    def _wrong(self, request: dict[str, Any], files: dict[str, str]) -> dict[str, Any] | None:
        if request.get("from") and self._layers(request["from"]) is None:
            return {"error": "pull model manifest: file does not exist"}
        for name, digest in files.items():
            if not self.blob(digest).exists():
                return {"error": f"blob not found for {name} (digest {digest}): file does not exist"}
        if (parts := _wrong_parts(files)) is not None:
            return {"error": f"invalid split GGUF: {parts}", "status": 400}
        if "breaks-create" in self.faults:
            return {"error": "failed to validate GGUF with llama-quantize without compatibility patches: exit status 1"}
        return None

    def _weights(
        self, request: dict[str, Any], files: dict[str, str]
    ) -> Generator[dict[str, Any], None, list[dict[str, Any]]]:
        if not files:
            layers = self._layers(request["from"]) or []
            return [layer for layer in layers if layer["mediaType"] == f"{_LAYER}model"]
        contents = [self.blob(files[name]).read_bytes() for name in sorted(files)]
        if not self.merges:
            return [self._layer("model", content) for content in contents]
        yield {"status": "validating GGUF model", "digest": "0" * 19, "total": 100, "completed": 50}
        yield {"status": "verifying conversion"}
        # Not a merged GGUF: nobody reads it here.
        return [self._layer("model", b"merged" + b"".join(contents))]

    def load(self, model: str) -> None:
        if self._layers(model) is None:
            raise RefusedError(404, f"model '{model}' not found")
        if "dies-in-load" in self.faults:
            sys.stderr.write("llama_model_load: error loading model: unknown model architecture: 'deepseek4'\n")
            sys.stderr.flush()
            os._exit(2)
        if "hangs-load" in self.faults:
            time.sleep(30)
        if "refuses-load" in self.faults:
            sys.stderr.write("llama_model_load: error loading model: unknown model architecture: 'deepseek4'\n")
            sys.stderr.flush()
            raise RefusedError(500, "llama-server process has terminated: exit status 1")
        self.loaded.add(model)

    def models(self) -> list[str]:
        return [path.parent.name for path in (self.store / "manifests").rglob("latest")]

    def parameters(self, model: str) -> dict[str, Any]:
        layers = self._layers(model) or []
        (layer,) = [layer for layer in layers if layer["mediaType"] == f"{_LAYER}params"]
        read: dict[str, Any] = json.loads(self.blob(layer["digest"]).read_text())
        return read

    def _layer(self, kind: str, content: bytes) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.blob(digest).write_bytes(content)
        return {"mediaType": f"{_LAYER}{kind}", "digest": digest, "size": len(content)}

    def _layers(self, model: str) -> list[dict[str, Any]] | None:
        path = self._manifest(model)
        layers: list[dict[str, Any]] | None = json.loads(path.read_text())["layers"] if path.exists() else None
        return layers

    def _manifest(self, model: str) -> Path:
        name, _, tag = model.partition(":")
        return self.store / "manifests" / "registry.ollama.ai" / "library" / name / (tag or "latest")

    def _prune(self) -> None:
        used = {
            layer["digest"].replace(":", "-")
            for path in (self.store / "manifests").rglob("*")
            if path.is_file()
            for layer in (*json.loads(path.read_text())["layers"], json.loads(path.read_text())["config"])
        }
        for blob in self._blobs.iterdir():
            if blob.name not in used:
                blob.unlink()

    def answer(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """An OpenAI completion. A model that can think does so, unless it is asked not to; the rest is ignored."""
        effort = request.get("reasoning_effort")
        if effort is not None and effort not in _EFFORTS:
            return 400, {"error": {"message": f"invalid reasoning value: '{effort}'"}}
        try:
            self.load(request["model"])
        except RefusedError as refused:
            return refused.status, {"error": {"message": str(refused)}}
        if effort != "none":
            message = {"role": "assistant", "content": "", "reasoning": "The user says hello, so I think about it"}
            usage = {"prompt_tokens": 5, "completion_tokens": request.get("max_tokens", 16)}
            return 200, {"choices": [{"message": message, "finish_reason": "length"}], "usage": usage}
        return chat(request, frozenset())


def _wrong_parts(files: dict[str, str]) -> str | None:
    """What is wrong with the parts of a split model, which are told by their names."""
    parts = [match for name in files if (match := _SPLIT.fullmatch(name))]
    if not parts:
        return None
    count = int(parts[0][3])
    if len(parts) != count:
        return f'split GGUF "{parts[0][0]}" has {len(parts)} shards, expected {count}'
    return None


class Handler(BaseHTTPRequestHandler):
    fake: FakeOllama

    def do_GET(self) -> None:
        models = [{"name": model, "model": model} for model in sorted(self.fake.loaded)]
        listed = [{"id": f"{model}:latest", "owned_by": "library"} for model in self.fake.models()]
        known: dict[str, dict[str, Any]] = {
            "/api/version": {"version": self.fake.version},
            "/v1/models": {"object": "list", "data": listed},
            "/api/ps": {"models": models},
        }
        if "busy" in self.fake.faults:
            self._send(503, {"error": "busy"})
        elif self.path in known:
            self._send(200, known[self.path])
        else:
            self._send(404, {"error": "not found"})

    def do_HEAD(self) -> None:
        self._guarded(lambda: self._send(200 if self.fake.blob(self._digest).exists() else 404, None))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._guarded(lambda: self._post(body))

    def _post(self, body: bytes) -> None:
        if self.path.startswith("/api/blobs/"):
            self._send(self.fake.receive(self._digest, body), None)
        elif self.path == "/api/create":
            lines = self.fake.create(json.loads(body))
            self._stream("application/x-ndjson", (json.dumps(line) + "\n" for line in lines))
        elif self.path == "/api/generate":
            model = json.loads(body)["model"]
            self.fake.load(model)
            self._send(200, {"model": model, "response": "", "done": True, "done_reason": "load"})
        elif self.path == "/v1/chat/completions":
            self._complete(json.loads(body))
        else:
            self._send(404, {"error": "not found"})

    def _complete(self, request: dict[str, Any]) -> None:
        status, answer = self.fake.answer(request)
        if request.get("stream") and status == HTTPStatus.OK:
            self._stream("text/event-stream", (f"{line}\n\n" for line in stream(request, frozenset())))
        else:
            self._send(status, answer)

    @property
    def _digest(self) -> str:
        return self.path.removeprefix("/api/blobs/")

    def _guarded(self, act: Callable[[], None]) -> None:
        self.fake.asked.append(f"{self.command} {self.path}")
        try:
            act()
        except RefusedError as refused:
            self._send(refused.status, {"error": str(refused)})

    def _send(self, status: int, data: dict[str, Any] | None) -> None:
        body = b"" if data is None else json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, kind: str, lines: Iterator[str]) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.end_headers()
        for line in lines:
            self.wfile.write(line.encode())
            self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        sys.stdout.write(f"[GIN] {format % args}\n")
        sys.stdout.flush()


@contextmanager
def serving(fake: FakeOllama) -> Iterator[int]:
    """Serve in a thread, on the port that this gives."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"fake": fake}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.005})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def main(arguments: list[str]) -> int:
    """`ollama --version` and `ollama serve`, with the variables of Ollama, and FAKE_OLLAMA for its faults."""
    version = os.environ.get("FAKE_OLLAMA_VERSION", "0.33.0")
    sys.stdout.write(f"{NAME}\n")
    if arguments == ["--version"]:
        sys.stdout.write("Warning: could not connect to a running Ollama instance\n")
        sys.stdout.write(f"Warning: client version is {version}\n")
        return 0
    sys.stdout.flush()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    host, _, port = os.environ["OLLAMA_HOST"].rpartition(":")
    faults = os.environ.get("FAKE_OLLAMA", "")
    prunes = os.environ.get("OLLAMA_NOPRUNE") != "1"
    fake = FakeOllama(Path(os.environ["OLLAMA_MODELS"]), version=version, faults=faults, prunes=prunes)
    server = ThreadingHTTPServer((host.strip("[]"), int(port)), type("BoundHandler", (Handler,), {"fake": fake}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    while True:
        # Not signal.pause(): a signal that reaches another thread would not end it.
        time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
