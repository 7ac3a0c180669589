"""Asks DCMI, the library below npu-smi, about the Ascend NPUs here and prints one JSON object. Run as a child process.

Generation 1 (`dcmi_*`, cards with chips) serves the chips up to A3, generation 2 (`dcmiv2_*`, a flat list) the 950.
Every answer is `{"value": ...}` or `{"error": text, "code": DCMI's number or null}`, so that one failing field hides no
other. Fields:

    library: the name under which it was found
    init: 1 or 2, the generation that started; init_errors: generation -> what the others said
    driver_version, device_list (generation 1: card numbers; 2: device numbers)
    cards: generation 1, one object each: card, and chip_count
    devices: one object each: card and chip (generation 1), or device (generation 2); and
        kind (0 NPU, 1 controller, 2 CPU), names {type, name, version, npu_name}, health (0 to 3, 4294967295 gone),
        hbm {total, used} in MiB; memory {total} in MiB only where there is no HBM, pci {address, device_id}, board_id,
        compatibility (of driver and firmware: 1 yes, 2 no, 3 unknown), physical_id (N of /dev/davinciN), logical_id

Signatures and layouts: `dcmi_interface_api.h` of hicann/driver (2026-07); units: Huawei's DCMI reference.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

Answer = dict[str, Any]

LIBRARIES = ("libdcmi.so", "/usr/local/Ascend/driver/lib64/driver/libdcmi.so", "/usr/local/dcmi/libdcmi.so")
NOT_SUPPORTED = -8255
_KIND_OF_NPU = 0
_MOST_DEVICES = 64
_TEXT_BYTES = 256
# Newer drivers lengthen some structures: room behind keeps their answer from writing over other memory.
_SPARE_BYTES = 1024
_MEANINGS = {
    -8001: "invalid parameter",
    -8002: "not permitted",
    -8003: "a memory operation failed",
    -8004: "a secure function failed",
    -8005: "internal error",
    -8006: "timed out",
    -8007: "invalid device number",
    -8008: "the device does not exist",
    -8009: "the driver refused the call",
    -8010: "a message could not be sent",
    -8011: "a message could not be received",
    -8012: "not ready",
    -8013: "not supported in a container",
    -8014: "a file operation failed",
    -8015: "the reset failed",
    -8016: "aborted",
    -8017: "the device is being upgraded",
    -8020: "the device is held by another container or process",
    -8022: "the partition is not right",
    -8023: "a configuration entry is missing",
    NOT_SUPPORTED: "not supported by this device",
}


class _ChipInfo(ctypes.Structure):
    _fields_: ClassVar[Any] = (
        ("type", ctypes.c_char * 32),
        ("name", ctypes.c_char * 32),
        ("version", ctypes.c_char * 32),
        ("core_count", ctypes.c_uint),
        ("npu_name", ctypes.c_char * 32),
    )


class _HbmInfo(ctypes.Structure):
    _fields_: ClassVar[Any] = (("total", ctypes.c_ulonglong), ("clock", ctypes.c_uint), ("used", ctypes.c_ulonglong))


class _MemoryInfo(ctypes.Structure):
    _fields_: ClassVar[Any] = (("total", ctypes.c_ulonglong),)


class _PciInfo(ctypes.Structure):
    _fields_: ClassVar[Any] = (
        ("vendor", ctypes.c_uint),
        ("subsystem_vendor", ctypes.c_uint),
        ("device", ctypes.c_uint),
        ("subsystem_device", ctypes.c_uint),
        ("domain", ctypes.c_int),
        ("bus", ctypes.c_uint),
        ("slot", ctypes.c_uint),
        ("function", ctypes.c_uint),
    )


class _DcmiError(Exception):
    def __init__(self, function: str, code: int) -> None:
        super().__init__(f"{function}: {_MEANINGS.get(code, 'unknown error')} ({code})")
        self.code = code


class _Dcmi:
    """The library's functions as Python calls: their results as values, their error numbers as exceptions."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def call(self, name: str, *arguments: Any) -> None:
        code = int(getattr(self._library, name)(*arguments))
        if code != 0:
            raise _DcmiError(name, code)

    def number(self, name: str, *arguments: int) -> int:
        found = ctypes.c_uint()
        self.call(name, *arguments, ctypes.byref(found))
        return int(found.value)

    def text(self, name: str) -> str:
        buffer = ctypes.create_string_buffer(_TEXT_BYTES)
        self.call(name, buffer, ctypes.c_uint(_TEXT_BYTES))
        return _decoded(buffer.value)

    def structure(self, name: str, layout: type[ctypes.Structure], plain: Callable[[Any], Any], *numbers: int) -> Any:
        buffer = ctypes.create_string_buffer(ctypes.sizeof(layout) + _SPARE_BYTES)
        self.call(name, *numbers, buffer)
        return plain(layout.from_buffer(buffer))

    def card_list(self) -> list[int]:
        count, entries = ctypes.c_int(), (ctypes.c_int * _MOST_DEVICES)()
        self.call("dcmi_get_card_list", ctypes.byref(count), entries, _MOST_DEVICES)
        return list(entries[: max(count.value, 0)])

    def device_list(self) -> list[int]:
        count, entries = ctypes.c_int(), (ctypes.c_int * _MOST_DEVICES)()
        self.call("dcmiv2_get_device_list", entries, ctypes.byref(count), _MOST_DEVICES)
        return list(entries[: max(count.value, 0)])

    def logical_id(self, card: int, chip: int) -> int:
        found = ctypes.c_int()
        self.call("dcmi_get_device_logic_id", ctypes.byref(found), card, chip)
        return found.value


