"""What a report of any NVIDIA source means for the host: devices, their pools, and the links between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from v4deploy.domain.hardware import (
    HOST_POOL_ID,
    Amount,
    ComputeApi,
    Device,
    Link,
    Pool,
    PoolKind,
    ProbeOutcome,
    Vendor,
)
from v4deploy.probes.base import Capture
from v4deploy.probes.nvidia_cuda import SOURCE as CUDA_SOURCE
from v4deploy.probes.nvidia_device import NvidiaDevice, NvidiaReport, pool_kind
from v4deploy.probes.nvidia_findings import Surroundings, is_usable

_VENDOR = Vendor.NVIDIA


def outcome_of(report: NvidiaReport, around: Surroundings, capture: Capture) -> ProbeOutcome:
    """Without findings. Indexes are the report's order; integrated GPUs point at the host's own pool."""
    devices, pools = [], []
    for number, raw in enumerate(report.devices):
        kind = pool_kind(raw, capture.host_memory_bytes)
        pool_id = HOST_POOL_ID if kind is PoolKind.UNIFIED else f"{_VENDOR}-{number}"
        if kind is not PoolKind.UNIFIED:
            pools.append(_pool(pool_id, kind, raw, report.source))
        elif raw.cuda_total_bytes is not None:
            pools.append(_host_pool(raw.cuda_total_bytes, capture))
        devices.append(_device(number, raw, pool_id, report, around))
    numbers = {raw.index: number for number, raw in enumerate(report.devices) if not raw.is_slice}
    return ProbeOutcome(devices=tuple(devices), pools=tuple(pools), links=tuple(_links(report, numbers)))


def _device(number: int, raw: NvidiaDevice, pool_id: str, report: NvidiaReport, around: Surroundings) -> Device:
    on_bus = next((device for device in around.pci if device.address == raw.pci_address), None)
    return Device(
        index=number,
        vendor=_VENDOR,
        compute_api=ComputeApi.CUDA,
        name=raw.name or "NVIDIA GPU that does not tell its name",
        arch=raw.arch,
        pool_id=pool_id,
        pci_address=raw.pci_address,
        pci_id=raw.pci_id or (on_bus.pci_id if on_bus else None),
        driver_version=report.driver_version or around.driver_version,
        compute_api_version=report.cuda_version,
        # The driver's own word first: on boards with CPU and GPU joined, firmware gives the bus a wrong node.
        numa_node=raw.near_node if raw.near_node is not None else (on_bus.numa_node if on_bus else None),
        usable=is_usable(raw) and not report.cuda_refuses,
        addressing_mode=raw.addressing_mode,
        virtual=raw.is_virtual,
        uuid=raw.uuid if any(device.is_slice for device in report.devices) else None,
    )


def _links(report: NvidiaReport, numbers: Mapping[int, int]) -> Iterator[Link]:
    for link in report.links:
        if {link.first, link.second} <= numbers.keys():
            yield Link(
                first_index=numbers[link.first],
                second_index=numbers[link.second],
                kind=link.kind,
                bonded_links=link.bonded_links,
                peer_access=link.peer_access,
                source=report.source,
            )


def _pool(pool_id: str, kind: PoolKind, raw: NvidiaDevice, source: str) -> Pool:
    unknown = f"{source}: {raw.failure.message}" if raw.failure else raw.memory_error or f"{source}: no answer"
    if raw.total_bytes is not None:
        total = Amount(size_bytes=raw.total_bytes, source=f"{source} memory total")
    elif raw.cuda_total_bytes is not None:
        total = Amount(size_bytes=raw.cuda_total_bytes, source=f"{CUDA_SOURCE} memory total")
    else:
        total = Amount(size_bytes=None, source=unknown)
    ceiling = total
    if raw.total_bytes is not None and raw.reserved_bytes is not None:
        ceiling = Amount(
            size_bytes=raw.total_bytes - raw.reserved_bytes, source=f"{source} memory total less what the driver keeps"
        )
    free = Amount(size_bytes=raw.free_bytes, source=f"{source} memory free" if raw.free_bytes is not None else unknown)
    return Pool(id=pool_id, kind=kind, total=total, ceiling=ceiling, free=free)


def _host_pool(cuda_total_bytes: int, capture: Capture) -> Pool:
    """System RAM as an integrated GPU sees it: CUDA's total is the most that it may take."""
    host = "the host's probe"
    return Pool(
        id=HOST_POOL_ID,
        kind=PoolKind.UNIFIED,
        total=Amount(size_bytes=capture.host_memory_bytes, source=host),
        ceiling=Amount(size_bytes=cuda_total_bytes, source=f"{CUDA_SOURCE} memory total"),
        free=Amount(size_bytes=capture.host_free_bytes, source=host),
    )
