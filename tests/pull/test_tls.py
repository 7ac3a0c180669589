"""TLS through certificates of one's own, as behind a proxy that opens connections."""

from __future__ import annotations

import http.server
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from v4deploy.domain.errors import DownloadError
from v4deploy.pull.access import HubAccess
from v4deploy.pull.transport import Transport


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl to make a certificate with")
    place = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            openssl,
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=127.0.0.1",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            str(place / "key.pem"),
            "-out",
            str(place / "cert.pem"),
        ],
        check=True,
        capture_output=True,
    )
    return place / "cert.pem"


class _Range(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(206)
        self.send_header("Content-Range", "bytes 0-1/2")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def endpoint(certificate: Path) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Range)
    server.daemon_threads = True
    # The handshake in the connection's own thread: one that fails must not stop the next.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"https://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(endpoint: str) -> bytes:
    transport = Transport(HubAccess(endpoint=endpoint), proxies={})
    with closing(transport), transport.get(f"{endpoint}/x", first_byte=0, last_byte=1) as answer:
        return answer.read(10)


def test_a_certificate_of_ones_own_is_trusted_when_it_is_named(
    endpoint: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert fetch(endpoint) == b"ok"


def test_one_that_nobody_knows_names_the_variable(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with pytest.raises(DownloadError, match="certificate is not trusted") as caught:
        fetch(endpoint)
    assert "SSL_CERT_FILE" in (caught.value.hint or "")
