from __future__ import annotations

import re
from pathlib import Path

import pytest

from v4deploy.catalogue.wire_engines import engine_of
from v4deploy.catalogue.yaml_source import parse_yaml, read_yaml
from v4deploy.domain.engine import EngineId, EngineProfile, EngineSupport, SupportLevel
from v4deploy.domain.errors import ProfileError
from v4deploy.domain.hardware import ComputeApi
from v4deploy.domain.versions import is_older
from v4deploy.resources import data_dir

ENGINES = {
    profile.id: profile
    for profile in (engine_of(read_yaml(path)) for path in (data_dir("profiles") / "engines").glob("*.yaml"))
}
ALL = [pytest.param(ENGINES[engine], id=engine.value) for engine in EngineId]

MINIMAL = """\
id: vllm
name: vLLM
memory_model: vllm
version: "0.33.0"
minimum_version: "0.20.0"
formats: [safetensors]
targets: [script]
default_port: 8000
kv_cache_types: [fp8]
most_sequences: 1024
precedence: 0
source: a wheel
as_of: 2026-11-22
support:
  - {compute_apis: [cuda], archs: [sm_90, sm_100], level: verified}
  - {compute_apis: [cuda], archs: ["*"], level: unsupported}
images:
  - {compute_api: cuda, archs: ["*"], image: vllm/vllm-openai, tag: "v{version}"}
memory:
  source: a wheel
  as_of: 2026-11-22
  confidence: B
  cache_layouts:
    - {since: "0.20.0", blocks: tuples, batches_in_flight: 1}
    - {since: "0.29.0", blocks: packed, batches_in_flight: 2}
  cache_formats:
    - {entry_bytes: 584, index_bytes: 132, page_alignment_bytes: 576, block_tokens: 256}
  batches_tokens: [8192]
  shared_stream_batches_tokens: [4096]
  expert_paddings:
    - {compute_api: cuda, multiple: 128}
  loaded_surplus_percent: {value: 1}
  activation_bytes: {value: 1}
  graph_bytes: {value: 1}
  context_bytes: {value: 1}
  worker_bytes: {value: 1}
  logit_bytes: {value: 2}
flags:
  - {names: [--model]}
  - {names: [--linear-backend], since: "0.24.0", until: "0.30.0"}
"""


def read(text: str) -> EngineProfile:
    return engine_of(parse_yaml(text, Path("test.yaml")))


def first_row(
    engine: EngineId, compute_api: ComputeApi, arch: str, *, model: str = "v4-flash", quant: str = "native"
) -> EngineSupport:
    return next(
        row
        for row in ENGINES[engine].support
        if row.compute_api == compute_api.value
        and row.arch in {arch, "*"}
        and (not row.models or model in row.models)
        and (not row.quants or quant in row.quants)
    )


def test_every_engine_has_a_profile() -> None:
    assert set(ENGINES) == set(EngineId)


@pytest.mark.parametrize("profile", ALL)
def test_exact_rows_stand_before_general_ones(profile: EngineProfile) -> None:
    for index, row in enumerate(profile.support):
        if row.arch == "*" and not row.models and not row.quants:
            assert not [later for later in profile.support[index + 1 :] if later.compute_api == row.compute_api]


@pytest.mark.parametrize("profile", ALL)
@pytest.mark.parametrize("compute_api", ComputeApi)
@pytest.mark.parametrize("model", ["v4-flash", "v4-pro", "v4.1-flash"])
def test_every_engine_has_an_answer_for_every_compute_api(
    profile: EngineProfile, compute_api: ComputeApi, model: str
) -> None:
    row = first_row(profile.id, compute_api, "never-heard-of", model=model)
    assert row.level is not SupportLevel.VERIFIED or compute_api in {ComputeApi.CPU, ComputeApi.METAL}


@pytest.mark.parametrize("profile", ALL)
def test_a_refusal_says_why(profile: EngineProfile) -> None:
    assert [row for row in profile.support if row.level is SupportLevel.UNSUPPORTED and not row.reason] == []
    assert all(row.source for row in profile.support)


