"""What an engine that splits a model by layers keeps in memory beside weights, cache and compute buffer."""

from __future__ import annotations

from dataclasses import dataclass

from v4deploy.domain.source import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceContext:
    """Context and pools of one device, by compute API (`cuda`). `is_measured`: derived from logs, else assumed."""

    compute_api: str
    size_bytes: int
    is_measured: bool
    note: str
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitMemory:
    """Figures of a layer-splitting engine.

    Attributes:
        micro_batches_tokens: to try where nothing is offloaded, the preferred first.
        offload_micro_batches_tokens: the same with experts in host memory.
        only_device_margin_bytes, device_margin_bytes: left free on the only device, and on each of several.
        device_contexts: of compute APIs whose devices have one outside the engine's own buffers.
        process_bytes: the server beside weights of `process_beside_bytes` or more; less in proportion.
        process_floor_bytes: what it takes at least.
    """

    micro_batches_tokens: tuple[int, ...]
    offload_micro_batches_tokens: tuple[int, ...]
    only_device_margin_bytes: int
    device_margin_bytes: int
    device_contexts: tuple[DeviceContext, ...]
    process_bytes: int
    process_beside_bytes: int
    process_floor_bytes: int
    source: Source

    def context(self, compute_api: str) -> DeviceContext | None:
        """Of one compute API; None where none is counted."""
        return next((context for context in self.device_contexts if context.compute_api == compute_api), None)

    def process_bytes_beside(self, weight_bytes: int) -> int:
        """The server process beside weights of that size, in host memory."""
        scaled = weight_bytes * self.process_bytes // self.process_beside_bytes
        return max(self.process_floor_bytes, min(self.process_bytes, scaled))
