"""Several connections on one file: what they ask for, what they keep, and what a server can do to them."""

from __future__ import annotations

import random
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.pull.conftest import Desk
from tests.support.faulty_hub import FaultyHub
from tests.support.pull_builders import REPO, gguf_repository
from v4deploy.domain.errors import DownloadError
from v4deploy.pull.access import HubAccess
from v4deploy.pull.connections import Connections
from v4deploy.pull.download import Control
from v4deploy.pull.part import journal_path, part_path, resumable_bytes
from v4deploy.pull.pull import PullResult
from v4deploy.pull.rate import Throttle
from v4deploy.pull.retry import RetryPolicy, TransferError
from v4deploy.pull.store import read_manifest

FIRST = "UD-Q4_K_XL/V4-Tiny-UD-Q4_K_XL-00001-of-00003.gguf"
BLOCK = 64 * 1024


def small_parts(desk: Desk, **changes: object) -> Control:
    """Requests of one or two blocks, so that connections meet on a file of 300 kB."""
    return desk.control(**{"shortest_request_bytes": BLOCK, "longest_request_bytes": 2 * BLOCK, **changes})


def pull(desk: Desk, *, workers: int = 4, access: HubAccess | None = None, **changes: object) -> PullResult:
    return desk.pull(desk.request(max_workers=workers), control=small_parts(desk, **changes), access=access)


def directory(desk: Desk) -> Path:
    return desk.weights / REPO.replace("/", "--") / desk.hub.repositories[REPO].commit


def spans(desk: Desk) -> list[tuple[str, int, int]]:
    found = []
    for seen in desk.hub.faults.seen:
        if seen.at_cdn and seen.range:
            first, _, last = seen.range.removeprefix("bytes=").partition("-")
            found.append((urlsplit(seen.path).path, int(first), int(last) + 1))
    return sorted(found)


def test_parts_of_a_file_come_over_several_connections_and_none_twice(desk: Desk) -> None:
    result = pull(desk)
    desk.assert_right(result)
    assert result.fetched_bytes == result.total_bytes
    asked = spans(desk)
    assert len(asked) > 2 * len(desk.wanted)
    assert sum(end - first for _, first, end in asked) == result.total_bytes


def test_the_hub_is_asked_once_a_file_for_the_way_to_its_bytes(desk: Desk) -> None:
    pull(desk, workers=1)
    resolved = [seen for seen in desk.hub.faults.seen if "/resolve/" in seen.path]
    assert len(resolved) == len(desk.wanted)


def test_an_address_that_expires_in_the_middle_is_replaced_at_once(desk: Desk) -> None:
    desk.hub.faults.revoke_after = 4
    result = pull(desk, workers=2)
    desk.assert_right(result)
    assert result.fetched_bytes == result.total_bytes
    assert desk.hub.faults.revoked
    assert desk.pauses == []


def test_an_address_that_is_over_before_it_is_used_is_replaced_at_once(desk: Desk) -> None:
    desk.hub.faults.expired_times = 1
    desk.assert_right(pull(desk, workers=1))
    assert desk.pauses == []
    assert [seen.path for seen in desk.hub.faults.seen if "/resolve/" in seen.path][:2] == [
        f"/{REPO}/resolve/{desk.hub.repositories[REPO].commit}/{FIRST}"
    ] * 2


@pytest.mark.parametrize("cut", [0, 100_000])
def test_a_server_that_ignores_ranges_gives_each_file_to_one_connection(desk: Desk, cut: int) -> None:
    desk.hub.faults.ignore_range = True
    desk.hub.faults.cut_times, desk.hub.faults.cut_after_bytes = (2, cut) if cut else (0, 0)
    desk.assert_right(pull(desk))


def test_cut_connections_all_around(desk: Desk) -> None:
    desk.hub.faults.cut_times, desk.hub.faults.cut_after_bytes = 9, 70_000
    result = pull(desk)
    desk.assert_right(result)
    assert result.fetched_bytes == result.total_bytes


