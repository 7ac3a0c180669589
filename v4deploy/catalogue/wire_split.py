"""The form of `split_memory:` in profiles/engines/<engine>.yaml, and its SplitMemory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from v4deploy.domain.hardware import ComputeApi
from v4deploy.domain.source import Source
from v4deploy.domain.split_memory import DeviceContext, SplitMemory
from v4deploy.domain.units import MIB

_Some = Annotated[int, Field(gt=0)]
_Batches = Annotated[tuple[_Some, ...], Field(min_length=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextEntry:
    """As DeviceContext documents it."""

    compute_api: ComputeApi
    mib: _Some
    is_measured: bool = False
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitMemoryEntry:
    """As SplitMemory documents it, in MiB."""

    micro_batches_tokens: _Batches
    offload_micro_batches_tokens: _Batches
    only_device_margin_mib: int
    device_margin_mib: int
    device_contexts: tuple[ContextEntry, ...]
    process_mib: _Some
    process_beside_mib: _Some
    process_floor_mib: int
    source: str
    as_of: str


def split_memory_of(entry: SplitMemoryEntry | None) -> SplitMemory | None:
    """The figures. None where the profile has no such key."""
    if entry is None:
        return None
    source = Source(source=entry.source, as_of=entry.as_of, confidence="B")
    return SplitMemory(
        micro_batches_tokens=entry.micro_batches_tokens,
        offload_micro_batches_tokens=entry.offload_micro_batches_tokens,
        only_device_margin_bytes=entry.only_device_margin_mib * MIB,
        device_margin_bytes=entry.device_margin_mib * MIB,
        device_contexts=tuple(
            DeviceContext(
                compute_api=context.compute_api.value,
                size_bytes=context.mib * MIB,
                is_measured=context.is_measured,
                note=context.note,
                source=source,
            )
            for context in entry.device_contexts
        ),
        process_bytes=entry.process_mib * MIB,
        process_beside_bytes=entry.process_beside_mib * MIB,
        process_floor_bytes=entry.process_floor_mib * MIB,
        source=source,
    )
