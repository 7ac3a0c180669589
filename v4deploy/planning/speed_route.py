"""Where a forward pass of a candidate reads, and how long that takes on hardware of its class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from v4deploy.domain.engine import MemoryModel
from v4deploy.domain.hardware import Device
from v4deploy.domain.measurements import Measurements
from v4deploy.domain.plan import Candidate
from v4deploy.domain.speed_model import HostRead, SpeedClass, SpeedModel
from v4deploy.planning.active_bytes import Reads
from v4deploy.planning.case import Case
from v4deploy.planning.forward_pass import Load, Span, host_span, layers_span, rank_span


@dataclass(frozen=True, slots=True, kw_only=True)
class Grounds:
    """What estimates rest on.

    Attributes:
        bandwidths: memory bandwidth of a chip's device by the chip's id, in bytes a second; None where no source was
            found.
        measured: on this machine; empty for any other.
    """

    model: SpeedModel
    bandwidths: Mapping[str, int | None]
    measured: Measurements = field(default_factory=Measurements)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Bytes on one device, or on each of several that read at the same time."""

    span: Span
    bytes_per_second: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Devices that read one after another, and what the CPU reads of host memory (None: nothing)."""

    stages: tuple[Stage, ...]
    host: Span | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The class of a layout's devices, and how far its predictions may be off on their chips."""

    known: SpeedClass
    spread: float


class NoBasisError(Exception):
    """There is nothing to estimate from; the message says what is missing."""


def route(candidate: Candidate, case: Case, grounds: Grounds, reads: Reads, load: Load) -> Route:
    """The way of one pass.

    Raises:
        NoBasisError: the bandwidth of a device is not known.
    """
    layout = candidate.layout
    devices = case.devices(layout.device_indices)
    if not devices:
        whole = layers_span(reads, load, layers=reads.layers, resident=reads.layers, holds_head=True)
        return Route(stages=(), host=whole)
    speeds = [_bandwidth(device, grounds) for device in devices]
    if case.profile.memory_model is MemoryModel.VLLM:
        span = rank_span(reads, case.model.architecture, layout, load)
        return Route(stages=(Stage(span=span, bytes_per_second=min(speeds)),))
    stages: list[Stage] = []
    first = 0
    for number, (speed, count) in enumerate(zip(speeds, layout.device_layers, strict=True), start=1):
        offloaded = min(count, max(0, layout.host_expert_layers - first))
        span = layers_span(
            reads, load, layers=count, resident=count - offloaded, holds_head=number == len(layout.device_layers)
        )
        stages.append(Stage(span=span, bytes_per_second=speed))
        first += count
    layers = layout.host_expert_layers
    return Route(stages=tuple(stages), host=host_span(reads, load, layers=layers) if layers else None)


def least_seconds(way: Route) -> float | None:
    """What the data sheets' bandwidth allows at best; None where the CPU's part is not known."""
    if way.host is not None:
        return None
    return sum(stage.span.low / stage.bytes_per_second for stage in way.stages)


def pass_seconds(way: Route, timing: Timing | None, grounds: Grounds, *, layers: int, sequences: int) -> Span:
    """From the fastest to the slowest that a pass may take.

    Raises:
        NoBasisError: no class for the devices, no run of so many sequences, or no measured host memory.
    """
    low = high = 0.0
    if way.stages:
        if timing is None:
            raise NoBasisError("no run of this engine on such devices was published that a model could be fitted on")
        slower = timing.known.batch_factor(sequences)
        if slower is None:
            raise NoBasisError(f"no published run on such devices decodes {sequences:,} sequences at once")
        fixed = layers * timing.known.layer_seconds
        share = timing.known.efficiency
        low = fixed + sum(stage.span.low / (stage.bytes_per_second * share) for stage in way.stages)
        high = fixed + sum(stage.span.high / (stage.bytes_per_second * share) for stage in way.stages)
        low, high = low / timing.spread, high * timing.spread * slower
    if way.host is not None:
        shares, rate = _host_read(grounds)
        low += way.host.low / (rate * shares.high)
        high += way.host.high / (rate * shares.low)
    return Span(low=low, high=high)


def _bandwidth(device: Device, grounds: Grounds) -> int:
    if device.chip is None:
        raise NoBasisError(f"{device.name} is not in the catalogue, so its memory bandwidth is not known")
    known = grounds.bandwidths.get(device.chip)
    if known is None:
        raise NoBasisError(f"the memory bandwidth of {device.chip} is not known")
    return known


def _host_read(grounds: Grounds) -> tuple[HostRead, float]:
    rate = grounds.measured.host_read
    if rate is None or grounds.model.host_read is None:
        raise NoBasisError("how fast the CPU reads host memory is not known, and experts lie there")
    return grounds.model.host_read, rate.bytes_per_second
