from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support_plans import FLASH, FLASH_8X_H200, FLASH_NATIVE, FLASH_Q4, PRO_8X_H200
from tests.support_vllm import (
    CASES,
    FLAG_TABLE,
    FLASH_B200,
    FLASH_MI355X,
    FLASH_RTX_PRO_6000,
    OPTIONS,
    PREVIEW_H200,
    PRO_B200,
    PROFILE,
    V41_B300,
    config,
    failures,
    found,
    on,
    v41,
    with_layout,
)
from v4deploy.domain.errors import UsageError
from v4deploy.domain.finding import Severity
from v4deploy.domain.model import CheckpointFormat, Draft, DraftKind
from v4deploy.domain.plan import Plan
from v4deploy.domain.units import GIB
from v4deploy.domain.versions import is_older
from v4deploy.engines import vllm
from v4deploy.engines.vllm_arguments import arguments, sequences_per_rank


@pytest.mark.parametrize(("case", "version"), list(itertools.product(CASES, FLAG_TABLE["releases_read"])))
def test_no_flag_is_written_that_the_version_does_not_know(case: str, version: str) -> None:
    options = replace(OPTIONS, engine_version=version)
    argv = vllm.launch_spec(CASES[case], options, PROFILE).argv
    names = [word for word in argv if word.startswith("--")]
    names += [f"--{name}" for name in config(CASES[case], options)]
    for name in names:
        known = FLAG_TABLE["flags"].get(name.replace("--no-", "--", 1) if name not in FLAG_TABLE["flags"] else name)
        assert known is not None, name
        assert not is_older(version, known["since"]), name
        assert not is_older(known.get("until", version), version), name


def test_everything_that_may_be_written_has_an_entry_in_the_profile() -> None:
    listed = {entry.flag for entry in PROFILE.flags}
    written = {f"--{name}" for plan in CASES.values() for name in config(plan)}
    assert written <= listed


@pytest.mark.parametrize("case", CASES)
def test_file_and_command_line_say_the_same(case: str) -> None:
    argv = vllm.launch_spec(CASES[case], OPTIONS, PROFILE).argv
    expected = config(CASES[case])
    assert argv[:3] == ("vllm", "serve", expected.pop("model"))
    words = list(argv[3:])
    for name, value in expected.items():
        assert words.pop(0) == f"--{name}"
        if value is not True:
            word = words.pop(0)
            assert (json.loads(word) if isinstance(value, dict) else word) == (
                value if isinstance(value, dict) else str(value)
            )
    assert not words


@pytest.mark.parametrize("case", CASES)
def test_the_file_holds_nothing_that_vllm_misreads(case: str) -> None:
    # null becomes the text "None", false is dropped in silence where no `--no-` form exists.
    values = config(CASES[case]).values()
    nested = [item for value in values if isinstance(value, dict) for item in value.values()]
    assert None not in [*values, *nested]
    assert False not in list(values)


def test_the_plan_decides_sizes() -> None:
    written = config(with_layout(FLASH_8X_H200, tensor_parallel=2, data_parallel=4))
    assert written["tensor-parallel-size"] == 2
    assert written["data-parallel-size"] == 4
    assert written["max-model-len"] == 262_144
    assert written["max-num-seqs"] == 4
    assert written["max-num-batched-tokens"] == 8192
    assert written["enable-expert-parallel"] is True
    assert "pipeline-parallel-size" not in written


@given(st.integers(1, 2000), st.integers(1, 64))
def test_ranks_together_take_all_sequences_and_no_rank_has_one_to_spare(sequences: int, ranks: int) -> None:
    plan = with_layout(
        replace(FLASH_8X_H200, chosen=replace(FLASH_8X_H200.chosen, concurrency=sequences)), data_parallel=ranks
    )
    each = sequences_per_rank(plan)
    assert each * ranks >= sequences
    assert (each - 1) * ranks < sequences
    assert each == math.ceil(sequences / ranks)


