"""AMD's runtime as a source: what `hip_reader` printed, and rocminfo's text. It lists what a program can open."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from v4deploy.domain.units import KIB
from v4deploy.probes.amd_device import AmdDevice, bdf
from v4deploy.probes.answers import error_of, mapping, objects, value_of, whole
from v4deploy.probes.pci import normal_address
from v4deploy.system.base import CommandRun, Failure, LibraryAnswer

HIP = "HIP"
ROCMINFO_PROGRAMS = ("rocminfo", "/opt/rocm/bin/rocminfo")
_NO_ADDRESS = "0000:00:00.0"
_AGENT = re.compile(r"^\*+\s*\nAgent \d+\s*\n\*+\s*$", re.MULTILINE)
_DONE = "*** Done ***"
_FIELD = r"^[ \t]*{key}:[ \t]*(.*?)[ \t]*$"
# What belongs to a GPU itself lies in its coarse grained pool; the others are the same memory seen otherwise.
_OWN_POOL = re.compile(r"Segment:\s+GLOBAL; FLAGS: COARSE GRAINED\s*\n\s*Size:\s+(\d+)\(0x[0-9a-f]+\) KB")
_TARGET = re.compile(r"gfx[0-9a-f]{3,5}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeReport:
    """The devices that a program of this user can open; `error` says why there are none."""

    devices: tuple[AmdDevice, ...] = ()
    error: str | None = None


def parse_hip(answer: LibraryAnswer | None) -> RuntimeReport:
    """Without an answer there are neither devices nor an error."""
    if answer is None:
        return RuntimeReport()
    if answer.data is None:
        return RuntimeReport(error=answer.error or "no answer")
    failed = error_of(answer.data, "init", HIP) or error_of(answer.data, "device_count", HIP)
    if failed is not None:
        return RuntimeReport(error=failed)
    devices = tuple(_hip_devices(answer.data))
    return RuntimeReport(devices=devices, error=None if devices else f"{HIP}: lists no device")


def _hip_devices(data: Mapping[str, Any]) -> Iterator[AmdDevice]:
    for entry in objects(data.get("devices")):
        if value_of(entry, "handle", bool) is not True:
            continue
        integrated = value_of(entry, "integrated", int)
        device = AmdDevice(
            source=HIP,
            is_open=True,
            name=value_of(entry, "name", str),
            gfx=_target(value_of(entry, "target", str)),
            pci_address=_address(str(mapping(value_of(entry, "pci", dict)).get("address", ""))),
            integrated=None if integrated is None else integrated == 1,
            memory_error=error_of(entry, "memory", HIP),
        )
        yield _with_memory(device, whole(mapping(value_of(entry, "memory", dict)).get("total")))


def _address(text: str) -> str | None:
    """Under WSL there is none, and zeros for every GPU would make them one."""
    address = normal_address(text)
    return None if address == _NO_ADDRESS else address


def parse_rocminfo(run: CommandRun | None) -> RuntimeReport:
    """The agents that are GPUs: each once, however many of its fields carry a name. No run, no devices and no error."""
    if run is None:
        return RuntimeReport()
    agents = _AGENT.split(run.stdout.partition(_DONE)[0])[1:]
    devices = tuple(_agent(text) for text in agents if _field(text, "Device Type") == "GPU")
    if devices:
        return RuntimeReport(devices=devices)
    if run.failure is Failure.TIMED_OUT:
        return RuntimeReport(error="gave no answer in time")
    words = " ".join(f"{run.stderr} {run.stdout}".split())
    nothing = f"{run.failure or f'status {run.exit_status}'}" if not words else words[-200:]
    return RuntimeReport(error="lists no GPU" if agents else nothing)


def _agent(text: str) -> AmdDevice:
    chip = re.match(r"\d+\(0x([0-9a-f]+)\)", _field(text, "Chip ID") or "")
    location = _field(text, "BDFID") or ""
    # Under WSL the field is missing, or 0, which is no address of a GPU.
    address = bdf(0, int(location)) if location.isdecimal() and int(location) else None
    properties = _field(text, "Memory Properties")
    own = _OWN_POOL.search(text)
    device = AmdDevice(
        source="rocminfo",
        is_open=True,
        name=_field(text, "Marketing Name") or None,
        gfx=_target(_field(text, "Name")),
        pci_address=address,
        pci_id=f"1002:{int(chip[1], 16):04x}" if chip else None,
        # ROCm before 6 does not print the line; a card has it empty.
        integrated=None if properties is None else "APU" in properties,
        memory_error=None if own else "rocminfo: no coarse grained pool",
    )
    return _with_memory(device, int(own[1]) * KIB if own else None)


def _with_memory(device: AmdDevice, size_bytes: int | None) -> AmdDevice:
    """Of an integrated GPU the runtime tells what firmware reserved and what the kernel lends in one number."""
    size = size_bytes or None
    if device.is_integrated:
        return replace(device, shared_total_bytes=size)
    return replace(device, vram_total_bytes=size)


def _target(text: str | None) -> str | None:
    """`gfx942` of `gfx942:sramecc+:xnack-`; the features behind it are no part of the architecture."""
    match = _TARGET.match(text or "")
    return match[0] if match else None


def _field(text: str, key: str) -> str | None:
    """The first field of that name: an agent's own stands before those of its instruction sets."""
    found = re.search(_FIELD.format(key=re.escape(key)), text, re.MULTILINE)
    return found[1] if found else None
