"""The PCI bus as sysfs shows it: tells "no such device" from "there, but its driver does not answer"."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from v4deploy.system.base import FileRead, System

PCI_DEVICES = "/sys/bus/pci/devices"
# Class codes (base class, subclass) of what computes: VGA, 3D controller, other display controller (MI100 to MI250,
# Strix Halo), processing accelerator.
_COMPUTE_CLASSES = ("0x0300", "0x0302", "0x0380", "0x1200")
_ADDRESS = re.compile(r"(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}):([0-9a-f]{2})\.([0-9a-f])", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class PciDevice:
    """A display or accelerator function. `pci_id` is `vendor:device`, lower case hex.

    `driver` None: none is bound. `numa_node` None: the machine has one node, or firmware does not say.
    """

    address: str
    pci_id: str
    driver: str | None = None
    numa_node: int | None = None


def collect_pci(system: System, *vendor_ids: str) -> tuple[dict[str, FileRead], dict[str, tuple[str, ...]]]:
    """Files and directory listings of some vendors' functions (ids as in sysfs: `0x10de`)."""
    names = system.list_dir(PCI_DEVICES)
    files: dict[str, FileRead] = {}
    for name in names or ():
        vendor = system.read_text(f"{PCI_DEVICES}/{name}/vendor")
        if (vendor.text or "").strip() not in vendor_ids:
            continue
        files[vendor.path] = vendor
        for field in ("class", "device", "uevent", "numa_node"):
            path = f"{PCI_DEVICES}/{name}/{field}"
            files[path] = system.read_text(path)
    return files, {} if names is None else {PCI_DEVICES: names}


def parse_pci(files: Mapping[str, FileRead]) -> tuple[PciDevice, ...]:
    """The computing functions among what `collect_pci` read, by address."""
    devices = []
    for path in sorted(files):
        folder, _, field = path.rpartition("/")
        if field != "vendor" or not folder.startswith(PCI_DEVICES):
            continue
        vendor, device, class_ = (_text(files, f"{folder}/{name}") for name in ("vendor", "device", "class"))
        if vendor and device and class_.startswith(_COMPUTE_CLASSES):
            driver = re.search(r"^DRIVER=(\S+)$", _text(files, f"{folder}/uevent"), re.MULTILINE)
            node = _text(files, f"{folder}/numa_node")
            devices.append(
                PciDevice(
                    address=folder.rpartition("/")[2].lower(),
                    pci_id=f"{vendor.removeprefix('0x')}:{device.removeprefix('0x')}".lower(),
                    driver=driver[1] if driver else None,
                    numa_node=int(node) if node.isdecimal() else None,
                )
            )
    return tuple(devices)


def normal_address(text: str | None) -> str | None:
    """`00000000:63:00.0` and `63:00.0` as sysfs writes it, `0000:63:00.0`; None for what is no address."""
    match = _ADDRESS.fullmatch((text or "").strip())
    if match is None:
        return None
    return f"{int(match[1] or '0', 16):04x}:{match[2]}:{match[3]}.{match[4]}".lower()


def _text(files: Mapping[str, FileRead], path: str) -> str:
    read = files.get(path)
    return (read.text or "").strip() if read else ""