def test_v4_and_v41_have_their_own_parsers_and_only_v4_a_block_size() -> None:
    v4, v4_1 = config(FLASH_8X_H200), config(V41_B300)
    assert (v4["tool-call-parser"], v4["reasoning-parser"], v4["block-size"]) == ("deepseek_v4", "deepseek_v4", 256)
    assert (v4_1["tool-call-parser"], v4_1["reasoning-parser"]) == ("deepseek_v41", "deepseek_v41")
    assert "block-size" not in v4_1


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("0.25.1", {"use_fp4_indexer_cache": True}),
        ("0.27.1", {"use_fp4_indexer_cache": True}),
        ("0.28.0", {"indexer_kv_dtype": "mxfp4"}),
        ("0.33.0", {"indexer_kv_dtype": "mxfp4"}),
    ],
)
@pytest.mark.parametrize("arch", ["sm_100", "sm_103"])
def test_the_fp4_index_cache_has_the_name_of_its_version(arch: str, version: str, expected: dict[str, object]) -> None:
    assert config(on(PRO_8X_H200, arch, version=version))["attention-config"] == expected


@pytest.mark.parametrize("arch", ["sm_90", "sm_120", "sm_121"])
def test_other_devices_get_neither_fp4_index_nor_mega_moe(arch: str) -> None:
    written = config(on(PRO_8X_H200, arch))
    assert "attention-config" not in written
    assert "moe-backend" not in written


def test_mega_moe_needs_expert_parallelism_and_the_native_weights() -> None:
    assert config(PRO_B200)["moe-backend"] == "deep_gemm_mega_moe"
    assert "moe-backend" not in config(with_layout(PRO_B200, expert_parallel=False))
    nvfp4 = replace(PRO_B200.chosen.checkpoint, quant="nvfp4")
    assert "moe-backend" not in config(replace(PRO_B200, chosen=replace(PRO_B200.chosen, checkpoint=nvfp4)))


def test_base_models_have_fp8_experts_and_get_no_mega_moe() -> None:
    assert "moe-backend" not in config(replace(PRO_B200, release=replace(PRO_B200.release, draft=None)))


def test_mixed_devices_get_only_what_all_of_them_take() -> None:
    b200, h200 = FLASH_B200.host.devices[0], replace(FLASH_B200.host.devices[1], arch="sm_90")
    mixed = replace(FLASH_B200.host, devices=(b200, h200, *FLASH_B200.host.devices[2:]))
    written = config(replace(FLASH_B200, host=mixed))
    assert "attention-config" not in written
    assert "compilation-config" not in written


def test_drafting_follows_the_release() -> None:
    assert config(FLASH_8X_H200)["speculative-config"] == {"method": "dspark", "num_speculative_tokens": 5}
    assert config(PREVIEW_H200)["speculative-config"] == {"method": "mtp", "num_speculative_tokens": 1}
    undrafted = replace(FLASH_8X_H200, chosen=replace(FLASH_8X_H200.chosen, use_draft=False))
    assert "speculative-config" not in config(undrafted)


def test_a_draft_of_unknown_length_is_left_to_versions_that_find_it_out() -> None:
    unknown = replace(FLASH_8X_H200, release=replace(FLASH, draft=Draft(kind=DraftKind.DSPARK, stages=3)))
    assert config(unknown)["speculative-config"] == {"method": "dspark"}
    old = replace(OPTIONS, engine_version="0.31.0")
    assert failures(unknown, old) == ["engine.vllm.draft-length-unknown"]
    with pytest.raises(UsageError, match="block size"):
        vllm.launch_spec(unknown, old, PROFILE)


