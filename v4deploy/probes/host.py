"""The machine without its accelerators: memory, processor, disks, limits, container."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from v4deploy.domain.finding import Finding
from v4deploy.domain.hardware import Amount, Cpu, Disk, OperatingSystem, Pool
from v4deploy.domain.surroundings import EnvironmentSetting, Limits, NetworkDevice, NumaNode, RdmaPort
from v4deploy.probes.cgroup import SELF_CGROUP, Group, cpu_limit, groups_of, memory_limits
from v4deploy.probes.cpu import (
    CPUINFO,
    cpu_features,
    cpu_model,
    parse_cpu_blocks,
    parse_sysctl,
    physical_cores,
    sysctl_core_kinds,
    sysctl_features,
    sysctl_number,
    topology_files,
)
from v4deploy.probes.disks import disk_findings, disk_paths, mount_points, parse_disks
from v4deploy.probes.host_findings import HostView, findings_of
from v4deploy.probes.limits import LIMIT_FILES, limit_findings, parse_limits
from v4deploy.probes.memory import MEMINFO, host_pool, parse_meminfo, parse_vm_stat_available
from v4deploy.probes.mounts import MOUNTINFO, Mount, parse_mountinfo
from v4deploy.probes.network import (
    NetworkCapture,
    collect_network,
    network_findings,
    parse_network_devices,
    parse_network_settings,
    parse_rdma_ports,
)
from v4deploy.probes.numa import BALANCING, NODES_ONLINE, nodes_of_devices, numa_files, numa_findings, parse_numa_nodes
from v4deploy.system.base import CommandRun, DiskUsage, FileRead, MachineFacts, System

_COMMAND_TIMEOUT_SECONDS = 5.0
_SYSCTL = ("sysctl", "hw", "machdep.cpu", "kern.osproductversion")
_VM_STAT = ("vm_stat",)

_LINUX_FILES = (
    MEMINFO,
    CPUINFO,
    MOUNTINFO,
    SELF_CGROUP,
    *LIMIT_FILES,
    NODES_ONLINE,
    BALANCING,
    "/proc/sys/kernel/osrelease",
    "/proc/1/environ",
    "/etc/os-release",
)
_CONTAINER_MARKS = {"/.dockerenv": "docker", "/run/.containerenv": "podman", "/.singularity.d": "apptainer"}
# A pod has the service account (or the variable); a node has kubelet's or k3s' configuration.
_KUBERNETES_MARKS = (
    "/var/run/secrets/kubernetes.io/serviceaccount",
    "/etc/kubernetes/kubelet.conf",
    "/etc/rancher/k3s/k3s.yaml",
)
_LLAMA_SYSTEM_CONFIG = "/etc/llama.cpp/config.ini"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCapture:
    """What was read of the host, by path or command line; `disks` is keyed by the path asked for."""

    facts: MachineFacts
    weights_dir: str
    environ: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, FileRead] = field(default_factory=dict)
    commands: Mapping[str, CommandRun] = field(default_factory=dict)
    disks: Mapping[str, DiskUsage] = field(default_factory=dict)
    present: frozenset[str] = frozenset()
    network: NetworkCapture = field(default_factory=NetworkCapture)

    def text(self, path: str) -> str | None:
        """The text of a file; None where it was not read."""
        read = self.files.get(path)
        return read.text if read else None

    def output(self, argv: tuple[str, ...]) -> str:
        """What a command printed; "" where it was not run."""
        run = self.commands.get(" ".join(argv))
        return run.stdout if run else ""

    @property
    def groups(self) -> tuple[Group, ...]:
        """The control groups that bind this process."""
        return groups_of(self.text(SELF_CGROUP), self.mounts)

    @property
    def mounts(self) -> tuple[Mount, ...]:
        """All that is mounted for this process."""
        return parse_mountinfo(self.text(MOUNTINFO))


@dataclass(frozen=True, slots=True, kw_only=True)
class HostReport:
    """The host part of `domain.hardware.Host`."""

    os: OperatingSystem
    os_version: str | None
    kernel: str | None
    cpu: Cpu
    memory: Pool
    disks: tuple[Disk, ...]
    container: str | None
    kubernetes: bool
    numa_nodes: tuple[NumaNode, ...]
    limits: Limits
    network_devices: tuple[NetworkDevice, ...]
    rdma_ports: tuple[RdmaPort, ...]
    network_settings: tuple[EnvironmentSetting, ...]
    findings: tuple[Finding, ...]


def collect_host(system: System, weights_dir: str) -> HostCapture:
    """Read everything about the host that is a file or a quick command."""
    facts = system.facts()
    files: dict[str, FileRead] = {}
    commands: dict[str, CommandRun] = {}
    if facts.system == "Linux":
        files = {path: system.read_text(path) for path in _LINUX_FILES}
    if facts.system == "Darwin":
        commands = {
            " ".join(argv): system.run(argv, timeout_seconds=_COMMAND_TIMEOUT_SECONDS) for argv in (_SYSCTL, _VM_STAT)
        }
    marks = (*_CONTAINER_MARKS, *_KUBERNETES_MARKS, *llama_config_files(system.environ))
    first = HostCapture(
        facts=facts,
        weights_dir=weights_dir,
        environ=system.environ,
        files=files,
        commands=commands,
        disks={path: system.disk_usage(path) for path in disk_paths(facts.system, weights_dir)},
        present=frozenset(path for path in marks if system.exists(path)),
        network=collect_network(system),
    )
    return _collect_what_follows(system, first)


def _collect_what_follows(system: System, first: HostCapture) -> HostCapture:
    """Read what only the first reading could name: control groups, core topology, NUMA nodes, the mounts' own sizes."""
    blocks = parse_cpu_blocks(first.text(CPUINFO))
    paths = [*topology_files(blocks), *(path for group in first.groups for path in group.files)]
    paths += numa_files(first.text(NODES_ONLINE))
    points = mount_points(first.disks, first.mounts) - first.disks.keys()
    return replace(
        first,
        files={**first.files, **{path: system.read_text(path) for path in paths}},
        disks={**first.disks, **{point: system.disk_usage(point) for point in sorted(points)}},
    )


