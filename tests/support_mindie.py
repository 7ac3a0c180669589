"""Plans for vLLM-Ascend, and the files that are written for them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.support_golden import shipped_profile
from tests.support_plans import FLASH, FLASH_910B3, FLASH_950DT, FLASH_A3, WEIGHTS_DIR
from v4deploy.domain.artefact import ArtefactSet
from v4deploy.domain.engine import EngineId, LaunchOptions
from v4deploy.domain.model import Draft, DraftKind
from v4deploy.domain.plan import Plan
from v4deploy.engines import mindie
from v4deploy.render.render import render
from v4deploy.render.templates import load_templates

ROOT = Path(__file__).parents[1]
PROFILE = shipped_profile(EngineId.MINDIE)
TEMPLATES = load_templates([ROOT / "templates"])
OPTIONS = LaunchOptions(weights_dir=WEIGHTS_DIR)
PREVIEW = replace(FLASH, id="v4-flash", name="DeepSeek-V4-Flash", draft=Draft(kind=DraftKind.MTP, stages=1))


def preview(plan: Plan) -> Plan:
    """The plan for the preview release with its MTP head in use."""
    return replace(plan, release=PREVIEW, chosen=replace(plan.chosen, use_draft=True))


CASES = {
    "flash-0731-8x-910b3": FLASH_910B3,
    "flash-preview-8x-910b3": preview(FLASH_910B3),
    "flash-0731-a3": FLASH_A3,
    "flash-preview-a3": preview(FLASH_A3),
    "flash-preview-950dt": preview(FLASH_950DT),
}


def artefacts(plan: Plan, target: str, options: LaunchOptions = OPTIONS) -> ArtefactSet:
    return render("mindie", target, mindie.values(plan, options, PROFILE, target), TEMPLATES)


def text_of(plan: Plan, target: str, path: str, options: LaunchOptions = OPTIONS) -> str:
    return next(a.text for a in artefacts(plan, target, options).artefacts if a.path == path)


def user_config(plan: Plan, options: LaunchOptions = OPTIONS) -> dict[str, Any]:
    loaded = json.loads(text_of(plan, "motor", "user_config.json", options))
    assert isinstance(loaded, dict)
    return loaded
