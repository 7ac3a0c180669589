"""What has to be said of a candidate that fits: nobody published that it ran, or its devices are badly joined."""

from __future__ import annotations

from v4deploy.domain.engine import SupportLevel
from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.hardware import Device, LinkKind
from v4deploy.domain.plan import Candidate, Layout
from v4deploy.planning.case import Case
from v4deploy.planning.obstacles import support_row
from v4deploy.planning.rank_layouts import recipe_of

EXPECTED_ONLY_ID = "plan.support-expected"


def fit_notes(candidate: Candidate, case: Case, devices: tuple[Device, ...]) -> tuple[Finding, ...]:
    """Reservations about a candidate whose bytes fit."""
    return (
        *_expected_only(candidate, case, devices),
        *_derived_layout(candidate, case, devices),
        *_unpublished_layout(candidate, case),
        *_slow_links(candidate, case),
    )


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


def is_unpublished(layout: Layout) -> bool:
    """Whether no recipe of vLLM spreads like this: they take two, four, eight or sixteen devices of a server, and
    either slice attention over all of them or replicate it on all of them.
    """
    ranks = layout.tensor_parallel * layout.data_parallel
    is_mixed = layout.tensor_parallel > 1 and layout.data_parallel > 1
    return bool(ranks & (ranks - 1)) or is_mixed or layout.pipeline_parallel > 1


def _unpublished_layout(candidate: Candidate, case: Case) -> tuple[Finding, ...]:
    if case.profile.recipes.layouts or not is_unpublished(candidate.layout):
        return ()
    count = len(candidate.layout.device_indices)
    return (
        Finding(
            id="plan.layout-unpublished",
            severity=Severity.WARN,
            summary=f"no recipe of {case.profile.name} spreads V4 like this over {count} devices",
            why="the engine takes it and the bytes fit, but nobody published that it ran",
        ),
    )


_FAST_LINKS = frozenset(
    {LinkKind.NVLINK, LinkKind.NVSWITCH, LinkKind.SIO, LinkKind.HCCS, LinkKind.HCCS_SWITCH, LinkKind.UB}
)


def _slow_links(candidate: Candidate, case: Case) -> tuple[Finding, ...]:
    """What is known to join the ranks of a tensor parallel group, where it is no link made for that."""
    if candidate.layout.tensor_parallel == 1:
        return ()
    used = set(candidate.layout.device_indices)
    links = [link for link in case.host.links if {link.first_index, link.second_index} <= used]
    slow = {link.kind.value: link for link in links if link.kind is not None and link.kind not in _FAST_LINKS}
    apart = next((link for link in links if link.peer_access is False), None)
    if not slow and apart is None:
        return ()
    return (
        Finding(
            id="plan.slow-links",
            severity=Severity.INFO if apart is None else Severity.WARN,
            summary="its devices reach each other over PCIe"
            if apart is None
            else "its devices cannot read each other's memory directly",
            evidence=tuple(Evidence(source=link.source, value=kind) for kind, link in sorted(slow.items())),
            why="every layer exchanges its result between all of them, so each token takes longer than over NVLink; "
            "the bytes are the same",
        ),
    )