@pytest.mark.parametrize("seed", range(4))
def test_whatever_goes_wrong_the_bytes_are_right(desk: Desk, seed: int) -> None:
    dice = random.Random(seed)
    faults = desk.hub.faults
    for name in ("cut_times", "busy_times", "gzip_times", "shifted_times", "wrong_length_times", "expired_times"):
        setattr(faults, name, dice.randint(0, 2))
    faults.cut_after_bytes, faults.revoke_after = dice.randint(1, 90_000), dice.randint(0, 9)
    faults.drop_length = dice.random() < 0.5
    desk.assert_right(pull(desk, policy=RetryPolicy(attempts=30, dice=lambda: 0.0)))


def test_a_wrong_length_tells_before_the_first_byte(desk: Desk) -> None:
    desk.hub.faults.wrong_length_times = 1
    desk.assert_right(pull(desk, workers=1))
    assert [reason for _, reason, _ in desk.listener.waits] == [
        f"the server offers {2 * BLOCK - 1} bytes instead of {2 * BLOCK}"
    ]


def test_a_connection_that_drips_is_opened_again(desk: Desk) -> None:
    desk.hub.faults.drip_times = 1
    result = pull(desk, workers=1, slow_seconds=0.1, slow_bytes=1000)
    desk.assert_right(result)
    (waited,) = desk.listener.waits
    assert waited[1].startswith("only ")
    assert "bytes arrived in 0 seconds" in waited[1]


@pytest.mark.parametrize(
    ("place", "again"),
    [
        pytest.param(BLOCK + 17, BLOCK, id="where it is looked at, the block alone"),
        pytest.param(BLOCK + 20_000, None, id="elsewhere, the file"),
    ],
)
def test_what_the_disk_has_lost_is_fetched_again(desk: Desk, place: int, again: int | None) -> None:
    desk.hub.faults.only = FIRST
    desk.hub.faults.cut_times, desk.hub.faults.cut_after_bytes = 1000, 0
    with pytest.raises(DownloadError):
        pull(desk, workers=1)
    desk.hub.faults.cut_times = 0
    desk.hub.faults.only = ""
    control = small_parts(desk, stop=threading.Event())

    class Enough:
        def advanced(self, path: str, done_bytes: int, _size_bytes: int) -> None:
            if path == FIRST and done_bytes >= 4 * BLOCK:
                control.stop.set()

        def checking(self, *_: object) -> None: ...

        def finished(self, *_: object) -> None: ...

        def waiting(self, *_: object) -> None: ...

    usual, desk.listener = desk.listener, Enough()  # type: ignore[assignment]
    with pytest.raises(DownloadError):
        desk.pull(desk.request(max_workers=1), control=control)
    desk.listener = usual
    part = part_path(directory(desk) / FIRST)
    data = bytearray(part.read_bytes())
    kept = len(data)
    assert kept >= 4 * BLOCK
    data[place] ^= 1
    part.write_bytes(data)
    result = pull(desk)
    desk.assert_right(result)
    assert result.fetched_bytes == result.total_bytes - kept + (again or len(desk.wanted[FIRST]))


def test_a_journal_of_zeros_costs_the_file_and_nothing_more(desk: Desk) -> None:
    desk.hub.faults.only = FIRST
    desk.hub.faults.cut_times, desk.hub.faults.cut_after_bytes = 6, 40_000
    with pytest.raises(DownloadError):
        desk.pull(desk.request(max_workers=1))
    journal_path(directory(desk) / FIRST).write_bytes(bytes(100))
    manifest = read_manifest(directory(desk))
    assert manifest is not None
    assert all(resumable_bytes(directory(desk) / file.path, file) == 0 for file in manifest.files if file.path == FIRST)
    desk.hub.faults.cut_times = 0
    desk.assert_right(pull(desk))


