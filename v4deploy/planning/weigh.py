"""One checkpoint on one engine and one set of devices: the best candidate that fits, or the nearest miss."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from v4deploy.domain.engine import MemoryModel
from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.hardware import HOST_POOL_ID, ComputeApi, Device
from v4deploy.domain.model import Checkpoint
from v4deploy.domain.plan import Candidate, Layout, PoolUse, Request, Verdict
from v4deploy.domain.units import format_gib
from v4deploy.planning import footprint_llama_cpp, footprint_vllm, layouts, margins
from v4deploy.planning.attention import shares_kv_stream
from v4deploy.planning.case import Case
from v4deploy.planning.notes import fit_notes
from v4deploy.planning.obstacles import find_obstacle
from v4deploy.planning.pools import pool_uses


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What is weighed: `devices` are usable ones of one compute API, empty for the CPU."""

    checkpoint: Checkpoint
    case: Case
    devices: tuple[Device, ...]
    request: Request


def weigh(trial: Trial) -> Verdict:
    """The candidate with the longest context that fits; where none does, the one that misses least.

    A shorter context that is still useful wins if it keeps on devices what a longer one would push to host memory.
    """
    obstacle = find_obstacle(trial.checkpoint, trial.case, trial.devices, trial.request.kv_cache_type)
    if obstacle is not None:
        return Verdict(candidate=_unplaced(trial), fits=False, reasons=(obstacle,))
    contexts = context_ladder(trial)
    nearest = _first_fit(trial, contexts[-1])
    if not nearest.fits:
        return nearest
    longest: Verdict | None = None
    for context in contexts[:-1]:
        verdict = _first_fit(trial, context)
        if not verdict.fits:
            continue
        if not verdict.candidate.layout.host_expert_layers:
            return verdict
        longest = longest or verdict
        if context <= margins.USEFUL_CONTEXT_TOKENS:
            break
    return longest or nearest


def context_ladder(trial: Trial) -> tuple[int, ...]:
    """Contexts to try, longest first: what was asked for, else the ladder up to what model and recipe allow."""
    asked = trial.request.context_tokens
    if asked is not None:
        return (asked,)
    most = min(trial.case.model.architecture.max_context_tokens, recipe_context_limit(trial) or 1 << 62)
    return (most, *(context for context in margins.CONTEXT_LADDER_TOKENS if context < most))


def recipe_context_limit(trial: Trial) -> int | None:
    """The context at which the recipe for these devices stops. None where no recipe says so."""
    architectures = {device.arch for device in trial.devices}
    limits = [
        limit.max_context_tokens
        for limit in trial.case.profile.recipes.context_limits
        if limit.model == trial.case.model.id and architectures == {limit.arch}
    ]
    if trial.case.profile.recipes.layouts:
        offered = layouts.rank_layouts(trial.devices, trial.case, concurrency=1)
        found = (layouts.recipe_of(layout, trial.devices, trial.case) for layout in offered)
        limits += [recipe.max_context_tokens for recipe in found if recipe is not None]
    return min(limits, default=None)


def judge(candidate: Candidate, case: Case) -> Verdict:
    """Count the bytes of one candidate.

    Raises:
        ValueError: its sizes are not known; `find_obstacle` rules that out before.
    """
    is_vllm = case.profile.memory_model is MemoryModel.VLLM
    rows = (footprint_vllm if is_vllm else footprint_llama_cpp).footprint(candidate, case)
    if rows is None:
        raise ValueError(f"the size of {candidate.checkpoint.id} is not known")
    uses = pool_uses(rows, candidate.layout, case)
    reasons = tuple(_shortages(uses))
    return Verdict(candidate=candidate, fits=not reasons, footprint=rows, pools=uses, reasons=reasons)


def _first_fit(trial: Trial, context_tokens: int) -> Verdict:
    nearest: Verdict | None = None
    for candidate in _candidates(trial, context_tokens):
        verdict = judge(candidate, trial.case)
        if verdict.fits:
            return replace(verdict, reasons=fit_notes(candidate, trial.case, trial.devices))
        if nearest is None or _shortfall(verdict) < _shortfall(nearest):
            nearest = verdict
    assert nearest is not None
    return nearest


def _candidates(trial: Trial, context_tokens: int) -> Iterator[Candidate]:
    base = replace(_unplaced(trial), context_tokens=context_tokens)
    if trial.case.profile.memory_model is MemoryModel.LLAMA_CPP:
        yield from _split_candidates(base, trial)
    else:
        yield from _rank_candidates(base, trial)


def _split_candidates(base: Candidate, trial: Trial) -> Iterator[Candidate]:
    """One device if it holds everything, else all of them; with experts offloaded the larger micro batch first."""
    case, devices = trial.case, layouts.layer_split_devices(trial.devices, trial.case.host)
    sets = (layouts.biggest(devices, case.host), devices) if len(devices) > 1 else (devices,)
    for chosen in sets:
        small = _with_layout(base, case, chosen, margins.LLAMA_CPP_MICRO_BATCHES_TOKENS[0])
        if not small.layout.host_expert_layers:
            yield small
        elif chosen is sets[-1]:
            for batch in margins.LLAMA_CPP_OFFLOAD_MICRO_BATCHES_TOKENS:
                yield _with_layout(base, case, chosen, batch)