def parse_host(capture: HostCapture, *, coherent_bytes: int = 0) -> HostReport:
    """Judge what was collected.

    `coherent_bytes` is the memory of devices that the kernel may manage as its own (GH200, GB200): known only once the
    devices are, and no part of the host's RAM.
    """
    is_mac = capture.facts.system == "Darwin"
    sysctl = parse_sysctl(capture.output(_SYSCTL))
    numa_nodes = parse_numa_nodes(capture.files)
    of_devices = nodes_of_devices(numa_nodes, coherent_bytes)
    memory = _mac_memory(capture, sysctl) if is_mac else _linux_memory(capture, of_devices)
    cpu = _mac_cpu(capture, sysctl) if is_mac else _linux_cpu(capture)
    disks = parse_disks(disk_paths(capture.facts.system, capture.weights_dir), capture.disks, capture.mounts)
    return HostReport(
        os=_OPERATING_SYSTEMS.get(capture.facts.system, OperatingSystem.OTHER),
        os_version=sysctl.get("kern.osproductversion") if is_mac else _linux_version(capture.text("/etc/os-release")),
        kernel=capture.facts.release or None,
        cpu=cpu,
        memory=memory,
        disks=disks,
        container=container_of(capture),
        kubernetes="KUBERNETES_SERVICE_HOST" in capture.environ or bool(capture.present & set(_KUBERNETES_MARKS)),
        numa_nodes=numa_nodes,
        limits=parse_limits(capture.files),
        network_devices=parse_network_devices(capture.network),
        rdma_ports=parse_rdma_ports(capture.network),
        network_settings=parse_network_settings(capture.environ),
        findings=_findings(capture, cpu, memory, disks),
    )


def _findings(capture: HostCapture, cpu: Cpu, memory: Pool, disks: tuple[Disk, ...]) -> tuple[Finding, ...]:
    container, ports = container_of(capture), parse_rdma_ports(capture.network)
    view = HostView(
        cpu=cpu,
        memory=memory,
        kernel=capture.text("/proc/sys/kernel/osrelease") or capture.facts.release,
        config_files=tuple(path for path in llama_config_files(capture.environ) if path in capture.present),
        environ=capture.environ,
    )
    return (
        *findings_of(view),
        *limit_findings(capture.files, container=container, rdma=any(port.state == "ACTIVE" for port in ports)),
        *numa_findings(parse_numa_nodes(capture.files), capture.files),
        *disk_findings(disks, capture.weights_dir),
        *network_findings(ports, capture.network, container=container),
    )


