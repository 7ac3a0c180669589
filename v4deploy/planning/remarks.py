"""What a plan's reader should know beside the numbers: assumptions, slow parts, limits that were left behind."""

from __future__ import annotations

from v4deploy.domain.engine import EngineProfile, MemoryModel
from v4deploy.domain.finding import CheckGroup, Evidence, Finding, Severity, group_of
from v4deploy.domain.hardware import HOST_POOL_ID, Host, Pool, PoolKind
from v4deploy.domain.model import FileRole, Release, Status, WeightFile
from v4deploy.domain.plan import Basis, Candidate, FootprintRow, Prefer, Request, Verdict
from v4deploy.domain.units import GIB, format_gb, format_gib
from v4deploy.planning import margins, trades
from v4deploy.planning.case import Case
from v4deploy.planning.pools import host_budget

_TAKEN_BYTES = 2 * GIB
"""Less than this in use on a device is a driver's and a display's ordinary share."""


_ABOUT_POOLS = frozenset({"accelerator.ceiling-assumed", "accelerator.memory-nominal", "host.memory-not-given"})
"""Findings about a host whose first evidence is the source of an amount of memory."""


def of_plan(chosen: Verdict, others: tuple[Verdict, ...], request: Request, case: Case) -> tuple[Finding, ...]:
    """Findings of a plan, the graver first. `others` fit too, the best first; `case` is that of the choice."""
    candidate, host = chosen.candidate, case.host
    findings = (
        *_old_release(case.release),
        *_beyond_recipe(candidate, case.profile, host),
        *_unusable_devices(host),
        *_idle_devices(candidate, case),
        *_slow_parts(candidate),
        *_memory_in_use(candidate, host),
        *_about_used_pools(chosen, host),
        *_host_not_counted(case.profile, host),
        *_side_files_unused(candidate, case),
        *chosen.reasons,
        *trades.of_choice(chosen, others),
        *_context_chosen(candidate, request, case),
        *_assumptions(chosen.footprint),
    )
    return tuple(sorted(findings, key=lambda finding: finding.severity is Severity.INFO))


def _old_release(release: Release) -> tuple[Finding, ...]:
    if release.status is not Status.SUPERSEDED:
        return ()
    return (
        Finding(
            id="plan.release-superseded",
            severity=Severity.WARN,
            summary=f"{release.name} was replaced by a newer release",
            why=release.note,
            fix="ask for the model without a date to get the current one",
        ),
    )


def _beyond_recipe(candidate: Candidate, profile: EngineProfile, host: Host) -> tuple[Finding, ...]:
    used = candidate.layout.device_indices
    architectures = {device.arch for device in host.devices if device.index in used}
    return tuple(
        Finding(
            id="plan.context-beyond-recipe",
            severity=Severity.WARN,
            summary=f"the recipe for this hardware stops at {limit.max_context_tokens:,} tokens of context",
            evidence=(Evidence(source=limit.source),),
            why="the arithmetic says that more fits, but nobody published that it started",
            fix=f"ask for `--context {limit.max_context_tokens}` if it does not start",
        )
        for limit in profile.recipes.context_limits
        if limit.model == candidate.checkpoint.model
        and architectures == {limit.arch}
        and candidate.context_tokens > limit.max_context_tokens
    )


def _unusable_devices(host: Host) -> tuple[Finding, ...]:
    """Present but broken is not absent: a plan without these devices has to say that they are there."""
    names = [device.name for device in host.devices if not device.usable]
    if not names:
        return ()
    broken = [
        finding
        for finding in host.findings
        if finding.severity is Severity.FAIL and group_of(finding.id) is CheckGroup.ACCELERATOR
    ]
    count = f"{len(names)} devices are" if len(names) > 1 else "1 device is"
    return (
        Finding(
            id="plan.devices-not-usable",
            severity=Severity.WARN,
            summary=f"{count} here and cannot be used: {', '.join(dict.fromkeys(names))}",
            evidence=tuple(Evidence(source=finding.id, value=finding.summary) for finding in broken),
            why="this plan was made without them",
            fix=next((finding.fix for finding in broken if finding.fix), "see `v4deploy doctor`"),
        ),
    )


def _idle_devices(candidate: Candidate, case: Case) -> tuple[Finding, ...]:
    """Usable devices that the plan leaves out: they are there for something else, or for another layout."""
    host, used = case.host, candidate.layout.device_indices
    alike = [device for device in host.devices if device.usable and device.compute_api is candidate.compute_api]
    idle = [device for device in alike if device.index not in used]
    if not used or not idle:
        return ()
    is_split = case.profile.memory_model is MemoryModel.LLAMA_CPP
    pools = [host.pool(device.pool_id) for device in alike]
    is_cut = any(pool.kind is PoolKind.SLICE for pool in pools)
    # Of unlike cards llama.cpp leaves out the small ones where the layers fit on the others.
    can_join = len({pool.id for pool in pools}) == len(pools) and not is_cut and len({d.name for d in alike}) == 1
    return (
        Finding(
            id="plan.devices-idle",
            severity=Severity.INFO,
            summary=f"{len(idle)} of {len(alike)} devices are not used: "
            f"{', '.join(dict.fromkeys(device.name for device in idle))}",
            why="layers are read one after another, so more devices hold more and make a single sequence no faster"
            if is_split
            else "no published layout takes them in",
            fix=f"`--layout {len(alike)}-devices` takes all of them, if a layout can" if can_join else None,
        ),
    )