def test_the_rate_is_kept_over_all_connections(desk: Desk) -> None:
    throttle = Throttle(3_000_000, time.monotonic)
    begun = time.monotonic()
    result = pull(desk, throttle=throttle)
    desk.assert_right(result)
    assert time.monotonic() - begun >= 0.9 * result.total_bytes / 3_000_000


_JUMPING = """
import random, sys, time
from pathlib import Path
real, dice = time.time, random.Random(7)
time.time = lambda: real() + dice.choice([-1, 1]) * dice.uniform(0, 10 * 365 * 86400)
from tests.support.pull_builders import checkpoint
from v4deploy.pull.access import HubAccess
from v4deploy.pull.pull import pull_checkpoint
from v4deploy.pull.request import PullRequest
pull_checkpoint(
    PullRequest(checkpoint=checkpoint(), weights_root=Path(sys.argv[2]), max_workers=2),
    access=HubAccess(endpoint=sys.argv[1]), fetched_at="2026-11-22",
)
"""


def test_a_clock_that_jumps_by_years_changes_nothing(desk: Desk) -> None:
    desk.hub.faults.cut_times, desk.hub.faults.cut_after_bytes = 1, 100_000
    root = Path(__file__).parents[2]
    subprocess.run(
        [sys.executable, "-c", _JUMPING, desk.hub.endpoint, str(desk.weights)], check=True, cwd=root, timeout=60
    )
    for path, data in desk.wanted.items():
        assert (directory(desk) / path).read_bytes() == data


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[FaultyHub]:
    gguf_repository(tmp_path / "mirrored")
    with FaultyHub(tmp_path / "mirrored") as hub:
        yield hub


def with_mirror(desk: Desk, mirror: FaultyHub, *, token: str | None = None) -> HubAccess:
    return HubAccess(endpoint=desk.hub.endpoint, token=token, mirrors=(mirror.endpoint,))


def break_missing(hub: FaultyHub) -> None:
    hub.faults.missing = True


def break_wrong(hub: FaultyHub) -> None:
    hub.faults.wrong_times = 1_000_000


def break_etag(hub: FaultyHub) -> None:
    hub.faults.mirror_hash = "f" * 64


def break_busy(hub: FaultyHub) -> None:
    hub.faults.busy_times, hub.faults.retry_after = 1_000_000, "3600"


def break_cut(hub: FaultyHub) -> None:
    hub.faults.cut_times, hub.faults.cut_after_bytes = 1_000_000, 10


@pytest.mark.parametrize("breaking", [break_missing, break_wrong, break_etag, break_busy, break_cut])
def test_what_the_hub_does_not_give_comes_from_a_mirror(
    desk: Desk, mirror: FaultyHub, breaking: Callable[[FaultyHub], None]
) -> None:
    desk.hub.faults.only = FIRST
    breaking(desk.hub)
    result = pull(desk, access=with_mirror(desk, mirror))
    desk.assert_right(result)
    at_mirror = {seen.path for seen in mirror.faults.seen if "/resolve/" in seen.path}
    # The wrong ETag is one of the whole hub; everything else is wrong with one file, which alone moves.
    assert len(at_mirror) == (3 if breaking is break_etag else 1)
    assert any(FIRST in path for path in at_mirror)


def test_a_hub_that_is_gone_is_replaced_for_the_list_too(desk: Desk, mirror: FaultyHub) -> None:
    result = pull(desk, workers=1, access=HubAccess(endpoint="http://127.0.0.1:9", mirrors=(mirror.endpoint,)))
    desk.assert_right(result)
    assert any("; asking 127.0.0.1" in reason for _, reason, _ in desk.listener.waits)
    # Three tries for the list and three for the first file; no other file waits for it again.
    assert [pause for pause in desk.pauses if pause] == [1.0, 2.0, 1.0, 2.0]