def read_all(libraries: Sequence[str] = LIBRARIES) -> Answer:
    """Everything, from the first of these libraries that can be loaded."""
    found, loaded = _load(libraries)
    if loaded is None:
        return {"library": found}
    dcmi = _Dcmi(loaded)
    errors: dict[str, Answer] = {}
    for generation, (init, read) in _GENERATIONS.items():
        started = _ask(dcmi.call, init)
        if "error" not in started:
            return {"library": found, "init": {"value": generation}, "init_errors": errors, **read(dcmi)}
        errors[str(generation)] = started
    return {"library": found, "init": _most_telling(errors), "init_errors": errors}


def _load(libraries: Sequence[str]) -> tuple[Answer, ctypes.CDLL | None]:
    errors = []
    for name in libraries:
        try:
            return {"value": name}, ctypes.CDLL(name)
        except OSError as error:
            errors.append(str(error))
    return {"error": "; ".join(errors), "code": None}, None


def _most_telling(errors: dict[str, Answer]) -> Answer:
    """Each generation refuses the other's devices with "not supported", which says nothing of what is wrong."""
    return next((error for error in errors.values() if error["code"] not in {None, NOT_SUPPORTED}), errors["1"])


def _read_cards(dcmi: _Dcmi) -> Answer:
    """Generation 1."""
    listed = _ask(dcmi.card_list)
    cards = [
        {"card": card, "chip_count": _ask(dcmi.number, "dcmi_get_device_num_in_card", card)}
        for card in listed.get("value", ())
    ]
    pairs = [(entry["card"], chip) for entry in cards for chip in range(entry["chip_count"].get("value", 0))]
    devices = _npus(_read_device(dcmi, _FUNCTIONS_1, pair, {"card": pair[0], "chip": pair[1]}) for pair in pairs)
    return {
        "driver_version": _ask(dcmi.text, "dcmi_get_driver_version"),
        "device_list": listed,
        "cards": cards,
        "devices": [{**device, **_ids_of_chip(dcmi, device["card"], device["chip"])} for device in devices],
    }


def _read_flat(dcmi: _Dcmi) -> Answer:
    """Generation 2."""
    listed = _ask(dcmi.device_list)
    numbers = listed.get("value", ())
    devices = _npus(_read_device(dcmi, _FUNCTIONS_2, (number,), {"device": number}) for number in numbers)
    return {
        "driver_version": _ask(dcmi.text, "dcmiv2_get_driver_version"),
        "device_list": listed,
        "devices": [{**device, **_ids_of_device(dcmi, device["device"])} for device in devices],
    }


def _npus(devices: Iterator[Answer]) -> Iterator[Answer]:
    """Leaves out controllers and CPUs. What does not tell its kind stays: it may be an NPU that is in trouble."""
    return (device for device in devices if device["kind"].get("value", _KIND_OF_NPU) == _KIND_OF_NPU)