def _slow_parts(candidate: Candidate) -> tuple[Finding, ...]:
    if not candidate.layout.device_indices:
        return (
            Finding(
                id="plan.cpu-only",
                severity=Severity.WARN,
                summary="everything is computed by the CPU",
                why="one 32-core server with 186 GB/s to its memory read V4-Flash prompts with 70 tokens a second "
                "and decoded with 10 (ikawrakow/ik_llama.cpp#1752)",
            ),
        )
    layers = candidate.layout.host_expert_layers
    if not layers:
        return ()
    return (
        Finding(
            id="plan.experts-on-host",
            severity=Severity.INFO,
            summary=f"the routed experts of {layers} layers stay in host memory and are computed there",
            why="decoding is then as fast as host memory is read: 4 to 20 tokens a second on published machines",
        ),
    )


def _memory_in_use(candidate: Candidate, host: Host) -> tuple[Finding, ...]:
    findings = []
    for device in host.devices:
        pool = host.pool(device.pool_id)
        taken = _taken_bytes(pool)
        if device.index in candidate.layout.device_indices and taken is not None and taken > _TAKEN_BYTES:
            findings.append(
                Finding(
                    id="plan.memory-in-use",
                    severity=Severity.WARN,
                    summary=f"{format_gib(taken)} of {device.name} ({device.index}) are taken by other processes",
                    evidence=(Evidence(source=pool.free.source, value=str(pool.free.size_bytes)),),
                    why="the plan uses only what is free now, and launch files for vLLM ask for no larger share "
                    "(`gpu-memory-utilization`); with more taken than now it does not start",
                    fix="end what holds the memory, and plan again",
                )
            )
    return tuple(findings)


def _about_used_pools(chosen: Verdict, host: Host) -> tuple[Finding, ...]:
    """What the host says of the memory that the plan rests on. Every engine has processes in host memory."""
    used = {HOST_POOL_ID, *(use.pool_id for use in chosen.pools)}
    sources = {
        amount.source for pool in host.pools if pool.id in used for amount in (pool.total, pool.ceiling, pool.free)
    }
    return tuple(
        finding
        for finding in host.findings
        if finding.id in _ABOUT_POOLS and finding.evidence and finding.evidence[0].source in sources
    )


def _host_not_counted(profile: EngineProfile, host: Host) -> tuple[Finding, ...]:
    if profile.memory_model is not MemoryModel.VLLM or host_budget(host.memory) is not None:
        return ()
    return (
        Finding(
            id="plan.host-memory-not-counted",
            severity=Severity.INFO,
            summary="the engine's processes take host memory too, and whether there is enough is not known",
            evidence=(Evidence(source=host.memory.total.source),),
        ),
    )


def _side_files_unused(candidate: Candidate, case: Case) -> tuple[Finding, ...]:
    """Drafts and image encoders are files of their own in GGUF repositories, which these plans leave out."""
    if case.profile.memory_model is not MemoryModel.LLAMA_CPP:
        return ()
    beside = candidate.checkpoint.side_files
    drafts = [file for file in beside if file.role is FileRole.DRAFT]
    encoders = [file for file in beside if file.role is FileRole.MMPROJ]
    findings = []
    if drafts:
        findings.append(
            Finding(
                id="plan.draft-file-not-used",
                severity=Severity.INFO,
                summary=f"it does not draft: {_named(drafts)} in the same repository is neither counted nor loaded",
                why=f"what {case.profile.name} reserves for a draft beside its file was not measured",
            )
        )
    if encoders:
        findings.append(
            Finding(
                id="plan.image-encoder-not-used",
                severity=Severity.INFO,
                summary=f"it serves text only: {_named(encoders)} in the same repository is neither counted nor loaded",
                why=f"what {case.profile.name} reserves to encode images was not measured",
            )
        )
    return tuple(findings)


def _named(files: list[WeightFile]) -> str:
    """The first of some files with its size where that is known, and how many more there are."""
    first = files[0]
    size = "" if first.size_bytes is None else f" ({format_gb(first.size_bytes)})"
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return f"`{first.path}`{size}{more}"


def _taken_bytes(pool: Pool) -> int | None:
    if pool.free.size_bytes is None or pool.total.size_bytes is None:
        return None
    ceiling = pool.total.size_bytes if pool.ceiling.size_bytes is None else pool.ceiling.size_bytes
    return min(ceiling, pool.total.size_bytes) - pool.free.size_bytes


def _context_chosen(candidate: Candidate, request: Request, case: Case) -> tuple[Finding, ...]:
    """What the context was taken for, where the request left it open."""
    if request.context_tokens is not None:
        return ()
    context, why = candidate.context_tokens, None
    room = "more sequences" + (", or more experts on the devices" if candidate.layout.host_expert_layers else "")
    fix = f"ask for less with `--context` to leave room for {room}"
    if request.prefer is Prefer.CONCURRENCY:
        summary = f"{context:,} tokens is the shortest context that counts as useful, for as many as fit"
        fix = "ask for another with `--context`"
    elif context == case.model.architecture.max_context_tokens:
        summary = f"{context:,} tokens is the whole context of the model"
    elif context in margins.CONTEXT_LADDER_TOKENS:
        summary = f"{context:,} tokens is the longest context tried that fits in this layout"
    else:
        summary = f"more than {context:,} tokens of context were not tried"
        why = "that is as far as the published recipe for this hardware goes"
        if not case.profile.recipes.layouts:
            fix += "; `--prefer context` tries more"
    return (Finding(id="plan.context-chosen", severity=Severity.INFO, summary=summary, why=why, fix=fix),)


def _assumptions(rows: tuple[FootprintRow, ...]) -> tuple[Finding, ...]:
    notes = dict.fromkeys(f"{row.what}: {row.note}" for row in rows if row.basis is Basis.ASSUMED and row.note)
    if not notes:
        return ()
    return (
        Finding(
            id="plan.assumptions",
            severity=Severity.INFO,
            summary="some sizes rest on assumptions",
            evidence=tuple(Evidence(source="footprint", value=note) for note in notes),
        ),
    )
