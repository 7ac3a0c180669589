"""The candidates of a trial at one context, the preferred one first: layouts, batches, drafting."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from v4deploy.domain.counting import counted
from v4deploy.domain.engine import EngineProfile, MemoryModel
from v4deploy.domain.finding import Finding
from v4deploy.domain.hardware import ComputeApi, Device
from v4deploy.domain.model import Checkpoint
from v4deploy.domain.plan import Candidate, Layout, Prefer, Request
from v4deploy.planning import layouts, margins
from v4deploy.planning.attention import shares_kv_stream
from v4deploy.planning.case import Case
from v4deploy.planning.footprint_llama_cpp import split_memory_of
from v4deploy.planning.footprint_vllm import memory_of
from v4deploy.planning.layout_wish import LayoutWish, parse_layout
from v4deploy.planning.rank_layouts import every_layout, offered_layouts, recipe_of
from v4deploy.planning.ruling import forbids


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What is weighed: `devices` are usable ones of one compute API, empty for the CPU."""

    checkpoint: Checkpoint
    case: Case
    devices: tuple[Device, ...]
    request: Request

    @property
    def only(self) -> LayoutWish | None:
        """The layouts to try; None means the planner's own choice of them.

        Raises:
            UsageError: the request names no layout.
        """
        return None if self.request.layout is None else parse_layout(self.request.layout)


def candidates_at(trial: Trial, context_tokens: int) -> Iterator[Candidate]:
    """Every candidate worth counting at a context."""
    base = replace(unplaced(trial), context_tokens=context_tokens)
    is_split = trial.case.profile.memory_model is MemoryModel.LLAMA_CPP
    for candidate in (_split_candidates if is_split else _rank_candidates)(base, trial):
        if trial.only is None or trial.only.admits(candidate.layout):
            yield candidate


def layout_obstacles(trial: Trial) -> tuple[Finding, ...]:
    """Why none of the layouts that alone are to be tried can be: the rules that they break. Empty where one can."""
    only = trial.only
    if only is None or next(candidates_at(trial, margins.CONTEXT_LADDER_TOKENS[-1]), None) is not None:
        return ()
    # Heads and experts are divided by ranks; an engine that splits by layers breaks none of these rules.
    is_split = trial.case.profile.memory_model is MemoryModel.LLAMA_CPP
    offers = () if is_split else every_layout(trial.devices, trial.case)
    broken = [offer.obstacle for offer in offers if offer.obstacle is not None and only.admits(offer.layout)]
    return tuple(dict.fromkeys(broken)) or (_no_such_layout(trial, only),)


def _no_such_layout(trial: Trial, only: LayoutWish) -> Finding:
    available = len(trial.devices)
    if only.least_devices > available:
        return forbids("needs-more-devices", f"it takes {only.least_devices} devices, and here are {available}")
    where = counted(available, "device") if available else "the CPU"
    return forbids("no-such-layout", f"{trial.case.profile.name} has no such layout of this on {where}")


def at_concurrency(candidate: Candidate, case: Case, sequences: int) -> Candidate:
    """The same candidate with another number of sequences; layers are placed anew, as the cache grows with them."""
    changed = replace(candidate, concurrency=sequences)
    if case.profile.memory_model is not MemoryModel.LLAMA_CPP:
        return changed
    devices = case.devices(candidate.layout.device_indices)
    return replace(changed, layout=layouts.split_by_layers(changed, case, devices))


def recipe_context_limit(trial: Trial) -> int | None:
    """The context at which the recipe for these devices stops. None where no recipe says so."""
    architectures = {device.arch for device in trial.devices}
    limits = [
        limit.max_context_tokens
        for limit in trial.case.profile.recipes.context_limits
        if limit.model == trial.case.model.id and architectures == {limit.arch}
    ]
    if trial.case.profile.recipes.layouts:
        offered = offered_layouts(trial.devices, trial.case, replicate=False)
        found = (recipe_of(layout, trial.devices, trial.case) for layout in offered)
        limits += [recipe.max_context_tokens for recipe in found if recipe is not None]
    return min(limits, default=None)


