"""Understands amd-smi and rocm-smi, for machines whose kernel interfaces are hidden. Their JSON changes by release.

`amd-smi static` prints a list, or an object with `gpu_data`; any value or whole section may be "N/A"; numbers come
plain or as `{"value": ..., "unit": ...}`; warnings may stand before the JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from v4deploy.domain.units import GIB, KIB, MIB
from v4deploy.probes.amd_device import AmdDevice
from v4deploy.probes.pci import normal_address
from v4deploy.system.base import CommandRun

AMD_SMI = ("amd-smi", "static", "--json")
ROCM_SMI = ("rocm-smi", "--showproductname", "--showmeminfo", "all", "--showbus", "--json")
# amd-smi writes "MB" for what the driver counts in MiB: 196592 MB is an MI300X.
_UNITS = {"B": 1, "KB": KIB, "MB": MIB, "GB": GIB}
_NOT_AVAILABLE = {"", "N/A", "None", "unknown"}


def parse_tools(runs: Sequence[CommandRun]) -> tuple[AmdDevice, ...]:
    """The devices of the first tool that listed any; empty where none did."""
    for run in runs:
        parse = _amd_smi_devices if run.argv[0] == AMD_SMI[0] else _rocm_smi_devices
        if devices := parse(first_json(run.stdout)):
            return devices
    return ()


def first_json(text: str) -> Any:
    """The first JSON list or object that begins a line; None where there is none or it is cut off."""
    for match in re.finditer(r"^[ \t]*([\[{])", text, re.MULTILINE):
        try:
            value, _ = json.JSONDecoder().raw_decode(text, match.start(1))
        except ValueError:
            continue
        return value
    return None


def _amd_smi_devices(data: Any) -> tuple[AmdDevice, ...]:
    entries = data.get("gpu_data") if isinstance(data, dict) else data
    if not isinstance(entries, list):
        return ()
    return tuple(_amd_smi_device(entry) for entry in entries if isinstance(entry, dict) and "gpu" in entry)


def _amd_smi_device(entry: Mapping[str, Any]) -> AmdDevice:
    asic, board, vram = (_section(entry, name) for name in ("asic", "board", "vram"))
    partition, driver = _section(entry, "partition"), _section(entry, "driver")
    gfx = _known(asic.get("target_graphics_version"))
    return AmdDevice(
        source="amd-smi static",
        name=_known(board.get("product_name")) or _known(asic.get("market_name")),
        gfx=gfx if gfx and gfx.startswith("gfx") else None,
        pci_address=normal_address(_known(_section(entry, "bus").get("bdf"))),
        pci_id=_pci_id(_known(asic.get("device_id"))),
        driver_version=_known(driver.get("version")) or _known(driver.get("driver_version")),
        compute_partition=_known(partition.get("compute_partition")) or _known(partition.get("accelerator_type")),
        memory_partition=_known(partition.get("memory_partition")),
        vram_total_bytes=_size(vram.get("size", vram.get("vram_size"))),
        memory_error=f"amd-smi static: vram is {json.dumps(entry.get('vram'))[:80]}",
    )


def _rocm_smi_devices(data: Any) -> tuple[AmdDevice, ...]:
    if not isinstance(data, dict):
        return ()
    cards = sorted(
        ((int(match[1]), card) for key, card in data.items() if (match := re.fullmatch(r"card(\d+)", key))),
        key=lambda numbered: numbered[0],
    )
    return tuple(_rocm_smi_device(card) for _, card in cards if isinstance(card, dict))


def _rocm_smi_device(card: Mapping[str, Any]) -> AmdDevice:
    fields = {key.lower(): value for key, value in card.items()}
    gfx = _known(fields.get("gfx version"))
    return AmdDevice(
        source="rocm-smi",
        name=_known(fields.get("card series")) or _known(fields.get("device name")),
        gfx=gfx if gfx and gfx.startswith("gfx") else None,
        pci_address=normal_address(_known(fields.get("pci bus"))),
        pci_id=_pci_id(_known(fields.get("card model")) or _known(fields.get("device id"))),
        vram_total_bytes=_size(fields.get("vram total memory (b)")),
        vram_used_bytes=_count(fields.get("vram total used memory (b)")),
        gtt_total_bytes=_size(fields.get("gtt total memory (b)")),
        memory_error="rocm-smi: no `VRAM Total Memory (B)`",
    )


def _section(entry: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = entry.get(name)
    return value if isinstance(value, Mapping) else {}


def _known(value: Any) -> str | None:
    return value.strip() if isinstance(value, str) and value.strip() not in _NOT_AVAILABLE else None


def _size(value: Any) -> int | None:
    """Bytes; a plain number of rocm-smi is in bytes, one of an early amd-smi in megabytes. None for 0 and no number."""
    if isinstance(value, Mapping):
        number, factor = _count(value.get("value")), _UNITS.get(str(value.get("unit", "")).upper())
        return number * factor or None if number is not None and factor is not None else None
    number = _count(value)
    if number is None:
        return None
    return (number * MIB if isinstance(value, int) else number) or None


def _count(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return int(value)
    return int(value) if isinstance(value, str) and value.strip().isdecimal() else None


def _pci_id(device: str | None) -> str | None:
    match = re.fullmatch(r"(?:0x)?([0-9a-f]{4})", device or "", re.IGNORECASE)
    return f"1002:{match[1].lower()}" if match else None
