"""What is known about a chip before it is seen: an entry of profiles/hardware/<vendor>.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from v4deploy.domain.hardware import ComputeApi, PoolKind, Vendor
from v4deploy.domain.source import Source


class NumberFormat(StrEnum):
    """Formats that a chip's matrix units take natively."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"
    INT4 = "int4"
    FP8 = "fp8"
    MXFP8 = "mxfp8"
    MXFP4 = "mxfp4"
    NVFP4 = "nvfp4"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryCeiling:
    """The most of `memory_bytes` of unified memory that a GPU may take by default."""

    memory_bytes: int
    ceiling_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """A GPU or NPU model.

    Attributes:
        id: what people type after `--hardware`, lower case with dashes (`h200`, `rtx-4090`, `ascend-910b3`).
        aliases: other spellings that mean it.
        driver_names: exact names that drivers report.
        pci_ids: `vendor:device`, lower case hex.
        memory_bytes: capacity of one device as its driver reports it; several where the chip was sold in several sizes.
            Of a chip that shares the host's RAM, the sizes of the machines sold; empty where they take any memory.
        memory_is_nominal: the sizes are the data sheet's, because no driver's figure was found; drivers report less.
        devices_per_card: schedulable devices on one card as sold; `memory_bytes` is one device's.
        cpu_architecture: of the CPU that the chip is built together with; None where it goes into any machine.
        bandwidth_bytes_per_second: memory bandwidth of one device; None when no source was found.
        memory_ceilings: what the GPU of a unified machine may take by default, by memory size; measured values only.
        default_ceiling_fraction: used for memory sizes without a measured ceiling; None where everything may be used.
    """

    id: str
    name: str
    vendor: Vendor
    compute_api: ComputeApi
    arch: str
    pool_kind: PoolKind
    memory_bytes: tuple[int, ...]
    bandwidth_bytes_per_second: int | None
    formats: tuple[NumberFormat, ...]
    aliases: tuple[str, ...] = ()
    driver_names: tuple[str, ...] = ()
    pci_ids: tuple[str, ...] = ()
    gpu_cores: int | None = None
    memory_ceilings: tuple[MemoryCeiling, ...] = ()
    default_ceiling_fraction: float | None = None
    memory_is_nominal: bool = False
    devices_per_card: int = 1
    cpu_architecture: str | None = None
    note: str | None = None
    source: Source
