from __future__ import annotations

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


def test_what_takes_the_place_of_a_flag_is_a_flag() -> None:
    with pytest.raises(ProfileError, match=r"test.yaml:\d+: flags.1.replaced_by: `--backend` is not among"):
        read(MINIMAL.replace('until: "0.30.0"', 'until: "0.30.0", replaced_by: --backend'))