def unplaced(trial: Trial) -> Candidate:
    """What the request says of a candidate, before a layout is chosen."""
    profile, request = trial.case.profile, trial.request
    return Candidate(
        checkpoint=trial.checkpoint,
        engine=profile.id,
        compute_api=trial.devices[0].compute_api if trial.devices else ComputeApi.CPU,
        layout=Layout(device_indices=tuple(device.index for device in trial.devices)),
        context_tokens=request.context_tokens or margins.CONTEXT_LADDER_TOKENS[-1],
        concurrency=request.concurrency,
        kv_cache_type=request.kv_cache_type or profile.kv_cache_types[0],
        batch_tokens=_first_batch(profile),
    )


def _first_batch(profile: EngineProfile) -> int:
    """Before a layout is chosen: the batch that is tried first."""
    if profile.split_memory is not None:
        return profile.split_memory.micro_batches_tokens[0]
    assert profile.memory is not None
    return profile.memory.batches_tokens[0]


def _split_candidates(base: Candidate, trial: Trial) -> Iterator[Candidate]:
    """One device if it holds everything, else all of them; with experts offloaded the larger micro batch first."""
    case, devices = trial.case, layouts.layer_split_devices(trial.devices, trial.case.host)
    sets = (layouts.biggest(devices, case.host), devices) if len(devices) > 1 else (devices,)
    for chosen in sets:
        small = _with_layout(base, case, chosen, split_memory_of(case).micro_batches_tokens[0])
        if not small.layout.host_expert_layers:
            yield small
        elif chosen is sets[-1] or trial.only is not None:
            for batch in split_memory_of(case).offload_micro_batches_tokens:
                yield _with_layout(base, case, chosen, batch)


def _with_layout(base: Candidate, case: Case, devices: tuple[Device, ...], batch_tokens: int) -> Candidate:
    candidate = replace(base, batch_tokens=batch_tokens)
    return replace(candidate, layout=layouts.split_by_layers(candidate, case, devices))


def _rank_candidates(base: Candidate, trial: Trial) -> Iterator[Candidate]:
    # Host memory first, as the engine does: the tables are read a few kilobytes a token, and devices have other uses.
    tables = (False, True) if trial.case.model.architecture.engram else (False,)
    for layout, on_devices in product(_rank_layouts(trial), tables):
        for batch, use_draft in _batch_choices(layout, trial):
            yield replace(base, layout=layout, batch_tokens=batch, use_draft=use_draft, engram_on_devices=on_devices)


def _rank_layouts(trial: Trial) -> tuple[Layout, ...]:
    if trial.only is None:
        return offered_layouts(trial.devices, trial.case, replicate=_wants_many(trial.request))
    offers = every_layout(trial.devices, trial.case)
    return tuple(offer.layout for offer in offers if offer.obstacle is None and trial.only.admits(offer.layout))


def _wants_many(request: Request) -> bool:
    """Whether sequences matter more than one of them: the cache does not shrink under tensor parallelism."""
    return request.prefer is Prefer.CONCURRENCY or request.concurrency >= margins.MANY_SEQUENCES


def _batch_choices(layout: Layout, trial: Trial) -> list[tuple[int, bool]]:
    """Batched tokens and drafting, the preferred pair first."""
    # A draft in the last stage of a pipeline is documented nowhere.
    drafts = (True, False) if _may_draft(trial) and layout.pipeline_parallel == 1 else (False,)
    choices = [(batch, use_draft) for use_draft in drafts for batch in _batches(layout, trial)]
    if _wants_many(trial.request):
        # Drafting helps few sequences most, a large batch helps many (+51 % at 32, FujitsuPolycom/sparkring).
        choices.sort(key=lambda choice: -choice[0])
    return choices


def _batches(layout: Layout, trial: Trial) -> tuple[int, ...]:
    recipe, memory = recipe_of(layout, trial.devices, trial.case), memory_of(trial.case)
    if recipe is not None:
        return (recipe.batch_tokens, *(size for size in memory.batches_tokens if size < recipe.batch_tokens))
    if shares_kv_stream(trial.case.model.architecture):
        return memory.shared_stream_batches_tokens
    return memory.batches_tokens


def _may_draft(trial: Trial) -> bool:
    model = trial.case.model.id
    undrafted = any(
        habit.covers(device.arch, model) for habit in trial.case.profile.recipes.undrafted for device in trial.devices
    )
    return trial.case.release.draft is not None and trial.checkpoint.draft_bytes != 0 and not undrafted
