"""What the planner chooses, the engine takes: every plan of a matrix can be written for at least one target."""

from __future__ import annotations

from itertools import product

import pytest

from tests.planning.support import decide, machine
from tests.support_golden import shipped_profile
from tests.support_plans import WEIGHTS_DIR
from v4deploy.domain.engine import EngineId, LaunchOptions
from v4deploy.domain.finding import Severity
from v4deploy.domain.plan import Plan, Request
from v4deploy.engines import engine_module

OPTIONS = LaunchOptions(weights_dir=WEIGHTS_DIR)
MACHINES = (
    "rtx-4090 + 128GB",
    "2x rtx-5090 + 128GB",
    "4x h100",
    "8x h200 + 2TB",
    "8x b200",
    "4x b300 + 1TB",
    "8x rtx-pro-6000 + 1TB",
    "8x mi355x + 2TB",
    "gb10",
    "strix-halo 128GB",
    "m3-ultra 512GB",
    "8x 910b3 + 1TB",
    "8x ascend-910b4 + 512GB",
    "32x 910b3",
    "8x a3 + 2TB",
    "16x a3",
    "8x 950dt + 1TB",
    "16x 950dt + 2TB",
    "2x 950pr 128GB + 1TB",
    "cpu 1TB",
)
WISHES = ((None, 1), (None, 64), (EngineId.VLLM, 1), (EngineId.MINDIE, 1), (EngineId.OLLAMA, 1))
MODELS = ("v4-flash", "v4-pro", "v4.1-flash")
PREVIEWS = ("v4-flash-preview", "v4-pro-preview")


def refusals(plan: Plan) -> dict[str, list[str]]:
    """By target, what its engine refuses; file names that only the hub knows are no fault of the plan."""
    profile = shipped_profile(plan.chosen.engine)
    module = engine_module(profile.id)
    return {
        target: [
            finding.summary
            for finding in module.check(plan, OPTIONS, profile, target)
            if finding.severity is Severity.FAIL and not finding.id.endswith(".files-unknown")
        ]
        for target in profile.targets
    }


@pytest.mark.parametrize("hardware", MACHINES)
@pytest.mark.parametrize("models", [MODELS, pytest.param(PREVIEWS, marks=pytest.mark.slow)], ids=["now", "before"])
def test_every_plan_renders_for_at_least_one_target(hardware: str, models: tuple[str, ...]) -> None:
    host = machine(hardware)
    plans = 0
    for model, (engine, concurrency) in product(models, WISHES):
        plan = decide(Request(model=model, engine=engine, concurrency=concurrency), host).plan
        if plan is not None:
            plans += 1
            found = refusals(plan)
            assert [] in found.values(), (model, engine, concurrency, found)
    assert plans
