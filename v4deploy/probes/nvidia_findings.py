"""What stands in the way on NVIDIA machines: what each error means here, and the fix that fits the surroundings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.hardware import HOST_POOL_ID, Device, PoolKind, ProbeOutcome
from v4deploy.domain.versions import is_older
from v4deploy.probes.nvidia_device import DriverFailure, NvidiaDevice, NvidiaReport
from v4deploy.probes.nvidia_health import HOSTS_OF_VIRTUAL_GPUS, health_findings, virtual_findings
from v4deploy.probes.pci import PciDevice

PROC_VERSION = "/proc/driver/nvidia/version"
NODES = ("nvidiactl", "nvidia0")
FABRIC_NOT_READY = "gpu.nvidia.fabric-not-ready"
# `NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  ...`, or `... UNIX Open Kernel Module for x86_64  ...`.
_KERNEL_MODULE = re.compile(r"Kernel Module(?: for \S+)?\s+(\d+(?:\.\d+)+)")
# Any program built with CUDA 13 needs this driver (docs.nvidia.com/deploy/cuda-compatibility, read 2026-11-22).
_CUDA_13_DRIVER = "580"
_FABRIC_UNFINISHED = {1: "has not started", 2: "is in progress"}
_FABRIC_COMPLETED = 3
_FABRIC_HEALTH = {2: "is unhealthy", 3: "has less capacity than it should"}
_LIBRARY_NOT_FOUND = 12
# NVML_GPU_RECOVERY_ACTION_*: what the driver wants done, and whether jobs run until then.
_RECOVERY = {
    1: ("a reset of the GPU", False),
    2: ("a reboot of the node", False),
    3: ("its peer-to-peer jobs drained", True),
    4: ("its jobs drained and a reset", True),
    5: ("the IMEX domain recovered", True),
    6: ("a bus reset", False),
    7: ("a reboot of the system", False),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the kernel shows whether or not the driver answers. `proc_gpus` pairs an address with a model name."""

    pci: tuple[PciDevice, ...] = ()
    proc_version: str | None = None
    proc_gpus: tuple[tuple[str, str | None], ...] = ()
    nodes: tuple[str, ...] = ()

    @property
    def present(self) -> bool:
        """Whether there is any sign of an NVIDIA device."""
        return bool(self.pci or self.proc_version or self.nodes)

    def works_without_library(self, failure: DriverFailure) -> bool:
        """Whether only libnvidia-ml is missing, while module and device nodes are there for CUDA to use."""
        return failure.code == _LIBRARY_NOT_FOUND and bool(self.nodes and self.proc_version)

    @property
    def driver_version(self) -> str | None:
        """The loaded kernel module's version."""
        match = _KERNEL_MODULE.search(self.proc_version or "")
        return match[1] if match else None


def is_usable(device: NvidiaDevice) -> bool:
    """Whether a job can run on the device now."""
    fabric_failed = device.fabric_state in _FABRIC_UNFINISHED or (
        device.fabric_state == _FABRIC_COMPLETED and bool(device.fabric_status)
    )
    runs = _RECOVERY.get(device.recovery_action or 0, ("", True))[1]
    lent_away = device.virtualization in HOSTS_OF_VIRTUAL_GPUS
    return device.failure is None and runs and not (fabric_failed or device.mig_enabled or lent_away)


