"""How fast a candidate would be: `estimate` gives each figure as a range with its basis, or None with the reason.

In order: what this machine measured with the same checkpoint, engine, layout and devices; else the two-term model with
the coefficients of the engine's class of hardware (profiles/speed/model.yaml), from the fastest pass that its spread
allows (all tokens choose the same experts) to the slowest (they choose evenly, and the largest rank is waited for);
else nothing. A class is never lent to another engine or architecture, and to another chip only with a wider spread.

`SpeedFigure.middle` compares candidates. None is "not known", which is neither fast nor slow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from v4deploy.domain.catalogue import Catalogue
from v4deploy.domain.counting import counted
from v4deploy.domain.engine import MemoryModel
from v4deploy.domain.measurements import MeasuredRate, MeasuredRun, Measurements
from v4deploy.domain.plan import Candidate
from v4deploy.domain.speed import SpeedBasis, SpeedEstimate, SpeedFigure
from v4deploy.domain.speed_model import AcceptLength
from v4deploy.planning.active_bytes import Reads, cache_read_bytes, matrix_flops, reads_of
from v4deploy.planning.attention import shares_kv_stream
from v4deploy.planning.case import Case
from v4deploy.planning.forward_pass import Load, Span
from v4deploy.planning.speed_route import Grounds, NoBasisError, Timing, least_seconds, pass_seconds, route

TEXT_TOKENS = 4096
"""Length of the texts that the figures speak of: most published runs are no longer."""

SEEN_SHOWN = 2
"""Published runs that are told where there is no estimate."""

_ENTRY_BYTES = {MemoryModel.VLLM: (584, 132), MemoryModel.LLAMA_CPP: (1024, 256)}
"""A cached state and an index key as they are read: FP8 in vLLM, f16 in llama.cpp. A thousandth of the weights."""


def grounds_of(catalogue: Catalogue, measured: Measurements | None = None) -> Grounds:
    """What estimates rest on: the catalogue, and what was measured if the plan is for this machine."""
    return Grounds(
        model=catalogue.speed,
        bandwidths={chip.id: chip.bandwidth_bytes_per_second for chip in catalogue.chips},
        measured=measured or Measurements(),
    )


def estimate(candidate: Candidate, case: Case, grounds: Grounds) -> SpeedEstimate:
    """Every figure of a candidate; its sizes need not fit."""
    reads = reads_of(candidate.checkpoint, case.model.architecture, case.release.draft)
    runs = _runs(candidate, case, grounds.measured)
    single = _measured(runs, 1, lambda run: run.tokens_per_second)
    count = candidate.concurrency
    each = _measured(runs, count, lambda run: run.tokens_per_second)
    single = single or _decode(candidate, case, grounds, reads, sequences=1)
    each = single if count == 1 else each or _decode(candidate, case, grounds, reads, sequences=count)
    prefill = _measured(runs, None, lambda run: run.prefill_tokens_per_second)
    load = _measured(runs, None, lambda run: run.load_seconds)
    size = candidate.checkpoint.size_bytes
    return SpeedEstimate(
        single_tokens_per_second=single,
        each_tokens_per_second=each,
        all_tokens_per_second=_times(each, count),
        prefill_tokens_per_second=prefill or _prefill(candidate, case, grounds),
        load_seconds=load or _transfer(size, grounds.measured.disk_read, "the disk was not measured here"),
        download_seconds=_transfer(size, grounds.measured.download, "no download was measured here"),
        token_read_bytes=None if reads is None else reads.token,
        notes=(
            _texts(_timing(candidate, case, grounds)),
            *(() if single.low is not None else _seen(candidate, case, grounds)),
        ),
    )


def _texts(timing: Timing | None) -> str:
    """What texts the figures speak of, and what was published of longer ones."""
    longer = None if timing is None else timing.known.depth
    return f"for texts of about {TEXT_TOKENS:,} tokens; decoding was {longer or 'slower behind long ones'}"


def _seen(candidate: Candidate, case: Case, grounds: Grounds) -> tuple[str, ...]:
    """What was published of these devices all the same, and why it is no basis."""
    chips = tuple(device.chip for device in case.devices(candidate.layout.device_indices))
    offload = candidate.layout.host_expert_layers > 0
    runs = grounds.model.seen_on(case.model.id, chips, offload=offload)[:SEEN_SHOWN]
    return tuple(
        f"published, but no basis: {run.tokens_per_second:g} tokens/s"
        f"{f' of {run.sequences} sequences' if run.sequences > 1 else ''} on {run.hardware} with {run.engine},"
        f" {run.weights} ({run.left_out}; {run.source}, {run.as_of})"
        for run in runs
    )


def _decode(candidate: Candidate, case: Case, grounds: Grounds, reads: Reads | None, *, sequences: int) -> SpeedFigure:
    """Tokens a second of each of so many sequences."""
    if reads is None:
        return SpeedFigure(reason=f"the size of {candidate.checkpoint.id} is not known")
    draft = _accept_length(candidate, case, grounds)
    if candidate.use_draft and draft is None:
        return SpeedFigure(reason="how many drafted tokens are accepted is not known")
    accepted = Span(low=1, high=1) if draft is None else Span(low=draft.low, high=draft.high)
    load = Load(
        sequences=sequences,
        sequence_tokens=1 if draft is None else 1 + _drafted(case, draft),
        cache_bytes=_cache_bytes(case),
    )
    timing = _timing(candidate, case, grounds)
    at_most = None
    try:
        way = route(candidate, case, grounds, reads, load)
        least = least_seconds(way)
        # With drafting the bound is that nothing is rejected, which tells nobody anything.
        at_most = 1 / least if least and draft is None else None
        seconds = pass_seconds(way, timing, grounds, layers=reads.layers, sequences=sequences)
    except NoBasisError as missing:
        return SpeedFigure(reason=str(missing), at_most=at_most)
    return SpeedFigure(
        low=accepted.low / seconds.high,
        high=accepted.high / seconds.low,
        basis=SpeedBasis.FITTED,
        source=_source(timing, draft, on_host=way.host is not None),
    )


def _prefill(candidate: Candidate, case: Case, grounds: Grounds) -> SpeedFigure:
    """Arithmetic of the devices that work together, over that of a token."""
    architecture = case.model.architecture
    timing = _timing(candidate, case, grounds)
    known = None if timing is None else timing.known
    if shares_kv_stream(architecture):
        return SpeedFigure(reason=f"{case.model.name} reads prompts with half of its layers; no run to calibrate on")
    if not candidate.layout.device_indices or candidate.layout.host_expert_layers:
        return SpeedFigure(reason="it depends on the CPU and the way to it, for which there is no model")
    chips = {device.chip for device in case.devices(candidate.layout.device_indices)}
    # How fast a chip computes follows from nothing that is known of its neighbours.
    if known is None or not chips <= set(known.measured_chips):
        return SpeedFigure(reason="no run of this engine on such devices was published")
    if known.prefill_flops_low is None or known.prefill_flops_high is None:
        return SpeedFigure(reason="no published run of this engine on such devices reports it")
    together = candidate.layout.tensor_parallel * candidate.layout.data_parallel
    flops = matrix_flops(architecture)
    return SpeedFigure(
        low=together * known.prefill_flops_low / flops,
        high=together * known.prefill_flops_high / flops,
        basis=SpeedBasis.FITTED,
        source=f"arithmetic a second of published runs on {', '.join(known.measured_chips)}",
    )


def _runs(candidate: Candidate, case: Case, measured: Measurements) -> tuple[MeasuredRun, ...]:
    """Those of this very candidate, whatever the context and the number of sequences."""
    names = tuple(device.name for device in case.devices(candidate.layout.device_indices))
    return tuple(
        run
        for run in measured.runs
        if (run.checkpoint, run.engine, run.layout, run.device_names, run.use_draft)
        == (candidate.checkpoint.id, candidate.engine, candidate.layout, names, candidate.use_draft)
    )


def _measured(
    runs: tuple[MeasuredRun, ...], sequences: int | None, value_of: Callable[[MeasuredRun], float | None]
) -> SpeedFigure | None:
    """The span of the runs' values; None where none has one."""
    found = [run for run in runs if sequences in {None, run.concurrency}]
    values = [value for run in found if (value := value_of(run)) is not None]
    if not values:
        return None
    newest = max(run.measured_at for run in found)
    return SpeedFigure(
        low=min(values),
        high=max(values),
        basis=SpeedBasis.MEASURED_HERE,
        source=f"{counted(len(values), 'run')} on this machine, the last on {newest[:10]}",
    )


