"""What has to be said of a candidate that fits: nobody published that it ran, or its layout was derived."""

from __future__ import annotations

from v4deploy.domain.engine import SupportLevel
from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.hardware import Device
from v4deploy.domain.plan import Candidate
from v4deploy.planning.case import Case
from v4deploy.planning.layouts import recipe_of
from v4deploy.planning.obstacles import support_row

EXPECTED_ONLY_ID = "plan.support-expected"


def fit_notes(candidate: Candidate, case: Case, devices: tuple[Device, ...]) -> tuple[Finding, ...]:
    """Reservations about a candidate whose bytes fit."""
    return (*_expected_only(candidate, case, devices), *_derived_layout(candidate, case, devices))


def _expected_only(candidate: Candidate, case: Case, devices: tuple[Device, ...]) -> tuple[Finding, ...]:
    row = support_row(candidate.checkpoint, case, devices)
    if row is None or row.level is not SupportLevel.EXPECTED:
        return ()
    return (
        Finding(
            id=EXPECTED_ONLY_ID,
            severity=Severity.WARN,
            summary=f"{case.profile.name} should run this here, but no published run says that it did",
            evidence=(Evidence(source=row.source),),
            why=row.reason,
        ),
    )


def _derived_layout(candidate: Candidate, case: Case, devices: tuple[Device, ...]) -> tuple[Finding, ...]:
    recipe = recipe_of(candidate.layout, devices, case)
    if recipe is None or recipe.documented is None:
        return ()
    return (
        Finding(
            id="plan.layout-derived",
            severity=Severity.WARN,
            summary=f"no document shows this layout over {recipe.devices} devices; {recipe.documented}",
            evidence=(Evidence(source=recipe.source),),
            why="the same settings over more devices should run, but nobody published that they did",
        ),
    )
