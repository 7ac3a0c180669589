from __future__ import annotations

import configparser
from dataclasses import replace

import pytest

from tests.support_golden import assert_golden, shipped_profile, shipped_templates
from tests.support_llama_cpp import DRAFTED
from tests.support_plans import FLASH_CPU, FLASH_OFFLOAD, WEIGHTS_DIR
from v4deploy.domain.artefact import ArtefactSet
from v4deploy.domain.engine import EngineId, LaunchOptions
from v4deploy.domain.finding import Severity
from v4deploy.domain.plan import Plan
from v4deploy.engines import llama_cpp
from v4deploy.render.render import render

PROFILE = shipped_profile(EngineId.LLAMA_CPP)
OPTIONS = LaunchOptions(weights_dir=WEIGHTS_DIR, api_key_file="/etc/v4deploy/api-key")


def rendered(plan: Plan, options: LaunchOptions = OPTIONS) -> ArtefactSet:
    return render("llama.cpp", "router", llama_cpp.values(plan, options, PROFILE, "router"), shipped_templates())


def fails(options: LaunchOptions) -> set[str]:
    found = llama_cpp.check(FLASH_CPU, options, PROFILE, "router")
    return {finding.id for finding in found if finding.severity is Severity.FAIL}


@pytest.mark.parametrize(("case", "plan"), [("cpu", FLASH_CPU), ("rtx-4090-offload-key", FLASH_OFFLOAD)])
def test_golden(case: str, plan: Plan) -> None:
    assert_golden(rendered(plan), case)


@pytest.mark.parametrize("plan", [FLASH_CPU, FLASH_OFFLOAD, DRAFTED])
def test_section_and_router_together_say_what_the_command_line_says(plan: Plan) -> None:
    files = {file.path: file.text for file in rendered(plan).artefacts}
    preset = configparser.ConfigParser(interpolation=None)
    preset.read_string("[before]\n" + files["models.ini"])
    section = dict(preset[plan.release.id])
    assert section.pop("load-on-startup") == "true"
    argv = llama_cpp.launch_spec(plan, OPTIONS, PROFILE).argv[1:]
    for name, value in section.items():
        assert argv[argv.index(f"--{name}") + 1] == value or (value == "true" and f"--{name}" in argv)
    missing = {word for word in argv if word.startswith("--") and word[2:] not in section}
    assert missing == {"--alias", "--host", "--port", "--cors-origins", "--metrics", "--api-key-file"}
    for word in missing - {"--alias"}:
        assert word in files["run-llama-router.sh"]
    assert "/etc/v4deploy/api-key" not in files["models.ini"]


@pytest.mark.parametrize("name", ["a]b", "*", "a;b", "#1"])
def test_a_name_that_would_end_the_section_early_is_refused(name: str) -> None:
    assert fails(replace(OPTIONS, served_name=name)) == {"engine.llama-cpp.name-in-preset"}


@pytest.mark.parametrize("folder", ["/srv/v4;old", "/srv/#1"])
def test_a_path_that_would_be_cut_off_as_a_comment_is_refused(folder: str) -> None:
    assert fails(replace(OPTIONS, weights_dir=folder)) == {"engine.llama-cpp.value-in-preset"}


def test_a_build_without_presets_is_refused() -> None:
    known = frozenset(llama_cpp.launch_spec(FLASH_CPU, OPTIONS, PROFILE).argv)
    assert fails(replace(OPTIONS, known_flags=known)) == {"engine.llama-cpp.option-missing"}
