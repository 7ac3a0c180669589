"""Cards and RDMA ports from sysfs, and variables without their secrets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from v4deploy.domain.surroundings import RdmaPort
from v4deploy.probes.network import (
    NetworkCapture,
    network_findings,
    parse_network_devices,
    parse_network_settings,
    parse_rdma_ports,
    without_login,
)
from v4deploy.system.base import Failure, FileRead

CARD = "/sys/class/net/eth0"
PORT = "/sys/class/infiniband/mlx5_0/ports/1"


def capture(texts: dict[str, str | None], **entries: tuple[str, ...]) -> NetworkCapture:
    files = {
        path: FileRead(path=path, text=text, failure=None if text is not None else Failure.NO_PERMISSION)
        for path, text in texts.items()
    }
    listed = {
        "/sys/class/net": entries.get("net", ()),
        "/sys/class/infiniband": entries.get("rdma", ()),
        "/sys/class/infiniband/mlx5_0/ports": entries.get("ports", ("1",)),
        "/dev/infiniband": entries.get("verbs", ()),
    }
    return NetworkCapture(files=files, entries=listed)


@pytest.mark.parametrize(
    ("speed", "state", "expected"),
    [
        ("25000\n", "up\n", (25 * 10**9, True)),
        ("-1\n", "down\n", (None, False)),
        ("0\n", "unknown\n", (None, None)),
        (None, None, (None, None)),
        ("", "", (None, None)),
        ("fast", "asleep", (None, None)),
    ],
)
def test_speed_and_state_of_a_card(
    speed: str | None, state: str | None, expected: tuple[int | None, bool | None]
) -> None:
    texts = {f"{CARD}/device/uevent": "DRIVER=ice\nPCI_SLOT", f"{CARD}/speed": speed, f"{CARD}/operstate": state}
    (card,) = parse_network_devices(capture(texts, net=("eth0", "lo", "veth1")))
    assert (card.bits_per_second, card.is_up) == expected
    assert (card.name, card.driver, card.pci_address, card.numa_node) == ("eth0", "ice", None, None)


@pytest.mark.parametrize(
    ("rate", "state", "expected"),
    [
        ("400 Gb/sec (4X NDR)\n", "4: ACTIVE\n", (400 * 10**9, "ACTIVE")),
        ("2.5 Gb/sec (1X SDR)\n", "1: DOWN\n", (2_500_000_000, "DOWN")),
        ("400", "4:", (None, None)),
        ("", "", (None, None)),
        (None, None, (None, None)),
        ("\x00", "ACTIVE", (None, None)),
    ],
)
def test_rate_and_state_of_a_port(rate: str | None, state: str | None, expected: tuple[int | None, str | None]) -> None:
    (port,) = parse_rdma_ports(capture({f"{PORT}/rate": rate, f"{PORT}/state": state}, rdma=("mlx5_0",)))
    assert (port.bits_per_second, port.state) == expected


def test_an_entry_that_is_no_port_is_left_out() -> None:
    assert parse_rdma_ports(capture({}, rdma=("mlx5_0",), ports=("power", ""))) == ()


def ports(*states: str | None) -> tuple[RdmaPort, ...]:
    return tuple(
        RdmaPort(device="mlx5_0", port=number, link_layer=None, state=state, bits_per_second=None)
        for number, state in enumerate(states, start=1)
    )


@pytest.mark.parametrize(
    ("found", "verbs", "expected"),
    [
        ((), (), []),
        (ports("ACTIVE"), ("uverbs0",), []),
        (ports("ACTIVE", "DOWN"), ("uverbs0",), []),
        (ports("DOWN", None), ("uverbs0",), ["network.rdma-down"]),
        (ports("ACTIVE"), ("rdma_cm",), ["network.rdma-no-device-nodes"]),
    ],
)
def test_ports_that_cannot_be_used(found: tuple[RdmaPort, ...], verbs: tuple[str, ...], expected: list[str]) -> None:
    told = network_findings(found, capture({}, verbs=verbs), container=None)
    assert [finding.id for finding in told] == expected


def test_the_fix_depends_on_where_the_nodes_are_missing() -> None:
    inside, outside = (
        next(network_findings(ports("ACTIVE"), capture({}), container=container)).fix for container in ("docker", None)
    )
    assert "--device=/dev/infiniband" in (inside or "")
    assert outside == "`modprobe ib_uverbs`"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://proxy.example:3128", "http://proxy.example:3128"),
        ("http://user:secret@proxy.example:3128/", "http://[redacted]@proxy.example:3128/"),
        ("http://user:se@c/r?et@proxy.example:3128", "http://[redacted]@proxy.example:3128"),
        ("http://user:a://b@proxy.example", "http://[redacted]@proxy.example"),
        ("user:secret@proxy.example:3128", "[redacted]@proxy.example:3128"),
        ("https://mirror.example/hf?token=secret", "https://mirror.example/hf"),
        ("localhost,.example.org,10.0.0.0/8", "localhost,.example.org,10.0.0.0/8"),
    ],
)
def test_logins_are_taken_out_of_addresses(url: str, shown: str) -> None:
    assert without_login(url) == shown


@given(login=st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), min_size=1))
def test_no_login_survives(login: str) -> None:
    secret = f"S{login}S"
    assert secret not in without_login(f"http://u:{secret}@proxy.example:1")


def test_settings_are_those_that_steer_downloads_and_no_token() -> None:
    environ = {
        "https_proxy": "http://u:p@proxy:1",
        "HF_ENDPOINT": "https://mirror.example",
        "HF_HUB_OFFLINE": "1",
        "HF_XET_HIGH_PERFORMANCE": "1",
        "HF_TOKEN": "hf_secret",
        "HTTP_PROXY": "",
        "EDITOR": "vi",
    }
    assert [(one.name, one.value) for one in parse_network_settings(environ)] == [
        ("https_proxy", "http://[redacted]@proxy:1"),
        ("HF_ENDPOINT", "https://mirror.example"),
        ("HF_HUB_OFFLINE", "1"),
        ("HF_XET_HIGH_PERFORMANCE", "1"),
    ]
