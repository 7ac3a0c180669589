"""Understands `nvidia-smi -q -x`, which tells what no query of single fields does: slices, fabric, licence, repairs.

Elements as drivers 340 to 615 print them (public captures, read 2026-11-28). From 610 on `kmd_version` and
`cuda_umd_version` stand beside `driver_version` and `cuda_version`, which go away with CUDA 14. What is missing or new
is passed over: a field that says nothing known is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from xml.etree import ElementTree as ET

from v4deploy.domain.hardware import AddressingMode
from v4deploy.domain.units import MIB
from v4deploy.probes.nvidia_device import NOT_SUPPORTED, DriverFailure, NvidiaDevice, NvidiaReport, Virtualization
from v4deploy.probes.pci import normal_address
from v4deploy.system.base import CommandRun

SOURCE = "nvidia-smi -q -x"
ARGUMENTS = ("-q", "-x")

_LOST, _UNKNOWN_ERROR = 15, 999
_LOST_WORDS = "GPU is lost"
# What stands in the place of a value that the driver does not give, beside the spellings of the query.
_NO_VALUE = (*NOT_SUPPORTED, _LOST_WORDS, "None", "Unknown Error", "Insufficient Permissions")
_ABSENT = "Requested functionality has been deprecated"
_FABRIC_STATES = {"Not Started": 1, "In Progress": 2, "Completed": 3}
_FABRIC_HEALTH = {"Healthy": 1, "Unhealthy": 2, "Limited Capacity": 3}
_RECOVERY_ACTIONS = {
    "None": 0,
    "Reset": 1,
    "GPU Reset": 1,
    "Reboot": 2,
    "Node Reboot": 2,
    "Drain P2P": 3,
    "Drain and Reset": 4,
}
_VIRTUALIZATION = {
    "None": Virtualization.NONE,
    "Pass-Through": Virtualization.PASS_THROUGH,
    "VGPU": Virtualization.VGPU,
    "Host VGPU": Virtualization.HOST_OF_VGPUS,
    "Host VSGA": Virtualization.HOST_OF_VSGAS,
}
# Where the XML says that a repair waits, and that a fault stays.
_REPAIRS = {
    "retired_pages/pending_retirement": "retirement of memory pages",
    "retired_pages/pending_blacklist": "retirement of memory pages",
    "remapped_rows/remapped_row_pending": "remapping of memory rows",
    "remapped_banks/bank_remapper_pending": "remapping of memory banks",
    "ecc_errors/channel_repair_pending": "repair of a memory channel",
    "ecc_errors/tpc_repair_pending": "repair of a processing cluster",
}
_FAULTS = {
    "remapped_rows/remapped_row_failure": "a row of its memory could not be remapped",
    "ecc_errors/unrepairable_memory": "its memory has a fault that cannot be repaired",
}
_VERSION = re.compile(r"\d+(?:\.\d+)+")
_PCI_ID = re.compile(r"(?:0x)?([0-9A-Fa-f]{4})([0-9A-Fa-f]{4})")


def parse_xml(runs: Sequence[CommandRun]) -> NvidiaReport | None:
    """The devices, a slice counting as one, its parent as none; None where the command was not run, and `failure` set
    where it printed something else. A text that was cut off gives the devices that it holds whole.
    """
    run = next((run for run in runs if run.argv[1:] == ARGUMENTS), None)
    if run is None:
        return None
    root = _root(run.stdout)
    devices = tuple(device for index, gpu in enumerate(root.findall("gpu")) for device in _devices(index, gpu))
    if not devices:
        words = " ".join(f"{run.stdout}\n{run.stderr}".split())[:300] or "printed nothing"
        return NvidiaReport(source=SOURCE, failure=DriverFailure(code=None, message=words, source=SOURCE))
    return NvidiaReport(
        source=SOURCE,
        driver_version=_version(root, "kmd_version", "driver_version"),
        cuda_version=_version(root, "cuda_umd_version", "cuda_version"),
        devices=devices,
    )


def with_xml(report: NvidiaReport, xml: NvidiaReport | None) -> NvidiaReport:
    """The query's report with what only the XML tells; the XML's own where the query gave nothing."""
    if xml is None or not xml.devices:
        return report
    if report.failure is not None or not report.devices:
        return xml
    by_address: dict[str | None, list[NvidiaDevice]] = {}
    for told in xml.devices:
        by_address.setdefault(told.pci_address, []).append(told)
    return replace(
        report,
        driver_version=report.driver_version or xml.driver_version,
        cuda_version=report.cuda_version or xml.cuda_version,
        devices=tuple(
            filled for device in report.devices for filled in _filled(device, by_address.get(device.pci_address, []))
        ),
    )


def _filled(device: NvidiaDevice, told: Sequence[NvidiaDevice]) -> Iterator[NvidiaDevice]:
    """The slices of a device, or the device itself, each with what the query says of the whole."""
    if not told or device.failure is not None or device.pci_address is None:
        yield device
        return
    for one in told:
        whole = one if one.is_slice else replace(one, reserved_bytes=device.reserved_bytes or one.reserved_bytes)
        yield replace(
            whole,
            index=device.index,
            compute_capability=device.compute_capability,
            addressing_mode=device.addressing_mode or one.addressing_mode,
            memory_error=one.memory_error or device.memory_error if one.total_bytes is None else None,
        )


def _root(text: str) -> ET.Element:
    """The document; of a text that ends early the GPUs that it holds whole, and of no XML an empty document."""
    # What stands before the root declares a document type, which is not looked at.
    document = f"<nvidia_smi_log{text.partition('<nvidia_smi_log')[2]}"
    for candidate in (document, f"{document.rpartition('</gpu>')[0]}</gpu></nvidia_smi_log>"):
        try:
            return ET.fromstring(candidate)  # noqa: S314 - without a document type there are no entities to expand
        except ET.ParseError:
            continue
    return ET.Element("nvidia_smi_log")


def _devices(index: int, gpu: ET.Element) -> Iterator[NvidiaDevice]:
    device = _device(index, gpu)
    slices = gpu.findall("mig_devices/mig_device")
    if not slices:
        yield device
    for entry in slices:
        number = _text(entry, "gpu_instance_id")
        yield replace(
            device,
            name=f"{device.name} MIG slice{'' if number is None else f' {number}'}",
            uuid=_text(entry, "uuid"),
            total_bytes=_mebibytes(entry, "fb_memory_usage/total"),
            reserved_bytes=_mebibytes(entry, "fb_memory_usage/reserved"),
            free_bytes=_mebibytes(entry, "fb_memory_usage/free"),
            memory_error=_memory_error(entry),
            mig_enabled=False,
            is_slice=True,
        )


def _device(index: int, gpu: ET.Element) -> NvidiaDevice:
    mode = (_text(gpu, "addressing_mode") or _raw(gpu, "addressing_mode") or "").lower()
    fabric = gpu.find("fabric")
    lost = any(_raw(gpu, path) == _LOST_WORDS for path in ("product_name", "fb_memory_usage/total"))
    return NvidiaDevice(
        index=index,
        name=_text(gpu, "product_name"),
        uuid=_text(gpu, "uuid"),
        failure=DriverFailure(code=_LOST, message=_LOST_WORDS, source=SOURCE) if lost else None,
        pci_address=normal_address(_text(gpu, "pci/pci_bus_id") or gpu.get("id")),
        pci_id=_pci_id(_text(gpu, "pci/pci_device_id")),
        total_bytes=_mebibytes(gpu, "fb_memory_usage/total"),
        reserved_bytes=_mebibytes(gpu, "fb_memory_usage/reserved"),
        free_bytes=_mebibytes(gpu, "fb_memory_usage/free"),
        memory_error=_memory_error(gpu),
        addressing_mode=AddressingMode(mode) if mode in list(AddressingMode) else None,
        fabric_state=None if fabric is None else _FABRIC_STATES.get(_raw(fabric, "state") or ""),
        fabric_status=None if fabric is None else _fabric_status(fabric),
        fabric_health=None if fabric is None else _FABRIC_HEALTH.get(_raw(fabric, "health/summary") or ""),
        recovery_action=_RECOVERY_ACTIONS.get(_raw(gpu, "gpu_recovery_action") or ""),
        mig_enabled=_text(gpu, "mig_mode/current_mig") == "Enabled",
        virtualization=_VIRTUALIZATION.get(_raw(gpu, "gpu_virtualization_mode/virtualization_mode") or ""),
        licensed=_licensed(gpu),
        repairs_pending=tuple(dict.fromkeys(words for path, words in _REPAIRS.items() if _raw(gpu, path) == "Yes")),
        unrepairable=tuple(words for path, words in _FAULTS.items() if _raw(gpu, path) == "Yes"),
        ecc_pending=_ecc_pending(gpu),
    )


def _fabric_status(fabric: ET.Element) -> int | None:
    """0 where registration succeeded; the driver's number for other ends is not printed."""
    words = _text(fabric, "status")
    return None if words is None else 0 if words == "Success" else _UNKNOWN_ERROR


