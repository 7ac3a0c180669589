"""Demand against supply: what each pool may give, and what the footprint asks of it."""

from __future__ import annotations

from v4deploy.domain.engine import MemoryModel
from v4deploy.domain.hardware import Amount, Pool, PoolKind
from v4deploy.domain.plan import FootprintRow, Layout, PoolUse
from v4deploy.domain.units import GIB
from v4deploy.planning import margins
from v4deploy.planning.case import Case

_UNIFIED_MARGIN_BYTES = GIB


def pool_uses(rows: tuple[FootprintRow, ...], layout: Layout, case: Case) -> tuple[PoolUse, ...]:
    """One entry for each pool that the rows name, in their order."""
    needed: dict[str, int] = {}
    for row in rows:
        needed[row.pool_id] = needed.get(row.pool_id, 0) + row.size_bytes
    return tuple(_pool_use(pool_id, size, layout, case) for pool_id, size in needed.items())


def device_budget(pool: Pool, layout_devices: int, case: Case) -> int | None:
    """What a device's pool may give to a layout over that many devices. None where its size is not known."""
    is_vllm = case.profile.memory_model is MemoryModel.VLLM
    if pool.kind in {PoolKind.UNIFIED, PoolKind.CARVE_OUT_GTT}:
        budget = _unified_budget(pool)
    elif is_vllm:
        budget = _available(pool).size_bytes
    else:
        return _less(_available(pool).size_bytes, _split_margin(layout_devices, case))
    return _in_percent(budget, pool, case) if is_vllm else budget


def host_budget(pool: Pool) -> int | None:
    """What host memory may give to data that no device holds. None where its size is not known."""
    available = _available(pool).size_bytes
    total = available if pool.total.size_bytes is None else pool.total.size_bytes
    return None if available is None or total is None else available - margins.host_reserve_bytes(total)


def _pool_use(pool_id: str, needed: int, layout: Layout, case: Case) -> PoolUse:
    pool = case.host.pool(pool_id)
    devices = [device for device in case.devices(layout.device_indices) if device.pool_id == pool_id]
    budget = device_budget(pool, len(layout.device_indices), case) if devices else host_budget(pool)
    available = _available(pool)
    label = ", ".join(f"{device.name} ({device.index})" for device in devices) or "host memory"
    return PoolUse(
        pool_id=pool_id,
        label=label,
        needed_bytes=needed,
        budget_bytes=budget,
        margin_bytes=0 if budget is None or available.size_bytes is None else available.size_bytes - budget,
        budget_source=available.source,
    )


def _available(pool: Pool) -> Amount:
    """The smallest of what is built in, allowed and free; unknown only where all three are.

    Of equal ones the limit is named, since it is the one that may be assumed.
    """
    known = [amount for amount in (pool.ceiling, pool.total, pool.free) if amount.size_bytes is not None]
    return min(known, key=lambda amount: amount.size_bytes or 0, default=pool.total)


def _unified_budget(pool: Pool) -> int | None:
    """The device's limit less a margin, and never so much that nothing is left for the system and the process."""
    available = _available(pool).size_bytes
    if available is None:
        return None
    total = available if pool.total.size_bytes is None else pool.total.size_bytes
    ceiling = total if pool.ceiling.size_bytes is None else min(total, pool.ceiling.size_bytes)
    # What lies above the device's limit is no use to it, but it holds the system and the server process.
    with_outside = available + total - ceiling - margins.unified_reserve_bytes(total)
    return max(0, min(available - _UNIFIED_MARGIN_BYTES, with_outside))


def _in_percent(budget: int | None, pool: Pool, case: Case) -> int | None:
    """The vLLM family takes a share of what is built in, and does not start where less than that is free.

    The share is written into launch files in whole percent, so the budget is cut down to that.
    """
    total = pool.total.size_bytes
    if budget is None or not total:
        return None
    return total * min(budget * 100 // total, _most_percent(pool, case)) // 100


def _most_percent(pool: Pool, case: Case) -> int:
    architectures = frozenset(device.arch for device in case.host.devices if device.pool_id == pool.id)
    return case.profile.recipes.most_percent(architectures)


def _split_margin(layout_devices: int, case: Case) -> int:
    figures = case.profile.split_memory
    assert figures is not None, f"{case.profile.id} has no `split_memory`"
    return figures.only_device_margin_bytes if layout_devices == 1 else figures.device_margin_bytes


def _less(size_bytes: int | None, margin_bytes: int) -> int | None:
    return None if size_bytes is None else max(0, size_bytes - margin_bytes)