def failure_finding(
    failure: DriverFailure, around: Surroundings, failures: tuple[DriverFailure, ...]
) -> Finding | None:
    """Why no device could be asked; None where there is no sign of NVIDIA at all.

    `failure` is the most telling of `failures`, which all become evidence.
    """
    evidence = [Evidence(source=one.source, error=_with_code(one)) for one in failures]
    if around.proc_version:
        evidence.append(Evidence(source=PROC_VERSION, value=around.proc_version.splitlines()[0]))
    evidence += [
        Evidence(source=f"/sys/bus/pci/devices/{device.address}", value=f"{device.pci_id} driver {device.driver}")
        for device in around.pci
    ]
    if not around.present:
        if failure.is_hang:
            return Finding(
                id="gpu.nvidia.tool-hangs",
                severity=Severity.FAIL,
                summary=f"{failure.source} hangs, and whether there is an NVIDIA device cannot be told",
                evidence=tuple(evidence),
                why="neither the bus nor the kernel shows one, as under WSL; engines that ask the same tool hang too",
                fix="run `nvidia-smi` yourself; look for NVRM and Xid lines in `dmesg`, or remove a tool left behind",
            )
        if failure.code is None or failure.code == _LIBRARY_NOT_FOUND:
            return None
        return Finding(
            id="gpu.nvidia.stray-tools",
            severity=Severity.INFO,
            summary="NVIDIA's tools are installed, but there is no NVIDIA device",
            evidence=tuple(evidence),
            why="some programs take the tools for a GPU and choose CUDA builds that cannot start",
            fix="remove NVIDIA's driver packages if this machine never has such a GPU",
        )
    name, severity, summary, why, fix = _FAILURES.get(failure.code, _OTHER_FAILURE)
    if failure.code in {None, 9, _LIBRARY_NOT_FOUND} and not failure.is_hang:
        name, severity, summary, why, fix = _absent_driver(around) or (name, severity, summary, why, fix)
    return Finding(
        id=f"gpu.nvidia.{name}", severity=severity, summary=summary, evidence=tuple(evidence), why=why, fix=fix
    )


_Row = tuple[str, Severity, str, str | None, str | None]
_FAILURES: dict[int | None, _Row] = {
    4: (
        "no-permission",
        Severity.FAIL,
        "the NVIDIA device is there, but this user may not open it",
        "every CUDA program fails the same way",
        "give this user access to /dev/nvidia*, for example by the group that owns them: `ls -l /dev/nvidia*`",
    ),
    6: (
        "none-listed",
        Severity.FAIL,
        "the NVIDIA driver answers, but lists no device",
        "it may have failed to start the device, or another driver holds it",
        "look for NVRM lines in `dmesg`",
    ),
    9: (
        "driver-not-loaded",
        Severity.FAIL,
        "the NVIDIA driver is installed, but its kernel module is not loaded",
        None,
        "`modprobe nvidia`; after a kernel upgrade the module may have to be built again",
    ),
    12: (
        "library-missing",
        Severity.WARN,
        "the NVIDIA device and its driver are here, but libnvidia-ml and nvidia-smi are not",
        "the memory cannot be read, and vLLM does not start without NVML, even where CUDA itself works",
        "start the container with `NVIDIA_DRIVER_CAPABILITIES=compute,utility`, or install the driver's libraries",
    ),
    15: (
        "device-lost",
        Severity.FAIL,
        "an NVIDIA device fell off the bus",
        "nothing can run on it",
        "reboot; if it comes back lost, check its power cables and seat: `dmesg | grep Xid`",
    ),
    18: (
        "driver-mismatch",
        Severity.FAIL,
        "the loaded NVIDIA kernel module and the installed driver libraries are of different versions",
        "the driver was upgraded under a running system, and no CUDA program can start",
        "reboot, or unload and load the nvidia modules",
    ),
    999: (
        "container-lost-device",
        Severity.FAIL,
        "the NVIDIA driver refuses with an unknown error",
        "a container loses its GPUs in this way after `systemctl daemon-reload` on the host",
        "create the container anew, and give it its GPUs through CDI so that it does not happen again",
    ),
}
_OTHER_FAILURE: _Row = (
    "driver-not-answering",
    Severity.FAIL,
    "the NVIDIA driver gives no usable answer",
    "a hanging driver also hangs every engine",
    "look for NVRM and Xid lines in `dmesg`; reboot if `nvidia-smi` hangs",
)


def _absent_driver(around: Surroundings) -> _Row | None:
    """What is missing between device and user: the kernel module, its device nodes, or only the library."""
    if around.proc_version is None and around.pci:
        other = next((device.driver for device in around.pci if device.driver), None)
        held = f", since `{other}` holds it" if other and other != "nvidia" else ""
        return (
            "driver-missing",
            Severity.FAIL,
            f"there is an NVIDIA device, but NVIDIA's driver is not loaded{held}",
            "without it the device is of no use to any engine",
            "install NVIDIA's driver (580 or newer) and load it; a container also needs `--gpus all` or CDI",
        )
    if not around.nodes:
        return (
            "no-device-nodes",
            Severity.WARN,
            "the machine's kernel has NVIDIA's driver, but /dev/nvidia* is not here",
            "a container sees no GPU unless it is given one",
            "start the container with `--gpus all` or `--device nvidia.com/gpu=all`; outside, run `nvidia-modprobe -u`",
        )
    return None


