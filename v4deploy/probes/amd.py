"""AMD: the kernel's interfaces first, then AMD's tools, then the runtime; /dev and the bus tell what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from v4deploy.domain.finding import Evidence, Finding
from v4deploy.domain.hardware import ComputeApi, Device, ProbeOutcome, Vendor
from v4deploy.probes.amd_device import AmdDevice, fill_gaps
from v4deploy.probes.amd_findings import (
    KFD_DEVICE,
    AmdSurroundings,
    carve_out_findings,
    device_findings,
    environment_findings,
    machine_findings,
)
from v4deploy.probes.amd_kernel import KFD_NODES, collect_kernel, parse_kernel
from v4deploy.probes.amd_pools import HostShare, place_devices
from v4deploy.probes.amd_runtime import ROCMINFO_PROGRAMS, RuntimeReport, parse_hip, parse_rocminfo
from v4deploy.probes.amd_tools import AMD_SMI, ROCM_SMI, parse_tools
from v4deploy.probes.amd_wsl import wsl_findings
from v4deploy.probes.base import Capture
from v4deploy.probes.device_nodes import NodeQuery, collect_nodes, parse_nodes
from v4deploy.probes.pci import PCI_DEVICES, collect_pci, parse_pci
from v4deploy.system.base import CommandRun, Failure, FileRead, System

VENDOR = Vendor.AMD

_PCI_VENDOR = "0x1002"
_DISPLAY_CLASS = "0x0300"
# amd-smi hung on some GPUs until ROCm 7.14 gave it a limit of 60 s (ROCm/rocm-systems, amdsmi changelog).
_TOOL_TIMEOUT_SECONDS = 8.0
_LIBRARY_TIMEOUT_SECONDS = 10.0
_HUNG = "gave no answer"
_DRI, _DXG = "/dev/dri", "/dev/dxg"
# The bridge from ROCm to Windows' driver: AMD's packages, and distributions'.
_WSL_LIBRARIES = ("/opt/rocm/lib/librocdxg.so", "/usr/lib/librocdxg.so", "/usr/lib/x86_64-linux-gnu/librocdxg.so")
_NODES = NodeQuery(folders=(KFD_DEVICE, _DRI))
# Which module holds the limit depends on how the driver was installed; one that is not in use may read 0.
_PAGE_LIMITS = tuple(f"/sys/module/{module}/parameters/pages_limit" for module in ("ttm", "amdttm", "amd_ttm"))
_PAGE_BYTES = 4096
_DRIVER_VERSION = "/sys/module/amdgpu/version"


def collect(system: System) -> Capture:
    """Read KFD, DRM and the bus; ask tools, then the runtime, only where the kernel leaves the memory of one open."""
    files, entries = collect_pci(system, _PCI_VENDOR)
    kernel_files, kernel_entries = collect_kernel(system)
    files, entries = {**files, **kernel_files}, {**entries, **kernel_entries}
    entries["/dev"] = tuple(path for path in (KFD_DEVICE, _DXG) if system.exists(path))
    for path in _rocm_version_files(system.environ):
        files[path] = system.read_text(path)
    capture = Capture(files=files, entries=entries, environ=dict(system.environ))
    behind_windows = _behind_windows(capture, rocm_is_here=_rocm_is_here(system, capture))
    if not (behind_windows or parse_pci(files) or kernel_entries.get(KFD_NODES) or KFD_DEVICE in entries["/dev"]):
        return capture
    entries[_DRI] = system.list_dir(_DRI) or ()
    for path in (*_PAGE_LIMITS, _DRIVER_VERSION):
        files[path] = system.read_text(path)
    capture = replace(capture, commands=collect_nodes(system, _NODES))
    if not _leaves_a_gap(parse_kernel(capture).devices):
        return capture
    return _climb(system, capture, behind_windows=behind_windows)


def _leaves_a_gap(devices: Sequence[AmdDevice]) -> bool:
    return not devices or not all(device.knows_memory for device in devices)


def _climb(system: System, capture: Capture, *, behind_windows: bool) -> Capture:
    """Ask one source after another, until none leaves a gap. After one that hangs nothing more is asked."""
    # AMD's tools want the amdgpu driver, which WSL does not have (gpustack/gpustack#4338: error 34).
    runs = [] if behind_windows else list(_ask_tools(system))
    commands = {**capture.commands, **{" ".join(run.argv): run for run in runs}}
    hung = any(run.failure is Failure.TIMED_OUT for run in runs)
    if hung or not _leaves_a_gap(_devices(replace(capture, commands=commands))):
        return replace(capture, commands=commands)
    hip = system.library("hip", timeout_seconds=_LIBRARY_TIMEOUT_SECONDS)
    if not parse_hip(hip).devices and not (hip.error or "").startswith(_HUNG):
        program = next((name for name in ROCMINFO_PROGRAMS if system.which(name) is not None), None)
        if program is not None:
            commands[program] = system.run((program,), timeout_seconds=_TOOL_TIMEOUT_SECONDS)
    return replace(capture, commands=commands, libraries={"hip": hip})


def _ask_tools(system: System) -> Iterator[CommandRun]:
    for argv in (AMD_SMI, ROCM_SMI):
        if system.which(argv[0]) is None:
            continue
        run = system.run(argv, timeout_seconds=_TOOL_TIMEOUT_SECONDS)
        yield run
        if parse_tools((run,)) or run.failure is Failure.TIMED_OUT:
            return  # a driver that hangs one tool hangs the other as well


def _devices(capture: Capture) -> tuple[AmdDevice, ...]:
    """What all sources that were asked make of the devices, the kernel first."""
    devices = fill_gaps(parse_kernel(capture).devices, parse_tools(_tool_runs(capture)))
    return fill_gaps(devices, parse_hip(capture.libraries.get("hip")).devices or _rocminfo(capture).devices)


def _tool_runs(capture: Capture) -> list[CommandRun]:
    return [run for run in capture.commands.values() if run.argv in {AMD_SMI, ROCM_SMI}]


def _rocminfo(capture: Capture) -> RuntimeReport:
    return parse_rocminfo(next((capture.commands[p] for p in ROCMINFO_PROGRAMS if p in capture.commands), None))


def parse(capture: Capture) -> ProbeOutcome:
    """Devices, their pools, and what stands in the way."""
    raw = _devices(capture)
    around = _surroundings(capture)
    share = _host_share(capture)
    pool_ids, pools = place_devices(raw, share)
    only_integrated = all(device.is_integrated for device in raw)
    usable = [around.is_usable(device) and device.is_integrated == only_integrated for device in raw]
    devices = tuple(
        _device(number, device, pool_ids[number], capture, usable=usable[number]) for number, device in enumerate(raw)
    )
    findings: list[Finding] = [*machine_findings(raw, around), *device_findings(devices, pools, raw)]
    if only_integrated:
        findings += [f for pool in pools for f in carve_out_findings(pool, raw[pool_ids.index(pool.id)], share)]
    if raw:
        findings += environment_findings(capture.environ)
    if around.behind_windows:
        findings += wsl_findings(raw, around, _rocm_version(capture), capture.environ)
    return ProbeOutcome(devices=devices, pools=pools, findings=tuple(dict.fromkeys(findings)))


def _device(number: int, raw: AmdDevice, pool_id: str, capture: Capture, *, usable: bool) -> Device:
    return Device(
        index=number,
        vendor=VENDOR,
        compute_api=ComputeApi.ROCM,
        name=raw.name or f"AMD GPU {raw.pci_id or raw.gfx or 'that does not tell its name'}",
        arch=raw.gfx,
        pool_id=pool_id,
        pci_address=raw.pci_address,
        pci_id=raw.pci_id,
        driver_version=raw.driver_version or _text(capture, _DRIVER_VERSION) or None,
        compute_api_version=_rocm_version(capture),
        numa_node=raw.numa_node,
        usable=usable,
    )


def _surroundings(capture: Capture) -> AmdSurroundings:
    pci = parse_pci(capture.files)
    return AmdSurroundings(
        pci=pci,
        adapters=frozenset(
            device.address
            for device in pci
            if _text(capture, f"{PCI_DEVICES}/{device.address}/class").startswith(_DISPLAY_CLASS)
        ),
        kfd_present=KFD_DEVICE in capture.entries.get("/dev", ()),
        render_nodes=tuple(name for name in capture.entries.get(_DRI, ()) if name.startswith("renderD")),
        nodes=parse_nodes(capture.commands, _NODES),
        refused_nodes=parse_kernel(capture).refused_nodes,
        tool_errors=tuple(_errors(capture)),
        hung=tuple(error.source for error in _errors(capture) if (error.error or "").startswith(_HUNG)),
        behind_windows=_behind_windows(capture, rocm_is_here="hip" in capture.libraries),
    )


def _behind_windows(capture: Capture, *, rocm_is_here: bool) -> bool:
    """Whether a GPU can only be one that Windows lends to WSL."""
    nodes = capture.entries.get("/dev", ())
    return rocm_is_here and _DXG in nodes and KFD_DEVICE not in nodes


def _rocm_is_here(system: System, capture: Capture) -> bool:
    """ROCm of any kind: its version file, its library for WSL, or a program of it on PATH (from pip)."""
    if _rocm_version(capture) is not None:
        return True
    has_library = any(system.exists(path) for path in _WSL_LIBRARIES)
    return has_library or any(system.which(program) is not None for program in ROCMINFO_PROGRAMS)


def _errors(capture: Capture) -> Iterator[Evidence]:
    """What sources answered instead of devices."""
    yield from (_tool_error(run) for run in _tool_runs(capture) if not parse_tools((run,)))
    hip = parse_hip(capture.libraries.get("hip")).error
    if hip is not None:
        yield Evidence(source="HIP", error=hip)
    rocminfo = _rocminfo(capture).error
    if rocminfo is not None:
        yield Evidence(source="rocminfo", error=rocminfo)


def _tool_error(run: CommandRun) -> Evidence:
    words = " ".join(f"{run.stderr} {run.stdout}".split())[:200]
    if run.failure is Failure.TIMED_OUT:
        words = f"{_HUNG} in time"
    return Evidence(source=" ".join(run.argv[:2]), error=words or f"{run.failure or f'status {run.exit_status}'}")


def _host_share(capture: Capture) -> HostShare:
    share = HostShare(memory_bytes=capture.host_memory_bytes, free_bytes=capture.host_free_bytes)
    for path in _PAGE_LIMITS:
        text = _text(capture, path)
        if text.isdecimal() and int(text) > 0:
            return HostShare(
                memory_bytes=share.memory_bytes,
                free_bytes=share.free_bytes,
                page_limit_bytes=int(text) * _PAGE_BYTES,
                page_limit_source=path,
            )
    return share


def _rocm_version_files(environ: Mapping[str, str]) -> tuple[str, ...]:
    roots = dict.fromkeys((*(environ[name] for name in ("ROCM_PATH", "ROCM_HOME") if environ.get(name)), "/opt/rocm"))
    return tuple(f"{root}/.info/{name}" for root in roots for name in ("version", "version-rocm"))


def _rocm_version(capture: Capture) -> str | None:
    """None with ROCm from pip or from a distribution's packages, which keep no such file."""
    versions = (_text(capture, path) for path in _rocm_version_files(capture.environ))
    return next((version for version in versions if version), None)


def _text(capture: Capture, path: str) -> str:
    read: FileRead | None = capture.files.get(path)
    return (read.text or "").strip() if read else ""