_FUNCTIONS_1 = {
    "kind": "dcmi_get_device_type",
    "names": "dcmi_get_device_chip_info_v2",
    "health": "dcmi_get_device_health",
    "hbm": "dcmi_get_device_hbm_info",
    "memory": "dcmi_get_device_memory_info_v3",
    "pci": "dcmi_get_device_pcie_info_v2",
    "board_id": "dcmi_get_device_board_id",
    "compatibility": "dcmi_get_device_compatibility",
}
_FUNCTIONS_2 = {
    "kind": "dcmiv2_get_device_type",
    "names": "dcmiv2_get_device_chip_info",
    "health": "dcmiv2_get_device_health",
    "hbm": "dcmiv2_get_device_hbm_info",
    "pci": "dcmiv2_get_device_pcie_info",
    "board_id": "dcmiv2_get_device_board_id",
    "compatibility": "dcmiv2_get_device_compatibility",
}
_NUMBERS = ("kind", "health", "board_id", "compatibility")


def _read_device(dcmi: _Dcmi, functions: dict[str, str], numbers: tuple[int, ...], names: Answer) -> Answer:
    device: Answer = dict(names)
    for field in _NUMBERS:
        device[field] = _ask(dcmi.number, functions[field], *numbers)
    for field, layout, plain in _STRUCTURES:
        device[field] = _ask(dcmi.structure, functions[field], layout, plain, *numbers)
    # Only where there is no HBM: where it merely could not be read, the DDR would pass for the chip's memory.
    if "memory" in functions and _has_no_hbm(device["hbm"]):
        device["memory"] = _ask(dcmi.structure, functions["memory"], _MemoryInfo, _plain_memory, *numbers)
    return device


def _has_no_hbm(hbm: Answer) -> bool:
    return hbm.get("code") == NOT_SUPPORTED or hbm.get("value", {}).get("total") == 0


def _ids_of_chip(dcmi: _Dcmi, card: int, chip: int) -> Answer:
    logical = _ask(dcmi.logical_id, card, chip)
    if "error" in logical:
        return {"logical_id": logical, "physical_id": logical}
    physical = _ask(dcmi.number, "dcmi_get_device_phyid_from_logicid", logical["value"])
    return {"logical_id": logical, "physical_id": physical}


def _ids_of_device(dcmi: _Dcmi, number: int) -> Answer:
    physical = _ask(dcmi.number, "dcmiv2_get_chip_phy_id_by_dev_id", number)
    return {"logical_id": {"value": number}, "physical_id": physical}


_GENERATIONS: dict[int, tuple[str, Callable[[_Dcmi], Answer]]] = {
    1: ("dcmi_init", _read_cards),
    2: ("dcmiv2_init", _read_flat),
}


def _plain_names(info: Any) -> Answer:
    return {key: _decoded(getattr(info, key)) for key in ("type", "name", "version", "npu_name")}


def _plain_hbm(info: Any) -> Answer:
    return {"total": info.total, "used": info.used}


def _plain_memory(info: Any) -> Answer:
    return {"total": info.total}


def _plain_pci(info: Any) -> Answer:
    address = f"{info.domain:04x}:{info.bus:02x}:{info.slot:02x}.{info.function:x}"
    return {"address": address, "device_id": f"{info.vendor:04x}:{info.device:04x}"}


_STRUCTURES: tuple[tuple[str, type[ctypes.Structure], Callable[[Any], Answer]], ...] = (
    ("names", _ChipInfo, _plain_names),
    ("hbm", _HbmInfo, _plain_hbm),
    ("pci", _PciInfo, _plain_pci),
)


def _ask(question: Callable[..., Any], *arguments: Any) -> Answer:
    try:
        return {"value": question(*arguments)}
    except _DcmiError as error:
        return {"error": str(error), "code": error.code}
    except AttributeError as error:  # an older library lacks the function, and then only that field is unknown
        return {"error": str(error), "code": None}


def _decoded(value: bytes) -> str:
    return value.decode(errors="replace").strip()


def main() -> None:
    """Print the answers, and nothing else: the driver's libraries print their complaints to standard output too."""
    kept = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    answers = read_all()
    with os.fdopen(kept, "w", encoding="utf-8") as output:
        json.dump(answers, output)


if __name__ == "__main__":
    main()