def _with_layout(base: Candidate, case: Case, devices: tuple[Device, ...], batch_tokens: int) -> Candidate:
    candidate = replace(base, batch_tokens=batch_tokens)
    return replace(candidate, layout=layouts.split_by_layers(candidate, case, devices))


def _rank_candidates(base: Candidate, trial: Trial) -> Iterator[Candidate]:
    case = trial.case
    # Host memory first, as the engine does: the tables are read a few kilobytes a token, and devices have other uses.
    tables = (False, True) if case.model.architecture.engram else (False,)
    for layout, on_devices in product(layouts.rank_layouts(trial.devices, case, concurrency=base.concurrency), tables):
        for batch, use_draft in _batch_choices(layout, trial):
            yield replace(base, layout=layout, batch_tokens=batch, use_draft=use_draft, engram_on_devices=on_devices)


def _batch_choices(layout: Layout, trial: Trial) -> list[tuple[int, bool]]:
    """Batched tokens and drafting, the preferred pair first."""
    drafts = (True, False) if _may_draft(trial) else (False,)
    choices = [(batch, use_draft) for use_draft in drafts for batch in _batches(layout, trial)]
    if trial.request.concurrency >= margins.MANY_SEQUENCES:
        # Drafting helps few sequences most, a large batch helps many (+51 % at 32, FujitsuPolycom/sparkring).
        choices.sort(key=lambda choice: -choice[0])
    return choices


def _batches(layout: Layout, trial: Trial) -> tuple[int, ...]:
    recipe = layouts.recipe_of(layout, trial.devices, trial.case)
    if recipe is not None:
        return (recipe.batch_tokens, *(size for size in margins.VLLM_BATCHES_TOKENS if size < recipe.batch_tokens))
    if shares_kv_stream(trial.case.model.architecture):
        return margins.SHARED_STREAM_BATCHES_TOKENS
    return margins.VLLM_BATCHES_TOKENS


def _may_draft(trial: Trial) -> bool:
    model = trial.case.model.id
    undrafted = any(
        habit.covers(device.arch, model) for habit in trial.case.profile.recipes.undrafted for device in trial.devices
    )
    return trial.case.release.draft is not None and trial.checkpoint.draft_bytes != 0 and not undrafted


def _unplaced(trial: Trial) -> Candidate:
    profile, request = trial.case.profile, trial.request
    return Candidate(
        checkpoint=trial.checkpoint,
        engine=profile.id,
        compute_api=trial.devices[0].compute_api if trial.devices else ComputeApi.CPU,
        layout=Layout(device_indices=tuple(device.index for device in trial.devices)),
        context_tokens=request.context_tokens or margins.CONTEXT_LADDER_TOKENS[-1],
        concurrency=request.concurrency,
        kv_cache_type=request.kv_cache_type or profile.kv_cache_types[0],
        batch_tokens=margins.LLAMA_CPP_MICRO_BATCHES_TOKENS[0],
    )


def _shortfall(verdict: Verdict) -> int:
    missing = verdict.missing_bytes
    return 1 << 62 if missing is None else missing


def _shortages(uses: tuple[PoolUse, ...]) -> Iterator[Finding]:
    """One finding for each kind of shortage; identical pools share one."""
    short: dict[tuple[int, int | None], list[PoolUse]] = {}
    for use in uses:
        if use.missing_bytes != 0:
            short.setdefault((use.needed_bytes, use.budget_bytes), []).append(use)
    for same in short.values():
        use = same[0]
        label = use.label if len(same) == 1 else f"each of {len(same)} devices like {use.label}"
        yield _unknown(use, label) if use.budget_bytes is None else _too_small(use, label)


def _too_small(use: PoolUse, label: str) -> Finding:
    return Finding(
        id="plan.does-not-fit",
        severity=Severity.FAIL,
        summary=f"{label} needs {format_gib(use.needed_bytes)} and may give {format_gib(use.budget_bytes)}: "
        f"{format_gib(use.missing_bytes)} short",
        evidence=(Evidence(source=use.budget_source, value=str(use.budget_bytes)),),
    )


def _unknown(use: PoolUse, label: str) -> Finding:
    if use.pool_id == HOST_POOL_ID:
        fix = 'name it, for example `--hardware "2x rtx-4090 + 192GB"`'
    else:
        fix = "run `v4deploy doctor` to see why it could not be read"
    return Finding(
        id="plan.memory-unknown",
        severity=Severity.FAIL,
        summary=f"{label} needs {format_gib(use.needed_bytes)}, and how much it has is not known",
        evidence=(Evidence(source=use.budget_source),),
        fix=fix,
    )
