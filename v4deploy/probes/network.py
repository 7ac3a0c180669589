"""Network cards and RDMA ports, and the variables that steer downloads. Asks the kernel, never the network."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.surroundings import EnvironmentSetting, NetworkDevice, RdmaPort
from v4deploy.system.base import FileRead, System

_NET = "/sys/class/net"
_RDMA = "/sys/class/infiniband"
_VERBS = "/dev/infiniband"
_CARD_FILES = ("speed", "operstate", "device/numa_node")
_RDMA_FILES = ("device/uevent", "device/numa_node")
_PORT_FILES = ("state", "rate", "link_layer")
_MEGABIT, _GIGABIT = 10**6, 10**9
_RATE = re.compile(r"(\d+(?:\.\d+)?) Gb/sec\b")
_STATE = re.compile(r"\d+: (\w+)")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
# Variables of huggingface_hub and of what it is built on (its environment variables page, read 2026-11-22).
_HUB_VARIABLES = (
    "HF_ENDPOINT",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_HUB_DISABLE_XET",
    "HF_HUB_DOWNLOAD_TIMEOUT",
    "HF_HUB_ENABLE_HF_TRANSFER",
    "HF_HUB_ETAG_TIMEOUT",
    "HF_HUB_OFFLINE",
    "MODELSCOPE_CACHE",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
    "TRANSFORMERS_OFFLINE",
)
_XET_PREFIX = "HF_XET_"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkCapture:
    """Files by path, directory entries by path, and the environment."""

    files: Mapping[str, FileRead] = field(default_factory=dict)
    entries: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)

    def text(self, path: str) -> str | None:
        """The text of a file without the line end; None where it was not read."""
        read = self.files.get(path)
        return read.text.strip() if read and read.text is not None else None


def collect_network(system: System) -> NetworkCapture:
    """Read what belongs to real cards; bridges and the ends of containers' cables have no device behind them."""
    entries = {path: system.list_dir(path) or () for path in (_NET, _RDMA, _VERBS)}
    behind = [system.read_text(f"{_NET}/{name}/device/uevent") for name in entries[_NET]]
    files = {read.path: read for read in behind if read.text is not None}
    paths = [f"{path.removesuffix('device/uevent')}{name}" for path in files for name in _CARD_FILES]
    for device in entries[_RDMA]:
        ports = f"{_RDMA}/{device}/ports"
        entries[ports] = system.list_dir(ports) or ()
        paths += [f"{_RDMA}/{device}/{name}" for name in _RDMA_FILES]
        paths += [f"{ports}/{port}/{name}" for port in entries[ports] for name in _PORT_FILES]
    return NetworkCapture(
        files={**files, **{path: system.read_text(path) for path in paths}}, entries=entries, environ=system.environ
    )


def parse_network_devices(capture: NetworkCapture) -> tuple[NetworkDevice, ...]:
    """Cards, by name. A speed of -1, or none while the cable is out, is an unknown one."""
    devices = []
    for name in capture.entries.get(_NET, ()):
        uevent = capture.text(f"{_NET}/{name}/device/uevent")
        if uevent is None:
            continue
        speed = capture.text(f"{_NET}/{name}/speed") or ""
        devices.append(
            NetworkDevice(
                name=name,
                driver=_field(uevent, "DRIVER"),
                pci_address=_field(uevent, "PCI_SLOT_NAME"),
                numa_node=_number(capture.text(f"{_NET}/{name}/device/numa_node")),
                is_up=_IS_UP.get(capture.text(f"{_NET}/{name}/operstate") or ""),
                bits_per_second=int(speed) * _MEGABIT if speed.isdecimal() and int(speed) else None,
            )
        )
    return tuple(devices)


_IS_UP = {"up": True, "down": False, "lowerlayerdown": False, "dormant": False}


def parse_rdma_ports(capture: NetworkCapture) -> tuple[RdmaPort, ...]:
    """All ports of all RDMA devices; what a port does not tell is None."""
    ports = []
    for device in capture.entries.get(_RDMA, ()):
        uevent = capture.text(f"{_RDMA}/{device}/device/uevent") or ""
        for port in capture.entries.get(f"{_RDMA}/{device}/ports", ()):
            folder = f"{_RDMA}/{device}/ports/{port}"
            state = _STATE.fullmatch(capture.text(f"{folder}/state") or "")
            rate = _RATE.match(capture.text(f"{folder}/rate") or "")
            if port.isdecimal():
                ports.append(
                    RdmaPort(
                        device=device,
                        port=int(port),
                        link_layer=capture.text(f"{folder}/link_layer") or None,
                        state=state[1] if state else None,
                        bits_per_second=round(float(rate[1]) * _GIGABIT) if rate else None,
                        pci_address=_field(uevent, "PCI_SLOT_NAME"),
                        numa_node=_number(capture.text(f"{_RDMA}/{device}/device/numa_node")),
                    )
                )
    return tuple(ports)


def parse_network_settings(environ: Mapping[str, str]) -> tuple[EnvironmentSetting, ...]:
    """Proxies, hub endpoint and the like that are set, without logins. Tokens are never among them."""
    names = [*(name for proxy in _PROXIES for name in (proxy, proxy.lower())), *_HUB_VARIABLES]
    names += sorted(name for name in environ if name.startswith(_XET_PREFIX))
    return tuple(
        EnvironmentSetting(name=name, value=without_login(environ[name])) for name in names if environ.get(name)
    )


def without_login(url: str) -> str:
    """A URL, or `host:port` as proxies are written, with user name, password and query taken out."""
    scheme = _SCHEME.match(url)
    start = scheme[0] if scheme else ""
    # The last @ ends the login: a password may hold one, and `?` and `/` as well.
    login, at, address = url[len(start) :].rpartition("@")
    return f"{start}{'[redacted]@' if at and login else at}{address.partition('?')[0]}"


def network_findings(
    ports: tuple[RdmaPort, ...], capture: NetworkCapture, *, container: str | None
) -> Iterator[Finding]:
    """RDMA ports that cannot be used although the machine has them."""
    active = [port for port in ports if port.state == "ACTIVE"]
    if ports and not active:
        yield Finding(
            id="network.rdma-down",
            severity=Severity.INFO,
            summary=f"none of {len(ports)} RDMA ports is active",
            evidence=tuple(Evidence(source=f"{_RDMA}/{p.device}/ports/{p.port}/state", value=p.state) for p in ports),
            why="engines on several machines fall back to TCP over the ordinary network",
            fix="`ibstat` or `rdma link` shows why; InfiniBand also needs a subnet manager in the network",
        )
    # In sysfs a container sees the machine's devices whether or not it may use them.
    if active and not any(name.startswith("uverbs") for name in capture.entries.get(_VERBS, ())):
        yield Finding(
            id="network.rdma-no-device-nodes",
            severity=Severity.INFO,
            summary=f"the machine has {len(active)} active RDMA ports, but {_VERBS} is not here",
            evidence=(Evidence(source=_VERBS, value=" ".join(capture.entries.get(_VERBS, ())) or "nothing"),),
            why="engines on several machines fall back to TCP over the ordinary network",
            fix="start the container with `--device=/dev/infiniband` and `--ulimit memlock=-1`"
            if container
            else "`modprobe ib_uverbs`",
        )


def _field(uevent: str, name: str) -> str | None:
    match = re.search(rf"^{name}=(\S+)$", uevent, re.MULTILINE)
    return match[1] if match else None


def _number(text: str | None) -> int | None:
    """A NUMA node; -1 is written where there is none."""
    return int(text) if text and text.isdecimal() else None
