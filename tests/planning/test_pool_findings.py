"""What a host says of its memory reaches the plans that rest on it, and no others."""

from __future__ import annotations

import pytest

from tests.planning.support import decide, machine
from v4deploy.domain.plan import Plan, Request


def planned(hardware: str, model: str = "v4-flash") -> Plan:
    plan = decide(Request(model=model), machine(hardware)).plan
    assert plan is not None
    return plan


@pytest.mark.parametrize(
    ("hardware", "finding", "is_there"),
    [
        ("m2-ultra 192GB", "accelerator.ceiling-assumed", True),
        ("strix-halo 128GB", "accelerator.ceiling-assumed", True),
        ("m3-ultra 256GB", "accelerator.ceiling-assumed", False),
        ("8x rtx-a5000 + 64GB", "accelerator.memory-nominal", True),
        ("4x h100 + 64GB", "accelerator.memory-nominal", False),
        # The plan leaves the cards alone whose size is nominal.
        ("4x h100 + rtx-a5000 + 64GB", "accelerator.memory-nominal", False),
        ("4x h100", "host.memory-not-given", True),
    ],
)
def test_findings_about_used_memory_are_the_plans_too(hardware: str, finding: str, is_there: bool) -> None:  # noqa: FBT001
    assert (finding in {found.id for found in planned(hardware).findings}) is is_there


def test_a_budget_says_that_its_ceiling_is_assumed() -> None:
    (use,) = planned("m2-ultra 192GB").pools
    assert "no measurement" in use.budget_source
    (use,) = planned("m3-ultra 256GB").pools
    assert "measured" in use.budget_source
    use = planned("8x rtx-a5000 + 64GB").pools[0]
    assert "nominal" in use.budget_source
