"""What NVML and nvidia-smi both say about a GPU, in one form, and what kind of memory it therefore has."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from v4deploy.domain.hardware import PoolKind

# Spellings of "no value" in nvidia-smi, over all drivers.
NOT_SUPPORTED = (
    "",
    "N/A",
    "[N/A]",
    "Not Supported",
    "[Not Supported]",
    "[Unknown Error]",
    "[Insufficient Permissions]",
    "[GPU is lost]",
    "ERR!",
)

# Integrated GPUs by the names that their drivers report; they own no memory, so a size that is given is a carve-out or
# the whole RAM. Whole words: "gb20" inside "GB200" once turned a data-centre part into an integrated one.
_INTEGRATED = re.compile(r"\b(?:GB10|N1X|Tegra|Jetson|Orin|Thor|Xavier)\b|\(nvgpu\)")
# A total that the driver of such a part does report is the host's MemTotal, less what firmware keeps.
_SAME_AS_HOST = (0.9, 1.1)


class AddressingMode(StrEnum):
    """How CPU and GPU share an address space; ATS in hardware (Grace, GB10, Thor)."""

    NONE = "none"
    HMM = "hmm"
    ATS = "ats"


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverFailure:
    """Why the driver gave nothing. `code` is NVML's error number, which is also nvidia-smi's exit status."""

    code: int | None
    message: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NvidiaDevice:
    """One GPU or MIG slice as the driver describes it; None where it did not say.

    Attributes:
        failure: set where the device is listed but cannot be asked, for example because it fell off the bus.
        memory_error: why `total_bytes` is None.
        fabric_state: NVSwitch registration: 0 none, 1 not started, 2 in progress, 3 completed.
        fabric_status: NVML error number of a completed registration; 0 is good.
        recovery_action: what the driver asks for: 0 nothing, 1 reset, 2 reboot...
        mig_enabled: jobs run on its slices only.
        memory_node: NUMA node that the GPU's own memory forms (GH200); None where it forms none.
    """

    index: int
    name: str | None = None
    failure: DriverFailure | None = None
    pci_address: str | None = None
    pci_id: str | None = None
    total_bytes: int | None = None
    reserved_bytes: int | None = None
    free_bytes: int | None = None
    memory_error: str | None = None
    compute_capability: tuple[int, int] | None = None
    addressing_mode: AddressingMode | None = None
    memory_node: int | None = None
    fabric_state: int | None = None
    fabric_status: int | None = None
    recovery_action: int | None = None
    mig_enabled: bool = False
    is_slice: bool = False

    @property
    def arch(self) -> str | None:
        return f"sm_{self.compute_capability[0]}{self.compute_capability[1]}" if self.compute_capability else None


@dataclass(frozen=True, slots=True, kw_only=True)
class NvidiaReport:
    """What one source said. With `failure` set there are no devices."""

    source: str
    driver_version: str | None = None
    cuda_version: str | None = None
    devices: tuple[NvidiaDevice, ...] = ()
    failure: DriverFailure | None = None


def pool_kind(device: NvidiaDevice, host_memory_bytes: int | None) -> PoolKind:
    """Whether the device's memory is its own, the host's, or its own and visible to the host.

    ATS alone proves nothing: GH200 and GB200 have it and have HBM. A dedicated card may by chance be as large as the
    host's RAM, so sizes are compared for parts that share an address space only.
    """
    if device.is_slice:
        return PoolKind.SLICE
    if device.name is not None and _INTEGRATED.search(device.name):
        return PoolKind.UNIFIED
    if device.addressing_mode is not AddressingMode.ATS:
        return PoolKind.DEDICATED
    if device.total_bytes is None:
        return PoolKind.UNIFIED
    low, high = _SAME_AS_HOST
    same = host_memory_bytes is not None and low <= device.total_bytes / host_memory_bytes <= high
    return PoolKind.UNIFIED if same else PoolKind.COHERENT
