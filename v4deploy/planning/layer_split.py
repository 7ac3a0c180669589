"""llama.cpp's layer split: whole layers on devices in order, experts of the first layers in host memory."""

from __future__ import annotations

import bisect
from dataclasses import dataclass

from v4deploy.domain.units import MIB

_BALANCE_STEP_BYTES = 64 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerLoads:
    """What each layer asks of the device that holds it.

    Attributes:
        dense_bytes: of one layer.
        experts_bytes: routed experts of each layer.
        cache_bytes: KV cache of each layer, for all slots.
        output_bytes: the output head, on the last device.
        fixed_bytes: on every device that takes part: compute buffer and context.
    """

    dense_bytes: int
    experts_bytes: tuple[int, ...]
    cache_bytes: tuple[int, ...]
    output_bytes: int
    fixed_bytes: int

    @property
    def layers(self) -> int:
        return len(self.cache_bytes)

    def items(self, host_expert_layers: int) -> tuple[int, ...]:
        """Bytes of each layer in order, then of the output head."""
        resident = (
            self.dense_bytes + cache + (self.experts_bytes[layer] if layer >= host_expert_layers else 0)
            for layer, cache in enumerate(self.cache_bytes)
        )
        return (*resident, self.output_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """`counts`: layers by device; the device that holds the output head is `output_device`, none after it is used."""

    counts: tuple[int, ...]
    output_device: int
    host_expert_layers: int


def best_split(loads: LayerLoads, budgets: tuple[int, ...], *, may_offload: bool) -> Split | None:
    """The fewest offloaded layers that fit, spread so that the fullest device keeps as much as possible free.

    None where the devices cannot even hold the dense part.
    """
    most = loads.layers if may_offload else 0
    if _fill(loads, budgets, most, headroom=0) is None:
        return None
    fewest = bisect.bisect_left(
        range(most), 1, key=lambda layers: int(_fill(loads, budgets, layers, headroom=0) is not None)
    )
    return _balanced(loads, budgets, fewest)


def even_split(loads: LayerLoads, devices: int, *, host_expert_layers: int) -> Split:
    """A split for the record where none fits: the same number of layers on each device."""
    counts = tuple(loads.layers * (n + 1) // devices - loads.layers * n // devices for n in range(devices))
    return Split(counts=counts, output_device=devices - 1, host_expert_layers=host_expert_layers)


def _balanced(loads: LayerLoads, budgets: tuple[int, ...], host_expert_layers: int) -> Split:
    steps = range(1, max(budgets) // _BALANCE_STEP_BYTES + 1)
    too_many = bisect.bisect_left(
        steps,
        1,
        key=lambda step: int(_fill(loads, budgets, host_expert_layers, headroom=step * _BALANCE_STEP_BYTES) is None),
    )
    split = _fill(loads, budgets, host_expert_layers, headroom=too_many * _BALANCE_STEP_BYTES)
    assert split is not None
    return split


def _fill(loads: LayerLoads, budgets: tuple[int, ...], host_expert_layers: int, *, headroom: int) -> Split | None:
    """Put layers on devices in order, each filled as far as it goes. None where they do not hold everything."""
    counts = [0] * len(budgets)
    device, left = 0, budgets[0] - loads.fixed_bytes - headroom
    for size in loads.items(host_expert_layers):
        while size > left:
            device += 1
            if device == len(budgets):
                return None
            left = budgets[device] - loads.fixed_bytes - headroom
        left -= size
        counts[device] += 1
    counts[device] -= 1  # the output head is no layer
    return Split(counts=tuple(counts), output_device=device, host_expert_layers=host_expert_layers)
