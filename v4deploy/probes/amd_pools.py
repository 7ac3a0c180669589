"""Which AMD devices share memory, and how much each pool holds. Partitions of a socket are never summed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from v4deploy.domain.hardware import Amount, Pool, PoolKind, Vendor
from v4deploy.probes.amd_device import AmdDevice

# Devices that a socket of MI300X or MI350X shows in each mode (AMD's partition guide).
_PARTITIONS = {"SPX": 1, "DPX": 2, "QPX": 4, "CPX": 8}


@dataclass(frozen=True, slots=True, kw_only=True)
class HostShare:
    """What bounds a GPU that lives on the host's RAM.

    Attributes:
        page_limit_bytes: the kernel's limit for memory mapped to GPUs (TTM); None where no module tells it.
        page_limit_source: the parameter file that told it.
    """

    memory_bytes: int | None = None
    free_bytes: int | None = None
    page_limit_bytes: int | None = None
    page_limit_source: str = "no pages_limit of ttm, amdttm or amd_ttm"


def place_devices(devices: Sequence[AmdDevice], share: HostShare) -> tuple[tuple[str, ...], tuple[Pool, ...]]:
    """The pool id of each device, and the pools. One pool for each memory partition of each socket."""
    keys = _keys(devices, share)
    names = {key: f"{Vendor.AMD}-{number}" for number, key in enumerate(dict.fromkeys(keys))}
    pools = []
    for key, name in names.items():
        members = [device for device, own in zip(devices, keys, strict=True) if own == key]
        pools.append(_pool(name, members, share))
    return tuple(names[key] for key in keys), tuple(pools)


def _keys(devices: Sequence[AmdDevice], share: HostShare) -> list[tuple[object, ...]]:
    """What a device shares its pool with others by: socket and memory partition, or for MI300A the whole host."""
    seen: dict[str, int] = {}
    keys: list[tuple[object, ...]] = []
    for number, device in enumerate(devices):
        if device.socket is None:
            keys.append(("alone", number))
            continue
        if _shows_the_whole_host(device, devices, share):
            keys.append(("host",))
            continue
        position = seen.get(device.socket, 0)
        seen[device.socket] = position + 1
        peers = sum(other.socket == device.socket for other in devices)
        # A container may see some partitions only: which of them lie together cannot be told then.
        complete = peers == _PARTITIONS.get(device.compute_partition or "")
        keys.append((device.socket, position * _parts(device) // peers if complete else 0))
    return keys


def _shows_the_whole_host(device: AmdDevice, devices: Sequence[AmdDevice], share: HostShare) -> bool:
    """MI300A tools print the memory of all sockets for each of them; together that is more than the host has."""
    if not device.has_shared_hbm or share.memory_bytes is None:
        return False
    sockets = {other.socket for other in devices if other.has_shared_hbm}
    return len(sockets) > 1 and (_own_bytes(device)[0] or 0) * len(sockets) > share.memory_bytes


def _parts(device: AmdDevice) -> int:
    """Memory partitions of the socket: 4 under NPS4."""
    match = re.fullmatch(r"NPS([1-9])", device.memory_partition or "")
    return int(match[1]) if match else 1


def _own_bytes(device: AmdDevice) -> tuple[int | None, str]:
    if device.vram_total_bytes is not None:
        return device.vram_total_bytes, device.source
    if device.shared_total_bytes is not None:
        return device.shared_total_bytes, device.source
    if device.bank_bytes is not None:
        return device.bank_bytes, "KFD mem_banks"
    return None, device.memory_error or f"{device.source}: no figure"


def _pool(name: str, members: list[AmdDevice], share: HostShare) -> Pool:
    first = members[0]
    parts = _parts(first)
    if first.is_integrated:
        return _shared_hbm(name, members, share) if first.has_shared_hbm else _carve_out(name, first, share)
    kind = PoolKind.SLICE if first.is_partition else PoolKind.DEDICATED
    size, source = max((_own_bytes(device) for device in members), key=lambda own: own[0] or 0)
    if size is not None and first.vram_total_bytes is not None and parts > 1:
        size, source = size // parts, f"{source}, one of {parts} memory partitions"
    total = Amount(size_bytes=size, source=source)
    used = first.vram_used_bytes
    if first.vram_total_bytes is None or used is None or parts > 1:
        free = Amount(size_bytes=None, source=f"{first.source}: no figure for what is used")
    else:
        free = Amount(size_bytes=first.vram_total_bytes - used, source=f"{first.source} less mem_info_vram_used")
    return Pool(id=name, kind=kind, total=total, ceiling=total, free=free)


def _shared_hbm(name: str, members: list[AmdDevice], share: HostShare) -> Pool:
    """MI300A: what the kernel lends of the HBM that is also the host's RAM, so no more is free than the host has."""
    size, source = max((_own_bytes(device) for device in members), key=lambda own: own[0] or 0)
    total = Amount(size_bytes=size, source=source)
    free = Amount(size_bytes=None, source="the host's free memory is unknown")
    if size is not None and share.free_bytes is not None:
        free = Amount(size_bytes=min(size, share.free_bytes), source="MemAvailable, up to the device's part")
    return Pool(id=name, kind=PoolKind.CARVE_OUT_GTT, total=total, ceiling=total, free=free)