@pytest.mark.parametrize("profile", ALL)
def test_flags_begin_before_they_end_and_stand_once(profile: EngineProfile) -> None:
    names = [flag.flag for flag in profile.flags]
    assert len(names) == len(set(names))
    assert all(name.startswith("--") for name in names)
    for flag in profile.flags:
        assert not (flag.since and flag.until and is_older(flag.until, flag.since))


@pytest.mark.parametrize("profile", ALL)
def test_versions_are_in_order_and_images_are_not_floating(profile: EngineProfile) -> None:
    assert not is_older(profile.version, profile.minimum_version)
    assert all("{version}" in image.tag for image in profile.images)
    assert all("digest" in (image.note or "") for image in profile.images)
    assert profile.targets


@pytest.mark.parametrize(
    ("engine", "compute_api", "arch", "model", "quant", "level", "minimum"),
    [
        (EngineId.VLLM, ComputeApi.CUDA, "sm_90", "v4-flash", "native", SupportLevel.VERIFIED, "0.20.0"),
        (EngineId.VLLM, ComputeApi.CUDA, "sm_90", "v4-pro", "nvfp4", SupportLevel.UNSUPPORTED, None),
        (EngineId.VLLM, ComputeApi.CUDA, "sm_100", "v4-pro", "nvfp4", SupportLevel.VERIFIED, "0.22.0"),
        (EngineId.VLLM, ComputeApi.CUDA, "sm_103", "v4.1-flash", "native", SupportLevel.VERIFIED, "0.30.0"),
        (EngineId.VLLM, ComputeApi.CUDA, "sm_120", "v4-flash", "native", SupportLevel.VERIFIED, "0.24.0"),
        (EngineId.VLLM, ComputeApi.CUDA, "sm_89", "v4-flash", "native", SupportLevel.UNSUPPORTED, None),
        (EngineId.VLLM, ComputeApi.CUDA, "sm_110", "v4-flash", "native", SupportLevel.UNSUPPORTED, None),
        (EngineId.VLLM, ComputeApi.ROCM, "gfx950", "v4-pro", "native", SupportLevel.VERIFIED, "0.26.0"),
        (EngineId.VLLM, ComputeApi.ROCM, "gfx942", "v4-flash", "native", SupportLevel.UNSUPPORTED, None),
        (EngineId.VLLM, ComputeApi.CPU, "x86_64", "v4-flash", "native", SupportLevel.UNSUPPORTED, None),
        (EngineId.LLAMA_CPP, ComputeApi.CUDA, "sm_86", "v4-pro", "UD-Q4_K_XL", SupportLevel.VERIFIED, "10242"),
        (EngineId.LLAMA_CPP, ComputeApi.CUDA, "sm_90", "v4.1-flash", "UD-Q4_K_XL", SupportLevel.UNSUPPORTED, None),
        (EngineId.LLAMA_CPP, ComputeApi.CPU, "x86_64", "v4-flash", "UD-Q4_K_XL", SupportLevel.VERIFIED, "9840"),
        (EngineId.LLAMA_CPP, ComputeApi.CANN, "ascend-a2", "v4-flash", "UD-Q4_K_XL", SupportLevel.UNSUPPORTED, None),
        (EngineId.OLLAMA, ComputeApi.ROCM, "gfx1151", "v4-flash", "UD-Q2_K_XL", SupportLevel.EXPECTED, "0.32.6"),
        (EngineId.OLLAMA, ComputeApi.ROCM, "gfx1103", "v4-flash", "UD-Q2_K_XL", SupportLevel.UNSUPPORTED, None),
        (EngineId.MINDIE, ComputeApi.CANN, "ascend-a2", "v4-flash", "w8a8", SupportLevel.VERIFIED, "0.20.2"),
        (EngineId.MINDIE, ComputeApi.CANN, "ascend-a3", "v4-flash", "native", SupportLevel.UNSUPPORTED, None),
        (EngineId.MINDIE, ComputeApi.CANN, "ascend-950", "v4-pro", "native", SupportLevel.VERIFIED, "0.23.0"),
        (EngineId.MINDIE, ComputeApi.CANN, "ascend-950", "v4-flash", "w8a8", SupportLevel.UNSUPPORTED, None),
        (EngineId.MINDIE, ComputeApi.CANN, "ascend-310p", "v4-flash", "w8a8", SupportLevel.UNSUPPORTED, None),
        (EngineId.MINDIE, ComputeApi.CANN, "ascend-910", "v4-flash", "w8a8", SupportLevel.UNSUPPORTED, None),
    ],
)
def test_what_runs_where(  # noqa: PLR0913, PLR0917 - one parameter a column of the table
    engine: EngineId,
    compute_api: ComputeApi,
    arch: str,
    model: str,
    quant: str,
    level: SupportLevel,
    minimum: str | None,
) -> None:
    row = first_row(engine, compute_api, arch, model=model, quant=quant)
    assert (row.level, row.minimum_version) == (level, minimum)


