"""`v4deploy smoke` as a user runs it, against servers on loopback."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.serve.fake_chat import chat, stream
from tests.support_cli import V4Deploy

KEY = "sk-very-secret"


class _Server(ThreadingHTTPServer):
    faults: frozenset[str] = frozenset()
    models: tuple[str, ...] = ("v4-flash",)
    key: str | None = None
    answer: tuple[int, dict[str, str], bytes] | None = None
    """In place of the list."""

    paths: list[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _SixServer(_Server):
    address_family: int = socket.AF_INET6


class _Handler(BaseHTTPRequestHandler):
    @property
    def _server(self) -> _Server:
        assert isinstance(self.server, _Server)
        return self.server

    def do_GET(self) -> None:
        self._server.paths.append(self.path)
        if self._server.answer is not None:
            self._send_raw(*self._server.answer)
            return
        data = {"data": [{"id": name, "max_model_len": 8192} for name in self._server.models]}
        self._send(*((200, data) if self._allowed() else (401, {"error": "no"})))

    def do_POST(self) -> None:
        self._server.paths.append(self.path)
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status, body = chat(request, self._server.faults)
        if not self._allowed():
            self._send(401, {"error": "no"})
        elif request["stream"] and status == 200:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream; charset=utf-8")
            self.end_headers()
            for line in stream(request, self._server.faults):
                self.wfile.write(f"{line}\n\n".encode())
        else:
            self._send(status, body)

    def _allowed(self) -> bool:
        return self._server.key is None or self.headers["Authorization"] == f"Bearer {self._server.key}"

    def _send(self, status: int, data: dict[str, Any]) -> None:
        self._send_raw(status, {"Content-Type": "application/json"}, json.dumps(data).encode())

    def _send_raw(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        pass


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server(("127.0.0.1", 0), _Handler) as running:
        running.paths = []
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_a_good_server(v4deploy: V4Deploy, server: _Server) -> None:
    ran = v4deploy("smoke", server.url)
    assert ran.code == 0
    assert "it said 42" in ran.stdout
    assert "measured: first token" in ran.stdout
    assert "asking for a tool call" in ran.stderr


def test_the_document(v4deploy: V4Deploy, server: _Server) -> None:
    document = v4deploy("smoke", server.url, "--json").document
    assert (document["schema"], document["ok"]) == ("v4deploy.smoke/1", True)
    checks = {check["id"]: check for check in document["data"]["checks"]}
    assert checks["recall"]["outcome"] == "pass"
    assert document["data"]["content_judged"] is True


def test_a_garbled_model_fails_with_its_evidence(v4deploy: V4Deploy, server: _Server) -> None:
    server.faults = frozenset({"gibberish"})
    ran = v4deploy("smoke", server.url, "--json")
    assert ran.code == 4
    assert ran.document["error"]["code"] == "check-failed"
    known = next(check for check in ran.document["data"]["checks"] if check["id"] == "known-answer")
    assert "17 plus 25" in known["asked"]
    assert "Zuweisung" in known["answered"]
    assert v4deploy("smoke", server.url, "--random-weights").code == 0


def test_the_key_comes_from_a_file_and_is_told_to_nobody(v4deploy: V4Deploy, server: _Server, tmp_path: Path) -> None:
    server.key = KEY
    assert "asks for a key" in v4deploy("smoke", server.url).stderr
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    ran = v4deploy("smoke", server.url, "--key-file", str(file), "--json")
    assert ran.code == 0
    assert KEY not in ran.stdout + ran.stderr
    file.write_text("sk-wrong\n")
    wrong = v4deploy("smoke", server.url, "--key-file", str(file))
    assert wrong.code == 2
    assert "another key than the one given" in wrong.stderr


def test_a_key_that_cannot_be_sent_is_the_users_to_mend(v4deploy: V4Deploy, server: _Server, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("sk-geheimer-schlüssel\n", encoding="utf-8")
    ran = v4deploy("smoke", server.url, "--key-file", str(file))
    assert ran.code == 2
    assert f"line 1 of `{file}` cannot be sent" in " ".join(ran.stderr.split())
    assert "geheimer" not in ran.stdout + ran.stderr
    assert server.paths == []


def test_several_models_have_to_be_told_apart(v4deploy: V4Deploy, server: _Server) -> None:
    server.models = ("a", "b")
    ran = v4deploy("smoke", server.url)
    assert ran.code == 2
    assert "a, b" in ran.stderr
    assert v4deploy("smoke", server.url, "--model", "b").code == 0
    server.models = tuple(f"m{number}" for number in range(10))
    assert "m7, and 2 more" in v4deploy("smoke", server.url).stderr
    server.models = ()
    assert "/v1/models lists no model" in v4deploy("smoke", server.url).stderr


_PAGE = {"Content-Type": "text/html"}


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        ((200, _PAGE, b"<!doctype html><title>Chat"), 4, "HTTP 200, text/html: <!doctype html>"),
        ((502, _PAGE, b"<h1>Bad Gateway"), 7, "HTTP 502, text/html: <h1>Bad Gateway"),
        ((301, {"Location": "https://api.test/v1/models"}, b""), 4, "HTTP 301 to https://api.test/v1/models"),
        ((429, {"Retry-After": "30"}, b"slow down"), 7, "wait 30 s"),
        ((404, {}, b"nothing here"), 2, "nothing here"),
        ((500, {}, b"KeyError: 'id'"), 4, "HTTP 500, no content type: KeyError"),
    ],
)
def test_what_comes_in_place_of_the_list_is_told(
    v4deploy: V4Deploy, server: _Server, answer: tuple[int, dict[str, str], bytes], code: int, words: str
) -> None:
    server.answer = answer
    ran = v4deploy("smoke", server.url)
    assert ran.code == code
    assert words in ran.stderr
    assert "hint:" in ran.stderr


@pytest.mark.parametrize("status", [404, 500])
def test_a_server_without_a_list_can_be_tested_by_name(v4deploy: V4Deploy, server: _Server, status: int) -> None:
    server.answer = (status, {}, b"")
    assert v4deploy("smoke", server.url, "--model", "v4-flash").code == 0


@pytest.mark.parametrize("tail", ["", "/", "//", "/v1", "/v1//", "/v1/chat/completions", "/v1/models", "/proxy/v1"])
def test_addresses_that_people_paste(v4deploy: V4Deploy, server: _Server, tail: str) -> None:
    assert v4deploy("smoke", f"{server.url}{tail}").code == 0
    prefix = "/proxy" if "proxy" in tail else ""
    # It is asked whether it is an Ollama, which is asked differently.
    assert set(server.paths) - {"/api/version"} == {f"{prefix}/v1/models", f"{prefix}/v1/chat/completions"}


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host", "http://", "http://host:port", "http://h/?key=1", "http://[::1", "http://h:0", "http://ä..:80",
        f"http://{'a' * 70}.x", "http://127.0.0.1:1/ü", "http://127.0.0.1:1/a b", "http://a b", "http://h/\x1b[2J",
    ],
)  # fmt: skip
def test_what_is_no_address(v4deploy: V4Deploy, url: str) -> None:
    ran = v4deploy("smoke", url)
    assert ran.code == 2
    assert "\x1b" not in ran.stderr


def test_a_server_at_an_ipv6_address(v4deploy: V4Deploy) -> None:
    try:
        running = _SixServer(("::1", 0), _Handler)
    except OSError:
        pytest.skip("this machine has no IPv6")
    with running:
        running.paths = []
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        ran = v4deploy("smoke", f"http://[::1]:{running.server_address[1]}/v1")
        running.shutdown()
        thread.join()
    assert ran.code == 0
    assert f"at http://[::1]:{running.server_address[1]}" in ran.stdout


@pytest.mark.parametrize(
    ("option", "value"),
    [("--timeout", "inf"), ("--timeout", "nan"), ("--timeout", "0"), ("--long-prompt", "1000000000")],
)
def test_what_no_clock_and_no_context_could_grant(v4deploy: V4Deploy, server: _Server, option: str, value: str) -> None:
    assert v4deploy("smoke", server.url, option, value).code == 2
    assert server.paths == []


def test_a_password_in_the_address_is_refused_and_not_repeated(v4deploy: V4Deploy) -> None:
    ran = v4deploy("smoke", "http://me:hunter2@127.0.0.1:1")
    assert ran.code == 2
    assert "hunter2" not in ran.stdout + ran.stderr


def test_a_certificate_that_nobody_vouches_for(
    v4deploy: V4Deploy, server: _Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl to make a certificate with")
    made = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    named = ("-subj", "/CN=me", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem")
    subprocess.run((openssl, *made, *named), check=True, capture_output=True, cwd=tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    url = server.url.replace("http:", "https:")
    plain = v4deploy("smoke", url)
    assert plain.code == 4
    assert f"a server without TLS is asked at `{server.url}`" in plain.stderr
    server.socket = context.wrap_socket(server.socket, server_side=True)
    ran = v4deploy("smoke", url)
    assert ran.code == 4
    assert f"the certificate of {url} is not trusted: self-signed certificate" in ran.stderr
    assert "SSL_CERT_FILE=FILE" in ran.stderr
    other = v4deploy("smoke", url.replace("127.0.0.1", "localhost"))
    assert other.code == 4
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    assert v4deploy("smoke", url).code == 0
    assert "by a name that its certificate holds" in v4deploy("smoke", url.replace("127.0.0.1", "localhost")).stderr


def test_nobody_there(v4deploy: V4Deploy) -> None:
    ran = v4deploy("smoke", "http://127.0.0.1:9")
    assert ran.code == 7
    assert "refused" in ran.stderr
