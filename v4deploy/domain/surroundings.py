"""What surrounds the devices of a machine: NUMA nodes, limits, network, and the ways into a container."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Unlimited(StrEnum):
    """Stands for a limit that is known and does not bind; None is left for a limit that is not known."""

    UNLIMITED = "unlimited"


class Overcommit(StrEnum):
    """vm.overcommit_memory: whether the kernel promises more memory than there is (0 heuristic, 1 always, 2 never)."""

    HEURISTIC = "heuristic"
    ALWAYS = "always"
    NEVER = "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class NumaNode:
    """One NUMA node. Only nodes with `cpus` > 0 count as such: the memory of a GH200 makes eight more without any.

    Attributes:
        cpus: logical CPUs of the node.
        memory_bytes: what the kernel manages there; 0 is a node without memory, None one that did not tell.
        free_bytes: of that, what is free now, page cache not counted as free.
    """

    number: int
    cpus: int
    memory_bytes: int | None
    free_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the kernel allows this process and all others. None: it could not be read.

    Attributes:
        locked_memory_bytes: RLIMIT_MEMLOCK, soft.
        open_files: RLIMIT_NOFILE, soft; `open_files_most` is the hard limit, up to which a program may raise it itself.
        address_space_bytes: RLIMIT_AS, soft.
        file_size_bytes: RLIMIT_FSIZE, soft.
        memory_maps: vm.max_map_count, mappings that one process may have.
        huge_pages_bytes: memory set aside for huge pages of all sizes, which nothing else can use.
        transparent_huge_pages: `always`, `madvise` or `never`.
        swap_total_bytes: of the whole machine, also inside a container, which may not use it.
        cpu_governor: the frequency governor of the first CPU.
    """

    locked_memory_bytes: int | Unlimited | None = None
    open_files: int | Unlimited | None = None
    open_files_most: int | Unlimited | None = None
    address_space_bytes: int | Unlimited | None = None
    file_size_bytes: int | Unlimited | None = None
    memory_maps: int | None = None
    overcommit: Overcommit | None = None
    huge_pages_bytes: int | None = None
    transparent_huge_pages: str | None = None
    swap_total_bytes: int | None = None
    swap_free_bytes: int | None = None
    cpu_governor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Software:
    """What engines are built with or compile with, found without running it.

    Attributes:
        name: `CUDA toolkit`, `torch`, `nvidia-cuda-nvcc`, `aiter`, `torch_npu`, `CANN toolkit`, `nnal`.
        version: as written; None where it does not tell.
        built_for: compute API and version (`cuda 13.0`); None where it is for none, or does not tell.
    """

    name: str
    version: str | None
    built_for: str | None = None
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkDevice:
    """A network card. `bits_per_second` and `is_up` None: the kernel does not say, as for most virtual machines."""

    name: str
    driver: str | None
    pci_address: str | None
    numa_node: int | None
    is_up: bool | None
    bits_per_second: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RdmaPort:
    """One port of an RDMA device.

    Attributes:
        link_layer: `InfiniBand` or `Ethernet` (RoCE), as the kernel writes it.
        state: `ACTIVE`, `DOWN`, `INIT` and so on, as the kernel writes it.
    """

    device: str
    port: int
    link_layer: str | None
    state: str | None
    bits_per_second: int | None
    pci_address: str | None = None
    numa_node: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentSetting:
    """A variable of the environment that steers downloads, without logins."""

    name: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRuntime:
    """A program that starts containers here.

    Attributes:
        name: `docker` or `podman`.
        version: of the daemon where there is one, else of the program; None when neither tells.
        answered: whether it can start containers for this user now.
        rootless: None when it did not answer.
        remote: its containers run on another machine, or in a virtual machine of their own (Docker Desktop).
        oci_runtimes: what it can start a container with (`runc`, `nvidia`, `ascend`).
        cdi_directories: where it looks for device descriptions; empty when it looks nowhere, None when it does not say.
    """

    name: str
    version: str | None
    answered: bool
    rootless: bool | None = None
    remote: bool = False
    default_runtime: str | None = None
    oci_runtimes: tuple[str, ...] = ()
    cdi_directories: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CdiSpec:
    """A file that describes devices to container runtimes (Container Device Interface).

    Attributes:
        kind: `nvidia.com/gpu` and the like; None where the file is not of its form.
        devices: names that `--device <kind>=<name>` takes.
        driver_version: of the libraries that the file names; None where it names none.
    """

    path: str
    kind: str | None
    devices: tuple[str, ...] = ()
    driver_version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSupport:
    """All ways into a container. `toolkit_version` is that of `nvidia-ctk`, None when it is not installed or mute."""

    runtimes: tuple[ContainerRuntime, ...] = ()
    cdi_specs: tuple[CdiSpec, ...] = ()
    toolkit_version: str | None = None
