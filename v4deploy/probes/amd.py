"""AMD: the kernel's own interfaces first, AMD's tools where these are hidden; /dev and the bus tell what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from v4deploy.domain.finding import Evidence, Finding
from v4deploy.domain.hardware import ComputeApi, Device, ProbeOutcome, Vendor
from v4deploy.probes.amd_device import AmdDevice
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
from v4deploy.probes.amd_tools import AMD_SMI, ROCM_SMI, parse_tools
from v4deploy.probes.base import Capture
from v4deploy.probes.device_nodes import NodeQuery, collect_nodes, parse_nodes
from v4deploy.probes.pci import PCI_DEVICES, collect_pci, parse_pci
from v4deploy.system.base import CommandRun, Failure, FileRead, System

VENDOR = Vendor.AMD

_PCI_VENDOR = "0x1002"
_DISPLAY_CLASS = "0x0300"
# amd-smi hung on some GPUs until ROCm 7.14 gave it a limit of 60 s (ROCm/rocm-systems, amdsmi changelog).
_TOOL_TIMEOUT_SECONDS = 8.0
_DRI, _DXG = "/dev/dri", "/dev/dxg"
_NODES = NodeQuery(folders=(KFD_DEVICE, _DRI))
# Which module holds the limit depends on how the driver was installed; one that is not in use may read 0.
_PAGE_LIMITS = tuple(f"/sys/module/{module}/parameters/pages_limit" for module in ("ttm", "amdttm", "amd_ttm"))
_PAGE_BYTES = 4096
_DRIVER_VERSION = "/sys/module/amdgpu/version"


def collect(system: System) -> Capture:
    """Read KFD, DRM and the bus; ask a tool only where a device is on the bus and the kernel describes none."""
    files, entries = collect_pci(system, _PCI_VENDOR)
    kernel_files, kernel_entries = collect_kernel(system)
    files, entries = {**files, **kernel_files}, {**entries, **kernel_entries}
    entries["/dev"] = tuple(path for path in (KFD_DEVICE, _DXG) if system.exists(path))
    for path in _rocm_version_files(system.environ):
        files[path] = system.read_text(path)
    hinted = bool(parse_pci(files) or kernel_entries.get(KFD_NODES) or KFD_DEVICE in entries["/dev"])
    if not hinted:
        return Capture(files=files, entries=entries, environ=dict(system.environ))
    entries[_DRI] = system.list_dir(_DRI) or ()
    for path in (*_PAGE_LIMITS, _DRIVER_VERSION):
        files[path] = system.read_text(path)
    commands = collect_nodes(system, _NODES)
    capture = Capture(files=files, commands=commands, entries=entries, environ=dict(system.environ))
    if not any(device.knows_memory for device in parse_kernel(capture).devices):
        commands.update({" ".join(run.argv): run for run in _ask_tools(system)})
    return capture


def _ask_tools(system: System) -> Iterator[CommandRun]:
    for argv in (AMD_SMI, ROCM_SMI):
        if system.which(argv[0]) is None:
            continue
        run = system.run(argv, timeout_seconds=_TOOL_TIMEOUT_SECONDS)
        yield run
        if parse_tools((run,)) or run.failure is Failure.TIMED_OUT:
            return  # a driver that hangs one tool hangs the other as well


def parse(capture: Capture) -> ProbeOutcome:
    """Devices, their pools, and what stands in the way."""
    report = parse_kernel(capture)
    raw = report.devices
    runs = [run for run in capture.commands.values() if run.argv in {AMD_SMI, ROCM_SMI}]
    if not any(device.knows_memory for device in raw):
        raw = parse_tools(runs) or raw
    around = _surroundings(capture, report.refused_nodes, runs)
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


def _surroundings(capture: Capture, refused: tuple[str, ...], runs: Sequence[CommandRun]) -> AmdSurroundings:
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
        refused_nodes=refused,
        tool_errors=tuple(_tool_error(run) for run in runs if not parse_tools((run,))),
        wsl_with_rocm=_DXG in capture.entries.get("/dev", ()) and _rocm_version(capture) is not None,
    )


def _tool_error(run: CommandRun) -> Evidence:
    words = " ".join(f"{run.stderr} {run.stdout}".split())[:200]
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
