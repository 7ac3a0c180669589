"""AMD GPUs as the kernel shows them: KFD's topology, and DRM's attributes. Needs neither ROCm nor root."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from v4deploy.probes.amd_device import AmdDevice, bdf, gfx_target
from v4deploy.probes.base import Capture
from v4deploy.system.base import Failure, FileRead, System

KFD_NODES = "/sys/class/kfd/kfd/topology/nodes"
DRM = "/sys/class/drm"
_PROPERTY = re.compile(r"^(\w+) (\d+)$", re.MULTILINE)
_RENDER_NODE = re.compile(r"renderD(\d+)")
_AMD_VENDOR_ID = 0x1002
# HSA heap types of memory on the device itself, visible to the host or not; 0 is system memory.
_DEVICE_HEAPS = (1, 2)
_ATTRIBUTES = (
    "mem_info_vram_total",
    "mem_info_vram_used",
    "mem_info_gtt_total",
    "current_compute_partition",
    "current_memory_partition",
    "product_name",
    "board_info",
    "numa_node",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelReport:
    """Devices as the kernel shows them, and the KFD nodes that it refused to describe."""

    devices: tuple[AmdDevice, ...] = ()
    refused_nodes: tuple[str, ...] = ()


def collect_kernel(system: System) -> tuple[dict[str, FileRead], dict[str, tuple[str, ...]]]:
    """KFD nodes and amdgpu's render nodes; nothing is read of other vendors' devices beyond their uevent."""
    files: dict[str, FileRead] = {}
    entries: dict[str, tuple[str, ...]] = {}
    for node in _listed(system, KFD_NODES, entries):
        path = f"{KFD_NODES}/{node}/properties"
        files[path] = system.read_text(path)
        if _properties(files, path).get("simd_count", 0) > 0:
            banks = f"{KFD_NODES}/{node}/mem_banks"
            paths = [f"{banks}/{bank}/properties" for bank in _listed(system, banks, entries)]
            files.update({path: system.read_text(path) for path in paths})
    for name in _listed(system, DRM, entries):
        folder = f"{DRM}/{name}/device"
        if _RENDER_NODE.fullmatch(name) is None:
            continue
        uevent = system.read_text(f"{folder}/uevent")
        if "DRIVER=amdgpu" in (uevent.text or ""):
            files[uevent.path] = uevent
            files.update({f"{folder}/{field}": system.read_text(f"{folder}/{field}") for field in _ATTRIBUTES})
    return files, entries


def parse_kernel(capture: Capture) -> KernelReport:
    """KFD's GPU nodes in their order, then what only DRM knows."""
    render = _render_nodes(capture.files)
    devices: list[AmdDevice] = []
    refused = []
    for node in sorted(capture.entries.get(KFD_NODES, ()), key=_number):
        path = f"{KFD_NODES}/{node}/properties"
        if (read := capture.files.get(path)) is not None and read.failure is Failure.NO_PERMISSION:
            refused.append(node)
        properties = _properties(capture.files, path)
        gfx = gfx_target(properties.get("gfx_target_version", 0))
        if properties.get("simd_count", 0) > 0 and gfx is not None:
            devices.append(_kfd_device(capture, node, properties, render))
    taken = {device.render_minor for device in devices}
    only_drm = [replace(device, in_kfd=False) for minor, device in render.items() if minor not in taken]
    known = {device.socket for device in devices}
    return KernelReport(
        devices=(*devices, *(device for device in only_drm if device.pci_address and device.socket not in known)),
        refused_nodes=tuple(refused),
    )


