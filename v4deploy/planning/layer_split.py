"""llama.cpp's layer split: whole layers on devices in order, experts of the first layers in host memory."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from itertools import accumulate

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

    def filled(self, host_expert_layers: int) -> tuple[int, ...]:
        """Bytes of the first layers together, from none to all, and then with the output head."""
        resident = (
            self.dense_bytes + cache + (experts if layer >= host_expert_layers else 0)
            for layer, (cache, experts) in enumerate(zip(self.cache_bytes, self.experts_bytes, strict=True))
        )
        return tuple(accumulate((*resident, self.output_bytes), initial=0))


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
    rooms = tuple(budget - loads.fixed_bytes for budget in budgets)

    def counts(host_expert_layers: int) -> tuple[int, ...] | None:
        return _fill(loads.filled(host_expert_layers), rooms, headroom=0)

    if counts(most) is None:
        return None
    fewest = bisect.bisect_left(range(most), 1, key=lambda layers: int(counts(layers) is not None))
    return _balanced(loads, rooms, fewest)


def even_split(loads: LayerLoads, devices: int, *, host_expert_layers: int) -> Split:
    """A split for the record where none fits: the same number of layers on each device."""
    counts = tuple(loads.layers * (n + 1) // devices - loads.layers * n // devices for n in range(devices))
    return Split(counts=counts, output_device=devices - 1, host_expert_layers=host_expert_layers)


def _balanced(loads: LayerLoads, rooms: tuple[int, ...], host_expert_layers: int) -> Split:
    filled = loads.filled(host_expert_layers)
    steps = range(1, (max(rooms) + loads.fixed_bytes) // _BALANCE_STEP_BYTES + 1)
    too_many = bisect.bisect_left(
        steps, 1, key=lambda step: int(_fill(filled, rooms, headroom=step * _BALANCE_STEP_BYTES) is None)
    )
    counts = _fill(filled, rooms, headroom=too_many * _BALANCE_STEP_BYTES)
    assert counts is not None
    output_device = max(device for device, count in enumerate(counts) if count)
    layers = tuple(count - (device == output_device) for device, count in enumerate(counts))
    return Split(counts=layers, output_device=output_device, host_expert_layers=host_expert_layers)


def _fill(filled: tuple[int, ...], rooms: tuple[int, ...], *, headroom: int) -> tuple[int, ...] | None:
    """Put layers on devices in order, each filled as far as it goes: how many lie on each, the output head counted as
    one. None where they do not hold everything.
    """
    counts = []
    placed = 0
    for room in rooms:
        end = bisect.bisect_right(filled, filled[placed] + room - headroom) - 1
        counts.append(max(end - placed, 0))
        placed += counts[-1]
    return tuple(counts) if placed == len(filled) - 1 else None