def test_a_mirror_gets_no_token(desk: Desk, mirror: FaultyHub) -> None:
    desk.hub.faults.missing = True
    desk.assert_right(pull(desk, access=with_mirror(desk, mirror, token="hf_secret")))
    assert {seen.authorization for seen in mirror.faults.seen} == {None}


def test_when_no_one_has_it_all_are_named(desk: Desk, mirror: FaultyHub) -> None:
    break_missing(desk.hub)
    break_busy(mirror)
    with pytest.raises(DownloadError, match="in 6 tries: HTTP 404 from the storage server") as caught:
        pull(desk, access=with_mirror(desk, mirror))
    assert any("too many requests (429)" in line for line in caught.value.details)


@contextmanager
def speaking(*answers: tuple[bytes, ...]) -> Iterator[str]:
    """A server that sends these pieces, one list of them a connection, slowly, and closes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for pieces in answers:
                connected, _ = listener.accept()
                with connected:
                    connected.recv(65536)
                    for piece in pieces:
                        try:
                            connected.sendall(piece)
                        except OSError:
                            break
                        time.sleep(0.02)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/x"
        thread.join(timeout=10)
        assert not thread.is_alive()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def connections(**changes: object) -> Connections:
    return Connections(**{"proxies": {}, "ssl_context": None, "stall_seconds": 5.0, **changes})  # type: ignore[arg-type]


def test_an_answer_whose_head_drips_is_cut_off() -> None:
    opened = connections(head_seconds=0.2)
    with speaking(tuple(bytes([byte]) for byte in b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100)) as address:
        with pytest.raises(TransferError, match="no whole answer came"), opened.request(urlsplit(address), {}):
            pass
        opened.close()


def dripping(*whole: bytes) -> tuple[bytes, ...]:
    """Whole pieces, and then a byte now and then."""
    return (*whole, *(b"x",) * 100)


def test_a_tls_handshake_that_drips_is_cut_off() -> None:
    opened = connections(head_seconds=0.2, ssl_context=ssl.create_default_context())
    with speaking(dripping(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc")) as address:
        with (
            pytest.raises(TransferError, match=r"no connection .*not within 0 seconds") as caught,
            opened.request(urlsplit(address.replace("http:", "https:")), {}),
        ):
            pass
        opened.close()
    assert caught.value.is_unreachable


def test_a_socks_proxy_that_drips_is_cut_off() -> None:
    with speaking(dripping(b"\x05\x00", b"\x05\x00\x00\x03\xff")) as proxy:
        address = proxy.removeprefix("http://").removesuffix("/x")
        opened = connections(head_seconds=0.2, proxies={"all": f"socks5h://{address}"})
        with (
            pytest.raises(TransferError, match=r"no connection .*not within 0 seconds"),
            opened.request(urlsplit("http://hub.test/x"), {}),
        ):
            pass
        opened.close()


def test_a_connection_that_the_server_has_closed_meanwhile_is_no_failure() -> None:
    opened = connections()
    with speaking((OK,), (OK,)) as address:
        for _ in range(2):
            with opened.request(urlsplit(address), {}) as response:
                assert response.read() == b"ok"
            time.sleep(0.05)
        opened.close()


def test_a_connection_that_never_comes_about_can_be_cut() -> None:
    opened = connections(stall_seconds=60.0)
    faults: list[TransferError] = []
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.socket() as first:
        # Nobody accepts, and the queue is full: from here on the kernel lets requests to connect wait.
        first.connect(full.getsockname())

        def ask() -> None:
            try:
                with opened.request(urlsplit(f"http://127.0.0.1:{full.getsockname()[1]}/"), {}):
                    pass
            except TransferError as fault:
                faults.append(fault)

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        deadline = time.monotonic() + 5
        while not opened._busy and time.monotonic() < deadline:
            time.sleep(0.005)
        opened.abort()
        asking.join(timeout=5)
        assert not asking.is_alive()
    assert len(faults) == 1