def _licensed(gpu: ET.Element) -> bool | None:
    """`Licensed (Expiry: ...)` or `Unlicensed (Restricted)`; None where the GPU has no licensed product."""
    words = _text(gpu, "vgpu_software_licensed_product/license_status")
    return None if words is None else words.startswith("Licensed")


def _ecc_pending(gpu: ET.Element) -> bool | None:
    current, pending = (_text(gpu, f"ecc_mode/{name}_ecc") for name in ("current", "pending"))
    known = {"Enabled": True, "Disabled": False}
    return known.get(pending or "") if current in known and current != pending else None


def _memory_error(entry: ET.Element) -> str | None:
    if _mebibytes(entry, "fb_memory_usage/total") is not None:
        return None
    return f"{SOURCE} fb_memory_usage: {_raw(entry, 'fb_memory_usage/total') or 'missing'}"


def _raw(entry: ET.Element, path: str) -> str | None:
    text = (entry.findtext(path) or "").strip()
    return text or None


def _text(entry: ET.Element, path: str) -> str | None:
    text = _raw(entry, path)
    return None if text is None or text in _NO_VALUE or text == _ABSENT else text


def _mebibytes(entry: ET.Element, path: str) -> int | None:
    match = re.fullmatch(r"(\d+) MiB", _text(entry, path) or "")
    return int(match[1]) * MIB if match else None


def _pci_id(text: str | None) -> str | None:
    match = _PCI_ID.fullmatch(text or "")
    return f"{match[2]}:{match[1]}".lower() if match else None


def _version(root: ET.Element, *names: str) -> str | None:
    """The first of the elements that holds a version. Some drivers add a note to it."""
    found = (_VERSION.match(root.findtext(name) or "") for name in names)
    return next((match[0] for match in found if match), None)
