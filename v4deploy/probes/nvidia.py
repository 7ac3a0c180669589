"""NVIDIA: NVML, then nvidia-smi, then libcuda; the PCI bus and /proc tell "absent" from "present but broken"."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from v4deploy.domain.finding import Finding
from v4deploy.domain.hardware import ProbeOutcome, Vendor
from v4deploy.probes.base import Capture
from v4deploy.probes.nvidia_cuda import driver_refuses, leaves_a_gap, parse_cuda, with_cuda
from v4deploy.probes.nvidia_device import DriverFailure, NvidiaDevice, NvidiaReport
from v4deploy.probes.nvidia_findings import (
    FABRIC_NOT_READY,
    NODES,
    PROC_VERSION,
    Surroundings,
    device_findings,
    failure_finding,
    surroundings_findings,
)
from v4deploy.probes.nvidia_health import attestation_finding, cuda_finding, cuda_works_finding, peer_finding
from v4deploy.probes.nvidia_links import matrix_links, topology_argvs
from v4deploy.probes.nvidia_nvml import library_is_missing, module_is_old, parse_nvml
from v4deploy.probes.nvidia_outcome import outcome_of
from v4deploy.probes.nvidia_smi import FULL_FIELDS, MINIMAL_FIELDS, parse_smi, query_argv
from v4deploy.probes.nvidia_xml import ARGUMENTS as XML_ARGUMENTS
from v4deploy.probes.pci import collect_pci, normal_address, parse_pci
from v4deploy.system.base import CommandRun, Failure, FileRead, System

VENDOR = Vendor.NVIDIA

_PCI_VENDOR = "0x10de"
# A healthy NVML answers within one second even with eight GPUs and no persistence daemon; a wedged one never does.
_LIBRARY_TIMEOUT_SECONDS = 10.0
_COMMAND_TIMEOUT_SECONDS = 8.0
# WSL and Google's container images keep the tool off PATH.
_SMI_PROGRAMS = ("nvidia-smi", "/usr/lib/wsl/lib/nvidia-smi", "/usr/local/nvidia/bin/nvidia-smi")
_PROC_GPUS = "/proc/driver/nvidia/gpus"
_SOC_FAMILY, _SOC_ID, _BOARD = "/sys/devices/soc0/family", "/sys/devices/soc0/soc_id", "/proc/device-tree/model"
_WSL_NODE = "/dev/dxg"
_NVIDIA_SOC_ID = "jep106:0426"
_MODEL = re.compile(r"^Model:\s*(.+?)\s*$", re.MULTILINE)


def collect(system: System) -> Capture:
    """Ask NVML; nvidia-smi only where NVML gave nothing, libcuda only where both left a gap; /proc and /sys anyway."""
    libraries = {"nvml": system.library("nvml", timeout_seconds=_LIBRARY_TIMEOUT_SECONDS)}
    files, entries = collect_pci(system, _PCI_VENDOR)
    for path in (PROC_VERSION, _SOC_FAMILY, _SOC_ID, _BOARD):
        files[path] = system.read_text(path)
    entries[_PROC_GPUS] = system.list_dir(_PROC_GPUS) or ()
    for name in entries[_PROC_GPUS]:
        path = f"{_PROC_GPUS}/{name}/information"
        files[path] = system.read_text(path)
    entries["/dev"] = tuple(node for node in NODES if system.exists(f"/dev/{node}"))
    report = parse_nvml(libraries["nvml"])
    runs = tuple(_ask_smi(system)) if report.failure is not None else ()
    report = parse_smi(runs) if runs else report
    capture = Capture(
        files=files,
        commands={" ".join(run.argv): run for run in runs},
        libraries=libraries,
        entries=entries,
        environ=dict(system.environ),
    )
    if leaves_a_gap(report) and _hints_at_nvidia(system, capture, report):
        libraries["cuda"] = system.library("cuda", timeout_seconds=_LIBRARY_TIMEOUT_SECONDS)
    return capture


def _hints_at_nvidia(system: System, capture: Capture, report: NvidiaReport) -> bool:
    """Any sign at all: most machines have no NVIDIA device, and are not to wait for another child process."""
    around = _surroundings(capture)
    return bool(report.devices) or around.present or bool(_tegra_board(capture)) or system.exists(_WSL_NODE)


def _ask_smi(system: System) -> Iterator[CommandRun]:
    """Every question that nvidia-smi may answer. After one without answer in time none follows: the driver hangs."""
    program = next((name for name in _SMI_PROGRAMS if system.which(name) is not None), None)
    runs: list[CommandRun] = []
    while program is not None and not any(run.failure is Failure.TIMED_OUT for run in runs):
        question = next((argv for argv in _questions(program, runs) if argv not in {run.argv for run in runs}), None)
        if question is None:
            break
        runs.append(system.run(question, timeout_seconds=_COMMAND_TIMEOUT_SECONDS))
    yield from runs


def _questions(program: str, runs: Sequence[CommandRun]) -> Iterator[tuple[str, ...]]:
    """The command lines worth running, given what came back so far: the smaller query only where the full one failed,
    nothing of devices where the driver itself refuses, links only between several.
    """
    full = query_argv(program, FULL_FIELDS)
    yield full
    if any(run.argv == full and run.exit_status != 0 for run in runs):
        yield query_argv(program, MINIMAL_FIELDS)
    yield (program,)
    report = parse_smi(runs)
    if not driver_refuses(report):
        yield (program, *XML_ARGUMENTS)
    if len(report.devices) > 1:
        yield from topology_argvs(program)


def parse(capture: Capture) -> ProbeOutcome:
    """Devices, their pools, how they are linked, and what stands in the way."""
    around = _surroundings(capture)
    nvml = parse_nvml(capture.libraries.get("nvml"))
    smi = parse_smi(tuple(capture.commands.values())) if capture.commands else None
    cuda = parse_cuda(capture.libraries.get("cuda"))
    report = next((source for source in (nvml, smi) if source is not None and source.failure is None), None)
    if report is not None and (report.devices or not (around.present or (cuda and cuda.devices))):
        links = report.links or matrix_links(tuple(capture.commands.values()))
        return _answered(with_cuda(replace(report, links=links), cuda), around, capture)
    board = _tegra_board(capture)
    if board is not None and not around.pci:
        device = NvidiaDevice(index=0, name=board, memory_error="an integrated GPU owns no memory")
        return _answered(with_cuda(NvidiaReport(source=_SOC_FAMILY, devices=(device,)), cuda), around, capture)
    failure = _failure_of(nvml, smi)
    if cuda is not None and cuda.devices:
        outcome = _answered(cuda, around, capture)
        return replace(outcome, findings=(cuda_works_finding(failure), *outcome.findings))
    failures = tuple(
        source.failure for source in (nvml, smi, cuda) if source is not None and source.failure is not None
    )
    kernels = NvidiaReport(
        source=PROC_VERSION,
        devices=_devices_of_kernel(failure, around),
        cuda_failure=cuda.failure if cuda is not None and around.present else None,
    )
    findings = (failure_finding(failure, around, failures or (failure,)), cuda_finding(kernels, explained=False))
    return replace(outcome_of(kernels, around, capture), findings=tuple(finding for finding in findings if finding))


def _answered(report: NvidiaReport, around: Surroundings, capture: Capture) -> ProbeOutcome:
    """A source answered. It may still list fewer devices than are there."""
    report = replace(report, devices=_place_lost(report.devices, around))
    outcome = outcome_of(report, around, capture)
    findings: list[Finding | None] = [
        finding
        for device, placed in zip(report.devices, outcome.devices, strict=True)
        for finding in device_findings(device, placed, outcome, report.source)
    ]
    unfinished = any(finding is not None and finding.id == FABRIC_NOT_READY for finding in findings)
    findings += [
        attestation_finding(report),
        cuda_finding(report, explained=unfinished or report.awaits_attestation),
        peer_finding(report, outcome),
        *surroundings_findings(
            report, around, capture.environ, module_is_old=module_is_old(capture.libraries.get("nvml"))
        ),
    ]
    return replace(outcome, findings=tuple(dict.fromkeys(finding for finding in findings if finding)))


def _surroundings(capture: Capture) -> Surroundings:
    models = {
        normal_address(name): _MODEL.search(_text(capture, f"{_PROC_GPUS}/{name}/information"))
        for name in capture.entries.get(_PROC_GPUS, ())
    }
    return Surroundings(
        pci=parse_pci(capture.files),
        proc_version=_text(capture, PROC_VERSION).strip() or None,
        proc_gpus=tuple((address, match[1] if match else None) for address, match in models.items() if address),
        nodes=capture.entries.get("/dev", ()),
    )


def _failure_of(nvml: NvidiaReport, smi: NvidiaReport | None) -> DriverFailure:
    """The more telling failure: nvidia-smi's where NVML could only say that its library is missing."""
    nothing_listed = DriverFailure(code=6, message="lists no device", source=nvml.source)
    if smi is not None and smi.failure is not None and (library_is_missing(nvml) or nvml.failure is None):
        return smi.failure
    if nvml.failure is not None and nvml.failure.code is None and smi is not None and smi.failure is not None:
        says_more = smi.failure.code is not None or (smi.failure.is_hang and not nvml.failure.is_hang)
        return smi.failure if says_more else nvml.failure
    return nvml.failure or nothing_listed


