"""What every engine owes, on every target that its profile names."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest
import yaml

from tests.support_golden import ROOT, shipped_profile, shipped_templates
from tests.support_plans import (
    FLASH_8X_H200,
    FLASH_910B3,
    FLASH_950DT,
    FLASH_A3,
    FLASH_CPU,
    FLASH_M3_ULTRA,
    FLASH_OFFLOAD,
    FLASH_OLLAMA,
    FLASH_OLLAMA_MAC,
    PRO_8X_H200,
    WEIGHTS_DIR,
)
from v4deploy.domain.artefact import Artefact, ArtefactSet
from v4deploy.domain.engine import EngineId, EngineProfile, LaunchOptions
from v4deploy.domain.finding import Severity, group_of
from v4deploy.domain.plan import FootprintPart, Plan
from v4deploy.domain.units import MB
from v4deploy.engines import ALL_ENGINES, engine_module
from v4deploy.engines.base import Engine
from v4deploy.render.render import render

PLANS: dict[EngineId, tuple[Plan, ...]] = {
    EngineId.LLAMA_CPP: (FLASH_CPU, FLASH_OFFLOAD, FLASH_M3_ULTRA),
    EngineId.OLLAMA: (FLASH_OLLAMA, FLASH_OLLAMA_MAC),
    EngineId.VLLM: (FLASH_8X_H200, PRO_8X_H200),
    EngineId.MINDIE: (FLASH_910B3, FLASH_A3, FLASH_950DT),
}
OPTIONS = LaunchOptions(weights_dir=WEIGHTS_DIR)
TARGETS = [(engine, target) for engine in EngineId for target in shipped_profile(engine).targets]
TEMPLATES = shipped_templates()


def refusals(engine: Engine, plan: Plan, options: LaunchOptions, profile: EngineProfile, target: str) -> list[str]:
    findings = engine.check(plan, options, profile, target)
    return [f"{finding.id}: {finding.summary}" for finding in findings if finding.severity is Severity.FAIL]


def rendered(engine: EngineId, target: str, options: LaunchOptions = OPTIONS) -> Iterator[tuple[Plan, ArtefactSet]]:
    """Every plan of the engine that this target does not refuse, with its files."""
    module, profile = engine_module(engine), shipped_profile(engine)
    for plan in PLANS[engine]:
        if not refusals(module, plan, options, profile, target):
            yield plan, render(engine.value, target, module.values(plan, options, profile, target), TEMPLATES)


def artefacts(engine: EngineId, target: str, options: LaunchOptions = OPTIONS) -> Iterator[Artefact]:
    for _, files in rendered(engine, target, options):
        yield from files.artefacts


def test_every_engine_has_one_module() -> None:
    assert sorted(module.ID for module in ALL_ENGINES) == sorted(EngineId)


@pytest.mark.parametrize("engine", EngineId)
def test_templates_and_profile_name_the_same_targets(engine: EngineId) -> None:
    assert TEMPLATES.targets(engine.value) == tuple(sorted(shipped_profile(engine).targets))


@pytest.mark.parametrize(("engine", "target"), TARGETS)
def test_a_plan_for_the_engine_is_not_refused(engine: EngineId, target: str) -> None:
    assert any(artefacts(engine, target)), [
        refusals(engine_module(engine), plan, OPTIONS, shipped_profile(engine), target) for plan in PLANS[engine]
    ]


@pytest.mark.parametrize(("engine", "target"), TARGETS)
def test_findings_have_a_known_group_and_refusals_a_way_out(engine: EngineId, target: str) -> None:
    bad = LaunchOptions(weights_dir="relative", served_name="a\nb", bind="0.0.0.0")  # noqa: S104 - only compared
    for plan in PLANS[engine]:
        findings = engine_module(engine).check(plan, bad, shipped_profile(engine), target)
        assert {"config.weights-dir-relative", "config.control-character"} <= {finding.id for finding in findings}
        for finding in findings:
            assert group_of(finding.id)
            assert finding.fix or finding.severity is not Severity.FAIL


@pytest.mark.parametrize("engine", EngineId)
def test_the_process_is_words_never_a_shell_line(engine: EngineId) -> None:
    for plan in PLANS[engine]:
        spec = engine_module(engine).launch_spec(plan, OPTIONS, shipped_profile(engine))
        assert spec.engine is engine
        assert all(type(word) is str and word for word in spec.argv)
        assert all(type(text) is str for pair in spec.env for text in pair)
        assert len(dict(spec.env)) == len(spec.env)
        assert spec.bind == "127.0.0.1"
        assert 0 < spec.port < 65_536
        assert spec.served_name
        assert spec.ready.timeout_seconds >= 300
        assert spec.ready.health_path.startswith("/")
        assert spec.ready.completion_path == "/v1/chat/completions"
        assert spec.stop_timeout_seconds > 0


@pytest.mark.parametrize("engine", EngineId)
def test_the_users_choices_win(engine: EngineId) -> None:
    options = LaunchOptions(weights_dir=WEIGHTS_DIR, port=18_000, served_name="my-model", executable="/opt/engine")
    spec = engine_module(engine).launch_spec(PLANS[engine][0], options, shipped_profile(engine))
    assert (spec.port, spec.served_name, spec.argv[0]) == (18_000, "my-model", "/opt/engine")


@pytest.mark.parametrize("engine", EngineId)
def test_no_start_is_cut_off_while_the_weights_are_read(engine: EngineId) -> None:
    for plan in PLANS[engine]:
        read = sum(row.size_bytes for row in plan.footprint if row.part is FootprintPart.WEIGHTS)
        ready = engine_module(engine).launch_spec(plan, OPTIONS, shipped_profile(engine)).ready
        assert ready.timeout_seconds > read / (200 * MB)


@pytest.mark.parametrize(("engine", "target"), TARGETS)
def test_the_files_say_which_plan_they_are_for(engine: EngineId, target: str) -> None:
    for plan, files in rendered(engine, target):
        with_comments = [file for file in files.artefacts if not file.path.endswith(".json")]
        assert with_comments
        for file in with_comments:
            for fact in (plan.release.id, plan.chosen.checkpoint.quant, f"{plan.chosen.context_tokens} tokens"):
                assert fact in file.text, (file.path, fact)
            for word in ("apply", "check", "undo"):
                assert re.search(rf"^\W*{word}\b", file.text, re.MULTILINE | re.IGNORECASE), (file.path, word)


@pytest.mark.parametrize(("engine", "target"), TARGETS)
def test_the_same_inputs_give_the_same_bytes(engine: EngineId, target: str) -> None:
    assert list(artefacts(engine, target)) == list(artefacts(engine, target))


@pytest.mark.parametrize(("engine", "target"), TARGETS)
def test_no_file_holds_a_key_or_a_path_of_this_machine(engine: EngineId, target: str) -> None:
    with_key = replace(OPTIONS, api_key_file="/etc/v4deploy/api-key")
    for file in (*artefacts(engine, target), *artefacts(engine, target, with_key)):
        assert str(ROOT) not in file.text
        assert not re.search(r"--api-key[ =\n]", file.text), file.path
        assert not re.search(r"hf_[A-Za-z0-9]{8,}|HF_TOKEN=\S", file.text), file.path


@pytest.mark.parametrize(("engine", "target"), TARGETS)
def test_the_files_parse(engine: EngineId, target: str) -> None:
    for file in artefacts(engine, target):
        assert file.text.endswith("\n")
        assert not file.text.endswith("\n\n")
        assert not re.search(r"[ \t]$", file.text, re.MULTILINE), file.path
        assert "None" not in file.text.replace("NoneType", "")
        assert bool(file.mode & 0o111) == file.text.startswith("#!")
        if file.path.endswith((".yaml", ".yml")):
            assert all(yaml.safe_load_all(file.text))
        if file.path.endswith(".json"):
            assert json.loads(file.text)
        if file.text.startswith("#!"):
            shell = file.text.splitlines()[0].rsplit("/", 1)[-1].split()[-1]
            done = subprocess.run([shell, "-n"], input=file.text, capture_output=True, text=True, check=False)
            assert (done.returncode, done.stderr) == (0, ""), file.path


# Motor's pods are reached through Kubernetes, which has addresses of its own.
@pytest.mark.parametrize(("engine", "target"), [(e, target) for e, target in TARGETS if target != "motor"])
def test_the_address_of_the_user_is_written(engine: EngineId, target: str) -> None:
    text = "".join(file.text for file in artefacts(engine, target, replace(OPTIONS, bind="127.0.0.7")))
    assert "127.0.0.7" in text