def test_engram_tables_stay_where_the_plan_counted_them() -> None:
    assert config(V41_B300)["engram-config"] == {"cpu_offload": True}
    on_devices = replace(V41_B300, chosen=replace(V41_B300.chosen, engram_on_devices=True))
    assert config(on_devices)["engram-config"] == {"cpu_offload": False}
    unlisted = replace(on_devices.chosen.checkpoint, offloadable_bytes=0)
    assert config(replace(on_devices, chosen=replace(on_devices.chosen, checkpoint=unlisted)))["engram-config"] == {
        "cpu_offload": False
    }
    assert "engram-config" not in config(FLASH_8X_H200)


@given(st.integers(1, 100), st.integers(101, 300 * GIB))
def test_the_share_of_memory_is_the_one_that_the_plan_was_made_for(percent: int, total: int) -> None:
    pools = [replace(pool, total=replace(pool.total, size_bytes=total)) for pool in FLASH_8X_H200.host.pools]
    uses = [replace(use, budget_bytes=total * percent // 100) for use in FLASH_8X_H200.pools]
    # One device has less to give than the others, and the host has nothing to do with it.
    uses[0] = replace(uses[0], budget_bytes=total * (percent - percent // 2) // 100)
    uses.append(replace(uses[0], pool_id="host", budget_bytes=1))
    plan = replace(FLASH_8X_H200, host=replace(FLASH_8X_H200.host, pools=tuple(pools)), pools=tuple(uses))
    written = arguments(plan, OPTIONS, PROFILE)["gpu-memory-utilization"]
    assert written == min(0.92, (percent - percent // 2) / 100)


@pytest.mark.parametrize("arch", ["sm_100", "sm_103"])
def test_v41_keeps_the_index_keys_that_the_plan_counted(arch: str) -> None:
    assert config(v41(on(FLASH_8X_H200, arch)))["attention-config"] == {"indexer_kv_dtype": "mxfp4"}
    assert "attention-config" not in config(v41(FLASH_8X_H200))


def test_rocm_gets_its_own_environment() -> None:
    assert dict(vllm.launch_spec(FLASH_MI355X, OPTIONS, PROFILE).env)["VLLM_ROCM_USE_AITER"] == "1"
    assert "VLLM_ROCM_USE_AITER" not in dict(vllm.launch_spec(FLASH_8X_H200, OPTIONS, PROFILE).env)


def test_the_engine_stays_offline_and_waits_as_long_as_we_do() -> None:
    spec = vllm.launch_spec(PRO_8X_H200, OPTIONS, PROFILE)
    env = dict(spec.env)
    assert {name: env[name] for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "VLLM_NO_USAGE_STATS")} == {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
    }
    # 893 GB at 200 MB/s take longer than the hour that smaller models get.
    assert int(env["VLLM_ENGINE_READY_TIMEOUT_S"]) == spec.ready.timeout_seconds > 4400
    assert vllm.launch_spec(FLASH_8X_H200, OPTIONS, PROFILE).ready.timeout_seconds == 3600


def test_devices_outside_the_plan_are_hidden() -> None:
    env = dict(vllm.launch_spec(on(FLASH_8X_H200, "sm_100", used=4), OPTIONS, PROFILE).env)
    assert env["CUDA_VISIBLE_DEVICES"] == "4,5,6,7"
    assert env["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert "CUDA_VISIBLE_DEVICES" not in dict(vllm.launch_spec(FLASH_B200, OPTIONS, PROFILE).env)


@pytest.mark.parametrize("case", CASES)
def test_recorded_plans_are_not_refused(case: str) -> None:
    assert failures(CASES[case]) == []


@pytest.mark.parametrize(
    ("plan", "version", "expected"),
    [
        (FLASH_8X_H200, "0.24.0", ["engine.vllm.too-old"]),
        (FLASH_8X_H200, "0.25.0", []),
        (V41_B300, "0.29.0", ["engine.vllm.too-old"]),
        (V41_B300, "0.30.0", []),
        (PREVIEW_H200, "0.25.1", []),
        (FLASH_MI355X, "0.25.1", ["engine.vllm.too-old"]),
        (FLASH_8X_H200, "nightly", ["engine.vllm.version-unreadable"]),
    ],
)
def test_each_release_has_a_minimum_version(plan: Plan, version: str, expected: list[str]) -> None:
    assert failures(plan, replace(OPTIONS, engine_version=version)) == expected


@pytest.mark.parametrize("arch", ["sm_80", "sm_86", "sm_89", "sm_75"])
def test_cards_without_attention_kernels_are_refused_with_the_reason(arch: str) -> None:
    refused = [finding for finding in found(on(FLASH_8X_H200, arch)) if finding.severity is Severity.FAIL]
    assert [finding.id for finding in refused] == ["engine.vllm.unsupported"]
    assert "attention" in (refused[0].why or "")


def test_nvfp4_is_refused_on_hopper_and_taken_on_blackwell() -> None:
    def nvfp4(plan: Plan) -> Plan:
        checkpoint = replace(plan.chosen.checkpoint, quant="NVFP4")
        return replace(plan, chosen=replace(plan.chosen, checkpoint=checkpoint))

    assert failures(nvfp4(PRO_8X_H200)) == ["engine.vllm.unsupported"]
    assert failures(nvfp4(PRO_B200)) == []


def test_weights_for_other_devices_are_refused() -> None:
    for checkpoint in (
        replace(FLASH_NATIVE, architectures=("sm_100",)),
        replace(FLASH_NATIVE, compute_apis=("cann",)),
    ):
        plan = replace(FLASH_8X_H200, chosen=replace(FLASH_8X_H200.chosen, checkpoint=checkpoint))
        assert failures(plan) == ["engine.vllm.checkpoint-not-for-device"]


def test_gguf_is_refused() -> None:
    plan = replace(FLASH_8X_H200, chosen=replace(FLASH_8X_H200.chosen, checkpoint=FLASH_Q4))
    assert FLASH_Q4.format is CheckpointFormat.GGUF
    assert "engine.vllm.format" in failures(plan)


@pytest.mark.parametrize(
    ("kind", "version", "refused"), [("q8_0", "0.33.0", True), ("auto", "0.29.0", True), ("auto", "0.33.0", False)]
)
def test_v4_takes_an_fp8_cache(kind: str, version: str, refused: bool) -> None:  # noqa: FBT001
    plan = replace(FLASH_8X_H200, chosen=replace(FLASH_8X_H200.chosen, kv_cache_type=kind))
    assert (failures(plan, replace(OPTIONS, engine_version=version)) == ["engine.vllm.kv-cache-type"]) is refused


def test_an_unknown_architecture_is_refused() -> None:
    plan = replace(FLASH_8X_H200, gguf_arch="deepseek5")
    assert failures(plan) == ["engine.vllm.unknown-architecture"]
    with pytest.raises(UsageError, match="deepseek5"):
        vllm.launch_spec(plan, OPTIONS, PROFILE)


def test_plans_without_known_devices_are_refused() -> None:
    unknown = replace(FLASH_8X_H200.host.devices[0], arch=None)
    machine = replace(FLASH_8X_H200.host, devices=(unknown, *FLASH_8X_H200.host.devices[1:]))
    assert "engine.vllm.devices" in failures(replace(FLASH_8X_H200, host=machine))
    assert "engine.vllm.devices" in failures(with_layout(FLASH_8X_H200, device_indices=()))


def test_reported_defects_are_warnings() -> None:
    def warned(plan: Plan, version: str) -> bool:
        findings = found(plan, replace(OPTIONS, engine_version=version))
        return any(f.id == "engine.vllm.known-bad" and f.severity is Severity.WARN for f in findings)

    assert warned(FLASH_8X_H200, "0.27.0")
    assert not warned(FLASH_8X_H200, "0.27.1")
    assert warned(FLASH_RTX_PRO_6000, "0.33.0")
    undrafted = replace(FLASH_RTX_PRO_6000, chosen=replace(FLASH_RTX_PRO_6000.chosen, use_draft=False))
    assert not warned(undrafted, "0.33.0")