def device_findings(device: NvidiaDevice, placed: Device, outcome: ProbeOutcome, source: str) -> Iterator[Finding]:
    """What is wrong or worth knowing about one device that the driver lists."""
    where = placed.pci_address or f"index {placed.index}"
    evidence = Evidence(source=f"{source} {where}", value=placed.name)
    if device.failure is not None:
        name, severity, summary, why, fix = _FAILURES.get(device.failure.code, _OTHER_FAILURE)
        yield Finding(
            id=f"gpu.nvidia.{name}",
            severity=severity,
            summary=f"{summary}: {where}",
            evidence=(Evidence(source=device.failure.source, error=_with_code(device.failure)),),
            why=why,
            fix=fix,
        )
        return
    yield from _memory_findings(device, placed, outcome, evidence)
    yield from _state_findings(device, where, evidence)
    yield from health_findings(device, where)
    yield from virtual_findings(device, placed.name, where)


def _memory_findings(
    device: NvidiaDevice, placed: Device, outcome: ProbeOutcome, evidence: Evidence
) -> Iterator[Finding]:
    kinds = {pool.id: pool.kind for pool in outcome.pools}
    if placed.pool_id == HOST_POOL_ID:
        yield Finding(
            id="gpu.nvidia.unified-memory",
            severity=Severity.INFO,
            summary=f"{placed.name} uses system RAM",
            evidence=(evidence, *_two_totals(device, evidence.source)),
            why="what is free is what the system has available; the driver's own figure counts page cache as used",
        )
    elif kinds[placed.pool_id] is PoolKind.COHERENT and device.memory_node is not None:
        yield Finding(
            id="gpu.nvidia.memory-is-numa-node",
            severity=Severity.INFO,
            summary=f"the memory of {placed.name} is NUMA node {device.memory_node} of the system",
            evidence=(evidence,),
            why="page cache and other programs can fill it, so less may be free than the engine expects",
            fix="load the driver in CDMM mode, or drop the page cache before starting",
        )
    elif device.total_bytes is None and device.cuda_total_bytes is None and not device.mig_enabled:
        yield Finding(
            id="gpu.nvidia.memory-unknown",
            severity=Severity.WARN,
            summary=f"the memory of {placed.name} could not be read",
            evidence=(Evidence(source=evidence.source, error=device.memory_error),),
            why="nothing can be planned for a device of unknown size; names are no measure of memory",
            fix="plan with `--hardware`, naming the chip",
        )


def _two_totals(device: NvidiaDevice, source: str) -> Iterator[Evidence]:
    """What the driver and CUDA say about the size; on an integrated GPU the driver's is a carve-out."""
    if device.cuda_total_bytes is not None:
        yield Evidence(source="libcuda memory total", value=str(device.cuda_total_bytes))
        if device.total_bytes is not None:
            yield Evidence(source=f"{source} memory total", value=str(device.total_bytes))