_OPERATING_SYSTEMS = {
    "Linux": OperatingSystem.LINUX,
    "Darwin": OperatingSystem.MACOS,
    "Windows": OperatingSystem.WINDOWS,
}


def llama_config_files(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Where llama.cpp looks for a config.ini that changes every launch (ggml-org/llama.cpp PR 26118)."""
    base = environ.get("XDG_CONFIG_HOME") or (f"{environ['HOME']}/.config" if environ.get("HOME") else None)
    return (_LLAMA_SYSTEM_CONFIG, *((posixpath.join(base, "llama.cpp/config.ini"),) if base else ()))


def container_of(capture: HostCapture) -> str | None:
    """The kind of container we are in (`docker`, `podman`, `lxc`, `kubernetes`...); None outside of one."""
    for path, name in _CONTAINER_MARKS.items():
        if path in capture.present:
            return name
    first_process = (capture.text("/proc/1/environ") or "").split("\0")
    named = [entry.removeprefix("container=") for entry in first_process if entry.startswith("container=")]
    named_by_runtime = capture.environ.get("container") or next(iter(named), None)
    if named_by_runtime:
        return named_by_runtime
    groups = re.search(r"/(docker|kubepods|lxc|machine\.slice/libpod)[/.-]", capture.text(SELF_CGROUP) or "")
    if groups:
        return {"kubepods": "kubernetes", "machine.slice/libpod": "podman"}.get(groups[1], groups[1])
    return "kubernetes" if "KUBERNETES_SERVICE_HOST" in capture.environ else None


def _linux_memory(capture: HostCapture, of_devices: tuple[NumaNode, ...]) -> Pool:
    meminfo = parse_meminfo(capture.text(MEMINFO))
    less = f" less NUMA nodes {' '.join(str(node.number) for node in of_devices)}" if of_devices else ""
    return host_pool(
        Amount(
            size_bytes=_less(meminfo.get("MemTotal"), [node.memory_bytes for node in of_devices]),
            source=f"{MEMINFO} MemTotal{less}",
        ),
        Amount(
            size_bytes=_less(meminfo.get("MemAvailable"), [node.free_bytes for node in of_devices]),
            source=f"{MEMINFO} MemAvailable{less}",
        ),
        memory_limits(capture.groups, capture.files),
    )


def _less(whole: int | None, parts: list[int | None]) -> int | None:
    known = [part for part in parts if part is not None]
    return None if whole is None or len(known) < len(parts) else whole - sum(known)


def _mac_memory(capture: HostCapture, sysctl: Mapping[str, str]) -> Pool:
    return host_pool(
        Amount(size_bytes=sysctl_number(sysctl, "hw.memsize"), source="sysctl hw.memsize"),
        Amount(size_bytes=parse_vm_stat_available(capture.output(_VM_STAT)), source="vm_stat"),
        (),
    )


def _linux_cpu(capture: HostCapture) -> Cpu:
    blocks = parse_cpu_blocks(capture.text(CPUINFO))
    usable, quota = capture.facts.usable_cpus, cpu_limit(capture.groups, capture.files)
    if usable is not None and quota is not None:
        # Part of a CPU is no thread that could run at full speed, but one thread always runs.
        usable = min(usable, max(1, int(quota)))
    siblings = {path: capture.text(path) for path in topology_files(blocks)}
    return Cpu(
        architecture=capture.facts.machine,
        model=cpu_model(blocks),
        physical_cores=physical_cores(blocks, siblings),
        usable_cores=usable,
        features=cpu_features(blocks),
    )


def _mac_cpu(capture: HostCapture, sysctl: Mapping[str, str]) -> Cpu:
    return Cpu(
        architecture=capture.facts.machine,
        model=sysctl.get("machdep.cpu.brand_string"),
        physical_cores=sysctl_number(sysctl, "hw.physicalcpu"),
        usable_cores=capture.facts.usable_cpus,
        features=sysctl_features(sysctl),
        core_kinds=sysctl_core_kinds(sysctl),
    )


def _linux_version(os_release: str | None) -> str | None:
    match = re.search(r"^PRETTY_NAME=\"?([^\"\n]+)\"?$", os_release or "", re.MULTILINE)
    return match[1] if match else None