def test_the_two_dialects_of_llama_server_overlap() -> None:
    ranges = {flag.flag: flag for flag in ENGINES[EngineId.LLAMA_CPP].flags}
    assert (ranges["--load-mode"].since, ranges["--load-mode"].until) == ("10092", None)
    assert {ranges[name].until for name in ("--mmap", "--no-mmap", "--mlock", "--direct-io")} == {"10880"}


def test_one_entry_becomes_a_row_for_each_pair() -> None:
    profile = read(MINIMAL)
    assert [row.arch for row in profile.support] == ["sm_90", "sm_100", "*"]
    assert {row.source for row in profile.support} == {"a wheel"}
    assert profile.flags[1].until == "0.30.0"


@pytest.mark.parametrize(
    ("wrong", "right", "message"),
    [
        (
            "archs: [sm_90, sm_100], level: verified}",
            'archs: ["*"], level: expected}',
            "test.yaml:16: support.1: an earlier, more general row hides this one",
        ),
        ('tag: "v{version}"', "tag: latest", "test.yaml:18: images.0.tag: `latest` names no version"),
        ('until: "0.30.0"', 'until: "0.21.0"', "test.yaml:40: flags.1.until: 0.21.0 comes before 0.24.0"),
        ("[--linear-backend]", "[--model]", "test.yaml:40: flags.1.names: `--model` stands twice"),
        (
            'since: "0.29.0", blocks',
            'since: "0.20.0", blocks',
            "test.yaml:25: memory.cache_layouts.1.since: 0.20.0 does",
        ),
        ("{entry_bytes", "{archs: [sm_90], entry_bytes", "test.yaml:26: memory.cache_formats: one row has to cover"),
        ("memory:\n", "memory: null\n_:\n", "test.yaml"),
        ('version: "0.33.0"', "version: newest", "test.yaml:4: version: `newest` is not a version"),
        ("level: verified", "level: certain", "test.yaml:15: support.0.level"),
        ("default_port: 8000", "default_port: '8000'", "test.yaml:8: default_port"),
        ("id: vllm", "id: vlm", "test.yaml:1: id"),
    ],
)
def test_a_mistake_is_shown_with_file_line_and_key(wrong: str, right: str, message: str) -> None:
    assert wrong in MINIMAL
    with pytest.raises(ProfileError) as caught:
        read(MINIMAL.replace(wrong, right, 1))
    assert caught.value.message.startswith(message)


RECIPES = """\
recipes:
  source: a page
  layouts:
    - {arch: ascend-a2, model: v4-flash, tensor_parallel: 8, batch_tokens: 8192, max_context_tokens: 4096}
  undrafted:
    - {archs: [sm_120], why: no kernel}
  memory_shares:
    - {percent: 92}
    - {archs: [gfx950, gfx942], percent: 90, source: another page}
"""


