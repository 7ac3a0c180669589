"""Which devices of a host go together, and llama.cpp's layouts over them: whole layers on each."""

from __future__ import annotations

from v4deploy.domain.hardware import Device, Host, PoolKind
from v4deploy.domain.plan import Candidate, Layout
from v4deploy.planning.case import Case
from v4deploy.planning.footprint_llama_cpp import needs
from v4deploy.planning.layer_split import LayerLoads, Split, best_split, even_split
from v4deploy.planning.pools import device_budget

_OFFLOAD_KINDS = (PoolKind.DEDICATED, PoolKind.COHERENT, PoolKind.SLICE)
"""Pools beside which host memory is memory of its own, so that experts can move there."""


def device_groups(host: Host) -> tuple[tuple[Device, ...], ...]:
    """Usable devices by compute API: no engine spans two of them."""
    usable = [device for device in host.devices if device.usable]
    apis = dict.fromkeys(device.compute_api for device in usable)
    return tuple(tuple(device for device in usable if device.compute_api is api) for api in apis)


def alike_groups(group: tuple[Device, ...]) -> tuple[tuple[Device, ...], ...]:
    """The devices of a group by architecture, where it has several: an engine may run on some of them only."""
    architectures = dict.fromkeys(device.arch for device in group)
    if len(architectures) == 1:
        return ()
    return tuple(tuple(device for device in group if device.arch == arch) for arch in architectures)


def split_by_layers(candidate: Candidate, case: Case, devices: tuple[Device, ...]) -> Layout:
    """llama.cpp's placement of a candidate: whole layers on these devices, as few experts as possible in host memory.

    Where nothing fits it is the placement with the most offload, for the record of what is missing.

    Raises:
        ValueError: the candidate's sizes are not known; callers rule that out before.
    """
    whole = _loads(candidate, case, offloads=False)
    indices = tuple(device.index for device in devices)
    if not devices or case.is_unified(indices):
        return Layout(device_indices=indices[:1], device_layers=(whole.layers,) if devices else ())
    split = _split(whole, devices, case, may_offload=False)
    may_offload = all(case.host.pool(device.pool_id).kind in _OFFLOAD_KINDS for device in devices)
    if split is None and may_offload:
        split = _split(_loads(candidate, case, offloads=True), devices, case, may_offload=True)
    split = split or even_split(whole, len(devices), host_expert_layers=whole.layers if may_offload else 0)
    used = [n for n, count in enumerate(split.counts) if count or n == split.output_device]
    return Layout(
        device_indices=tuple(indices[n] for n in used),
        host_expert_layers=split.host_expert_layers,
        device_layers=tuple(split.counts[n] for n in used),
    )


def layer_split_devices(devices: tuple[Device, ...], host: Host) -> tuple[Device, ...]:
    """One device a pool: several devices of one pool would count it several times.

    Beside MIG slices the whole devices, or the largest slice where that is more: a CUDA process uses one slice and
    nothing with it (NVIDIA's MIG user guide).
    """
    first_of_pool: dict[str, Device] = {}
    for device in devices:
        first_of_pool.setdefault(device.pool_id, device)
    known = tuple(device for device in first_of_pool.values() if size_of(device, host) is not None)
    found = known or tuple(first_of_pool.values())
    slices = biggest(tuple(device for device in found if host.is_mig_slice(device)), host)
    if not slices:
        return found
    whole = tuple(device for device in found if not host.is_mig_slice(device))
    return max((whole, slices), key=lambda some: sum(size_of(device, host) or 0 for device in some))


def biggest(devices: tuple[Device, ...], host: Host) -> tuple[Device, ...]:
    """The one device with the most memory."""
    return tuple(sorted(devices, key=lambda device: -(size_of(device, host) or 0))[:1])


def _loads(candidate: Candidate, case: Case, *, offloads: bool) -> LayerLoads:
    sizes = needs(candidate, case, offloads=offloads)
    if sizes is None:
        raise ValueError(f"the size of {candidate.checkpoint.id} is not known")
    return sizes.loads


def _split(loads: LayerLoads, devices: tuple[Device, ...], case: Case, *, may_offload: bool) -> Split | None:
    pools = [case.host.pool(device.pool_id) for device in devices]
    budgets = [device_budget(pool, len(devices), case) for pool in pools]
    known = tuple(budget for budget in budgets if budget is not None)
    return best_split(loads, known, may_offload=may_offload) if len(known) == len(budgets) else None


def size_of(device: Device, host: Host) -> int | None:
    """Bytes of the device's pool; None where they are unknown."""
    return host.pool(device.pool_id).total.size_bytes
