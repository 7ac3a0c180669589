"""Names of GGUF files before they are here, and the command that fetches them."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from tests.planning.support import catalogue
from tests.support_golden import shipped_profile
from tests.support_plans import FLASH_CPU, FLASH_OLLAMA, FLASH_Q4, WEIGHTS_DIR
from v4deploy.commands.pull import choose_checkpoint
from v4deploy.commands.workspace import Workspace
from v4deploy.domain.engine import EngineId, LaunchOptions
from v4deploy.domain.finding import Severity
from v4deploy.domain.model import Checkpoint, FileRole, Runnable, WeightFile
from v4deploy.domain.plan import Plan
from v4deploy.engines import engine_module
from v4deploy.engines.gguf_files import are_derived, first_shard, main_shards, pull_command
from v4deploy.system.live import LiveSystem

OPTIONS = LaunchOptions(weights_dir=WEIGHTS_DIR)


def named(path: str, parts: int | None) -> Checkpoint:
    return replace(FLASH_Q4, files=(WeightFile(path=path, role=FileRole.MAIN),), shards=parts)


def with_checkpoint(plan: Plan, checkpoint: Checkpoint) -> Plan:
    return replace(plan, chosen=replace(plan.chosen, checkpoint=checkpoint))


def test_a_pattern_and_the_number_of_parts_make_the_names() -> None:
    checkpoint = named("UD-IQ3_S/Flash-UD-IQ3_S-*-of-*.gguf", 4)
    paths = [shard.path for shard in main_shards(checkpoint)]
    assert paths == [f"UD-IQ3_S/Flash-UD-IQ3_S-{part:05d}-of-00004.gguf" for part in range(1, 5)]
    assert first_shard(checkpoint) == paths[0]
    assert are_derived(checkpoint)
    assert not are_derived(FLASH_Q4)


@pytest.mark.parametrize(
    ("path", "parts"), [("Flash-*-of-*.gguf", None), ("*AD-IQ3_S[-.]*gguf", 3), ("Flash-*.gguf", 2)]
)
def test_other_patterns_make_none(path: str, parts: int | None) -> None:
    assert main_shards(named(path, parts)) == ()
    assert not are_derived(named(path, parts))


def test_the_shipped_quant_with_known_parts_can_be_rendered_before_it_is_here() -> None:
    shipped = next(c for m in catalogue().models for c in m.checkpoints if c.id == "v4-flash-0731-ud-iq3_s")
    plan = with_checkpoint(FLASH_CPU, shipped)
    module, profile = engine_module(EngineId.LLAMA_CPP), shipped_profile(EngineId.LLAMA_CPP)
    findings = {finding.id: finding for finding in module.check(plan, OPTIONS, profile, "script")}
    assert not [finding for finding in findings.values() if finding.severity is Severity.FAIL]
    assert pull_command(plan) in (findings["engine.llama-cpp.files-derived"].fix or "")
    argv = module.launch_spec(plan, OPTIONS, profile).argv
    assert f"{WEIGHTS_DIR}/UD-IQ3_S/DeepSeek-V4-Flash-0731-UD-IQ3_S-00001-of-00004.gguf" in argv


@pytest.mark.parametrize("plan", [FLASH_CPU, FLASH_OLLAMA], ids=["llama.cpp", "ollama"])
def test_unknown_names_are_refused_with_the_command_for_this_plans_repository(plan: Plan) -> None:
    unknown = with_checkpoint(plan, named("*AD-IQ3_S[-.]*gguf", 3))
    engine = plan.chosen.engine
    findings = engine_module(engine).check(unknown, OPTIONS, shipped_profile(engine), "script")
    refused = [finding for finding in findings if finding.severity is Severity.FAIL]
    assert [finding.id.rsplit(".", 1)[-1] for finding in refused] == ["files-unknown"]
    assert f"--repo {FLASH_Q4.repo}" in (refused[0].fix or "")


def test_the_command_fetches_what_was_planned_and_nothing_else() -> None:
    workspace = Workspace(environ={}, system=LiveSystem({}), catalogue=catalogue())
    checked = 0
    for model in catalogue().models:
        for checkpoint in (c for c in model.checkpoints if c.runnable is Runnable.DRIVEN):
            plan = with_checkpoint(replace(FLASH_CPU, release=model.release(checkpoint.release)), checkpoint)
            words = re.fullmatch(r"v4deploy pull (\S+) --quant (\S+) --repo (\S+)", pull_command(plan))
            assert words is not None
            chosen = choose_checkpoint(workspace, model=words[1], quant=words[2], repo=words[3])
            assert chosen.checkpoint.id == checkpoint.id
            checked += 1
    assert checked > 50
