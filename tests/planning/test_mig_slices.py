"""A CUDA process uses one MIG slice and nothing beside it; plans never join slices."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support_plans import devices, host
from v4deploy.domain.hardware import Amount, ComputeApi, Device, Host, PoolKind, Vendor
from v4deploy.domain.units import GIB
from v4deploy.planning.layouts import layer_split_devices

GPUS = devices(3, vendor=Vendor.NVIDIA, compute_api=ComputeApi.CUDA, name="NVIDIA H100", arch="sm_90")


def machine(*kinds: tuple[PoolKind, int], some: tuple[Device, ...] = GPUS) -> Host:
    """A host whose devices have pools of these kinds and sizes."""
    found = host(some[: len(kinds)], device_bytes=GIB)
    sized = {
        device.pool_id: (kind, Amount(size_bytes=gib * GIB, source="test"))
        for device, (kind, gib) in zip(found.devices, kinds, strict=True)
    }
    pools = tuple(
        replace(pool, kind=sized[pool.id][0], total=sized[pool.id][1]) if pool.id in sized else pool
        for pool in found.pools
    )
    return replace(found, pools=pools)


@pytest.mark.parametrize(
    ("kinds", "used"),
    [
        ([(PoolKind.SLICE, 20), (PoolKind.SLICE, 10)], [0]),
        ([(PoolKind.SLICE, 10), (PoolKind.SLICE, 20)], [1]),
        ([(PoolKind.SLICE, 20), (PoolKind.SLICE, 10), (PoolKind.DEDICATED, 80)], [2]),
        ([(PoolKind.SLICE, 40), (PoolKind.DEDICATED, 24)], [0]),
        ([(PoolKind.SLICE, 40), (PoolKind.DEDICATED, 24), (PoolKind.DEDICATED, 24)], [1, 2]),
        ([(PoolKind.DEDICATED, 24), (PoolKind.DEDICATED, 24)], [0, 1]),
    ],
)
def test_slices_are_used_alone(kinds: list[tuple[PoolKind, int]], used: list[int]) -> None:
    found = machine(*kinds)
    assert [device.index for device in layer_split_devices(found.devices, found)] == used


def test_virtual_gpus_and_partitions_of_others_may_be_joined() -> None:
    kinds = [(PoolKind.SLICE, 20), (PoolKind.SLICE, 20)]
    virtual = machine(*kinds, some=tuple(replace(device, virtual=True) for device in GPUS))
    assert len(layer_split_devices(virtual.devices, virtual)) == 2
    partitions = devices(2, vendor=Vendor.AMD, compute_api=ComputeApi.ROCM, name="AMD Instinct MI300X", arch="gfx942")
    split = machine(*kinds, some=partitions)
    assert len(layer_split_devices(split.devices, split)) == 2