def _state_findings(device: NvidiaDevice, where: str, evidence: Evidence) -> Iterator[Finding]:
    if device.fabric_state in _FABRIC_UNFINISHED or (device.fabric_state == _FABRIC_COMPLETED and device.fabric_status):
        state = _FABRIC_UNFINISHED.get(device.fabric_state or 0, f"ended with error {device.fabric_status}")
        yield Finding(
            id=FABRIC_NOT_READY,
            severity=Severity.FAIL,
            summary=f"registration of the GPUs with the NVSwitch fabric {state}",
            evidence=(Evidence(source="NVML fabric state", value=f"{device.fabric_state}"),),
            why="CUDA fails with error 802 while nvidia-smi looks healthy",
            fix="`systemctl restart nvidia-fabricmanager`, whose version has to be the driver's",
        )
    elif device.fabric_health in _FABRIC_HEALTH:
        yield Finding(
            id="gpu.nvidia.fabric-unhealthy",
            severity=Severity.WARN,
            summary=f"the NVSwitch fabric {_FABRIC_HEALTH[device.fabric_health]}: {where}",
            evidence=(Evidence(source="NVML fabric health", value=str(device.fabric_health)),),
            why="tensor and expert parallel work runs at the speed of the slowest link, or stops",
            fix="`nvidia-smi -q | grep -A 20 Fabric` names the fault; look for SXid lines in `dmesg`",
        )
    action = _RECOVERY.get(device.recovery_action or 0)
    if action is not None:
        yield Finding(
            id="gpu.nvidia.recovery-needed",
            severity=Severity.WARN if action[1] else Severity.FAIL,
            summary=f"the driver asks for {action[0]}: {where}",
            evidence=(Evidence(source="NVML recovery action", value=str(device.recovery_action)),),
            why="the GPU met an error that it does not recover from by itself",
            fix="drain its jobs, then `nvidia-smi --gpu-reset` or reboot",
        )
    if device.mig_enabled:
        yield Finding(
            id="gpu.nvidia.mig-without-slices",
            severity=Severity.FAIL,
            summary=f"MIG is on, but no slice can be seen: {where}",
            evidence=(evidence,),
            why="with MIG on, jobs run on slices only",
            fix="create slices with `nvidia-smi mig -cgi ... -C`, or switch MIG off with `nvidia-smi -mig 0`",
        )


def surroundings_findings(
    report: NvidiaReport, around: Surroundings, environ: Mapping[str, str], *, module_is_old: bool
) -> Iterator[Finding]:
    """What is worth knowing beside the devices that answered."""
    yield from _unlisted(report, around)
    version = report.driver_version or around.driver_version
    if report.devices and version and version[0].isdecimal() and is_older(version, _CUDA_13_DRIVER):
        yield Finding(
            id="gpu.nvidia.driver-too-old",
            severity=Severity.WARN,
            summary=f"driver {version} is older than {_CUDA_13_DRIVER}, which programs built with CUDA 13 need",
            evidence=(Evidence(source=f"{report.source} driver version", value=version),),
            why="current vLLM builds and images fail with error 803 or 804 on it",
            fix=f"install driver {_CUDA_13_DRIVER} or newer, or choose an engine build for CUDA 12",
        )
    if module_is_old:
        yield Finding(
            id="gpu.nvidia.old-python-module",
            severity=Severity.INFO,
            summary="an old `pynvml` package hides `nvidia-ml-py`, so some properties could not be read",
            evidence=(Evidence(source="pynvml", error="nvmlDeviceGetAddressingMode is missing"),),
            fix="python -m pip uninstall pynvml && python -m pip install --force-reinstall nvidia-ml-py",
        )
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and report.devices:
        yield Finding(
            id="config.cuda-visible-devices",
            severity=Severity.WARN,
            summary=f"CUDA_VISIBLE_DEVICES is set to `{visible}`, and engines will see those devices only",
            evidence=(Evidence(source="CUDA_VISIBLE_DEVICES", value=visible),),
            why="plans count every device of the machine",
            fix="unset it while planning and serving, or plan for fewer devices with `--hardware`",
        )


def _unlisted(report: NvidiaReport, around: Surroundings) -> Iterator[Finding]:
    """Devices that the kernel shows and the report does not; a report without addresses cannot be compared."""
    listed = {device.pci_address for device in report.devices} - {None}
    for address, model in around.proc_gpus if listed else ():
        if address not in listed:
            yield Finding(
                id="gpu.nvidia.device-missing",
                severity=Severity.FAIL,
                summary=f"the kernel module knows {model or 'a device'} at {address}, which {report.source} leaves out",
                evidence=(Evidence(source=f"/proc/driver/nvidia/gpus/{address}", value=model),),
                fix="`dmesg | grep -e NVRM -e Xid` tells why",
            )
    for device in around.pci:
        if device.address not in listed and device.driver not in {None, "nvidia"}:
            yield Finding(
                id="gpu.nvidia.held-by-other-driver",
                severity=Severity.INFO,
                summary=f"the NVIDIA device at {device.address} is held by `{device.driver}` and cannot be used here",
                evidence=(Evidence(source=f"/sys/bus/pci/devices/{device.address}", value=device.pci_id),),
            )


def _with_code(failure: DriverFailure) -> str:
    return failure.message if failure.code is None else f"{failure.message} ({failure.code})"