def _place_lost(devices: tuple[NvidiaDevice, ...], around: Surroundings) -> tuple[NvidiaDevice, ...]:
    """A lost device tells no address; where one address of /proc is left over, it is that one."""
    taken = {device.pci_address for device in devices}
    left = [(address, model) for address, model in around.proc_gpus if address not in taken]
    nameless = [device for device in devices if device.failure is not None and device.pci_address is None]
    if len(left) == len(nameless) == 1:
        address, model = left[0]
        found = replace(nameless[0], pci_address=address, name=model)
        return tuple(found if device is nameless[0] else device for device in devices)
    models = dict(around.proc_gpus)
    return tuple(
        replace(device, name=models.get(device.pci_address)) if device.name is None and device.pci_address else device
        for device in devices
    )


def _devices_of_kernel(failure: DriverFailure, around: Surroundings) -> tuple[NvidiaDevice, ...]:
    """What the kernel shows of devices that the driver does not describe. Without a library they may still work."""
    models = dict(around.proc_gpus)
    ids = {device.address: device.pci_id for device in around.pci}
    return tuple(
        NvidiaDevice(
            index=index,
            name=models.get(address) or f"NVIDIA device {ids.get(address, address)}",
            pci_address=address,
            failure=None if around.works_without_library(failure) else failure,
            memory_error=f"{failure.source}: {failure.message}",
        )
        for index, address in enumerate(sorted({*models, *ids}))
    )


def _tegra_board(capture: Capture) -> str | None:
    """The board's name where the system-on-chip is NVIDIA's: JetPack 5 has neither NVML nor nvidia-smi."""
    family, soc_id = _text(capture, _SOC_FAMILY).strip(), _text(capture, _SOC_ID).strip()
    if family != "Tegra" and not soc_id.startswith(_NVIDIA_SOC_ID):
        return None
    return _text(capture, _BOARD).strip(" \0\n") or "Tegra"


def _text(capture: Capture, path: str) -> str:
    read: FileRead | None = capture.files.get(path)
    return (read.text or "") if read else ""
