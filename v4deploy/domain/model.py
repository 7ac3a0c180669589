"""A model: its architecture, its releases, and the checkpoints in which it can be had."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from v4deploy.domain.engine import EngineId
from v4deploy.domain.source import Source


class AttentionKind(StrEnum):
    """Kinds of attention layer, told apart by what they keep in the KV cache.

    WINDOW: the sliding window only. CSA: window, a compressed stream (one entry every `ratio` tokens) and index keys.
    HCA: window and a heavily compressed stream, no index keys. CSA2: V4.1's shared compressed stream.
    """

    WINDOW = "window"
    CSA = "csa"
    HCA = "hca"
    CSA2 = "csa2"


class DraftKind(StrEnum):
    MTP = "mtp"
    DSPARK = "dspark"


class CheckpointFormat(StrEnum):
    SAFETENSORS = "safetensors"
    GGUF = "gguf"
    MLX = "mlx"
    EXL3 = "exl3"


class FileRole(StrEnum):
    """What a file of a checkpoint is for. Engines that glob for weights pick up drafts by mistake; we name them."""

    MAIN = "main"
    DRAFT = "draft"
    MMPROJ = "mmproj"
    ENGRAM = "engram"
    TOKENIZER = "tokenizer"
    CONFIG = "config"
    OTHER = "other"


class Status(StrEnum):
    """CURRENT: what the bare model name means. VARIANT: beside the current one (a base model, an experiment)."""

    CURRENT = "current"
    SUPERSEDED = "superseded"
    ANNOUNCED = "announced"
    VARIANT = "variant"


class Hub(StrEnum):
    HUGGINGFACE = "huggingface"
    MODELSCOPE = "modelscope"


class Runnable(StrEnum):
    """Where a checkpoint runs beyond the engines that v4deploy drives."""

    DRIVEN = "driven"
    OTHER_ENGINE = "other-engine"
    CLOUD_ONLY = "cloud-only"


@dataclass(frozen=True, slots=True, kw_only=True)
class Engram:
    """V4.1's n-gram tables: read a few kilobytes a token, so host RAM or NVMe will do."""

    layers: tuple[int, ...]
    rows: tuple[int, ...]
    row_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """Draft stages inside a release.

    Attributes:
        block_tokens: the checkpoint's own block size; None for MTP.
        markov_rank: rank of DSpark's two Markov tables; None for MTP or where not known.
        experts: routed experts of a stage; None means as many as a main layer has.
    """

    kind: DraftKind
    stages: int
    block_tokens: int | None = None
    markov_rank: int | None = None
    experts: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """Shapes from config.json; counts and widths without unit are elements.

    Attributes:
        compress_ratios: one entry a main layer: 0 window only, 4 CSA, 128 HCA; for V4.1 the CSA2 ratio of the layer.
        kv_source_layers: layers that store the shared KV stream (V4.1); empty means every layer stores its own.
        index_source_layers: layers with index queries of their own, whose choice the next ones share (V4.1); those that
            are KV sources too store the index keys. Empty means every CSA layer has both.
        expert_block: FP8 scale tile edge (128 for V4, 32 for V4.1).
    """

    id: str
    gguf_arch: str
    layers: int
    hidden_size: int
    heads: int
    head_dim: int
    rope_dim: int
    q_lora_rank: int
    o_lora_rank: int
    o_groups: int
    routed_experts: int
    active_experts: int
    shared_experts: int
    expert_width: int
    hash_layers: int
    compress_ratios: tuple[int, ...]
    window_tokens: int
    index_heads: int
    index_dim: int
    index_topk: int
    hyper_connections: int
    vocabulary: int
    max_context_tokens: int
    rope_original_context_tokens: int
    routed_scaling: float
    expert_block: int = 128
    kv_source_layers: tuple[int, ...] = ()
    index_source_layers: tuple[int, ...] = ()
    engram: Engram | None = None
    vision_bytes: int | None = None
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A dated set of weights. `v4-flash` means the release whose status is current.

    Attributes:
        random_weights: they were never trained, so that what the model says is noise.
    """

    id: str
    name: str
    status: Status
    released: str
    draft: Draft | None
    minimum_engine_versions: tuple[tuple[EngineId, str], ...] = ()
    random_weights: bool = False
    note: str | None = None
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFile:
    """One file of a checkpoint. `size_bytes` and `sha256` are None where only the hub can tell."""

    path: str
    role: FileRole
    size_bytes: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerExperts:
    """Routed experts of one layer, in bytes; `others` are layers (from 0) that a dynamic quant gives another size."""

    each_bytes: int
    others: tuple[tuple[int, int], ...] = ()

    def by_layer(self, layers: int) -> tuple[int, ...]:
        """One size a layer."""
        others = dict(self.others)
        return tuple(others.get(layer, self.each_bytes) for layer in range(layers))


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Concrete weight files in one repository.

    Attributes:
        id: unique over the catalogue, made of release and quant (`v4-flash-0731-ud-q4_k_xl`), or the hub id.
        quant: the publisher's own word (`UD-Q4_K_XL`, `native`, `nvfp4`, `w8a8`).
        revision: the commit it was described at; None where none was recorded (then resolved at pull time).
        size_bytes: sum of the weight files; None when no source gives it.
        dense_bytes: what of it is not routed experts; None when not known (the planner then says what it assumes).
        layer_experts: routed experts of each layer; None when not known (they are then taken to be alike).
        offloadable_bytes: Engram tables inside `size_bytes` that need not be on a device.
        draft_bytes: draft stages inside `size_bytes`.
        files: pinned files, or shell patterns (`UD-Q2_K_XL/*-of-*.gguf`) where names changed between uploads; empty
            where only the hub can list them. They belong to `size_bytes`.
        side_files: drafts and projectors in the same repository: not part of `size_bytes`, not needed to run.
        path_prefix: folder inside the repository that holds this quant ("" for the root).
        engines: engines that v4deploy drives and that run it; empty with `runnable` saying where else it runs.
        compute_apis: restriction of the weights themselves (Ascend re-quants: cann); empty means none.
        architectures: restriction to device architectures (`sm_100`); empty means none.
        quality: measured figure against a reference, in words with its source; None when not measured.
    """

    id: str
    model: str
    release: str
    hub: Hub
    repo: str
    revision: str | None
    format: CheckpointFormat
    quant: str
    size_bytes: int | None
    shards: int | None
    engines: tuple[EngineId, ...]
    runnable: Runnable = Runnable.DRIVEN
    dense_bytes: int | None = None
    layer_experts: LayerExperts | None = None
    offloadable_bytes: int = 0
    draft_bytes: int | None = None
    files: tuple[WeightFile, ...] = ()
    side_files: tuple[WeightFile, ...] = ()
    path_prefix: str = ""
    compute_apis: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    quality: str | None = None
    official: bool = False
    note: str | None = None
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantAlias:
    """A name that people type, the quant it stands for in this model, and the reason shown to them."""

    name: str
    quant: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model of the family, as `MODEL` names it on the command line."""

    id: str
    name: str
    aliases: tuple[str, ...]
    license: str
    modalities: tuple[str, ...]
    total_parameters: str
    active_parameters: str
    architecture: Architecture
    releases: tuple[Release, ...]
    checkpoints: tuple[Checkpoint, ...]
    quant_aliases: tuple[QuantAlias, ...] = ()
    cloud_only_tags: tuple[str, ...] = ()
    source: Source

    def release(self, release_id: str) -> Release:
        """The release of that id.

        Raises:
            KeyError: this model has no such release.
        """
        for release in self.releases:
            if release.id == release_id:
                return release
        raise KeyError(release_id)

    @property
    def current_release(self) -> Release:
        """The release that the bare model name means; the catalogue loader guarantees exactly one."""
        return next(release for release in self.releases if release.status is Status.CURRENT)
