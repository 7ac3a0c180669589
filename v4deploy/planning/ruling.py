"""A rule that forbids a candidate before any byte is counted, as a finding."""

from __future__ import annotations

from v4deploy.domain.finding import Evidence, Finding, Severity


def forbids(
    word: str, summary: str, *, why: str | None = None, fix: str | None = None, evidence: tuple[Evidence, ...] = ()
) -> Finding:
    """The finding `plan.<word>`."""
    return Finding(id=f"plan.{word}", severity=Severity.FAIL, summary=summary, why=why, fix=fix, evidence=evidence)
