"""Answers to the question for a file list that no hub should give, and what the environment says of the way there."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from huggingface_hub import close_session

from tests.support.pull_builders import COMMIT
from v4deploy.domain.errors import DownloadError, UsageError
from v4deploy.domain.model import Hub
from v4deploy.pull.access import HubAccess, access_from
from v4deploy.pull.hubs import list_repository
from v4deploy.pull.retry import RetryPolicy, TransferError
from v4deploy.pull.transport import Transport

SHA256 = "a" * 64


@contextmanager
def answering(status: int, headers: Mapping[str, str], body: bytes = b"") -> Iterator[str]:
    """A server that says the same to everybody."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def error_of(access: HubAccess, *, revision: str | None = None) -> str:
    with pytest.raises(DownloadError) as caught:
        list_repository("a/b", revision, access, policy=RetryPolicy(), pause=lambda *_: None)
    assert caught.value.hint
    return caught.value.message


@pytest.mark.parametrize("hub", list(Hub))
@pytest.mark.parametrize(
    ("headers", "body"),
    [({"Content-Encoding": "gzip"}, b"not packed"), ({}, b"[" * 200_000)],
    ids=["not-packed", "too-deep"],
)
def test_a_body_that_cannot_be_read_is_no_hubs(hub: Hub, headers: dict[str, str], body: bytes) -> None:
    with answering(200, headers, body) as endpoint:
        assert "did not answer like a model hub" in error_of(HubAccess(hub=hub, endpoint=endpoint))


def test_a_listing_that_redirects_in_circles_is_no_hubs() -> None:
    with answering(302, {"Location": "/again"}) as endpoint:
        assert "did not answer like a model hub" in error_of(HubAccess(endpoint=endpoint))


@pytest.mark.parametrize(
    "wrong",
    [
        {"rfilename": None},
        {"size": "5"},
        {"size": True},
        {"size": -5},
        {"blobId": "main"},
        {"blobId": 5},
        {"lfs": {"size": 5.5, "sha256": SHA256, "pointerSize": 3}},
        {"lfs": {"size": 5, "sha256": "zz", "pointerSize": 3}},
        {"lfs": {"size": 5, "sha256": 7, "pointerSize": 3}},
        {"lfs": 5},
    ],
    ids=str,
)
def test_a_listing_of_other_types_than_a_hubs_ends_in_words(wrong: dict[str, object]) -> None:
    file = {"rfilename": "x.gguf", "size": 5, "blobId": COMMIT} | wrong
    body = json.dumps({"id": "a/b", "sha": COMMIT, "siblings": [file]}).encode()
    with answering(200, {}, body) as endpoint:
        text = error_of(HubAccess(endpoint=endpoint))
    assert "did not answer like a model hub" in text or "could not be checked" in text


def test_a_commit_that_is_none_is_no_hubs() -> None:
    body = json.dumps({"id": "a/b", "sha": 5, "siblings": []}).encode()
    with answering(200, {}, body) as endpoint:
        assert "did not answer like a model hub" in error_of(HubAccess(endpoint=endpoint))


def test_an_answer_for_another_commit_than_the_pinned_one_is_refused() -> None:
    body = json.dumps({"id": "a/b", "sha": COMMIT, "siblings": []}).encode()
    with answering(200, {}, body) as endpoint:
        text = error_of(HubAccess(endpoint=endpoint), revision="f" * 40)
    assert "at commit ffffffffffff and answers for 0123456789ab" in text


@pytest.mark.parametrize(("status", "tries"), [(500, 6), (522, 6), (418, 1)])
def test_a_status_is_named_and_only_the_servers_own_fault_is_tried_again(status: int, tries: int) -> None:
    reasons: list[str] = []
    with answering(status, {}) as endpoint, pytest.raises(DownloadError, match=f"answered {status}"):
        list_repository(
            "a/b", None, HubAccess(endpoint=endpoint), policy=RetryPolicy(), pause=lambda why, _: reasons.append(why)
        )
    assert reasons == [f"HTTP {status}"] * (tries - 1)


@pytest.mark.parametrize("location", ["http://h:99999/x", "http://h:port/x", "http://[::1/x"])
def test_a_redirect_of_a_file_to_no_address_is_tried_again(location: str) -> None:
    with (
        answering(302, {"Location": location}) as endpoint,
        pytest.raises(TransferError, match="led nowhere"),
        Transport(HubAccess(endpoint=endpoint)).get(f"{endpoint}/x", first_byte=0, last_byte=1),
    ):
        pass


@pytest.mark.parametrize("hub", list(Hub))
@pytest.mark.parametrize("proxy", ["http://proxy:port", "http://user:secret@[::1"])
def test_a_proxy_that_is_no_address_is_named(hub: Hub, proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The library keeps one client for the whole process, with the proxies of its first environment.
    close_session()
    monkeypatch.setenv("ALL_PROXY", proxy)
    text = error_of(HubAccess(hub=hub, endpoint="https://hub.test"))
    close_session()
    assert "proxy" in text
    transport = Transport(HubAccess(endpoint="https://hub.test"), proxies={"all": proxy})
    with (
        pytest.raises(DownloadError, match="the proxy for https") as caught,
        transport.get("https://hub.test/x", first_byte=0, last_byte=1),
    ):
        pass
    assert "secret" not in f"{text} {caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize("endpoint", ["http://hub.test:99999", "http://hub.test:port", "http://[::1"])
def test_an_endpoint_that_is_no_address_is_a_usage_error(endpoint: str) -> None:
    with pytest.raises(UsageError, match="HF_ENDPOINT"):
        access_from({"HF_ENDPOINT": endpoint})


@pytest.mark.parametrize("token", ["hf_first\nhf_second", "hf_tök", "hf_a b"])
def test_a_token_that_cannot_be_sent_is_refused_and_not_shown(
    token: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = tmp_path_factory.mktemp("home")
    (home / "token").write_text(token, encoding="utf-8")
    for environ, named in (({"HF_TOKEN": token}, "HF_TOKEN"), ({"HF_HOME": str(home)}, str(home / "token"))):
        with pytest.raises(UsageError) as caught:
            access_from(environ)
        assert named in caught.value.message
        assert "hf_" not in f"{caught.value.message} {caught.value.hint}"