def _carve_out(name: str, device: AmdDevice, share: HostShare) -> Pool:
    """What firmware reserved, plus what the kernel maps of the host's RAM (GTT), as ROCm counts it since kernel 6.10.

    GTT's own "used" does not move when ROCm allocates, so free is told by the host.
    """
    if device.vram_total_bytes is None and device.shared_total_bytes is not None:
        return _told_as_one(name, device, share)
    reserved = device.vram_total_bytes
    limits = [(device.gtt_total_bytes, "mem_info_gtt_total"), (share.page_limit_bytes, share.page_limit_source)]
    known = [(size, source) for size, source in limits if size is not None]
    if reserved is None or not known:
        unknown = Amount(size_bytes=None, source=device.memory_error or "no mem_info_gtt_total and no pages_limit")
        return Pool(id=name, kind=PoolKind.CARVE_OUT_GTT, total=unknown, ceiling=unknown, free=unknown)
    lent, lent_source = min(known)
    total = Amount(size_bytes=reserved + lent, source=f"{device.source} and {lent_source}")
    ceiling = total
    if share.memory_bytes is not None and share.memory_bytes < lent:
        ceiling = Amount(size_bytes=reserved + share.memory_bytes, source=f"{device.source} and the host's memory")
    free = Amount(size_bytes=None, source="the host's free memory is unknown")
    if share.free_bytes is not None and device.vram_used_bytes is not None:
        free = Amount(
            size_bytes=reserved - device.vram_used_bytes + min(lent, share.free_bytes),
            source=f"{device.source} less mem_info_vram_used, and MemAvailable up to {lent_source}",
        )
    return Pool(id=name, kind=PoolKind.CARVE_OUT_GTT, total=total, ceiling=ceiling, free=free)


def _told_as_one(name: str, device: AmdDevice, share: HostShare) -> Pool:
    """Reserved and lent memory as the runtime adds them up. Which part is lent is not told, so free is at least what
    the host has.
    """
    total = Amount(size_bytes=device.shared_total_bytes, source=device.source)
    free = Amount(size_bytes=None, source="the host's free memory is unknown")
    if share.free_bytes is not None and device.shared_total_bytes is not None:
        size = min(device.shared_total_bytes, share.free_bytes)
        free = Amount(size_bytes=size, source=f"MemAvailable, up to what {device.source} tells")
    return Pool(id=name, kind=PoolKind.CARVE_OUT_GTT, total=total, ceiling=total, free=free)