def _transfer(size_bytes: int | None, rate: MeasuredRate | None, unknown: str) -> SpeedFigure:
    if size_bytes is None:
        return SpeedFigure(reason="the size of the weights is not known")
    if rate is None:
        return SpeedFigure(reason=unknown)
    seconds = size_bytes / rate.bytes_per_second
    return SpeedFigure(
        low=seconds, high=seconds, basis=SpeedBasis.RATE, source=f"{rate.what}, measured on {rate.measured_at[:10]}"
    )


def _times(each: SpeedFigure, sequences: int) -> SpeedFigure:
    if each.low is None or each.high is None:
        return replace(each, at_most=None if each.at_most is None else each.at_most * sequences)
    return SpeedFigure(low=each.low * sequences, high=each.high * sequences, basis=each.basis, source=each.source)


def _timing(candidate: Candidate, case: Case, grounds: Grounds) -> Timing | None:
    devices = case.devices(candidate.layout.device_indices)
    known = grounds.model.class_of(candidate.engine, frozenset(device.arch for device in devices))
    if known is None:
        return None
    return Timing(known=known, spread=known.spread_on(frozenset(device.chip for device in devices)))


def _accept_length(candidate: Candidate, case: Case, grounds: Grounds) -> AcceptLength | None:
    draft = case.release.draft
    if not candidate.use_draft or draft is None:
        return None
    return next((entry for entry in grounds.model.accept_lengths if entry.kind is draft.kind), None)


def _drafted(case: Case, accepted: AcceptLength) -> int:
    draft = case.release.draft
    return accepted.draft_tokens if draft is None or draft.block_tokens is None else draft.block_tokens


def _cache_bytes(case: Case) -> int:
    entry, index = _ENTRY_BYTES[case.profile.memory_model]
    return cache_read_bytes(case.model.architecture, TEXT_TOKENS, entry_bytes=entry, index_bytes=index)


def _source(timing: Timing | None, draft: AcceptLength | None, *, on_host: bool) -> str:
    parts = []
    if timing is not None:
        runs, chips = timing.known.runs, timing.known.measured_chips
        of = " and ".join(timing.known.measured_engines)
        on = f" on {', '.join(chips)}" if chips else ""
        parts.append(f"{counted(runs, 'published run')} of {of}{on}, within a factor of {timing.spread:g}")
    if on_host:
        parts.append("host memory as measured here")
    if draft is not None:
        parts.append(f"{draft.low:g} to {draft.high:g} tokens a pass with drafting")
    return "; ".join(parts)
