"""A wish, the options to grant it, and the decision: a document that `pull`, `render` and `serve` take."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from v4deploy.domain.engine import EngineId
from v4deploy.domain.finding import Finding
from v4deploy.domain.hardware import ComputeApi, Host
from v4deploy.domain.model import Checkpoint, QuantAlias, Release
from v4deploy.domain.speed import SpeedEstimate

PLAN_SCHEMA = "v4deploy.plan/1"


class Basis(StrEnum):
    """What a number rests on. FORMULA: arithmetic from config.json and engine code; MEASURED: a published run."""

    FILE_SIZES = "file-sizes"
    FORMULA = "formula"
    MEASURED = "measured"
    ASSUMED = "assumed"


class FootprintPart(StrEnum):
    WEIGHTS = "weights"
    KV_CACHE = "kv-cache"
    COMPUTE = "compute-buffers"
    OVERHEAD = "overhead"


class Prefer(StrEnum):
    """What a choice among everything that fits puts first.

    QUALITY: weights nearest to the original, even where a part is computed by the CPU. SPEED: all of it on devices,
    the faster engine, fewer bytes a token. CONTEXT: the longest context, also beyond what a recipe documents.
    CONCURRENCY: the most sequences at once on the faster engine. The last three never go below two bits for it.
    """

    QUALITY = "quality"
    SPEED = "speed"
    CONTEXT = "context"
    CONCURRENCY = "concurrency"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the user asked for; None means: you choose.

    Attributes:
        model: model id or alias; `release` pins a dated one.
        quant: as typed, before aliases.
        context_tokens: tokens a sequence.
        concurrency: sequences at once; with CONCURRENCY preferred, the least that will do.
        layout: as typed (`tp8`, `dp4+ep`, `1-device`, `offload`, `cpu`); see planning/layout_wish.py.
        prefer: None weighs all four: on devices, with a useful context, near the original, on the faster engine.
    """

    model: str
    release: str | None = None
    quant: str | None = None
    engine: EngineId | None = None
    context_tokens: int | None = None
    concurrency: int = 1
    kv_cache_type: str | None = None
    layout: str | None = None
    prefer: Prefer | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How the model is spread.

    Attributes:
        device_indices: devices used, in order; empty for CPU only.
        tensor_parallel, pipeline_parallel, data_parallel: sizes, 1 for none.
        expert_parallel: experts kept whole on their rank.
        host_expert_layers: the first layers, whose routed experts stay in host RAM (llama.cpp).
        device_layers: whole layers on each device, in the order of `device_indices`; the output layer is with the last.
            Empty where the engine does not split by layers.
    """

    device_indices: tuple[int, ...]
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    data_parallel: int = 1
    expert_parallel: bool = False
    host_expert_layers: int = 0
    device_layers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FootprintRow:
    """One line of the arithmetic. `size_bytes` is what this pool has to give.

    Attributes:
        arithmetic: the sum with its numbers; None where the size is one figure.
    """

    part: FootprintPart
    what: str
    pool_id: str
    size_bytes: int
    basis: Basis
    note: str | None = None
    arithmetic: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolUse:
    """Demand and supply of one pool. `budget_bytes` None means the pool's size is unknown, so nothing can fit there.

    Attributes:
        needed_bytes: sum of the pool's footprint rows; never clamped.
        budget_bytes: what may be used: the smaller of ceiling and free (or total), less `margin_bytes`.
        missing_bytes: needed less budget where positive, else 0; None where the budget is unknown.
    """

    pool_id: str
    label: str
    needed_bytes: int
    budget_bytes: int | None
    margin_bytes: int
    budget_source: str

    @property
    def missing_bytes(self) -> int | None:
        return None if self.budget_bytes is None else max(0, self.needed_bytes - self.budget_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A checkpoint on an engine in a layout with settings.

    Attributes:
        kv_cache_type: `f16`, `q8_0` (llama.cpp), `fp8` (vLLM), per cache entry.
        batch_tokens: llama.cpp's micro batch, vLLM's max_num_batched_tokens.
        use_draft: speculative decoding with the checkpoint's own draft stages.
        engram_on_devices: V4.1's n-gram tables divided over the devices instead of in host memory.
    """

    checkpoint: Checkpoint
    engine: EngineId
    compute_api: ComputeApi
    layout: Layout
    context_tokens: int
    concurrency: int
    kv_cache_type: str
    batch_tokens: int
    use_draft: bool = False
    engram_on_devices: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a candidate fits, with the arithmetic, and every reason when it does not."""

    candidate: Candidate
    fits: bool
    footprint: tuple[FootprintRow, ...] = ()
    pools: tuple[PoolUse, ...] = ()
    reasons: tuple[Finding, ...] = ()

    @property
    def missing_bytes(self) -> int | None:
        """Bytes missing over all pools; None where a pool is unknown or the candidate is ruled out by a static rule."""
        if not self.pools:
            return None
        missing = [pool.missing_bytes for pool in self.pools]
        return None if None in missing else sum(value for value in missing if value is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A candidate that was not chosen, and every reason: each rule that forbids it, or what it has less of."""

    checkpoint: str
    quant: str
    engine: EngineId
    layout: str
    reasons: tuple[str, ...]
    missing_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """How many sequences the chosen layout holds at once at a context, each that long.

    Attributes:
        sequences: `most_sequences` of the engine's profile means that many or more.
    """

    context_tokens: int
    sequences: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The decision. A JSON document (`v4deploy.plan/1`) that replays anywhere.

    Attributes:
        alias: how the typed quant was resolved; None where the name was literal or not given.
        engine_version: found on the host, else the profile's; the flags are written for it.
        capacity: by context, the longest first.
        rejected: what else was weighed, best first.
    """

    tool_version: str
    request: Request
    release: Release
    gguf_arch: str
    chosen: Candidate
    alias: QuantAlias | None
    engine_version: str
    footprint: tuple[FootprintRow, ...]
    pools: tuple[PoolUse, ...]
    capacity: tuple[Capacity, ...]
    speed: SpeedEstimate
    findings: tuple[Finding, ...]
    rejected: tuple[Rejected, ...]
    host: Host
