"""Candidate layouts: how each engine can spread a model over the devices of a host."""

from __future__ import annotations

from v4deploy.domain.hardware import Device, Host, PoolKind
from v4deploy.domain.plan import Candidate, Layout
from v4deploy.domain.recipes import RecipeLayout, Unplanned
from v4deploy.planning import margins
from v4deploy.planning.case import Case
from v4deploy.planning.footprint_llama_cpp import needs
from v4deploy.planning.layer_split import LayerLoads, Split, best_split, even_split
from v4deploy.planning.pools import device_budget

TENSOR_PARALLEL_SIZES = (16, 8, 4, 2, 1)

_OFFLOAD_KINDS = (PoolKind.DEDICATED, PoolKind.COHERENT, PoolKind.SLICE)
"""Pools beside which host memory is memory of its own, so that experts can move there."""


def device_groups(host: Host) -> tuple[tuple[Device, ...], ...]:
    """Usable devices by compute API: no engine spans two of them."""
    usable = [device for device in host.devices if device.usable]
    apis = dict.fromkeys(device.compute_api for device in usable)
    return tuple(tuple(device for device in usable if device.compute_api is api) for api in apis)


def split_by_layers(candidate: Candidate, case: Case, devices: tuple[Device, ...]) -> Layout:
    """llama.cpp's placement of a candidate: whole layers on these devices, as few experts as possible in host memory.

    Where nothing fits it is the placement with the most offload, for the record of what is missing.

    Raises:
        ValueError: the candidate's sizes are not known; callers rule that out before.
    """
    sizes = needs(candidate, case)
    if sizes is None:
        raise ValueError(f"the size of {candidate.checkpoint.id} is not known")
    indices = tuple(device.index for device in devices)
    if not devices or case.is_unified(indices):
        return Layout(device_indices=indices[:1], device_layers=(sizes.loads.layers,) if devices else ())
    may_offload = all(case.host.pool(device.pool_id).kind in _OFFLOAD_KINDS for device in devices)
    split = _split(sizes.loads, devices, case, may_offload=may_offload)
    used = [n for n, count in enumerate(split.counts) if count or n == split.output_device]
    return Layout(
        device_indices=tuple(indices[n] for n in used),
        host_expert_layers=split.host_expert_layers,
        device_layers=tuple(split.counts[n] for n in used),
    )


def layer_split_devices(devices: tuple[Device, ...], host: Host) -> tuple[Device, ...]:
    """One device a pool: several devices of one pool would count it several times."""
    first_of_pool: dict[str, Device] = {}
    for device in devices:
        first_of_pool.setdefault(device.pool_id, device)
    known = tuple(device for device in first_of_pool.values() if _size(device, host) is not None)
    return known or tuple(first_of_pool.values())


def biggest(devices: tuple[Device, ...], host: Host) -> tuple[Device, ...]:
    """The one device with the most memory."""
    return tuple(sorted(devices, key=lambda device: -(_size(device, host) or 0))[:1])


def rank_layouts(devices: tuple[Device, ...], case: Case, *, concurrency: int) -> tuple[Layout, ...]:
    """Layouts of the vLLM family over identical devices, the preferred one first. Empty where none is valid."""
    if case.profile.recipes.layouts:
        return _recipe_layouts(devices, case)
    group = _identical(devices, case)
    architecture = case.model.architecture
    size = next(
        n
        for n in TENSOR_PARALLEL_SIZES
        if n <= max(1, len(group)) and architecture.heads % n == 0 and architecture.o_groups % n == 0
    )
    indices = tuple(device.index for device in group[:size])
    if size == 1:
        return (Layout(device_indices=indices),) if indices else ()
    both = Layout(device_indices=indices, tensor_parallel=size, expert_parallel=True)
    plain = Layout(device_indices=indices, tensor_parallel=size)
    replicated = Layout(device_indices=indices, data_parallel=size, expert_parallel=True)
    habits = case.profile.recipes.plain_tensor_parallel
    is_plain = all(any(habit.covers(device.arch, case.model.id) for habit in habits) for device in group)
    sharded = (plain, both) if is_plain else (both, plain)
    return (replicated, *sharded) if concurrency >= margins.MANY_SEQUENCES else (*sharded, replicated)


def fewest_recipe_devices(devices: tuple[Device, ...], case: Case) -> int | None:
    """How many devices the smallest documented layout for this model on these devices takes. None where none is."""
    return min((recipe.devices for recipe in _recipes(devices, case)), default=None)


def why_unplanned(devices: tuple[Device, ...], case: Case) -> Unplanned | None:
    """Why a documented model has no layout on one server of these devices. None where nothing is documented."""
    architectures = {device.arch for device in devices}
    return next(
        (
            entry
            for entry in case.profile.recipes.unplanned
            if architectures == {entry.arch} and entry.model == case.model.id
        ),
        None,
    )


def recipe_of(layout: Layout, devices: tuple[Device, ...], case: Case) -> RecipeLayout | None:
    """The documented layout that this one is."""
    sizes = (layout.tensor_parallel, layout.data_parallel)
    return next((r for r in _recipes(devices, case) if (r.tensor_parallel, r.data_parallel) == sizes), None)


def _recipe_layouts(devices: tuple[Device, ...], case: Case) -> tuple[Layout, ...]:
    return tuple(
        Layout(
            device_indices=tuple(device.index for device in devices[: recipe.devices]),
            tensor_parallel=recipe.tensor_parallel,
            data_parallel=recipe.data_parallel,
            expert_parallel=True,
        )
        for recipe in _recipes(devices, case)
        if recipe.devices <= len(devices)
    )


def _recipes(devices: tuple[Device, ...], case: Case) -> tuple[RecipeLayout, ...]:
    architectures = {device.arch for device in devices}
    return tuple(
        recipe
        for recipe in case.profile.recipes.layouts
        if architectures == {recipe.arch} and recipe.model == case.model.id
    )


def _identical(devices: tuple[Device, ...], case: Case) -> tuple[Device, ...]:
    """The largest set of devices of one chip and size, each with memory of its own; one alone of a partitioned kind."""
    sets: dict[tuple[object, ...], list[Device]] = {}
    for device in layer_split_devices(devices, case.host):
        sets.setdefault((device.arch, device.chip or device.name, _size(device, case.host)), []).append(device)
    found = max(sets.values(), key=lambda group: len(group) * (_size(group[0], case.host) or 0), default=[])
    is_slice = any(case.host.pool(device.pool_id).kind is PoolKind.SLICE for device in found)
    return tuple(found[:1] if is_slice else found)


def _split(loads: LayerLoads, devices: tuple[Device, ...], case: Case, *, may_offload: bool) -> Split:
    pools = [case.host.pool(device.pool_id) for device in devices]
    budgets = [device_budget(pool, len(devices), case) for pool in pools]
    known = tuple(budget for budget in budgets if budget is not None)
    split = best_split(loads, known, may_offload=may_offload) if len(known) == len(budgets) else None
    most = loads.layers if may_offload else 0
    return split or even_split(loads, len(devices), host_expert_layers=most)


def _size(device: Device, host: Host) -> int | None:
    return host.pool(device.pool_id).total.size_bytes
