from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.pull.conftest import Desk
from tests.support.pull_builders import REPO, checkpoint
from v4deploy.domain.errors import DownloadError, UsageError
from v4deploy.domain.model import Hub
from v4deploy.pull.access import DEFAULT_ENDPOINT, HubAccess, access_from
from v4deploy.pull.hubs import list_repository
from v4deploy.pull.manifest import MANIFEST_NAME
from v4deploy.pull.retry import RetryPolicy
from v4deploy.pull.transport import Transport

TOKEN = "hf_verysecretverysecret"


def listing_error(desk: Desk, *, token: str | None = None, repo: str = REPO, revision: str | None = None) -> str:
    with pytest.raises(DownloadError) as caught:
        list_repository(
            repo,
            revision,
            HubAccess(endpoint=desk.hub.endpoint, token=token),
            policy=RetryPolicy(dice=lambda: 1.0),
            pause=lambda _reason, wait_seconds: desk.pauses.append(wait_seconds),
        )
    assert caught.value.hint
    return f"{caught.value.message} | {caught.value.hint}"


@pytest.mark.parametrize(
    ("status", "code", "token", "words"),
    [
        (401, "", None, "wants a token, or the repository does not exist"),
        (401, "", TOKEN, "does not accept the token"),
        (403, "GatedRepo", TOKEN, "gated on 127.0.0.1"),
        (401, "GatedRepo", None, "no token says whether you have access"),
        (403, "", None, "403"),
        (404, "RepoNotFound", None, "no repository tiny/V4-Tiny-GGUF"),
        (404, "RevisionNotFound", None, "no revision `main`"),
        (418, "", None, "418"),
    ],
)
def test_a_refusal_is_explained_at_once(desk: Desk, status: int, code: str, token: str | None, words: str) -> None:
    desk.hub.faults.api_status, desk.hub.faults.api_error_code = status, code
    text = listing_error(desk, token=token)
    assert words in text
    assert TOKEN not in text
    assert desk.pauses == []


def test_too_many_requests_are_waited_for(desk: Desk) -> None:
    faults = desk.hub.faults
    faults.api_status, faults.api_times, faults.retry_after = 429, 2, "5"
    desk.assert_right(desk.pull())
    assert desk.pauses == [5.0, 5.0]


def test_too_many_requests_for_ever_are_named(desk: Desk) -> None:
    desk.hub.faults.api_status = 429
    assert "too many requests" in listing_error(desk)
    assert len(desk.pauses) == 5


def test_an_unreachable_hub_names_host_proxy_and_mirror(desk: Desk) -> None:
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1:9 cannot be reached") as caught:
        desk.pull(access=HubAccess(endpoint="http://127.0.0.1:9"))
    assert caught.value.hint is not None
    assert "HTTPS_PROXY" in caught.value.hint
    assert desk.pauses == [1.0, 2.0]
    assert [path for path, _, _ in desk.listener.waits] == ["file list", "file list"]


def test_a_login_page_is_not_taken_for_a_hub(desk: Desk) -> None:
    desk.hub.faults.api_status, desk.hub.faults.api_body = 200, b"<html>please log in</html>"
    assert "did not answer like a model hub" in listing_error(desk)


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"id": "a/b"}', b'{"id": "a/b", "sha": "main", "siblings": []}'])
def test_json_that_is_no_listing_is_refused(desk: Desk, body: bytes) -> None:
    desk.hub.faults.api_status, desk.hub.faults.api_body = 200, body
    assert "did not answer like a model hub" in listing_error(desk)


def test_a_listing_that_leaves_its_directory_is_refused(desk: Desk) -> None:
    commit = desk.hub.repositories[REPO].commit
    body = f'{{"id": "a/b", "sha": "{commit}", "siblings": [{{"rfilename": "../x.gguf", "size": 1, "blobId": "1"}}]}}'
    desk.hub.faults.api_status, desk.hub.faults.api_body = 200, body.encode()
    assert "`../x.gguf`" in listing_error(desk)


def test_a_listing_without_hashes_is_refused(desk: Desk) -> None:
    commit = desk.hub.repositories[REPO].commit
    body = f'{{"id": "a/b", "sha": "{commit}", "siblings": [{{"rfilename": "x.gguf", "size": 1}}]}}'
    desk.hub.faults.api_status, desk.hub.faults.api_body = 200, body.encode()
    assert "no size or hash for `x.gguf`" in listing_error(desk)


@pytest.mark.parametrize(("repo", "words"), [("no such name", "not the name"), ("tiny/other", "no repository")])
def test_a_wrong_name_is_explained(desk: Desk, repo: str, words: str) -> None:
    assert words in listing_error(desk, repo=repo)


def test_an_unknown_revision_is_explained(desk: Desk) -> None:
    assert "no revision `v9`" in listing_error(desk, revision="v9")


