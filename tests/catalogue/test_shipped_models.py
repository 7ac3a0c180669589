"""What the shipped profiles/models say, held against sums and against each other."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from v4deploy.catalogue.load import load_catalogue
from v4deploy.domain.catalogue import Catalogue, resolve_quant
from v4deploy.domain.engine import EngineId
from v4deploy.domain.errors import UsageError
from v4deploy.domain.model import Checkpoint, CheckpointFormat, FileRole, Hub, Model, Runnable, Status

CATALOGUE: Catalogue = load_catalogue([Path(__file__).parents[2] / "profiles"])
CHECKPOINTS = [checkpoint for model in CATALOGUE.models for checkpoint in model.checkpoints]
UNITS = [pytest.param(checkpoint, id=checkpoint.id) for checkpoint in CHECKPOINTS]

FLASH_EXPERT_BYTES = 147_169_738_752
PRO_EXPERT_BYTES = 822_054_223_872
V41_EXPERT_BYTES = 288_777_830_400


def _model(name: str) -> Model:
    return CATALOGUE.model_and_release(name)[0]


def _checkpoint(checkpoint_id: str) -> Checkpoint:
    return next(checkpoint for checkpoint in CHECKPOINTS if checkpoint.id == checkpoint_id)


def test_the_family_is_there() -> None:
    assert {model.id for model in CATALOGUE.models} == {"v4-flash", "v4-pro", "v4.1-flash"}
    assert {model.license for model in CATALOGUE.models} == {"MIT"}


@pytest.mark.parametrize(
    ("name", "release"),
    [
        ("v4-flash", "v4-flash-0731"),
        ("DeepSeek-V4-Flash", "v4-flash-0731"),
        ("v4-pro", "v4-pro-0813"),
        ("v4.1-flash", "v4.1-flash-1017"),
        ("v4-flash-preview", "v4-flash-preview"),
        ("deepseek-ai/DeepSeek-V4-Pro", "v4-pro-preview"),
        ("deepseek-ai/deepseek-v4.1-flash", "v4.1-flash-0910"),
    ],
)
def test_names_mean_the_dated_release(name: str, release: str) -> None:
    assert CATALOGUE.model_and_release(name)[1].id == release


@pytest.mark.parametrize("checkpoint", UNITS)
def test_every_checkpoint_says_where_it_is_known_from(checkpoint: Checkpoint) -> None:
    assert checkpoint.source.source
    assert re.fullmatch(r"2026-\d\d(-\d\d)?", checkpoint.source.as_of)
    assert checkpoint.source.confidence in {"A", "B", "C", "D"}


@pytest.mark.parametrize("checkpoint", UNITS)
def test_a_size_is_known_or_its_existence_is_all_we_claim(checkpoint: Checkpoint) -> None:
    if checkpoint.size_bytes is None:
        assert not checkpoint.official
        assert checkpoint.dense_bytes is None
    else:
        assert 50e9 < checkpoint.size_bytes < 2e12


def test_official_weights_are_one_checkpoint_a_release() -> None:
    for model in CATALOGUE.models:
        for release in model.releases:
            official = [c for c in model.checkpoints if c.release == release.id and c.official]
            assert [c.quant for c in official] == ["native"], release.id


@pytest.mark.parametrize(
    ("checkpoint_id", "expert_bytes", "tensor_bytes"),
    [
        ("v4-flash-0731-native", FLASH_EXPERT_BYTES, 166_878_536_440),
        ("v4-flash-preview-native", FLASH_EXPERT_BYTES, 159_609_485_896),
        ("v4-flash-dspark-native", FLASH_EXPERT_BYTES, 166_878_536_440),
        ("v4-pro-0813-native", PRO_EXPERT_BYTES, 892_727_580_904),
        ("v4-pro-preview-native", PRO_EXPERT_BYTES, 864_704_792_696),
        ("v4-pro-dspark-native", PRO_EXPERT_BYTES, 892_727_580_904),
        ("v4.1-flash-0910-native", V41_EXPERT_BYTES, 510_286_023_000),
        ("v4.1-flash-1017-native", V41_EXPERT_BYTES, 510_286_023_000),
    ],
)
def test_native_weights_are_experts_dense_draft_and_tables(
    checkpoint_id: str, expert_bytes: int, tensor_bytes: int
) -> None:
    native = _checkpoint(checkpoint_id)
    assert native.dense_bytes is not None
    assert native.draft_bytes is not None
    assert native.size_bytes is not None
    assert expert_bytes + native.dense_bytes + native.draft_bytes + native.offloadable_bytes == tensor_bytes
    assert 0 <= native.size_bytes - tensor_bytes < 20_000_000  # file headers


@pytest.mark.parametrize(
    ("model", "expert_bytes"),
    [("v4-flash", FLASH_EXPERT_BYTES), ("v4-pro", PRO_EXPERT_BYTES), ("v4.1-flash", V41_EXPERT_BYTES)],
)
def test_expert_bytes_follow_from_the_architecture(model: str, expert_bytes: int) -> None:
    # Three matrices of FP4 (two weights a byte) with one scale byte for each 32 weights.
    shape = _model(model).architecture
    weights = shape.layers * shape.routed_experts * 3 * shape.hidden_size * shape.expert_width
    assert weights // 2 + weights // 32 == expert_bytes


@pytest.mark.parametrize("model", [pytest.param(model, id=model.id) for model in CATALOGUE.models])
def test_each_layer_has_one_ratio(model: Model) -> None:
    assert len(model.architecture.compress_ratios) == model.architecture.layers


def test_layers_by_kind_of_attention() -> None:
    def counts(name: str) -> dict[int, int]:
        ratios = _model(name).architecture.compress_ratios
        return {ratio: ratios.count(ratio) for ratio in set(ratios)}

    assert counts("v4-flash") == {0: 2, 4: 21, 128: 20}
    assert counts("v4-pro") == {4: 30, 128: 31}
    assert counts("v4.1-flash") == {0: 2, 2: 18, 1: 20}


def test_engram_tables_are_rows_times_row_bytes() -> None:
    engram = _model("v4.1-flash").architecture.engram
    assert engram is not None
    native = _checkpoint("v4.1-flash-0910-native")
    assert sum(engram.rows) * engram.row_bytes == native.offloadable_bytes
    assert [file.path for file in native.files if file.role is FileRole.ENGRAM] == [
        "model-00047-of-00048.safetensors",
        "model-00048-of-00048.safetensors",
    ]


@pytest.mark.parametrize("quant", ["UD-IQ1_M", "UD-IQ2_XXS", "UD-IQ2_M", "UD-Q2_K_XL", "UD-Q4_K_XL", "UD-Q8_K_XL"])
def test_the_0731_ladder_is_the_preview_ladder_plus_800_bytes(quant: str) -> None:
    old = _checkpoint(f"v4-flash-preview-{quant.lower()}").size_bytes
    new = _checkpoint(f"v4-flash-0731-{quant.lower()}").size_bytes
    assert old is not None
    assert new == old + 800


@pytest.mark.parametrize("quant", ["UD-IQ3_S", "UD-Q3_K_M", "UD-Q3_K_XL", "UD-IQ4_NL", "UD-IQ4_XS"])
def test_the_quants_uploaded_again_shrank_alike(quant: str) -> None:
    old = _checkpoint(f"v4-flash-preview-{quant.lower()}").size_bytes
    new = _checkpoint(f"v4-flash-0731-{quant.lower()}").size_bytes
    assert old is not None
    assert new is not None
    assert old - new == 1_241_513_152


@pytest.mark.parametrize(
    ("prefix", "expert_bytes"),
    [
        ("v4-flash-0731", FLASH_EXPERT_BYTES),
        ("v4-flash-preview", FLASH_EXPERT_BYTES),
        ("v4-pro-0813", PRO_EXPERT_BYTES),
    ],
)
@pytest.mark.parametrize("quant", ["ud-q4_k_xl", "ud-q8_k_xl"])
def test_files_with_bit_exact_experts_tell_their_dense_part(prefix: str, expert_bytes: int, quant: str) -> None:
    checkpoint = _checkpoint(f"{prefix}-{quant}")
    assert checkpoint.size_bytes is not None
    assert checkpoint.dense_bytes == checkpoint.size_bytes - expert_bytes


def test_lossy_files_do_not_claim_a_dense_part() -> None:
    assert _checkpoint("v4-flash-0731-ud-iq2_xxs").dense_bytes is None


def test_known_parts_are_named_with_size_and_hash() -> None:
    files = _checkpoint("v4-flash-0731-ud-q4_k_xl").files
    assert [file.path for file in files][:1] == ["UD-Q4_K_XL/DeepSeek-V4-Flash-0731-UD-Q4_K_XL-00001-of-00005.gguf"]
    assert sum(file.size_bytes or 0 for file in files) == 155_095_241_120
    assert all(file.sha256 for file in files)


def test_parts_not_known_one_by_one_are_a_pattern_that_matches_only_their_quant() -> None:
    checkpoint = _checkpoint("v4-flash-0731-ad-iq3_m")
    (pattern,) = (file.path for file in checkpoint.files)
    assert fnmatchcase("AD-IQ3_M/DeepSeek-V4-Flash-0731-AD-IQ3_M-00001-of-00003.gguf", pattern)
    assert fnmatchcase("DeepSeek-V4-Flash-0731-AD-IQ3_M.gguf", pattern)
    assert not fnmatchcase("AD-IQ3_M_XL/DeepSeek-V4-Flash-0731-AD-IQ3_M_XL-00001-of-00003.gguf", pattern)
    (named,) = (file.path for file in _checkpoint("v4-flash-0731-ggml-org-mxfp4").files)
    assert fnmatchcase("DeepSeek-V4-Flash-0731-MXFP4.gguf", named)
    assert not fnmatchcase("dspark-DeepSeek-V4-Flash-0731-MXFP4.gguf", named)


def test_drafts_stand_beside_the_weights_and_not_in_their_size() -> None:
    checkpoint = _checkpoint("v4-flash-0731-ud-q8_k_xl")
    (draft,) = checkpoint.side_files
    assert draft.role is FileRole.DRAFT
    assert draft.path not in {file.path for file in checkpoint.files}
    assert draft.size_bytes == 10_896_057_440


@pytest.mark.parametrize("checkpoint", UNITS)
def test_engines_fit_the_format(checkpoint: Checkpoint) -> None:
    engines = {engine.value for engine in checkpoint.engines}
    match checkpoint.format:
        case CheckpointFormat.GGUF:
            assert engines <= {"llama.cpp", "ollama"}
        case CheckpointFormat.SAFETENSORS:
            assert engines <= {"vllm", "mindie"}
        case CheckpointFormat.MLX | CheckpointFormat.EXL3:
            assert checkpoint.runnable is Runnable.OTHER_ENGINE


def test_no_gguf_of_v41_is_offered_to_an_engine_that_does_not_know_it() -> None:
    ggufs = [c for c in _model("v4.1-flash").checkpoints if c.format is CheckpointFormat.GGUF]
    assert ggufs
    assert {c.runnable for c in ggufs} == {Runnable.OTHER_ENGINE}


def test_ascend_builds_are_for_ascend_only() -> None:
    builds = [c for c in CHECKPOINTS if c.hub is Hub.MODELSCOPE]
    assert builds
    assert {c.compute_apis for c in builds} == {("cann",)}


ALIASES = [
    pytest.param(model, alias.name, id=f"{model.id}-{alias.name}-{alias.quant}")
    for model in CATALOGUE.models
    for alias in model.quant_aliases
]


@pytest.mark.parametrize(("model", "name"), ALIASES)
def test_every_alias_resolves_in_some_release_and_says_why(model: Model, name: str) -> None:
    reached = []
    for release in model.releases:
        offered = {c.quant for c in model.checkpoints if c.release == release.id}
        candidates = [alias for alias in model.quant_aliases if alias.name == name and alias.quant in offered]
        if candidates and name not in {quant.lower() for quant in offered}:
            quant, alias = resolve_quant(model, release, name.upper())
            assert quant in offered
            assert alias == candidates[0]
            assert alias.reason.endswith(".")
            reached.append(release.id)
    assert reached


@pytest.mark.parametrize(
    ("model", "typed", "quant"),
    [
        ("v4-flash", "q4_k_m", "UD-Q4_K_XL"),
        ("v4-flash", "Q4", "UD-Q4_K_XL"),
        ("v4-flash", "q8_0", "UD-Q8_K_XL"),
        ("v4-flash", "fp8", "native"),
        ("v4-flash", "int8", "w8a8"),
        ("v4-flash", "NVFP4", "nvfp4"),
        ("v4-flash", "ud-iq3_xxs", "UD-IQ3_XXS"),
        ("v4-pro", "q4_k_m", "Q4_K_M"),
        ("v4-pro", "q4", "UD-Q4_K_XL"),
        ("v4-pro-preview", "w8a8", "w4a8"),
        ("v4.1-flash", "q4_k_m", "native"),
        ("v4-flash-vision-exp", "q8", "MXFP4"),
    ],
)
def test_what_people_type(model: str, typed: str, quant: str) -> None:
    assert resolve_quant(*CATALOGUE.model_and_release(model), typed)[0] == quant


@pytest.mark.parametrize("model", [pytest.param(model, id=model.id) for model in CATALOGUE.models])
def test_common_names_of_the_current_release_lead_to_something_that_runs(model: Model) -> None:
    release = model.current_release
    for name in ("q4_k_m", "q4", "q8", "q8_0", "q2", "q3", "fp8", "fp4", "native", "nvfp4"):
        quant = resolve_quant(model, release, name)[0]
        runnable = [
            c
            for c in model.checkpoints
            if c.release == release.id and c.quant == quant and c.runnable is Runnable.DRIVEN
        ]
        assert runnable, name


def test_the_plain_q4_k_m_of_pro_warns_that_it_is_larger_than_the_original() -> None:
    plain, native = _checkpoint("v4-pro-0813-devquasar-q4_k_m"), _checkpoint("v4-pro-0813-native")
    assert (plain.size_bytes or 0) > (native.size_bytes or 0)
    assert "Larger than the original" in (plain.note or "")


def test_cloud_only_tags_are_kept_apart_from_weights() -> None:
    for model in CATALOGUE.models:
        assert model.cloud_only_tags
        assert not [c for c in model.checkpoints if c.runnable is Runnable.CLOUD_ONLY]


def test_releases_are_dated_and_carry_their_draft() -> None:
    flash, pro = _model("v4-flash"), _model("v4-pro")
    for release in (flash.release("v4-flash-0731"), pro.release("v4-pro-0813")):
        assert release.draft is not None
        assert (release.draft.kind, release.draft.stages, release.draft.block_tokens) == ("dspark", 3, 5)
        assert dict(release.minimum_engine_versions)[EngineId.VLLM] == "0.25.0"
    assert flash.release("v4-flash-preview").status is Status.SUPERSEDED


@pytest.mark.parametrize("name", ["deepseek-v4-flash:cloud", "DeepSeek-V4-Flash:0731-cloud"])
def test_a_model_that_runs_in_ollamas_cloud_is_named_as_such(name: str) -> None:
    with pytest.raises(UsageError, match="runs on its own machines") as caught:
        CATALOGUE.model_and_release(name)
    assert caught.value.hint == "`v4-flash` has weights to serve here"


def test_a_name_that_only_looks_like_one_is_unknown() -> None:
    with pytest.raises(UsageError, match="no model is called"):
        CATALOGUE.model_and_release("llama3:cloud")
