"""Pulling through SOCKS proxies, as `ssh -D` opens them."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import closing

import pytest
from huggingface_hub import close_session

from tests.pull.conftest import Desk
from tests.support.socks_proxy import SocksProxy, serving_socks
from v4deploy.domain.errors import DownloadError
from v4deploy.domain.model import Hub
from v4deploy.pull.access import HubAccess
from v4deploy.pull.hubs import list_repository
from v4deploy.pull.retry import RetryPolicy, TransferError
from v4deploy.pull.transport import Transport


@pytest.fixture(autouse=True)
def _new_client() -> Iterator[None]:
    """huggingface_hub keeps one client for the whole process, with the proxies of its first environment."""
    close_session()
    yield
    close_session()


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
def test_a_pull_goes_through_it_and_leaves_names_to_it(
    desk: Desk, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int(desk.hub.endpoint.rpartition(":")[2])
    with serving_socks(SocksProxy(names={"hub.test": "127.0.0.1"}, credentials="user:p@ss")) as proxy:
        monkeypatch.setenv("ALL_PROXY", f"{scheme}://user:p%40ss@{proxy.address}")
        result = desk.pull(access=HubAccess(endpoint=f"http://hub.test:{port}"))
    desk.assert_right(result)
    # The listing, and each connection that fetched.
    assert proxy.asked.count(("hub.test", port)) >= 2


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        ({"credentials": "user:pass"}, "does not let us in"),
        ({"reply": 4}, "host unreachable"),
        ({"reply": 5}, "connection refused"),
        ({"reply": 99}, "does not speak SOCKS 5"),
        ({"greeting": b"HTTP/1.1 400 Bad Request\r\n\r\n"}, "does not speak SOCKS 5"),
        ({"greeting": b""}, "closed the connection"),
    ],
)
def test_what_the_proxy_refuses_is_told(behaviour: dict[str, object], said: str) -> None:
    with serving_socks(SocksProxy(names={}, **behaviour)) as proxy:  # type: ignore[arg-type]
        transport = Transport(HubAccess(endpoint="https://hub.test"), proxies={"https": f"socks5h://{proxy.address}"})
        with (
            pytest.raises(TransferError, match=f"no connection to hub.test through 127.0.0.1.*{said}") as caught,
            transport.get("https://hub.test/x", first_byte=0, last_byte=1),
        ):
            pass
    assert caught.value.is_unreachable


def test_its_answer_may_come_in_pieces(desk: Desk) -> None:
    port = int(desk.hub.endpoint.rpartition(":")[2])
    url = f"http://hub.test:{port}/no/such/file"
    with serving_socks(SocksProxy(names={"hub.test": "127.0.0.1"}, piece_bytes=1)) as proxy:
        transport = Transport(HubAccess(endpoint=url), proxies={"all": f"socks5h://{proxy.address}"})
        with closing(transport), transport.get(url, first_byte=0, last_byte=1) as answer:
            assert answer.status == 404


def test_a_wrong_password_is_told() -> None:
    with serving_socks(SocksProxy(names={}, credentials="user:right")) as proxy:
        transport = Transport(
            HubAccess(endpoint="http://hub.test"), proxies={"http": f"socks5h://user:wrong@{proxy.address}"}
        )
        with (
            pytest.raises(TransferError, match="does not let us in") as caught,
            transport.get("http://hub.test/x", first_byte=0, last_byte=1),
        ):
            pass
    assert "wrong" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_a_password_that_socks_has_no_room_for_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    password = "x" * 256
    with serving_socks(SocksProxy(names={}, credentials="user:pass")) as proxy:
        address = f"socks5h://user:{password}@{proxy.address}"
        monkeypatch.setenv("ALL_PROXY", address)
        with pytest.raises(DownloadError, match="more than 255 bytes") as listed:
            list_repository(
                "a/b",
                None,
                HubAccess(endpoint="https://hub.test"),
                policy=RetryPolicy(),
                pause=lambda *_: None,
            )
        transport = Transport(HubAccess(endpoint="https://hub.test"), proxies={"https": address})
        with (
            pytest.raises(DownloadError, match="more than 255 bytes") as fetched,
            transport.get("https://hub.test/x", first_byte=0, last_byte=1),
        ):
            pass
        gc.collect()
    assert "xxx" not in f"{listed.value} {fetched.value}"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("hub", list(Hub))
def test_a_listing_through_what_is_no_socks_proxy_ends_in_words(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving_socks(SocksProxy(names={}, greeting=b"HTTP/1.1 400 Bad Request\r\n\r\n")) as proxy:
        monkeypatch.setenv("ALL_PROXY", f"socks5h://{proxy.address}")
        access = HubAccess(hub=hub, endpoint="https://hub.test")
        with pytest.raises(DownloadError, match=r"hub.test cannot be reached: the proxy does not speak SOCKS 5"):
            list_repository("a/b", None, access, policy=RetryPolicy(), pause=lambda *_: None)
        # The API client leaves the socket of such a conversation to the garbage collector (httpcore2 2.16.2).
        gc.collect()
