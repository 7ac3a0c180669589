"""NVIDIA: NVML first, then nvidia-smi; the PCI bus and /proc tell "absent" from "present but broken"."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from v4deploy.domain.finding import Finding
from v4deploy.domain.hardware import HOST_POOL_ID, Amount, ComputeApi, Device, Pool, PoolKind, ProbeOutcome, Vendor
from v4deploy.probes.base import Capture
from v4deploy.probes.nvidia_device import DriverFailure, NvidiaDevice, NvidiaReport, pool_kind
from v4deploy.probes.nvidia_findings import (
    NODES,
    PROC_VERSION,
    Surroundings,
    device_findings,
    failure_finding,
    is_usable,
    surroundings_findings,
)
from v4deploy.probes.nvidia_nvml import library_is_missing, module_is_old, parse_nvml
from v4deploy.probes.nvidia_smi import FULL_FIELDS, MINIMAL_FIELDS, parse_smi, query_argv
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
_NVIDIA_SOC_ID = "jep106:0426"
_MODEL = re.compile(r"^Model:\s*(.+?)\s*$", re.MULTILINE)


def collect(system: System) -> Capture:
    """Ask NVML; ask nvidia-smi only where NVML gave nothing; read what /proc and /sys say in any case."""
    answer = system.library("nvml", timeout_seconds=_LIBRARY_TIMEOUT_SECONDS)
    files, entries = collect_pci(system, _PCI_VENDOR)
    for path in (PROC_VERSION, _SOC_FAMILY, _SOC_ID, _BOARD):
        files[path] = system.read_text(path)
    entries[_PROC_GPUS] = system.list_dir(_PROC_GPUS) or ()
    for name in entries[_PROC_GPUS]:
        path = f"{_PROC_GPUS}/{name}/information"
        files[path] = system.read_text(path)
    entries["/dev"] = tuple(node for node in NODES if system.exists(f"/dev/{node}"))
    commands: dict[str, CommandRun] = {}
    if parse_nvml(answer).failure is not None:
        commands = {" ".join(run.argv): run for run in _ask_smi(system)}
    return Capture(
        files=files, commands=commands, libraries={"nvml": answer}, entries=entries, environ=dict(system.environ)
    )


def _ask_smi(system: System) -> Iterator[CommandRun]:
    program = next((name for name in _SMI_PROGRAMS if system.which(name) is not None), None)
    if program is None:
        return
    for fields in (FULL_FIELDS, MINIMAL_FIELDS):
        run = system.run(query_argv(program, fields), timeout_seconds=_COMMAND_TIMEOUT_SECONDS)
        yield run
        if run.failure is Failure.TIMED_OUT:
            return  # the driver hangs; asking on would only hang longer
        if run.exit_status == 0:
            break
    yield system.run((program,), timeout_seconds=_COMMAND_TIMEOUT_SECONDS)


def parse(capture: Capture) -> ProbeOutcome:
    """Devices, their pools, and what stands in the way."""
    around = _surroundings(capture)
    nvml = parse_nvml(capture.libraries.get("nvml"))
    smi = parse_smi(tuple(capture.commands.values())) if capture.commands else None
    report = next((source for source in (nvml, smi) if source is not None and source.failure is None), None)
    if report is not None and (report.devices or not around.present):
        return _answered(report, around, capture)
    board = _tegra_board(capture)
    if board is not None and not around.pci:
        device = NvidiaDevice(index=0, name=board, memory_error="an integrated GPU owns no memory")
        return _answered(NvidiaReport(source=_SOC_FAMILY, devices=(device,)), around, capture)
    failure = _failure_of(nvml, smi)
    failures = tuple(source.failure for source in (nvml, smi) if source is not None and source.failure is not None)
    finding = failure_finding(failure, around, failures or (failure,))
    kernels = NvidiaReport(source=PROC_VERSION, devices=_devices_of_kernel(failure, around))
    return replace(_outcome(kernels, around), findings=(finding,) if finding else ())


def _answered(report: NvidiaReport, around: Surroundings, capture: Capture) -> ProbeOutcome:
    """A source answered. It may still list fewer devices than are there."""
    report = replace(report, devices=_place_lost(report.devices, around))
    outcome = _outcome(report, around, capture.host_memory_bytes)
    findings: list[Finding] = [
        finding
        for device, placed in zip(report.devices, outcome.devices, strict=True)
        for finding in device_findings(device, placed, outcome, report.source)
    ]
    findings += surroundings_findings(
        report, around, capture.environ, module_is_old=module_is_old(capture.libraries.get("nvml"))
    )
    return replace(outcome, findings=tuple(dict.fromkeys(findings)))


def _outcome(report: NvidiaReport, around: Surroundings, host_memory_bytes: int | None = None) -> ProbeOutcome:
    devices, pools = [], []
    for number, raw in enumerate(report.devices):
        kind = pool_kind(raw, host_memory_bytes)
        pool_id = HOST_POOL_ID if kind is PoolKind.UNIFIED else f"{VENDOR}-{number}"
        if kind is not PoolKind.UNIFIED:
            pools.append(_pool(pool_id, kind, raw, report.source))
        on_bus = next((device for device in around.pci if device.address == raw.pci_address), None)
        devices.append(
            Device(
                index=number,
                vendor=VENDOR,
                compute_api=ComputeApi.CUDA,
                name=raw.name or "NVIDIA GPU that does not tell its name",
                arch=raw.arch,
                pool_id=pool_id,
                pci_address=raw.pci_address,
                pci_id=raw.pci_id or (on_bus.pci_id if on_bus else None),
                driver_version=report.driver_version or around.driver_version,
                compute_api_version=report.cuda_version,
                numa_node=on_bus.numa_node if on_bus else None,
                usable=is_usable(raw),
            )
        )
    return ProbeOutcome(devices=tuple(devices), pools=tuple(pools))


def _pool(pool_id: str, kind: PoolKind, raw: NvidiaDevice, source: str) -> Pool:
    unknown = f"{source}: {raw.failure.message}" if raw.failure else raw.memory_error or f"{source}: no answer"
    total = Amount(size_bytes=raw.total_bytes, source=f"{source} memory total" if raw.total_bytes else unknown)
    ceiling = total
    if raw.total_bytes is not None and raw.reserved_bytes is not None:
        ceiling = Amount(
            size_bytes=raw.total_bytes - raw.reserved_bytes, source=f"{source} memory total less what the driver keeps"
        )
    free = Amount(size_bytes=raw.free_bytes, source=f"{source} memory free" if raw.free_bytes is not None else unknown)
    return Pool(id=pool_id, kind=kind, total=total, ceiling=ceiling, free=free)


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
        return smi.failure if smi.failure.code is not None else nvml.failure
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
