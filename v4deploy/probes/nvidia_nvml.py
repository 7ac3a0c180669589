"""Understands what `nvml_reader` printed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from v4deploy.probes.nvidia_device import AddressingMode, DriverFailure, NvidiaDevice, NvidiaReport
from v4deploy.probes.pci import normal_address
from v4deploy.system.base import LibraryAnswer

SOURCE = "NVML"
_LIBRARY_NOT_FOUND = 12
_ADDRESSING_MODES = {0: AddressingMode.NONE, 1: AddressingMode.HMM, 2: AddressingMode.ATS}


def parse_nvml(answer: LibraryAnswer | None) -> NvidiaReport:
    """The devices, a slice counting as one, its parent as none."""
    if answer is None or answer.data is None:
        message = answer.error if answer and answer.error else "was not asked"
        return NvidiaReport(source=SOURCE, failure=DriverFailure(code=None, message=message, source=SOURCE))
    data = answer.data
    failure = _failure(_mapping(data.get("init")), SOURCE) or _failure(_mapping(data.get("device_count")), SOURCE)
    cuda = _value(data, "cuda_driver_version", int)
    entries = data.get("devices")
    devices = [entry for entry in entries if isinstance(entry, Mapping)] if isinstance(entries, list) else []
    return NvidiaReport(
        source=SOURCE,
        driver_version=_value(data, "driver_version", str),
        cuda_version=None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
        devices=() if failure else tuple(device for entry in devices for device in _devices(entry)),
        failure=failure,
    )


def library_is_missing(report: NvidiaReport) -> bool:
    """Whether libnvidia-ml itself is absent, as it is on every machine without an NVIDIA driver."""
    return report.failure is not None and report.failure.code == _LIBRARY_NOT_FOUND


def module_is_old(answer: LibraryAnswer | None) -> bool:
    """Whether an old `pynvml` package shadows nvidia-ml-py, so that newer questions could not be asked."""
    return bool(answer and answer.data and answer.data.get("module_is_old") is True)


def _devices(entry: Mapping[str, Any]) -> Iterator[NvidiaDevice]:
    parent = _device(entry, None)
    slices = entry.get("slices")
    found = [item for item in slices if isinstance(item, Mapping)] if isinstance(slices, list) else []
    if not found:
        yield parent
    for item in found:
        yield _device(item, parent)


def _device(entry: Mapping[str, Any], parent: NvidiaDevice | None) -> NvidiaDevice:
    """One object of the reader; what a slice does not say itself (architecture, address) is its parent's."""
    pci = _value(entry, "pci", dict) or {}
    memory = _value(entry, "memory", dict) or {}
    fabric = _value(entry, "fabric", dict) or {}
    mode = _value(entry, "mig_mode", list) or [0]
    index = _whole(entry.get("index"))
    return NvidiaDevice(
        index=parent.index if parent else (index or 0),
        name=_value(entry, "name", str) or (parent.name if parent else None),
        failure=_failure(_mapping(entry.get("handle")), f"{SOURCE} device {index}"),
        pci_address=parent.pci_address if parent else normal_address(str(pci.get("address", ""))),
        pci_id=parent.pci_id if parent else _pci_id(_whole(pci.get("device_id"))),
        total_bytes=_whole(memory.get("total")),
        reserved_bytes=_whole(memory.get("reserved")),
        free_bytes=_whole(memory.get("free")),
        memory_error=_error(entry, "memory"),
        compute_capability=parent.compute_capability if parent else _capability(entry),
        addressing_mode=parent.addressing_mode if parent else _addressing_mode(entry),
        memory_node=_value(entry, "numa_node", int),
        fabric_state=parent.fabric_state if parent else _whole(fabric.get("state")),
        fabric_status=parent.fabric_status if parent else _whole(fabric.get("status")),
        recovery_action=parent.recovery_action if parent else _value(entry, "recovery_action", int),
        mig_enabled=parent is None and mode[0] == 1,
        is_slice=parent is not None,
    )


def _capability(entry: Mapping[str, Any]) -> tuple[int, int] | None:
    match _value(entry, "compute_capability", list):
        case [int(major), int(minor)]:
            return major, minor
        case _:
            return None


def _addressing_mode(entry: Mapping[str, Any]) -> AddressingMode | None:
    mode = _value(entry, "addressing_mode", int)
    return None if mode is None else _ADDRESSING_MODES.get(mode)


def _pci_id(number: int | None) -> str | None:
    """NVML packs the device id above the vendor id: 0x233010de is `10de:2330`."""
    return None if number is None else f"{number & 0xFFFF:04x}:{number >> 16:04x}"


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _value(entry: Mapping[str, Any], name: str, kind: type[Any]) -> Any:
    """The value of one answer; None where it is an error, missing, or of another type than expected."""
    value = _mapping(entry.get(name)).get("value")
    return value if isinstance(value, kind) and not (kind is int and isinstance(value, bool)) else None


def _error(entry: Mapping[str, Any], name: str) -> str | None:
    answer = _mapping(entry.get(name))
    if "value" in answer:
        return None
    return f"{SOURCE}: {answer.get('error', 'no answer')}"


def _failure(answer: Mapping[str, Any], source: str) -> DriverFailure | None:
    if "error" not in answer:
        return None
    return DriverFailure(code=_whole(answer.get("code")), message=str(answer["error"]), source=source)
