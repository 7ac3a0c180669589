"""profiles/speed/measurements.yaml as values: published runs, with the bytes that each of their passes reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from v4deploy.catalogue.load import load_catalogue
from v4deploy.catalogue.yaml_source import parse_profile, read_yaml
from v4deploy.domain.catalogue import Catalogue
from v4deploy.domain.model import CheckpointFormat
from v4deploy.domain.plan import Layout
from v4deploy.domain.speed_model import AcceptLength, HostRead
from v4deploy.domain.units import GB
from v4deploy.planning.active_bytes import matrix_flops, reads_of
from v4deploy.planning.attention import shares_kv_stream
from v4deploy.planning.forward_pass import Load, rank_span

PROFILES = Path(__file__).parents[1] / "profiles"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassEntry:
    """Runs that one pair of coefficients describes. `serves`: engines that it speaks for, of one host."""

    id: str
    family: str
    serves: tuple[str, ...]
    archs: tuple[str, ...]
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEntry:
    """One published run; see the head of the file.

    Attributes:
        weights_gb: size of the weight files, decimal; null means the official ones.
        split: `one` device, whole `layers` on devices in turn, `tensor` parallel, or that with whole `experts`.
        sequences: decoded at once; `tokens_per_second` is their sum.
        pass_tokens: that one pass computes for each sequence.
        bandwidth_gb_s: of one device, where it has no entry in profiles/hardware.
        back_test: predicted, not fitted.
        shown: told where there is no estimate; `offload`: the CPU computes experts.
        left_out: why no fit uses the run; `prefill_left_out`: why its prefill is not used.
    """

    id: str
    hardware: str
    chip: str | None
    devices: int | None
    engine: str
    model: str
    weights: str
    context_tokens: int | None
    sequences: int | None
    source: str
    as_of: str
    weights_gb: float | None = None
    draft: str | None = None
    tokens_per_second: float | None = None
    prefill_tokens_per_second: float | None = None
    run_class: str | None = None
    split: str | None = None
    pass_tokens: int = 1
    accept_length: float = 1.0
    accept_basis: str = "reported"
    pass_milliseconds: float | None = None
    bandwidth_gb_s: float | None = None
    back_test: bool = False
    shown: bool = False
    offload: bool = False
    left_out: str | None = None
    prefill_left_out: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurementFile:
    classes: tuple[ClassEntry, ...]
    repeat_percent: int
    inferred_percent: int
    depths: dict[str, str]
    accept_lengths: tuple[AcceptLength, ...]
    host_read: HostRead
    runs: tuple[RunEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A run as the model sees it.

    Attributes:
        read_seconds: bytes of one pass on the device that is waited for, over its bandwidth as the data sheet has it.
        seconds: that the pass took.
        prefill_flops: arithmetic of one device while it read a prompt, per second; None where not published.
    """

    run: RunEntry
    family: str
    layers: int
    read_seconds: float
    seconds: float
    prefill_flops: float | None


@cache
def catalogue() -> Catalogue:
    return load_catalogue([PROFILES], with_speed=False)


def read_measurements(path: Path = PROFILES / "speed" / "measurements.yaml") -> MeasurementFile:
    """The file.

    Raises:
        ProfileError: it is not of its form.
    """
    return parse_profile(MeasurementFile, read_yaml(path))


def points(file: MeasurementFile) -> tuple[Point, ...]:
    """Every run that belongs to a class, back tests too.

    Raises:
        KeyError: a run names a class or chip that is not defined.
    """
    families = {entry.id: entry.family for entry in file.classes}
    bandwidths = {chip.id: chip.bandwidth_bytes_per_second for chip in catalogue().chips}
    return tuple(_point(run, families, bandwidths) for run in file.runs if run.run_class is not None)


def _point(run: RunEntry, families: Mapping[str, str], bandwidths: Mapping[str, int | None]) -> Point:
    assert run.run_class is not None
    bandwidth = run.bandwidth_gb_s * GB if run.bandwidth_gb_s else bandwidths[run.chip or ""]
    if bandwidth is None:
        raise KeyError(f"{run.id}: the bandwidth of {run.chip} is not known")
    model = next(model for model in catalogue().models if model.id == run.model)
    return Point(
        run=run,
        family=families[run.run_class],
        layers=model.architecture.layers,
        read_seconds=_pass_bytes(run) / bandwidth,
        seconds=_pass_seconds(run),
        prefill_flops=_prefill_flops(run),
    )


def _pass_seconds(run: RunEntry) -> float:
    if run.pass_milliseconds is not None:
        return run.pass_milliseconds / 1000
    if not run.tokens_per_second or not run.sequences:
        raise KeyError(f"{run.id}: neither a pass nor its tokens are given")
    return run.sequences * run.accept_length / run.tokens_per_second


def _pass_bytes(run: RunEntry) -> float:
    """Bytes on the way that is waited for: all of them where devices take turns, a rank's where they work together."""
    model = next(model for model in catalogue().models if model.id == run.model)
    gguf = run.split in {"one", "layers"}
    kind = CheckpointFormat.GGUF if gguf else CheckpointFormat.SAFETENSORS
    native = [c for c in model.checkpoints if c.format is kind and (gguf or (c.official and c.quant == "native"))]
    of_size = [c for c in native if run.weights_gb and abs((c.size_bytes or 0) - run.weights_gb * GB) < GB / 100]
    checkpoint = of_size[0] if of_size else native[0]
    if run.weights_gb and not of_size:
        checkpoint = replace(checkpoint, size_bytes=round(run.weights_gb * GB), dense_bytes=None)
    draft = model.release(checkpoint.release).draft
    reads = reads_of(checkpoint, model.architecture, draft)
    if reads is None:
        raise KeyError(f"{run.id}: what {run.weights} reads is not known")
    ranks = 1 if gguf else run.devices or 1
    # Routing sends tokens to ranks evenly on average; the busiest one shows in the fitted time of a layer.
    layout = Layout(device_indices=tuple(range(ranks)), tensor_parallel=ranks)
    load = Load(sequences=run.sequences or 1, sequence_tokens=run.pass_tokens)
    return rank_span(reads, model.architecture, layout, load).high


def _prefill_flops(run: RunEntry) -> float | None:
    model = next(model for model in catalogue().models if model.id == run.model)
    # V4.1 reads prompts with half of its layers, which the count of its matrices does not tell.
    if run.prefill_tokens_per_second is None or run.prefill_left_out or shares_kv_stream(model.architecture):
        return None
    together = (run.devices or 1) if run.split in {"tensor", "experts"} else 1
    return run.prefill_tokens_per_second * matrix_flops(model.architecture) / together
