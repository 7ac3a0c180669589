"""Graphics that no probe drives, told so that they are not taken for absent: Intel's Arc cards and integrated GPUs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.units import format_gib
from v4deploy.probes.pci import PCI_DEVICES, PciDevice, collect_pci, parse_pci
from v4deploy.system.base import FileRead, System

# By PCI vendor id; display controllers of servers (ASPEED, Matrox) and of virtual machines compute nothing.
_VENDORS = {"0x8086": "Intel"}
_DXG = "/dev/dxg"
_TILES = 4
_OWN_MEMORY = "physical_vram_size_bytes"
"""Below each tile of a discrete GPU under Intel's `xe` driver."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphicsCapture:
    """Files read below /sys/bus/pci/devices, by vendor; and whether Windows lends a GPU to this system (WSL)."""

    files: Mapping[str, Mapping[str, FileRead]] = field(default_factory=dict)
    behind_windows: bool = False


def collect_other_graphics(system: System) -> GraphicsCapture:
    """Read each vendor's functions, and the memory of discrete GPUs where their driver tells it."""
    found: dict[str, Mapping[str, FileRead]] = {}
    for vendor_id, vendor in _VENDORS.items():
        files, _ = collect_pci(system, vendor_id)
        tiles = (path for device in parse_pci(files) for path in _tile_files(device))
        found[vendor] = {**files, **{path: system.read_text(path) for path in tiles}}
    return GraphicsCapture(files=found, behind_windows=system.exists(_DXG))


def other_graphics_findings(capture: GraphicsCapture) -> Iterator[Finding]:
    """One finding a vendor, with the devices as evidence."""
    for vendor, files in capture.files.items():
        devices = parse_pci(files)
        if devices:
            yield Finding(
                id="accelerator.not-driven",
                severity=Severity.INFO,
                summary=f"{vendor} graphics are here, and no engine that v4deploy drives runs on them",
                evidence=tuple(
                    Evidence(source=f"{PCI_DEVICES}/{device.address}", value=_words(device, files))
                    for device in devices
                ),
                why="plans leave them out; llama.cpp can use them in a build for SYCL or Vulkan, which nobody measured",
            )


def behind_windows_finding() -> Finding:
    """For a WSL system on which no vendor's probe has found anything."""
    return Finding(
        id="accelerator.behind-windows",
        severity=Severity.INFO,
        summary="Windows lends a GPU to this WSL system, but no library here can use it",
        evidence=(Evidence(source=_DXG, value="present"), Evidence(source="NVML, CUDA, ROCm", error="not found")),
        why="under WSL only the vendor's own library tells which GPU it is, and how much memory it has",
        fix="for NVIDIA install the Windows driver and restart WSL; for AMD install ROCm by AMD's guide for WSL",
    )


def _words(device: PciDevice, files: Mapping[str, FileRead]) -> str:
    texts = (read.text for path in _tile_files(device) if (read := files.get(path)) is not None)
    tiles = [int(text) for text in texts if text is not None and text.strip().isdecimal()]
    memory = f", {format_gib(sum(tiles))} of its own" if tiles else ""
    return f"{device.pci_id} driver {device.driver or 'none'}{memory}"


def _tile_files(device: PciDevice) -> Iterator[str]:
    return (f"{PCI_DEVICES}/{device.address}/tile{number}/{_OWN_MEMORY}" for number in range(_TILES))
