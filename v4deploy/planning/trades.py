"""What a choice gave up, with the alternative named: speed for quality, a longer context for devices."""

from __future__ import annotations

from collections.abc import Sequence

from v4deploy.domain.finding import Finding, Severity
from v4deploy.domain.plan import Verdict
from v4deploy.planning import margins


def of_choice(chosen: Verdict, others: Sequence[Verdict]) -> tuple[Finding, ...]:
    """Trades against what fits too; `others` are in the planner's order, the best first."""
    return (*_speed_for_quality(chosen, others), *_context_for_devices(chosen, others))


def _speed_for_quality(chosen: Verdict, others: Sequence[Verdict]) -> tuple[Finding, ...]:
    if not chosen.candidate.layout.host_expert_layers:
        return ()
    least = min(chosen.candidate.context_tokens, margins.USEFUL_CONTEXT_TOKENS)
    whole = next((other for other in others if _lies_on_devices(other) and _context(other) >= least), None)
    if whole is None:
        return ()
    quant = whole.candidate.checkpoint.quant
    return (
        Finding(
            id="plan.quality-before-speed",
            severity=Severity.INFO,
            summary=f"{quant} would lie wholly on the devices, with {_context(whole):,} tokens of context",
            why="nothing of it would be computed from host memory, so it is several times as fast; its experts are "
            "further from the original, so it answers less well",
            fix=f"--quant {quant}",
        ),
    )


def _context_for_devices(chosen: Verdict, others: Sequence[Verdict]) -> tuple[Finding, ...]:
    if not chosen.candidate.layout.device_indices or _context(chosen) >= margins.USEFUL_CONTEXT_TOKENS:
        return ()
    alone = (other for other in others if not other.candidate.layout.device_indices)
    longer = next((other for other in alone if _context(other) > _context(chosen)), None)
    if longer is None:
        return ()
    return (
        Finding(
            id="plan.devices-before-context",
            severity=Severity.INFO,
            summary=f"the CPU alone would hold {_context(longer):,} tokens of context with "
            f"{longer.candidate.checkpoint.quant}, and compute everything itself",
            fix="ask for fewer sequences with `--concurrency`, or a smaller `--quant`, for more context on the devices",
        ),
    )


def _lies_on_devices(verdict: Verdict) -> bool:
    layout = verdict.candidate.layout
    return bool(layout.device_indices) and not layout.host_expert_layers


def _context(verdict: Verdict) -> int:
    return verdict.candidate.context_tokens
