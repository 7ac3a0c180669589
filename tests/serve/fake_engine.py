"""A small server that behaves like an engine, or misbehaves on request. Run as a program by the tests."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[2]))  # it is run as a program

from tests.serve.fake_chat import chat, stream


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--run-dir", required=True, help="marks the process as ours; requests are recorded here")
    parser.add_argument("--say", default="", help="printed before anything else")
    parser.add_argument("--closed-seconds", type=float, default=0.0, help="time before the port opens")
    parser.add_argument("--exit-at-start", type=int, help="exit code")
    parser.add_argument("--busy-checks", type=int, default=0, help="how many health checks get 503")
    parser.add_argument("--never-healthy", action="store_true")
    parser.add_argument("--crash-at-check", type=int, help="abort instead of answering this health check")
    parser.add_argument("--crash-at-completion", action="store_true")
    parser.add_argument("--answer", default="hello")
    parser.add_argument("--empty", action="store_true", help="answer with nothing")
    parser.add_argument("--empty-answers", type=int, default=0, help="how many answers are empty at first")
    parser.add_argument("--hang-completion", action="store_true")
    parser.add_argument("--chat", help="answer as fake_chat.py does, with these faults (`none`, or names with commas)")
    parser.add_argument("--crash-at-question", type=int, help="end instead of answering this completion")
    parser.add_argument("--key", help="key that completions need")
    parser.add_argument("--ignore-sigterm", action="store_true")
    parser.add_argument("--worker", action="store_true", help="start a child that ignores SIGTERM")
    parser.add_argument("--sleeper", action="store_true", help="be that child")
    parser.add_argument("--lenient", action="store_true", help="take a real engine's flags without a word")
    known, others = parser.parse_known_args()
    if others and not known.lenient:
        parser.error(f"unknown: {others}")
    return known


class Fake:
    """The misbehaviour, and what was counted so far."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.checks = 0
        self.completions = 0

    @property
    def faults(self) -> frozenset[str]:
        return frozenset(str(self.options.chat).split(","))

    def health(self) -> tuple[int, dict[str, Any]]:
        self.checks += 1
        if self.options.crash_at_check == self.checks:
            os.abort()
        if self.options.never_healthy or self.checks <= self.options.busy_checks:
            return 503, {"error": {"message": "Loading model", "code": 503}}
        if Path(self.options.run_dir, "be-sick").exists():
            return 500, {"error": "sick"}
        return 200, {"status": "ok"}

    def completion(self, request: dict[str, Any], authorization: str | None) -> tuple[int, dict[str, Any]]:
        self.completions += 1
        Path(self.options.run_dir, f"request-{self.completions}.json").write_text(json.dumps(request))
        if self.options.crash_at_completion or self.options.crash_at_question == self.completions:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.options.hang_completion:
            time.sleep(60)
        if self.options.key and authorization != f"Bearer {self.options.key}":
            return 401, {"error": {"message": "Invalid API Key"}}
        if self.options.chat:
            return chat(request, self.faults)
        empty = self.options.empty or self.completions <= self.options.empty_answers
        message = {"role": "assistant", "content": "" if empty else self.options.answer}
        return 200, {"choices": [{"message": message}], "usage": {"completion_tokens": 0 if empty else 3}}


def handler(fake: Fake) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(fake.health)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            request = json.loads(body)
            status, answer = fake.completion(request, self.headers["Authorization"])
            if request.get("stream") and status == HTTPStatus.OK:
                self.send_response(status)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                for line in stream(request, fake.faults):
                    self.wfile.write(f"{line}\n\n".encode())
            else:
                self._send(lambda: (status, answer))

        def _send(self, answer: Callable[[], tuple[int, dict[str, Any]]]) -> None:
            status, data = answer()
            body = json.dumps(data).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            sys.stdout.write(f"{format % args}\n")
            sys.stdout.flush()

    return Handler


def main() -> int:
    options = _options()
    if options.ignore_sigterm or options.sleeper:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    if options.sleeper:
        Path(options.run_dir, "worker-runs").touch()
        time.sleep(60)
        return 0
    sys.stdout.write(f"{options.say}\n")
    sys.stdout.flush()
    if options.worker:
        subprocess.Popen([sys.executable, __file__, "--sleeper", "--run-dir", options.run_dir])
        while not Path(options.run_dir, "worker-runs").exists():
            time.sleep(0.01)
    if options.exit_at_start is not None:
        return int(options.exit_at_start)
    time.sleep(options.closed_seconds)
    server = ThreadingHTTPServer(("127.0.0.1", options.port), handler(Fake(options)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    while True:
        # Not signal.pause(): a signal that reaches another thread would not end it.
        time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main())
