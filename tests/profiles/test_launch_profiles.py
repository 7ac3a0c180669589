"""What engines are started with beside the plan: the form of its files, and where the shipped ones are read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from v4deploy.catalogue.load_launch import with_launch
from v4deploy.catalogue.wire_engines import engine_of
from v4deploy.catalogue.wire_launch import launch_of
from v4deploy.catalogue.yaml_source import parse_yaml, read_yaml
from v4deploy.domain.engine import EngineId
from v4deploy.domain.errors import ProfileError
from v4deploy.domain.launch_settings import LaunchSettings
from v4deploy.resources import data_dir

LAUNCH = """\
engine: vllm
source: a page
as_of: 2026-11-22
models:
  - {gguf_arch: deepseek4, parser: deepseek_v4, block_tokens: 256}
devices:
  - gguf_arch: deepseek4
    archs: [sm_100, sm_103]
    arguments: {no-model: true, linear-backend: {mode: 0}}
    environment: {ONE: "1"}
known_defects:
  - {archs: [sm_90], version: "0.27.0", what: it crashes, fix: use another, source: a report}
"""


def read(text: str) -> LaunchSettings:
    return launch_of(parse_yaml(text, Path("test.yaml")), EngineId.VLLM, {"--model", "--linear-backend"})


def test_launch_settings_hold_for_devices_that_are_all_of_a_row() -> None:
    launch = read(LAUNCH)
    (row,) = launch.device_settings("deepseek4", frozenset({"sm_100", "sm_103"}))
    assert (row.arguments["linear-backend"], row.environment, row.source.source) == (
        {"mode": 0},
        (("ONE", "1"),),
        "a page",
    )
    for model, archs in (("deepseek41", {"sm_100"}), ("deepseek4", {"sm_100", "sm_90"}), ("deepseek4", set[str]())):
        assert launch.device_settings(model, frozenset(archs)) == ()
    (defect,) = launch.known_defects
    assert (defect.version, defect.with_dspark) == ("0.27.0", False)
    assert (defect.source.source, defect.source.as_of) == ("a report", "2026-11-22")


@pytest.mark.parametrize(
    ("old", "new", "place", "words"),
    [
        ("no-model", "no-modle", "devices.0.arguments.no-modle", "no flag of the engine is called"),
        ("{mode: 0}", "{mode: null}", "devices.0.arguments.linear-backend.mode", "null is no value"),
        ('ONE: "1"', "ONE: 1", "devices.0.environment.ONE", "valid string"),
        ("- gguf_arch: deepseek4", "- gguf_arch: deepseek5", "devices.0.gguf_arch", "not listed in"),
        ('version: "0.27.0", what', "version: all, what", "known_defects.0.version", "not a version"),
        ("engine: vllm", "engine: ollama", "engine", "called after `vllm`"),
        (", source: a report", "", "known_defects.0.source", "required and missing"),
        ("what: it", "why: it", "known_defects.0.why", "unknown key"),
        ("as_of: 2026-11-22\n", "", "as_of", "required and missing"),
    ],
)
def test_wrong_launch_settings_are_refused_with_their_line(old: str, new: str, place: str, words: str) -> None:
    assert old in LAUNCH
    with pytest.raises(ProfileError, match=rf"test.yaml:\d+: {re.escape(place)}: .*{words}"):
        read(LAUNCH.replace(old, new))


FAMILIES = """\
release_sets:
  - {releases: ["0.20", "0.22"], torch: "2.10.0", toolkit: "9.0.0"}
driver_floors:
  - {compute_api: cuda, floor: "580", what: its wheels, source: a wheel}
variables: {version: "0.32.0", prefix: VLLM_, names: ONE TWO}
abilities: [{ability: dspark, since: "0.25.0", source: a tutorial}]
chip_families:
  - families:
      ascend-a2: {name: Atlas A2, hardware_type: 800I_A2}
      ascend-a3: {name: Atlas A3, hardware_type: 800I_A3}
    quantized_weights: true
    device_nodes: [/dev/manager]
    mounts: []
    privileged: true
    recipe_device_gib: 64
    refused:
      - {parallel: tensor, what: it is not documented, source: a tutorial}
recipes:
  - arch: ascend-a2
    model: v4-flash
    draft: mtp
    max_context_tokens: 4096
    block_tokens: 128
    draft_config: {method: mtp}
    arguments: {no-model: true}
"""


def test_families_share_what_does_not_differ() -> None:
    launch = read(LAUNCH + FAMILIES)
    assert [(family.arch, family.hardware_type) for family in launch.chip_families] == [
        ("ascend-a2", "800I_A2"),
        ("ascend-a3", "800I_A3"),
    ]
    assert {family.recipe_device_bytes for family in launch.chip_families} == {64 * 2**30}
    assert {row.source.source for family in launch.chip_families for row in family.refused} == {"a tutorial"}
    assert [(recipe.source.source, recipe.source.as_of) for recipe in launch.recipes] == [("a page", "2026-11-22")]


@pytest.mark.parametrize(
    ("old", "new", "place", "words"),
    [
        ("arch: ascend-a2\n", "arch: ascend-a4\n", "recipes.0.arch", "not listed in"),
        ("no-model", "modle", "recipes.0.arguments.modle", "no flag of the engine is called"),
        ("method: mtp", "method: null", "recipes.0.draft_config.method", "null is no value"),
        ("draft: mtp", "draft: eagle", "recipes.0.draft", "mtp"),
        ("block_tokens: 128", "block_tokens: 0", "recipes.0", "at least 1"),
        ('"0.20", ', '"0.22", ', "release_sets.0.releases", "`0.22` stands twice"),
        ('"0.20", ', '"0.20.1", ', "release_sets.0.releases", "not a major and a minor number"),
        ('"9.0.0"', "none", "release_sets.0.toolkit", "not a version"),
        ('"580"', "new", "driver_floors.0.floor", "not a version"),
        ("compute_api: cuda", "compute_api: cudda", "driver_floors.0.compute_api", "cuda"),
        ('"0.32.0"', "all", "variables.version", "not a version"),
        ('"0.25.0"', "soon", "abilities.0.since", "not a version"),
        ("ability: dspark", "ability: flight", "abilities.0.ability", "dspark"),
        ("parallel: tensor", "parallel: data", "chip_families.0.refused.0.parallel", "pipeline"),
        ("    mounts: []\n", "", "chip_families.0.mounts", "required and missing"),
    ],
)
def test_wrong_families_and_recipes_are_refused_with_their_line(old: str, new: str, place: str, words: str) -> None:
    assert old in FAMILIES
    with pytest.raises(ProfileError, match=rf"test.yaml:\d+: {re.escape(place)}: .*{words}"):
        read(LAUNCH + FAMILIES.replace(old, new))


def test_a_file_of_ones_own_takes_the_place_of_the_shipped_one(tmp_path: Path) -> None:
    shipped = data_dir("profiles")
    profile = engine_of(read_yaml(shipped / "engines" / "vllm.yaml"))
    assert profile.launch is None
    assert with_launch(profile, [shipped, tmp_path]) == with_launch(profile, [shipped])
    (tmp_path / "launch").mkdir()
    (tmp_path / "launch" / "vllm.yaml").write_text("engine: vllm\nsource: mine\nas_of: 2026-11-22\n")
    assert with_launch(profile, [shipped, tmp_path]).launch == LaunchSettings()
    assert with_launch(profile, [tmp_path / "none"]).launch == LaunchSettings()