def _kfd_device(
    capture: Capture, node: str, properties: Mapping[str, int], render: Mapping[int, AmdDevice]
) -> AmdDevice:
    location = properties.get("location_id")
    address = None if location is None else bdf(properties.get("domain", 0), location)
    minor = properties.get("drm_render_minor")
    by_address = next((device for device in render.values() if device.pci_address == address), None)
    of_socket = next((d for d in render.values() if address and d.socket == address.rpartition(".")[0]), None)
    # A partition other than the first hangs on a platform device without attributes: those of its socket apply.
    seen = next(
        (d for d in (render.get(minor or -1), by_address, of_socket) if d is not None and _has_attributes(d)), None
    )
    banks = f"{KFD_NODES}/{node}/mem_banks"
    bank_bytes = _bank_bytes(capture.files, [f"{banks}/{bank}" for bank in capture.entries.get(banks, ())])
    return replace(
        seen or AmdDevice(source="KFD mem_banks", memory_error=f"{DRM}: no attributes for render node {minor}"),
        gfx=gfx_target(properties.get("gfx_target_version", 0)),
        pci_address=address,
        pci_id=_pci_id(properties),
        render_minor=minor or None,
        bank_bytes=bank_bytes,
    )


def _render_nodes(files: Mapping[str, FileRead]) -> dict[int, AmdDevice]:
    found = {}
    for path in sorted(files):
        match = re.fullmatch(rf"{DRM}/renderD(\d+)/device/uevent", path)
        if match is not None:
            found[int(match[1])] = _drm_device(files, int(match[1]))
    return found


def _drm_device(files: Mapping[str, FileRead], minor: int) -> AmdDevice:
    folder = f"{DRM}/renderD{minor}/device"
    uevent = _text(files, f"{folder}/uevent")
    address = re.search(r"^PCI_SLOT_NAME=(\S+)$", uevent, re.MULTILINE)
    pci_id = re.search(r"^PCI_ID=([0-9A-Fa-f]{4}:[0-9A-Fa-f]{4})$", uevent, re.MULTILINE)
    total = files.get(f"{folder}/mem_info_vram_total")
    board = files.get(f"{folder}/board_info")
    numa_node = _int(files, f"{folder}/numa_node")
    return AmdDevice(
        source="sysfs mem_info_vram_total",
        name=_text(files, f"{folder}/product_name") or None,
        pci_address=address[1].lower() if address else None,
        pci_id=pci_id[1].lower() if pci_id else None,
        render_minor=minor,
        numa_node=numa_node,
        compute_partition=_text(files, f"{folder}/current_compute_partition") or None,
        memory_partition=_text(files, f"{folder}/current_memory_partition") or None,
        has_board_info=None
        if board is None or board.failure not in {None, Failure.NOT_FOUND}
        else board.text is not None,
        # No device has 0 bytes: a driver that cannot say prints it.
        vram_total_bytes=_int(files, f"{folder}/mem_info_vram_total") or None,
        vram_used_bytes=_int(files, f"{folder}/mem_info_vram_used"),
        gtt_total_bytes=_int(files, f"{folder}/mem_info_gtt_total") or None,
        memory_error=f"{total.path}: {total.failure or 'no number'}" if total else None,
    )


def _has_attributes(device: AmdDevice) -> bool:
    return device.vram_total_bytes is not None or device.gtt_total_bytes is not None


def _bank_bytes(files: Mapping[str, FileRead], folders: list[str]) -> int | None:
    """Memory of the device's own banks; None where there is none or it reads 0."""
    banks = [_properties(files, f"{folder}/properties") for folder in folders]
    sizes = [bank.get("size_in_bytes", 0) for bank in banks if bank.get("heap_type") in _DEVICE_HEAPS]
    return sum(sizes) or None


def _pci_id(properties: Mapping[str, int]) -> str | None:
    device = properties.get("device_id")
    return None if device is None else f"{properties.get('vendor_id', _AMD_VENDOR_ID):04x}:{device:04x}"


def _listed(system: System, path: str, entries: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    names = system.list_dir(path)
    if names is not None:
        entries[path] = names
    return names or ()


def _properties(files: Mapping[str, FileRead], path: str) -> dict[str, int]:
    return {name: int(value) for name, value in _PROPERTY.findall(_text(files, path))}


def _text(files: Mapping[str, FileRead], path: str) -> str:
    read = files.get(path)
    return (read.text or "").strip() if read else ""


def _int(files: Mapping[str, FileRead], path: str) -> int | None:
    text = _text(files, path)
    return int(text) if text.isdecimal() else None


def _number(name: str) -> tuple[int, str]:
    """Nodes in the order of their numbers: as text, 10 would come before 2."""
    return (int(name), "") if name.isdecimal() else (1 << 31, name)
