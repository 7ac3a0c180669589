"""Layouts of the vLLM family: every way to spread a model over identical devices, and the rule that each breaks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from v4deploy.domain.finding import Finding
from v4deploy.domain.hardware import Device, PoolKind
from v4deploy.domain.model import Architecture
from v4deploy.domain.plan import Layout
from v4deploy.domain.recipes import RecipeLayout, Unplanned
from v4deploy.planning.case import Case
from v4deploy.planning.layouts import layer_split_devices, size_of
from v4deploy.planning.ruling import forbids
from v4deploy.planning.weights_ranks import orphaned_layer

_FP4_SCALE_GROUP = 32
"""Weights that share one scale in the native FP4 files; a slice of an expert cannot cut through a group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A layout, and the static rule that it breaks; None where only memory decides."""

    layout: Layout
    obstacle: Finding | None = None


def offered_layouts(devices: tuple[Device, ...], case: Case, *, replicate: bool) -> tuple[Layout, ...]:
    """Valid layouts over as many devices as possible, the preferred one first. Empty where none is valid.

    With `replicate`, replicated attention comes first: the cache does not shrink under tensor parallelism.
    """
    if case.profile.recipes.layouts:
        return tuple(offer.layout for offer in _documented(devices, case) if offer.obstacle is None)
    valid = [offer.layout for offer in every_layout(devices, case) if offer.obstacle is None]
    paired = max((_ranks(layout) for layout in valid if _is_power_of_two(_ranks(layout))), default=0)
    usual = [layout for layout in valid if _ranks(layout) == paired]
    # Five to seven devices are all used only by layouts that nobody publishes, so those come after what four hold.
    odd = [layout for layout in valid if _ranks(layout) > paired]
    plain_first = _is_plain(devices, case)
    usual.sort(key=lambda layout: _order(layout, replicate=replicate, plain_first=plain_first))
    odd.sort(key=lambda layout: (-_ranks(layout), *_order(layout, replicate=replicate, plain_first=plain_first)))
    return (*usual, *odd)


def every_layout(devices: tuple[Device, ...], case: Case) -> tuple[Offer, ...]:
    """Every way to spread over these devices or fewer of them, with the rule that forbids it where one does."""
    if case.profile.recipes.layouts:
        return _documented(devices, case)
    group = identical_devices(devices, case)
    offers = []
    for layout in _combinations(devices):
        broken = next(_broken_rules(layout, group, devices, case), None)
        used = group if broken is None else devices
        indices = tuple(device.index for device in used[: _ranks(layout)])
        offers.append(Offer(layout=_on(layout, indices), obstacle=broken))
    return tuple(offers)


def identical_devices(devices: tuple[Device, ...], case: Case) -> tuple[Device, ...]:
    """The largest set of devices of one chip and size, each with memory of its own; one alone of a partitioned kind."""
    sets: dict[tuple[object, ...], list[Device]] = {}
    for device in layer_split_devices(devices, case.host):
        sets.setdefault((device.arch, device.chip or device.name, size_of(device, case.host)), []).append(device)
    found = max(sets.values(), key=lambda group: len(group) * (size_of(group[0], case.host) or 0), default=[])
    is_slice = any(case.host.pool(device.pool_id).kind is PoolKind.SLICE for device in found)
    return tuple(found[:1] if is_slice else found)


def fewest_recipe_devices(devices: tuple[Device, ...], case: Case) -> int | None:
    """How many devices the smallest documented layout for this model on these devices takes. None where none is."""
    return min((recipe.devices for recipe in _recipes(devices, case)), default=None)


def why_unplanned(devices: tuple[Device, ...], case: Case) -> Unplanned | None:
    """Why a documented model has no layout on one server of these devices. None where nothing is documented."""
    architectures = {device.arch for device in devices}
    unplanned = case.profile.recipes.unplanned
    return next((entry for entry in unplanned if architectures == {entry.arch} and entry.model == case.model.id), None)


def recipe_of(layout: Layout, devices: tuple[Device, ...], case: Case) -> RecipeLayout | None:
    """The documented layout that this one is."""
    sizes = (layout.tensor_parallel, layout.data_parallel)
    return next((r for r in _recipes(devices, case) if (r.tensor_parallel, r.data_parallel) == sizes), None)


def _documented(devices: tuple[Device, ...], case: Case) -> tuple[Offer, ...]:
    offers = []
    for recipe in _recipes(devices, case):
        layout = Layout(
            device_indices=tuple(device.index for device in devices[: recipe.devices]),
            tensor_parallel=recipe.tensor_parallel,
            data_parallel=recipe.data_parallel,
            expert_parallel=True,
        )
        broken = _too_few(recipe.devices, len(devices)) if recipe.devices > len(devices) else None
        offers.append(Offer(layout=layout, obstacle=broken))
    return tuple(offers)


def _recipes(devices: tuple[Device, ...], case: Case) -> tuple[RecipeLayout, ...]:
    architectures = {device.arch for device in devices}
    return tuple(
        recipe
        for recipe in case.profile.recipes.layouts
        if architectures == {recipe.arch} and recipe.model == case.model.id
    )


def _combinations(devices: tuple[Device, ...]) -> Iterator[Layout]:
    """Tensor times data or pipeline parallel sizes, with whole experts and with slices; indices are filled in later."""
    for tensor in range(1, len(devices) + 1):
        for further in range(1, len(devices) // tensor + 1):
            yield from _spread(tensor, data=further, pipeline=1)
            if further > 1:
                yield from _spread(tensor, data=1, pipeline=further)


def _spread(tensor: int, *, data: int, pipeline: int) -> Iterator[Layout]:
    """With whole experts where there are ranks to share them, and with slices where there are no replicas.

    Replicas that share no experts would be several servers.
    """
    for experts in (True, False):
        if experts if tensor * data == 1 else data > 1 and not experts:
            continue
        yield Layout(
            device_indices=(),
            tensor_parallel=tensor,
            pipeline_parallel=pipeline,
            data_parallel=data,
            expert_parallel=experts,
        )


def _broken_rules(
    layout: Layout, group: tuple[Device, ...], devices: tuple[Device, ...], case: Case
) -> Iterator[Finding]:
    if _ranks(layout) > len(group):
        yield _unlike(_ranks(layout), group, devices, case)
    yield from _uneven(layout, case.model.architecture)


def _uneven(layout: Layout, architecture: Architecture) -> Iterator[Finding]:
    tensor = layout.tensor_parallel
    if layout.pipeline_parallel > architecture.layers:
        yield forbids("too-many-stages", f"{architecture.layers} layers cannot be cut into more stages")
    elif (orphan := orphaned_layer(architecture, layout.pipeline_parallel)) is not None:
        yield forbids(
            "stage-without-its-stream",
            f"a stage would begin with layer {orphan}, whose KV stream the stage before it stores",
        )
    for count, what in ((architecture.heads, "attention heads"), (architecture.o_groups, "output groups")):
        if count % tensor:
            yield forbids("heads-not-divisible", f"{count} {what} cannot be divided over {tensor} devices")
    if not layout.expert_parallel and architecture.expert_width % (tensor * _FP4_SCALE_GROUP):
        yield forbids(
            "experts-not-divisible",
            f"an expert's width of {architecture.expert_width} cannot be cut into {tensor} slices of whole groups of "
            f"{_FP4_SCALE_GROUP}",
            fix="keep experts whole: the same with EP",
        )


def _unlike(ranks: int, group: tuple[Device, ...], devices: tuple[Device, ...], case: Case) -> Finding:
    if ranks > len(devices):
        return _too_few(ranks, len(devices))
    if any(case.host.pool(device.pool_id).kind is PoolKind.SLICE for device in devices):
        return forbids("partitioned-devices", "partitions of a device cannot reach each other's memory")
    pools = {device.pool_id for device in devices}
    if len(pools) < len(devices):
        return forbids("shared-pool", f"{len(devices)} devices share {len(pools)} pools of memory")
    return forbids(
        "unlike-devices",
        f"only {len(group)} of {len(devices)} devices are alike, and every rank takes the same",
        fix="llama.cpp splits by layers over unlike devices: `--engine llama.cpp`",
    )


def _too_few(ranks: int, available: int) -> Finding:
    return forbids("needs-more-devices", f"it takes {ranks} devices, and here are {available}")


def _order(layout: Layout, *, replicate: bool, plain_first: bool) -> tuple[int, ...]:
    """Stages work one after the other, so pipelines come last: for what fits in no other way."""
    data = -layout.data_parallel if replicate else layout.data_parallel
    is_second = layout.expert_parallel if plain_first else not layout.expert_parallel
    return (layout.pipeline_parallel, data, is_second)


def _is_plain(devices: tuple[Device, ...], case: Case) -> bool:
    habits = case.profile.recipes.plain_tensor_parallel
    return all(any(habit.covers(device.arch, case.model.id) for habit in habits) for device in devices)


def _is_power_of_two(number: int) -> bool:
    return number & (number - 1) == 0


def _ranks(layout: Layout) -> int:
    return layout.tensor_parallel * layout.data_parallel * layout.pipeline_parallel


def _on(layout: Layout, indices: tuple[int, ...]) -> Layout:
    return replace(layout, device_indices=indices)
