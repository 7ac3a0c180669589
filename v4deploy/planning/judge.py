"""Whether one candidate fits: its bytes counted against what each pool may give."""

from __future__ import annotations

from collections.abc import Iterator

from v4deploy.domain.engine import MemoryModel
from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.hardware import HOST_POOL_ID
from v4deploy.domain.plan import Candidate, PoolUse, Verdict
from v4deploy.domain.units import format_gib
from v4deploy.planning import footprint_llama_cpp, footprint_vllm
from v4deploy.planning.case import Case
from v4deploy.planning.pools import pool_uses


def judge(candidate: Candidate, case: Case) -> Verdict:
    """Count the bytes of one candidate.

    Raises:
        ValueError: its sizes are not known; `find_obstacles` rules that out before.
    """
    is_vllm = case.profile.memory_model is MemoryModel.VLLM
    rows = (footprint_vllm if is_vllm else footprint_llama_cpp).footprint(candidate, case)
    if rows is None:
        raise ValueError(f"the size of {candidate.checkpoint.id} is not known")
    uses = pool_uses(rows, candidate.layout, case)
    reasons = tuple(_shortages(uses))
    return Verdict(candidate=candidate, fits=not reasons, footprint=rows, pools=uses, reasons=reasons)


def shortfall_bytes(verdict: Verdict) -> int:
    """How much a miss misses, for comparisons: one with a pool of unknown size comes after all others."""
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