def test_the_token_goes_to_the_hub_and_never_to_the_storage_server(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    desk.hub.faults.token = TOKEN
    access = HubAccess(endpoint=desk.hub.endpoint, token=TOKEN)
    result = desk.pull(access=access)
    desk.assert_right(result)
    seen = desk.hub.faults.seen
    assert {one.authorization for one in seen if not one.at_cdn} == {f"Bearer {TOKEN}"}
    assert {one.authorization for one in seen if one.at_cdn} == {None}
    assert TOKEN not in caplog.text
    assert TOKEN not in repr(access)
    assert not [
        path for path in Path(result.directory).rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()
    ]


def test_user_and_password_of_the_address_go_to_the_hub_alone_and_instead_of_a_token(desk: Desk) -> None:
    address = desk.hub.endpoint.replace("//", "//user:p%40ss@")
    result = desk.pull(access=access_from({"HF_ENDPOINT": address, "HF_TOKEN": TOKEN}))
    desk.assert_right(result)
    seen = desk.hub.faults.seen
    assert {one.authorization for one in seen if not one.at_cdn} == {"Basic dXNlcjpwQHNz"}
    assert {one.authorization for one in seen if one.at_cdn} == {None}
    manifest = (Path(result.directory) / MANIFEST_NAME).read_text()
    assert "p%40ss" not in manifest
    assert "user" not in manifest


def test_nothing_is_asked_but_the_listing_and_the_files(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """huggingface_hub fetches a registry of its own from its default endpoint unless it is told not to."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", False)
    monkeypatch.setattr(constants, "ENDPOINT", desk.hub.endpoint)
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(tmp_path / "registry.json"))
    monkeypatch.setattr("huggingface_hub.utils._detect_agent._registry", None)
    desk.pull()
    paths = {
        re.sub(r"[0-9a-f]{40}", "COMMIT", one.path.split("?")[0]) for one in desk.hub.faults.seen if not one.at_cdn
    }
    expected = {f"/{REPO}/resolve/COMMIT/{path}" for path in desk.wanted}
    assert paths == expected | {f"/api/models/{REPO}"}


def test_access_reads_the_usual_variables(tmp_path: Path) -> None:
    assert access_from({"HOME": str(tmp_path)}) == HubAccess(endpoint=DEFAULT_ENDPOINT, token=None, offline=False)
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    found = access_from(
        {"HF_HOME": str(tmp_path), "HF_ENDPOINT": "https://user:pw@mirror:8443/", "HF_HUB_OFFLINE": "1"}
    )
    assert (found.token, found.offline, found.host) == (None, True, "mirror:8443")
    assert access_from({"HF_HOME": str(tmp_path), "HF_ENDPOINT": "https://mirror:8443/"}).token == TOKEN
    assert access_from({"HF_TOKEN": "hf_other", "HF_HOME": str(tmp_path)}).token == "hf_other"


@pytest.mark.parametrize("endpoint", ["mirror.example", "ftp://mirror.example", "https://"])
def test_an_endpoint_that_is_no_address_is_a_usage_error(endpoint: str) -> None:
    with pytest.raises(UsageError, match="HF_ENDPOINT"):
        access_from({"HF_ENDPOINT": endpoint})


class _Redirector(BaseHTTPRequestHandler):
    target = ""

    def do_GET(self) -> None:
        self.send_response(302)
        self.send_header("Location", type(self).target)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_redirects_in_circles_end() -> None:
    with serving(_Redirector) as endpoint:
        _Redirector.target = f"{endpoint}/again"
        with (
            pytest.raises(DownloadError, match="circles"),
            Transport(HubAccess(endpoint=endpoint)).get(f"{endpoint}/x", first_byte=0, last_byte=1),
        ):
            pass


def test_a_proxy_is_used_and_gets_its_credentials() -> None:
    asked: list[tuple[str, str | None]] = []

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["Proxy-Authorization"]))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with serving(Proxy) as proxy:
        transport = Transport(
            HubAccess(endpoint="http://hub.test"), proxies={"http": proxy.replace("//", "//user:p%40ss@")}
        )
        with transport.get("http://hub.test/a/b?c=d", first_byte=0, last_byte=1) as answer:
            assert answer.read(10) == b"ok"
    assert asked == [("http://hub.test/a/b?c=d", "Basic dXNlcjpwQHNz")]


def test_a_proxy_of_an_unknown_kind_is_named() -> None:
    transport = Transport(HubAccess(endpoint="https://hub.test"), proxies={"https": "gopher://127.0.0.1:1"})
    with (
        pytest.raises(DownloadError, match="gopher"),
        transport.get("https://hub.test/x", first_byte=0, last_byte=1),
    ):
        pass


def test_a_pinned_revision_is_asked_for(desk: Desk) -> None:
    commit = desk.hub.repositories[REPO].commit
    assert desk.pull(desk.request(checkpoint(revision=commit))).revision == commit
    assert f"/api/models/{REPO}/revision/{commit}" in {one.path.split("?")[0] for one in desk.hub.faults.seen}


@pytest.mark.parametrize("hub", list(Hub))
def test_a_proxy_that_the_listing_cannot_use_is_named(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "gopher://127.0.0.1:1")
    access = HubAccess(hub=hub, endpoint="https://hub.test")
    with pytest.raises(DownloadError, match="proxy") as caught:
        list_repository("a/b", None, access, policy=RetryPolicy(), pause=lambda *_: None)
    assert "socks5h://" in (caught.value.hint or "")
