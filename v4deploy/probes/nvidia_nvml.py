"""Understands what `nvml_reader` printed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from v4deploy.domain.hardware import AddressingMode
from v4deploy.probes.answers import error_of, objects, value_of, whole
from v4deploy.probes.nvidia_answers import capability_of, cuda_version_of, failure_of
from v4deploy.probes.nvidia_device import DriverFailure, NvidiaDevice, NvidiaReport, Virtualization
from v4deploy.probes.nvidia_links import nvml_links
from v4deploy.probes.pci import normal_address
from v4deploy.system.base import LibraryAnswer

SOURCE = "NVML"
_LIBRARY_NOT_FOUND = 12
# Places in NVML's four numbers on remapped rows.
_ROWS_PENDING, _ROWS_FAILED = 2, 3
_ADDRESSING_MODES = {0: AddressingMode.NONE, 1: AddressingMode.HMM, 2: AddressingMode.ATS}


def parse_nvml(answer: LibraryAnswer | None) -> NvidiaReport:
    """The devices, a slice counting as one, its parent as none."""
    if answer is None or answer.data is None:
        message = answer.error if answer and answer.error else "was not asked"
        return NvidiaReport(source=SOURCE, failure=DriverFailure(code=None, message=message, source=SOURCE))
    data = answer.data
    failure = failure_of(data, "init", SOURCE) or failure_of(data, "device_count", SOURCE)
    devices = tuple(device for entry in objects(data.get("devices")) for device in _devices(entry))
    return NvidiaReport(
        source=SOURCE,
        driver_version=value_of(data, "driver_version", str),
        cuda_version=cuda_version_of(value_of(data, "cuda_driver_version", int)),
        devices=() if failure else devices,
        links=() if failure else nvml_links(data, devices),
        awaits_attestation=_awaits_attestation(data),
        failure=failure,
    )


def library_is_missing(report: NvidiaReport) -> bool:
    """Whether libnvidia-ml itself is absent, as it is on every machine without an NVIDIA driver."""
    return report.failure is not None and report.failure.code == _LIBRARY_NOT_FOUND


def module_is_old(answer: LibraryAnswer | None) -> bool:
    """Whether an old `pynvml` package shadows nvidia-ml-py, so that newer questions could not be asked."""
    return bool(answer and answer.data and answer.data.get("module_is_old") is True)


def _awaits_attestation(data: Mapping[str, Any]) -> bool:
    """The ready state means nothing where confidential computing is off, and reads 0 there on some drivers."""
    state = value_of(data, "conf_compute", dict) or {}
    on = state.get("feature") == 1 or bool(whole(state.get("multi_gpu_mode")))
    return on and value_of(data, "conf_compute_ready", int) == 0


def _devices(entry: Mapping[str, Any]) -> Iterator[NvidiaDevice]:
    device = _device(entry)
    slices = tuple(objects(entry.get("slices")))
    if not slices:
        yield device
    for item in slices:
        yield _slice(item, device)


def _device(entry: Mapping[str, Any]) -> NvidiaDevice:
    pci = value_of(entry, "pci", dict) or {}
    memory = value_of(entry, "memory", dict) or {}
    fabric = value_of(entry, "fabric", dict) or {}
    index = whole(entry.get("index"))
    return NvidiaDevice(
        index=index or 0,
        name=value_of(entry, "name", str),
        uuid=value_of(entry, "uuid", str),
        failure=failure_of(entry, "handle", f"{SOURCE} device {index}"),
        pci_address=normal_address(str(pci.get("address", ""))),
        pci_id=_pci_id(whole(pci.get("device_id"))),
        total_bytes=whole(memory.get("total")),
        reserved_bytes=whole(memory.get("reserved")),
        free_bytes=whole(memory.get("free")),
        memory_error=error_of(entry, "memory", SOURCE),
        compute_capability=capability_of(entry),
        addressing_mode=_addressing_mode(entry),
        memory_node=value_of(entry, "numa_node", int),
        near_node=_near_node(entry),
        fabric_state=whole(fabric.get("state")),
        fabric_status=whole(fabric.get("status")),
        fabric_health=whole(fabric.get("health_summary")),
        recovery_action=value_of(entry, "recovery_action", int),
        mig_enabled=_number_at(entry, "mig_mode", 0) == 1,
        virtualization=_virtualization(entry),
        licensed=_licensed(entry),
        repairs_pending=_repairs_pending(entry),
        unrepairable=_unrepairable(entry),
        ecc_pending=_ecc_pending(entry),
    )


def _slice(entry: Mapping[str, Any], parent: NvidiaDevice) -> NvidiaDevice:
    """One MIG slice; what it does not say itself (architecture, address, state) is its parent's."""
    memory = value_of(entry, "memory", dict) or {}
    return replace(
        parent,
        name=value_of(entry, "name", str) or parent.name,
        uuid=value_of(entry, "uuid", str),
        failure=failure_of(entry, "handle", f"{SOURCE} slice of device {parent.index}"),
        total_bytes=whole(memory.get("total")),
        reserved_bytes=whole(memory.get("reserved")),
        free_bytes=whole(memory.get("free")),
        memory_error=error_of(entry, "memory", SOURCE),
        memory_node=None,
        mig_enabled=False,
        is_slice=True,
    )


def _virtualization(entry: Mapping[str, Any]) -> Virtualization | None:
    mode = value_of(entry, "virtualization_mode", int)
    return Virtualization(mode) if mode in list(Virtualization) else None


def _licensed(entry: Mapping[str, Any]) -> bool | None:
    """One licensed product lifts the limits of a vGPU."""
    products = tuple(objects(value_of(entry, "licences", list)))
    return any(product.get("licensed") is True for product in products) if products else None


def _repairs_pending(entry: Mapping[str, Any]) -> tuple[str, ...]:
    pending = {
        "retirement of memory pages": value_of(entry, "retired_pages_pending", int),
        "remapping of memory rows": _number_at(entry, "remapped_rows", _ROWS_PENDING),
        "repair of a memory channel": _number_at(entry, "repair_pending", 0),
        "repair of a processing cluster": _number_at(entry, "repair_pending", 1),
    }
    return tuple(what for what, state in pending.items() if state == 1)


def _unrepairable(entry: Mapping[str, Any]) -> tuple[str, ...]:
    faults = {
        "a row of its memory could not be remapped": _number_at(entry, "remapped_rows", _ROWS_FAILED),
        "its memory has a fault that cannot be repaired": value_of(entry, "unrepairable_memory", int),
    }
    return tuple(what for what, state in faults.items() if state == 1)


def _number_at(entry: Mapping[str, Any], name: str, place: int) -> int | None:
    values = value_of(entry, name, list) or []
    return whole(values[place]) if place < len(values) else None


def _ecc_pending(entry: Mapping[str, Any]) -> bool | None:
    match value_of(entry, "ecc_mode", list):
        case [int(current), int(pending)] if current != pending:
            return bool(pending)
        case _:
            return None


def _near_node(entry: Mapping[str, Any]) -> int | None:
    match value_of(entry, "memory_affinity", list):
        case [int(node)]:
            return node
        case _:
            return None


def _addressing_mode(entry: Mapping[str, Any]) -> AddressingMode | None:
    mode = value_of(entry, "addressing_mode", int)
    return None if mode is None else _ADDRESSING_MODES.get(mode)


def _pci_id(number: int | None) -> str | None:
    """NVML packs the device id above the vendor id: 0x233010de is `10de:2330`."""
    return None if number is None else f"{number & 0xFFFF:04x}:{number >> 16:04x}"
