"""What NVML and nvidia-smi both say about a GPU, in one form, and what kind of memory it therefore has."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum

from v4deploy.domain.hardware import AddressingMode, LinkKind, PoolKind

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
# Orin, Thor, and GB10 with N1X (developer.nvidia.com/cuda-gpus, read 2026-11-22).
_CAPABILITIES_OF_SYSTEMS_ON_CHIP = ((8, 7), (11, 0), (12, 1))
# A total that the driver of such a part does report is the host's MemTotal, less what firmware keeps.
_SAME_AS_HOST = (0.9, 1.1)


class Virtualization(IntEnum):
    """NVML_GPU_VIRTUALIZATION_MODE_*. A GPU that is passed through whole works as on bare metal."""

    NONE = 0
    PASS_THROUGH = 1
    VGPU = 2
    HOST_OF_VGPUS = 3
    HOST_OF_VSGAS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverFailure:
    """Why the driver gave nothing. `code` is NVML's error number, which is also nvidia-smi's exit status."""

    code: int | None
    message: str
    source: str

    @property
    def is_hang(self) -> bool:
        """Whether the source gave no answer within its time limit, as the system layer and `nvidia_smi` word it."""
        return self.message.startswith("gave no answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class NvidiaDevice:
    """One GPU or MIG slice as the driver describes it; None where it did not say.

    Attributes:
        failure: set where the device is listed but cannot be asked, for example because it fell off the bus.
        memory_error: why `total_bytes` is None.
        fabric_state: NVSwitch registration: 0 none, 1 not started, 2 in progress, 3 completed.
        fabric_status: NVML error number of a completed registration; 0 is good.
        fabric_health: 1 healthy, 2 unhealthy, 3 limited capacity; 0 not supported.
        recovery_action: what the driver asks for: 0 nothing, 1 reset, 2 reboot...
        mig_enabled: jobs run on its slices only.
        memory_node: NUMA node that the GPU's own memory forms (GH200); None where it forms none.
        near_node: NUMA node of the system that is nearest, where the driver names exactly one.
        cuda_total_bytes: what CUDA says the device may use; set where libcuda had to be asked.
        integrated: whether CUDA says that the device owns no memory.
        licensed: of a vGPU: whether any of its products holds a licence.
        repairs_pending: repairs of memory or units that the next reset or reboot carries out, in words.
        unrepairable: faults of memory that no reset repairs, in words.
        ecc_pending: the ECC mode after the next reboot, where it differs from the current one.
    """

    index: int
    name: str | None = None
    uuid: str | None = None
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
    fabric_health: int | None = None
    recovery_action: int | None = None
    mig_enabled: bool = False
    is_slice: bool = False
    near_node: int | None = None
    cuda_total_bytes: int | None = None
    integrated: bool | None = None
    virtualization: Virtualization | None = None
    licensed: bool | None = None
    repairs_pending: tuple[str, ...] = ()
    unrepairable: tuple[str, ...] = ()
    ecc_pending: bool | None = None

    @property
    def is_virtual(self) -> bool:
        return self.virtualization is Virtualization.VGPU

    @property
    def owns_no_memory(self) -> bool:
        """Integrated, as CUDA says or its name."""
        return bool(self.integrated) or bool(_INTEGRATED.search(self.name or ""))

    @property
    def may_be_integrated(self) -> bool:
        """Whether CUDA has to be asked; a new part of these families may have any name."""
        return self.owns_no_memory or self.compute_capability in _CAPABILITIES_OF_SYSTEMS_ON_CHIP

    @property
    def arch(self) -> str | None:
        return f"sm_{self.compute_capability[0]}{self.compute_capability[1]}" if self.compute_capability else None


@dataclass(frozen=True, slots=True, kw_only=True)
class NvidiaLink:
    """How two GPUs reach each other. `first` and `second` are `NvidiaDevice.index`.

    Attributes:
        peer_status: the driver's own words for why there is no peer access; None where there is, or it is unknown.
    """

    first: int
    second: int
    kind: LinkKind | None
    bonded_links: int | None = None
    peer_access: bool | None = None
    peer_status: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NvidiaReport:
    """What one source said. With `failure` set there are no devices.

    Attributes:
        awaits_attestation: confidential computing is on and the GPUs are not yet set ready, so CUDA refuses.
        cuda_failure: what libcuda said where it was asked and listed nothing; its `code` is CUDA's number, and None
            where the library is missing.
    """

    source: str
    driver_version: str | None = None
    cuda_version: str | None = None
    devices: tuple[NvidiaDevice, ...] = ()
    links: tuple[NvidiaLink, ...] = ()
    awaits_attestation: bool = False
    cuda_failure: DriverFailure | None = None
    failure: DriverFailure | None = None

    @property
    def cuda_refuses(self) -> bool:
        """Whether no job can start on any device."""
        return self.awaits_attestation or (self.cuda_failure is not None and self.cuda_failure.code is not None)


def pool_kind(device: NvidiaDevice, host_memory_bytes: int | None) -> PoolKind:
    """Whether the device's memory is its own, the host's, or its own and visible to the host.

    ATS alone proves nothing: GH200 and GB200 have it and have HBM. A dedicated card may by chance be as large as the
    host's RAM, so sizes are compared for parts that share an address space only.
    """
    if device.is_slice or device.is_virtual:
        return PoolKind.SLICE
    if device.owns_no_memory:
        return PoolKind.UNIFIED
    if device.addressing_mode is not AddressingMode.ATS:
        return PoolKind.DEDICATED
    total = device.total_bytes or device.cuda_total_bytes
    if total is None:
        return PoolKind.UNIFIED
    low, high = _SAME_AS_HOST
    same = host_memory_bytes is not None and low <= total / host_memory_bytes <= high
    return PoolKind.UNIFIED if same else PoolKind.COHERENT