def test_recipes_are_spread_over_architectures_and_inherit_their_source() -> None:
    recipes = read(MINIMAL + RECIPES).recipes
    assert recipes.layouts[0].devices == 8
    assert [(share.arch, share.percent, share.source) for share in recipes.memory_shares] == [
        ("*", 92, "a page"),
        ("gfx950", 90, "another page"),
        ("gfx942", 90, "another page"),
    ]
    (habit,) = recipes.undrafted
    assert habit.covers("sm_120", "v4-pro")
    assert not habit.covers("sm_100", "v4-pro")
    assert not habit.covers(None, "v4-pro")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("percent: 92", "percent: 920", "920 is no share"),
        ("tensor_parallel: 8", "tensor_parallel: 0", "at least 1"),
        ("undrafted:", "undraftet:", "unknown key"),
    ],
)
def test_wrong_recipes_are_refused_with_their_line(old: str, new: str, words: str) -> None:
    with pytest.raises(ProfileError, match=rf"test.yaml:\d+: recipes.*{words}"):
        read(MINIMAL + RECIPES.replace(old, new))


LAUNCH = """\
launch:
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


def test_launch_settings_hold_for_devices_that_are_all_of_a_row() -> None:
    launch = read(MINIMAL + LAUNCH).launch
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
        ("no-model", "no-modle", "launch.devices.0.arguments.no-modle", "no flag of the engine is called"),
        ("{mode: 0}", "{mode: null}", "launch.devices.0.arguments.linear-backend.mode", "null is no value"),
        ('ONE: "1"', "ONE: 1", "launch.devices.0.environment.ONE", "valid string"),
        ("- gguf_arch: deepseek4", "- gguf_arch: deepseek5", "launch.devices.0.gguf_arch", "not listed in"),
        ('version: "0.27.0", what', "version: all, what", "launch.known_defects.0.version", "not a version"),
        (", source: a report", "", "launch.known_defects.0.source", "required and missing"),
        ("what: it", "why: it", "launch.known_defects.0.why", "unknown key"),
        ("  as_of: 2026-11-22\n  models", "  models", "launch.as_of", "required and missing"),
    ],
)
def test_wrong_launch_settings_are_refused_with_their_line(old: str, new: str, place: str, words: str) -> None:
    assert old in LAUNCH
    with pytest.raises(ProfileError, match=rf"test.yaml:\d+: {re.escape(place)}: .*{words}"):
        read(MINIMAL + LAUNCH.replace(old, new))


def test_what_takes_the_place_of_a_flag_is_a_flag() -> None:
    with pytest.raises(ProfileError, match=r"test.yaml:\d+: flags.1.replaced_by: `--backend` is not among"):
        read(MINIMAL.replace('until: "0.30.0"', 'until: "0.30.0", replaced_by: --backend'))


FAMILIES = """\
  release_sets:
    - {releases: ["0.20", "0.22"], torch: "2.10.0", toolkit: "9.0.0"}
  dspark_since: "0.25.0"
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
    launch = read(MINIMAL + LAUNCH + FAMILIES).launch
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
        ("arch: ascend-a2\n", "arch: ascend-a4\n", "launch.recipes.0.arch", "not listed in"),
        ("no-model", "modle", "launch.recipes.0.arguments.modle", "no flag of the engine is called"),
        ("method: mtp", "method: null", "launch.recipes.0.draft_config.method", "null is no value"),
        ("draft: mtp", "draft: eagle", "launch.recipes.0.draft", "mtp"),
        ("block_tokens: 128", "block_tokens: 0", "launch.recipes.0", "at least 1"),
        ('"0.20", ', '"0.22", ', "launch.release_sets.0.releases", "`0.22` stands twice"),
        ('"0.20", ', '"0.20.1", ', "launch.release_sets.0.releases", "not a major and a minor number"),
        ('"9.0.0"', "none", "launch.release_sets.0.toolkit", "not a version"),
        ('"0.25.0"', "soon", "launch.dspark_since", "not a version"),
        ("parallel: tensor", "parallel: data", "launch.chip_families.0.refused.0.parallel", "pipeline"),
        ("      mounts: []\n", "", "launch.chip_families.0.mounts", "required and missing"),
    ],
)
def test_wrong_families_and_recipes_are_refused_with_their_line(old: str, new: str, place: str, words: str) -> None:
    assert old in FAMILIES
    with pytest.raises(ProfileError, match=rf"test.yaml:\d+: {re.escape(place)}: .*{words}"):
        read(MINIMAL + LAUNCH + FAMILIES.replace(old, new))
