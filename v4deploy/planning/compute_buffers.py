"""llama.cpp's compute buffer: measured for the true shapes, interpolated between the measured points."""

from __future__ import annotations

import bisect
from dataclasses import dataclass

from v4deploy.domain.model import Architecture
from v4deploy.domain.plan import Basis
from v4deploy.domain.units import MIB

SOURCE = "memory report of llama.cpp b11549 (CPU build, flash attention) on header-only files of the true shapes"
AS_OF = "2026-11-22"

_CONTEXTS = (4096, 8192, 16384, 32768, 65536, 131072, 262144, 393216, 524288, 1048576)

_SLOT_BYTES_PER_MILLION_TOKENS = 257 * MIB
"""What each further slot adds at 2^20 tokens; measured with 2, 4, 8 and 16 slots. At 128K it is up to 10 % low."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredShape:
    """Buffers of one architecture: MiB by micro batch, one entry for each of the measured contexts."""

    name: str
    hidden_size: int
    heads: int
    vocabulary: int
    buffers_mib: dict[int, tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeBuffer:
    """The buffer of one device; each device of a layer split has its own, of the same size."""

    size_bytes: int
    basis: Basis
    note: str


MEASURED_SHAPES = (
    MeasuredShape(
        name="V4-Flash",
        hidden_size=4096,
        heads=64,
        vocabulary=129280,
        buffers_mib={
            512: (261, 263, 267, 299, 347, 413, 574, 831, 1024, 1780),
            1024: (524, 528, 536, 552, 632, 697, 1086, 1472, 1923, 3307),
            2048: (1052, 1060, 1076, 1108, 1269, 1399, 2060, 2952, 3596, 6366),
            4096: (2118, 2136, 2168, 2232, 2554, 2622, 4152, 5936, 7224, 12120),
        },
    ),
    MeasuredShape(
        name="V4-Pro",
        hidden_size=7168,
        heads=128,
        vocabulary=129280,
        buffers_mib={
            512: (499, 501, 505, 513, 529, 633, 763, 924, 1086, 1986),
            1024: (999, 1003, 1011, 1027, 1059, 1124, 1273, 1656, 2173, 3718),
            2048: (2002, 2010, 2026, 2058, 2123, 2541, 2554, 3317, 3842, 6930),
            4096: (4018, 4036, 4068, 4132, 4262, 5098, 5140, 6650, 7716, 13892),
        },
    ),
)


def compute_buffer(
    architecture: Architecture, *, context_tokens: int, micro_batch_tokens: int, slots: int
) -> ComputeBuffer | None:
    """The buffer that the engine reserves when it starts. None where no measured shape is as large as this one.

    A smaller shape gets the next larger one's buffer, marked as assumed. A GPU build's buffer can differ: one CUDA run
    of Flash with a micro batch of 4,096 and about 200K to 256K tokens reserved 3,948 MiB.
    """
    shape = next((shape for shape in MEASURED_SHAPES if _covers(shape, architecture)), None)
    if shape is None:
        return None
    batches = sorted(shape.buffers_mib)
    batch = next((batch for batch in batches if batch >= micro_batch_tokens), batches[-1])
    single = _interpolated_bytes(shape.buffers_mib[batch], context_tokens)
    further = (slots - 1) * context_tokens * _SLOT_BYTES_PER_MILLION_TOKENS // 2**20
    exact = (shape.hidden_size, shape.heads) == (architecture.hidden_size, architecture.heads)
    return ComputeBuffer(
        size_bytes=single + further,
        basis=Basis.MEASURED if exact else Basis.ASSUMED,
        note=SOURCE if exact else f"no measurement of this shape: at most that of {shape.name}",
    )


def _covers(shape: MeasuredShape, architecture: Architecture) -> bool:
    return (
        architecture.hidden_size <= shape.hidden_size
        and architecture.heads <= shape.heads
        and architecture.vocabulary <= shape.vocabulary
    )


def _interpolated_bytes(buffers_mib: tuple[int, ...], context_tokens: int) -> int:
    """Linear between measured contexts, and beyond the last; the report cuts to whole MiB, so one is added."""
    position = bisect.bisect_left(_CONTEXTS, context_tokens)
    if position == 0:
        return (buffers_mib[0] + 1) * MIB
    right = min(position, len(_CONTEXTS) - 1)
    left = right - 1
    span = _CONTEXTS[right] - _CONTEXTS[left]
    rise = (buffers_mib[right] - buffers_mib[left]) * MIB
    return (buffers_mib[left] + 1) * MIB + rise * (context_tokens - _CONTEXTS[left]) // span
