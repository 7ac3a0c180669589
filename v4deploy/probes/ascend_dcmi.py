"""Understands what `dcmi_reader` printed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from v4deploy.domain.units import MIB
from v4deploy.probes.ascend_family import soc_name
from v4deploy.probes.ascend_table import NpuRow
from v4deploy.probes.pci import normal_address
from v4deploy.system.base import LibraryAnswer

SOURCE = "DCMI"
HBM_SOURCE = "DCMI on-chip memory"
# What a recording says of a library that it does not hold: nothing is wrong there.
_NOT_RECORDED = "not recorded"
# As npu-smi prints them. 0xffffffff: the device is gone or not started.
_HEALTH_WORDS = {0: "OK", 1: "Warning", 2: "Alarm", 3: "Critical", 0xFFFFFFFF: "UNKNOWN"}
_COMPATIBILITY_WORDS = {1: "OK", 2: "NOT OK"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DcmiFailure:
    """Why there is no device list. `code` is DCMI's number; None where the library could not be asked at all."""

    message: str
    code: int | None = None

    @property
    def is_hang(self) -> bool:
        """In the words of `LiveSystem.library`: the only way in which a driver that hangs shows."""
        return "gave no answer" in self.message


@dataclass(frozen=True, slots=True, kw_only=True)
class DcmiChip:
    """One NPU. `soc` and the rest are None where DCMI did not tell.

    Attributes:
        row: its ids, name, health and memory in the form of npu-smi's table.
        soc: full name of the SoC, as `soc_name` makes it.
        compatibility: of driver and firmware, as npu-smi words it.
        errors: what DCMI said about the fields that it did not tell.
    """

    row: NpuRow
    soc: str | None
    pci_id: str | None
    board_id: int | None
    compatibility: str | None
    errors: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DcmiReport:
    """What DCMI told. `failure` and `chips` are both empty where the library is not here.

    Attributes:
        generation: 1 for chips up to A3, 2 for the 950; None where it did not start.
        errors: cards or fields of the whole machine that gave nothing.
    """

    generation: int | None = None
    driver_version: str | None = None
    chips: tuple[DcmiChip, ...] = ()
    failure: DcmiFailure | None = None
    errors: tuple[str, ...] = ()


def parse_dcmi(answer: LibraryAnswer | None) -> DcmiReport:
    """The NPUs, and why there are none."""
    if answer is None or answer.error == _NOT_RECORDED:
        return DcmiReport()
    if answer.data is None:
        return DcmiReport(failure=DcmiFailure(message=f"{SOURCE}: {answer.error or 'no answer'}"))
    data = answer.data
    if "value" not in _mapping(data.get("library")):
        return DcmiReport()
    generation = _whole(data, "init")
    failure = _failure(data, "init") or _failure(data, "device_list")
    if failure is not None:
        return DcmiReport(generation=generation, failure=failure)
    cards = [_mapping(card) for card in _list(data.get("cards"))]
    return DcmiReport(
        generation=generation,
        driver_version=_text(data, "driver_version"),
        chips=tuple(_chip(entry) for entry in _list(data.get("devices")) if isinstance(entry, Mapping)),
        errors=tuple(
            f"card {card.get('card')}: {error}" for card in cards if (error := _error(card, "chip_count")) is not None
        ),
    )


def _chip(entry: Mapping[str, Any]) -> DcmiChip:
    names = _mapping(_value(entry, "names"))
    words = {word: str(names.get(key, "")) for word, key in _WORDS_OF_BOARD.items()}
    board = _whole(entry, "board_id")
    fields = ("hbm", "memory", "names", "health", "pci", "board_id", "compatibility", "physical_id")
    return DcmiChip(
        row=_row(entry, words["Chip Name"]),
        soc=soc_name({}, words),
        pci_id=_pci_id(entry),
        board_id=board,
        compatibility=_COMPATIBILITY_WORDS.get(_whole(entry, "compatibility") or 0),
        errors=tuple(error for field in fields if (error := _error(entry, field)) is not None),
    )


_WORDS_OF_BOARD = {"Chip Type": "type", "Chip Name": "name", "NPU Name": "npu_name"}


def _row(entry: Mapping[str, Any], name: str) -> NpuRow:
    card, device = _number(entry.get("card")), _number(entry.get("device"))
    hbm, memory = _mapping(_value(entry, "hbm")), _mapping(_value(entry, "memory"))
    total, used = _number(hbm.get("total")) or None, _number(hbm.get("used"))
    source = HBM_SOURCE
    if total is None:
        total, used, source = _number(memory.get("total")) or None, None, "DCMI memory"
    health = _whole(entry, "health")
    address = _mapping(_value(entry, "pci")).get("address")
    return NpuRow(
        npu_id=device if card is None else card,
        chip_id=_number(entry.get("chip")),
        physical_id=_whole(entry, "physical_id"),
        name=name,
        health="" if health is None else _HEALTH_WORDS.get(health, f"UNKNOWN ({health})"),
        pci_address=normal_address(str(address)) if _pci_id(entry) else None,
        total_bytes=None if total is None else total * MIB,
        used_bytes=None if total is None or used is None else used * MIB,
        memory_source=None if total is None else source,
    )


def _pci_id(entry: Mapping[str, Any]) -> str | None:
    """None on servers with the UB fabric, whose NPUs are no PCIe functions: all zeros there."""
    pci_id = str(_mapping(_value(entry, "pci")).get("device_id", ""))
    return pci_id if pci_id and not pci_id.startswith("0000:") else None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _value(entry: Mapping[str, Any], field: str) -> object:
    return _mapping(entry.get(field)).get("value")


def _whole(entry: Mapping[str, Any], field: str) -> int | None:
    return _number(_value(entry, field))


def _text(entry: Mapping[str, Any], field: str) -> str | None:
    value = _value(entry, field)
    return value if isinstance(value, str) and value else None


def _error(entry: Mapping[str, Any], field: str) -> str | None:
    """What a field that was asked for gave instead of a value."""
    answer = _mapping(entry.get(field))
    return str(answer["error"]) if "error" in answer else None


def _failure(data: Mapping[str, Any], field: str) -> DcmiFailure | None:
    error = _error(data, field)
    if error is not None:
        return DcmiFailure(message=f"{SOURCE}: {error}", code=_number(_mapping(data.get(field)).get("code")))
    return None if field in data else DcmiFailure(message=f"{SOURCE}: no answer to {field}")
