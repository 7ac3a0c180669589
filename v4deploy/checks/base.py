"""What a check is: a name that people select it by, and a pure function from the subject to findings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from v4deploy.checks.subject import Subject
from v4deploy.domain.finding import CheckGroup, Finding, Severity, group_of


class Needs(StrEnum):
    """FAST: only what was read anyway. DEEP: measures disk or network, so it runs with `--deep` only."""

    FAST = "fast"
    DEEP = "deep"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check.

    Attributes:
        id: dotted, stable; its first word gives the group.
        run: looks and yields findings; says nothing where there is nothing to tell.
        others: ids of findings that it gives beside its own id.
        blocked_by: the finding because of which it cannot judge; None where nothing blocks it.
    """

    id: str
    title: str
    run: Callable[[Subject], Iterator[Finding]]
    others: tuple[str, ...] = ()
    needs: Needs = Needs.FAST
    blocked_by: Callable[[Subject], Finding | None] | None = None

    @property
    def group(self) -> CheckGroup:
        return group_of(self.id)

    def judge(self, subject: Subject) -> tuple[Finding, ...]:
        """Its findings; one of severity SKIP, which names the cause, where something it depends on failed."""
        cause = self.blocked_by(subject) if self.blocked_by else None
        if cause is None:
            return tuple(self.run(subject))
        return (
            Finding(
                id=self.id,
                severity=Severity.SKIP,
                summary=f"not checked: {self.title}",
                why=f"it depends on what failed: {cause.id}",
            ),
        )


def no_usable_device(subject: Subject) -> Finding | None:
    """The failure because of which no device of this machine works; None where one works or nothing failed."""
    if any(device.usable for device in subject.host.devices):
        return None
    failed = (finding for finding in subject.host.findings if finding.severity is Severity.FAIL)
    return next((finding for finding in failed if group_of(finding.id) is CheckGroup.ACCELERATOR), None)


def no_device_for_engines(subject: Subject) -> Finding | None:
    """The same for checks of engines against devices, which have nothing to judge where no engine is."""
    return no_usable_device(subject) if subject.host.engines else None
