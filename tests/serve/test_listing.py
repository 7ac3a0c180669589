"""What comes back where a list of models was asked for."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from typing import Any

import pytest

from v4deploy.domain.errors import CheckFailedError, NotReadyError, UsageError, V4DeployError
from v4deploy.serve.smoke.listing import came_back, no_list, parse_models, refusal_of
from v4deploy.serve.smoke.unreachable import unreachable
from v4deploy.serve.wire import Endpoint, Reply

_HERE = Endpoint(bind="127.0.0.1", port=8080)
_TLS = Endpoint(bind="box", port=8443, is_tls=True)


def _reply(status: int, body: bytes = b"", kind: str | None = "application/json", **headers: str) -> Reply:
    return Reply(status=status, body=body, content_type=kind, **headers)


@pytest.mark.parametrize(
    ("reply", "error", "words", "hint"),
    [
        (_reply(401), UsageError, "asks for a key (HTTP 401)", "--key-file FILE"),
        (_reply(403), UsageError, "asks for a key (HTTP 403)", "--key-file FILE"),
        (_reply(503, b'{"error": "Loading model"}'), NotReadyError, "Loading model", "wait, then"),
        (_reply(503, b"", None, retry_after="7"), NotReadyError, "HTTP 503, no content type, empty", "wait 7 s, then"),
        (
            _reply(429, b"slow down", "text/plain", retry_after="Sun, 29 Nov 2026 08:00:00 GMT"),
            NotReadyError,
            "no more requests now (HTTP 429, text/plain: slow down)",
            "wait until Sun, 29 Nov",
        ),
        (
            _reply(502, b"<h1>Bad Gateway</h1>", "text/html"),
            NotReadyError,
            "a gateway at http://127.0.0.1:8080 reaches no server behind it: HTTP 502, text/html: <h1>Bad Gateway",
            "behind it up",
        ),
        (
            _reply(301, b"moved", "text/html", location="https://me:pw@api.test:8443/v1/models?token=s3cret"),
            CheckFailedError,
            "sends its clients elsewhere: HTTP 301 to https://api.test:8443/v1/models",
            "`v4deploy smoke https://api.test:8443`",
        ),
        (
            _reply(400, b"Client sent an HTTP request to an HTTPS server.", "text/plain"),
            CheckFailedError,
            "wants TLS: HTTP 400, text/plain: Client sent",
            "`v4deploy smoke https://127.0.0.1:8080`",
        ),
        (_reply(302, location="/login?next=x"), CheckFailedError, "HTTP 302 to /login", "a login page"),
        (_reply(307), CheckFailedError, "HTTP 307, application/json, empty", "a login page"),
    ],
)
def test_where_it_makes_no_sense_to_ask_on(reply: Reply, error: type[V4DeployError], words: str, hint: str) -> None:
    refusal = refusal_of(reply, _HERE)
    assert type(refusal) is error
    assert words in refusal.message
    assert hint in str(refusal.hint)
    assert "s3cret" not in f"{refusal.message}{refusal.hint}"
    assert "me:pw" not in f"{refusal.message}{refusal.hint}"


@pytest.mark.parametrize(
    ("reply", "error", "words", "hint"),
    [
        (_reply(404, b'{"detail": "Not Found"}'), UsageError, '{"detail": "Not Found"}', "`--model NAME`"),
        (_reply(200, b"<!doctype html>", "text/html"), CheckFailedError, "HTTP 200, text/html: <!", "web page"),
        (_reply(200, b"{broken"), CheckFailedError, "HTTP 200, application/json: {broken", "`--model NAME`"),
        (_reply(500, b"KeyError"), CheckFailedError, "HTTP 500, application/json: KeyError", "the server's log"),
    ],
)  # fmt: skip
def test_what_stands_in_the_place_of_a_list(reply: Reply, error: type[V4DeployError], words: str, hint: str) -> None:
    assert refusal_of(reply, _HERE) is None
    told = no_list(reply, _HERE)
    assert type(told) is error
    assert "http://127.0.0.1:8080/v1/models" in told.message
    assert words in told.message
    assert hint in str(told.hint)


def test_a_long_page_is_shortened() -> None:
    assert len(came_back(_reply(200, b"<p>" * 10_000, "text/html"))) < 250


@pytest.mark.parametrize(
    "data",
    [5, None, [], {}, {"data": None}, {"data": {}}, {"data": "x"}, {"data": [1]}, {"data": [{}]}, {"data": [{"id": 3}]},
     {"data": [{"id": ""}, {"name": "m"}, {"id": "\x1b[2J"}]}],
)  # fmt: skip
def test_what_is_no_list(data: Any) -> None:
    assert parse_models(json.dumps(data).encode()) is None


@pytest.mark.parametrize("body", [b"", b"\xff", b"<html>", b"[" * 100_000])
def test_what_is_no_json(body: bytes) -> None:
    assert parse_models(body) is None


def test_a_list_is_read_as_far_as_it_makes_sense() -> None:
    entries = [
        7, {"id": None}, {"id": "a", "max_model_len": True}, {"id": "b", "meta": [1]},
        {"id": "c", "meta": {"n_ctx": 4096}}, {"id": "d", "max_model_len": "8192", "context_length": 1024},
    ]  # fmt: skip
    models = parse_models(json.dumps({"data": entries}).encode())
    assert models is not None
    assert [(model.id, model.context_tokens) for model in models] == [
        ("a", None),
        ("b", None),
        ("c", 4096),
        ("d", 1024),
    ]
    assert parse_models(b'{"object": "list", "data": []}') == ()


def _untrusted(code: int, message: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, message
    return error


@pytest.mark.parametrize(
    ("error", "kind", "words", "hint"),
    [
        (_untrusted(18, "self-signed certificate"), CheckFailedError, "not trusted: self-signed", "SSL_CERT_FILE=FILE"),
        (_untrusted(62, "Hostname mismatch"), CheckFailedError, "not trusted: Hostname mismatch", "by a name"),
        (_untrusted(10, "certificate has expired"), CheckFailedError, "has expired", "has to be renewed"),
        (ssl.SSLError(1, "[SSL] wrong version number"), CheckFailedError, "does not speak TLS", "`http://box:8443`"),
        (socket.gaierror(-2, "not known"), NotReadyError, "the name `box` leads nowhere", "written right"),
        (ConnectionRefusedError(111, "Connection refused"), NotReadyError, "Connection refused", "is the server up?"),
        (http.client.BadStatusLine("SSH-2.0"), NotReadyError, "does not answer in HTTP: SSH-2.0", "the port"),
        (OSError(113, "No route to host"), NotReadyError, "No route to host", "the way to it"),
    ],
)  # fmt: skip
def test_why_nobody_could_be_asked(error: Exception, kind: type[V4DeployError], words: str, hint: str) -> None:
    told = unreachable(_TLS, error, cert_file=None)
    assert type(told) is kind
    assert "https://box:8443" in told.message
    assert words in told.message
    assert hint in str(told.hint)


def test_a_certificate_file_that_does_not_help_is_named() -> None:
    told = unreachable(_TLS, _untrusted(18, "self-signed certificate"), cert_file="/etc/own.pem")
    assert "SSL_CERT_FILE is `/etc/own.pem`, which does not help" in told.message
