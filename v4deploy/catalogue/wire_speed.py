"""The form of profiles/speed/model.yaml, which tools/fit_speed.py writes."""

from __future__ import annotations

from dataclasses import dataclass

from v4deploy.catalogue.yaml_source import YamlDocument, parse_profile
from v4deploy.domain.engine import EngineId
from v4deploy.domain.model import DraftKind
from v4deploy.domain.speed_model import AcceptLength, HostRead, SeenRun, SpeedClass, SpeedModel

_MICRO, _TERA = 1e-6, 1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassEntry:
    """A class; `prefill_tflops_*` are of one device, `batches` pairs of sequences and a factor."""

    id: str
    engines: tuple[EngineId, ...]
    archs: tuple[str, ...]
    measured_chips: tuple[str, ...]
    measured_engines: tuple[str, ...]
    efficiency: float
    layer_microseconds: float
    runs: int
    worst_error: float | None
    worst_error_elsewhere: float | None
    spread: float
    spread_elsewhere: float
    batches: tuple[tuple[int, float], ...]
    prefill_tflops_low: float | None
    prefill_tflops_high: float | None
    depth: str | None
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptEntry:
    kind: DraftKind
    draft_tokens: int
    low: float
    high: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostReadEntry:
    low: float
    high: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenEntry:
    model: str
    chip: str
    devices: int
    hardware: str
    engine: str
    weights: str
    sequences: int
    offload: bool
    tokens_per_second: float
    left_out: str
    source: str
    as_of: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedFile:
    as_of: str
    classes: tuple[ClassEntry, ...]
    accept_lengths: tuple[AcceptEntry, ...]
    host_read: HostReadEntry
    seen: tuple[SeenEntry, ...]


def speed_model_of(document: YamlDocument) -> SpeedModel:
    """The speed model.

    Raises:
        ProfileError: the file has not the form of SpeedFile, or a coefficient is none.
    """
    file = parse_profile(SpeedFile, document)
    for index, entry in enumerate(file.classes):
        if not (0 < entry.efficiency <= 1 <= entry.spread <= entry.spread_elsewhere and entry.layer_microseconds >= 0):
            raise document.error(("classes", index), f"the coefficients of `{entry.id}` make no speed")
    return SpeedModel(
        classes=tuple(map(_class, file.classes)),
        accept_lengths=tuple(
            AcceptLength(
                kind=entry.kind, draft_tokens=entry.draft_tokens, low=entry.low, high=entry.high, source=entry.source
            )
            for entry in file.accept_lengths
        ),
        host_read=HostRead(low=file.host_read.low, high=file.host_read.high, source=file.host_read.source),
        seen=tuple(map(_seen, file.seen)),
        as_of=file.as_of,
    )


def _class(entry: ClassEntry) -> SpeedClass:
    low, high = entry.prefill_tflops_low, entry.prefill_tflops_high
    return SpeedClass(
        id=entry.id,
        engines=entry.engines,
        archs=entry.archs,
        measured_chips=entry.measured_chips,
        measured_engines=entry.measured_engines,
        efficiency=entry.efficiency,
        layer_seconds=entry.layer_microseconds * _MICRO,
        runs=entry.runs,
        worst_error=entry.worst_error,
        worst_error_elsewhere=entry.worst_error_elsewhere,
        spread=entry.spread,
        spread_elsewhere=entry.spread_elsewhere,
        batches=entry.batches,
        prefill_flops_low=None if low is None else low * _TERA,
        prefill_flops_high=None if high is None else high * _TERA,
        depth=entry.depth,
        source=entry.source,
    )


def _seen(entry: SeenEntry) -> SeenRun:
    return SeenRun(
        model=entry.model,
        chip=entry.chip,
        devices=entry.devices,
        hardware=entry.hardware,
        engine=entry.engine,
        weights=entry.weights,
        sequences=entry.sequences,
        offload=entry.offload,
        tokens_per_second=entry.tokens_per_second,
        left_out=entry.left_out,
        source=entry.source,
        as_of=entry.as_of,
    )
