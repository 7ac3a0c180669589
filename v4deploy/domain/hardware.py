"""A machine: devices, and the pools of memory that they point at.

Memory is pools, not "VRAM per GPU": on a DGX Spark, a Mac or a partitioned MI300 several devices (and the CPU) share
one pool, and adding up the devices would count it several times. Pools are summed; devices are not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from v4deploy.domain.engine import EngineId
from v4deploy.domain.finding import Finding
from v4deploy.domain.surroundings import (
    ContainerSupport,
    EnvironmentSetting,
    Limits,
    NetworkDevice,
    NumaNode,
    RdmaPort,
    Software,
)

HOST_POOL_ID = "host"
HOST_SCHEMA = "v4deploy.host/1"


class Vendor(StrEnum):
    NVIDIA = "nvidia"
    AMD = "amd"
    APPLE = "apple"
    HUAWEI = "huawei"


class ComputeApi(StrEnum):
    CUDA = "cuda"
    ROCM = "rocm"
    METAL = "metal"
    CANN = "cann"
    CPU = "cpu"


class PoolKind(StrEnum):
    """What stands behind a pool.

    DEDICATED: memory of one device. UNIFIED: host RAM that a device uses as its own (Apple, GB10, Jetson).
    COHERENT: device memory that the host can address too (GH200, GB200). CARVE_OUT_GTT: an AMD APU's reserved part plus
    what the kernel lends it. SLICE: a partition of a device (MIG, vGPU, MI300 CPX). HOST: plain system RAM.
    """

    DEDICATED = "dedicated"
    UNIFIED = "unified"
    COHERENT = "coherent"
    CARVE_OUT_GTT = "carve-out-gtt"
    SLICE = "slice"
    HOST = "host"


class OperatingSystem(StrEnum):
    LINUX = "linux"
    MACOS = "macos"
    WINDOWS = "windows"
    OTHER = "other"


class AddressingMode(StrEnum):
    """How CPU and device share an address space: not at all, by the kernel (HMM), or in hardware (ATS)."""

    NONE = "none"
    HMM = "hmm"
    ATS = "ats"


class LinkKind(StrEnum):
    """The best way between two devices.

    NVLINK: NVLink, directly or through what the driver does not name. NVSWITCH: NVLink through a switch. SIO: between
    two dies of a card. HCCS, HCCS_SWITCH, UB: Huawei's links between cards. PCIE_SWITCH: PCIe without the CPU.
    HOST_BRIDGE: PCIe through one host bridge. NUMA: between host bridges of one NUMA node. SYSTEM: between NUMA nodes.
    """

    NVLINK = "nvlink"
    NVSWITCH = "nvswitch"
    SIO = "sio"
    HCCS = "hccs"
    HCCS_SWITCH = "hccs-switch"
    UB = "ub"
    PCIE_SWITCH = "pcie-switch"
    HOST_BRIDGE = "host-bridge"
    NUMA = "numa"
    SYSTEM = "system"


class HostOrigin(StrEnum):
    LIVE = "live"
    RECORDING = "recording"
    HYPOTHETICAL = "hypothetical"


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """A number of bytes and where it comes from. `size_bytes` None means unknown, never zero."""

    size_bytes: int | None
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A pool of memory.

    Attributes:
        id: "host" for system RAM (also where it is unified), else "<vendor>-<number>", unique in the host.
        total: what is built in and visible.
        ceiling: the most that one job may take now (cgroup limit, Metal's working set, TTM limit).
        free: what is free now, reclaimable cache included.
    """

    id: str
    kind: PoolKind
    total: Amount
    ceiling: Amount
    free: Amount


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One schedulable GPU or NPU (a MIG slice counts as one, its parent does not).

    Attributes:
        index: dense, from 0, over the host.
        name: as the driver reports it; for people, never for decisions on capacity.
        arch: `sm_90`, `gfx942`, `apple-m3`, `ascend-a2`; None when unknown.
        chip: id of the entry in profiles/hardware that matched; None when none did.
        gpu_cores: told apart only where the name is not enough (Apple).
        driver_version: the loaded kernel driver, as written.
        compute_api_version: the newest CUDA / ROCm / CANN that the driver or toolkit serves, as written.
        usable: False when the device is there but cannot run a job; a finding says why.
        addressing_mode: None when the driver did not say.
        virtual: a hypervisor lends a share of a device (vGPU); a device passed through whole is not virtual.
        uuid: the driver's own name for it, told only on machines with MIG slices, where CUDA's numbers tell no slice
            from another; None elsewhere, and where the driver does not say.
    """

    index: int
    vendor: Vendor
    compute_api: ComputeApi
    name: str
    arch: str | None
    chip: str | None = None
    pool_id: str
    pci_address: str | None = None
    pci_id: str | None = None
    gpu_cores: int | None = None
    driver_version: str | None = None
    compute_api_version: str | None = None
    numa_node: int | None = None
    usable: bool = True
    addressing_mode: AddressingMode | None = None
    virtual: bool = False
    uuid: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """How two devices of the host reach each other; a pair of which nothing is known has no link.

    Attributes:
        first_index, second_index: `Device.index`, the lower one first.
        kind: None when unknown.
        bonded_links: point-to-point connections used together (18 for NV18); None where there are none to count, or
            their number is unknown.
        peer_access: whether each can read and write the other's memory without a copy through system RAM; None when
            unknown.
    """

    first_index: int
    second_index: int
    kind: LinkKind | None
    bonded_links: int | None = None
    peer_access: bool | None = None
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreKind:
    """Cores of one kind, by the name that the system gives them (`Performance`, `Efficiency`, `Super`)."""

    name: str
    physical_cores: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """The processor.

    Attributes:
        features: the kernel's flag names, sorted; empty means none could be read.
        core_kinds: the fastest first; empty where all cores are alike, or the system does not tell.
    """

    architecture: str
    model: str | None
    physical_cores: int | None
    usable_cores: int | None
    features: tuple[str, ...] = ()
    core_kinds: tuple[CoreKind, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """The file system behind a path that matters (weights directory, /dev/shm).

    `free_files` counts files that can still be made; None where the file system sets no number, or none was read.
    """

    path: str
    mount_point: str | None
    filesystem: str | None
    total_bytes: int | None
    free_bytes: int | None
    free_files: int | None = None
    read_only: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledEngine:
    """An engine found on the machine. `version` None means found, but it did not tell.

    `sees` are the devices that it lists itself (`CUDA0`, `Vulkan0`); None where it was not asked, or did not answer.
    """

    engine: EngineId
    version: str | None
    path: str
    sees: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Everything known about one machine. A JSON document (`v4deploy.host/1`)."""

    origin: HostOrigin
    os: OperatingSystem
    os_version: str | None
    kernel: str | None
    cpu: Cpu
    pools: tuple[Pool, ...]
    devices: tuple[Device, ...] = ()
    links: tuple[Link, ...] = ()
    disks: tuple[Disk, ...] = ()
    engines: tuple[InstalledEngine, ...] = ()
    software: tuple[Software, ...] = ()
    container: str | None = None
    kubernetes: bool = False
    numa_nodes: tuple[NumaNode, ...] = ()
    limits: Limits = field(default_factory=Limits)
    network_devices: tuple[NetworkDevice, ...] = ()
    rdma_ports: tuple[RdmaPort, ...] = ()
    network_settings: tuple[EnvironmentSetting, ...] = ()
    container_support: ContainerSupport = field(default_factory=ContainerSupport)
    findings: tuple[Finding, ...] = ()

    def pool(self, pool_id: str) -> Pool:
        """The pool of that id.

        Raises:
            KeyError: no such pool; `validate_host` in the probes makes that impossible for a probed host.
        """
        for pool in self.pools:
            if pool.id == pool_id:
                return pool
        raise KeyError(pool_id)

    def is_mig_slice(self, device: Device) -> bool:
        """Whether it is a part of a CUDA device of which a process can use one only, and nothing beside it.

        A vGPU is a slice too, but a device of its own to CUDA.
        """
        is_part = self.pool(device.pool_id).kind is PoolKind.SLICE and not device.virtual
        return is_part and device.compute_api is ComputeApi.CUDA

    @property
    def memory(self) -> Pool:
        """System RAM."""
        return self.pool(HOST_POOL_ID)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeOutcome:
    """What one vendor's probe has to say: devices, their pools and links, the toolkit, and what stands in the way."""

    devices: tuple[Device, ...] = ()
    pools: tuple[Pool, ...] = ()
    findings: tuple[Finding, ...] = ()
    links: tuple[Link, ...] = ()
    software: tuple[Software, ...] = ()
