from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support_golden import assert_golden
from tests.support_mindie import CASES, OPTIONS, PROFILE, artefacts, preview, text_of, user_config
from tests.support_plans import (
    FLASH,
    FLASH_910B3,
    FLASH_950DT,
    FLASH_A3,
    FLASH_NATIVE,
    FLASH_W8A8,
    PRO,
)
from v4deploy.domain.engine import LaunchOptions
from v4deploy.domain.errors import UsageError
from v4deploy.domain.finding import Severity
from v4deploy.domain.hardware import Amount
from v4deploy.domain.model import Checkpoint
from v4deploy.domain.plan import Layout, Plan
from v4deploy.domain.units import GIB
from v4deploy.engines import mindie
from v4deploy.engines.mindie_checks import LEGACY_TARGETS, refuse_legacy


def with_checkpoint(plan: Plan, checkpoint: Checkpoint) -> Plan:
    return replace(plan, chosen=replace(plan.chosen, checkpoint=checkpoint))


def with_arch(plan: Plan, arch: str) -> Plan:
    moved = tuple(replace(device, arch=arch) for device in plan.host.devices)
    return replace(plan, host=replace(plan.host, devices=moved))


def with_device_memory(plan: Plan, size_bytes: int) -> Plan:
    amount = Amount(size_bytes=size_bytes, source="test")
    pools = tuple(pool if pool.id == "host" else replace(pool, total=amount) for pool in plan.host.pools)
    return replace(plan, host=replace(plan.host, pools=pools))


def on_kubernetes(plan: Plan) -> Plan:
    return replace(plan, host=replace(plan.host, kubernetes=True))


def engine_config(plan: Plan) -> dict[str, Any]:
    found = user_config(plan)["motor_engine_union_config"]["engine_config"]
    assert isinstance(found, dict)
    return found


def findings(plan: Plan, severity: Severity, options: LaunchOptions = OPTIONS, target: str = "container") -> list[str]:
    return [f.id for f in mindie.check(plan, options, PROFILE, target) if f.severity is severity]


def failures(plan: Plan, options: LaunchOptions = OPTIONS, target: str = "container") -> list[str]:
    return findings(plan, Severity.FAIL, options, target)


def test_the_share_of_memory_is_the_one_that_the_plan_was_made_for() -> None:
    def share(plan: Plan) -> str:
        argv = mindie.launch_spec(plan, OPTIONS, PROFILE).argv
        return argv[argv.index("--gpu-memory-utilization") + 1]

    assert share(FLASH_910B3) == "0.9"
    busy = tuple(replace(use, budget_bytes=64 * GIB * 71 // 100) for use in FLASH_910B3.pools)
    assert share(replace(FLASH_910B3, pools=busy)) == "0.71"


@pytest.mark.parametrize("target", PROFILE.targets)
@pytest.mark.parametrize("case", CASES)
def test_files_are_as_recorded(case: str, target: str) -> None:
    assert_golden(artefacts(CASES[case], target), case)


@pytest.mark.parametrize("target", PROFILE.targets)
@pytest.mark.parametrize("case", CASES)
def test_recorded_plans_are_not_refused(case: str, target: str) -> None:
    assert failures(CASES[case], target=target) == []


@pytest.mark.parametrize("target", LEGACY_TARGETS)
def test_the_old_service_file_is_refused_with_reason_and_way_out(target: str) -> None:
    (refusal,) = mindie.check(FLASH_A3, OPTIONS, PROFILE, target)
    assert refusal == refuse_legacy()
    assert refusal.severity is Severity.FAIL
    assert "does not run DeepSeek V4" in refusal.summary
    assert "--target motor" in (refusal.fix or "")


@pytest.mark.parametrize("case", CASES)
def test_motor_gets_the_one_server_form_that_its_validator_takes(case: str) -> None:
    written = user_config(CASES[case])
    deploy = written["motor_deploy_config"]
    assert written["version"] == "v2.0"
    assert not {name for name in deploy if name.startswith(("p_", "d_", "single_p_", "single_d_"))}
    assert "engine_topology" not in deploy
    assert not {"motor_engine_prefill_config", "motor_engine_decode_config"} & set(written)
    assert written["motor_coordinator_config"]["scheduler_config"]["deploy_mode"] == "single_node"
    engine = written["motor_engine_union_config"]["engine_config"]
    world = engine["data_parallel_size"] * engine["tensor_parallel_size"]
    assert deploy["hybrid_instances_num"] * deploy["single_hybrid_instance_pod_num"] == 1
    assert deploy["hybrid_pod_npu_num"] == world <= 16
    assert engine["model"].startswith(deploy["weight_mount_path"])
    assert "kv_transfer_config" not in engine
    assert not {"host", "port"} & set(engine)


@pytest.mark.parametrize("case", CASES)
def test_motor_exports_texts(case: str) -> None:
    written = json.loads(text_of(CASES[case], "motor", "env.json"))
    assert written["version"] == "2.0.0"
    variables = written["motor_engine_union_env"]
    # Motor writes numbers and booleans without quotes: True would become the word "True".
    assert all(isinstance(value, str) for value in variables.values())
    assert variables["HCCL_BUFFSIZE"] == "1024"
    # Removed in vLLM-Ascend 0.23, though Motor's own V4 samples still set it.
    assert "ASCEND_BUFFER_POOL" not in variables


@pytest.mark.parametrize(
    ("plan", "hardware_type", "image"),
    [
        (FLASH_910B3, "800I_A2", "vllm-ascend-motor:v0.23.0"),
        (FLASH_A3, "800I_A3", "vllm-ascend-motor:v0.23.0-a3"),
        (FLASH_950DT, "850-Atlas-8p-8", "vllm-ascend-motor:v0.23.0-a5"),
    ],
)
def test_motor_is_told_the_server_type_and_an_image_of_its_family(plan: Plan, hardware_type: str, image: str) -> None:
    deploy = user_config(plan)["motor_deploy_config"]
    assert (deploy["hardware_type"], deploy["image_name"]) == (hardware_type, image)
    own = user_config(plan, replace(OPTIONS, image="registry.example/mine:1"))["motor_deploy_config"]
    assert own["image_name"] == "registry.example/mine:1"


def test_the_namespace_is_a_dns_label() -> None:
    release = replace(FLASH, id="V4.1_flash")
    assert user_config(replace(FLASH_A3, release=release))["motor_deploy_config"]["job_id"] == "v4-1-flash"


def test_the_readme_says_that_the_form_was_not_run() -> None:
    text = text_of(FLASH_A3, "motor", "README.txt")
    assert "never run" in text
    assert "quay.io/ascend/vllm-ascend:v0.23.0-a3" in text
    assert "documents this form for A2 and A3" not in text
    assert "documents this form for A2 and A3" in text_of(FLASH_950DT, "motor", "README.txt")


def test_each_family_has_its_own_arguments() -> None:
    a2, a3, next_generation = (engine_config(preview(plan)) for plan in (FLASH_910B3, FLASH_A3, FLASH_950DT))
    assert (a2["quantization"], a3["quantization"]) == ("ascend", "ascend")
    assert "quantization" not in next_generation
    assert (a2["block_size"], a3["block_size"], next_generation["block_size"]) == (128, 32, 32)
    assert a2["no_enable_prefix_caching"] is True
    assert "no_enable_prefix_caching" not in a3
    assert a2["additional_config"]["enable_dsa_cp"] is True
    assert a2["additional_config"]["enable_flashcomm1"] is True
    assert "enable_dsa_cp" not in a3["additional_config"]
    assert a2["speculative_config"] == {"method": "mtp", "num_speculative_tokens": 1, "enforce_eager": True}
    assert next_generation["speculative_config"] == {"method": "deepseek_mtp", "num_speculative_tokens": 1}
    assert (a3["max_num_seqs"], a3["data_parallel_size"]) == (8, 4)


def test_dspark_needs_a_version_or_an_image_that_has_it() -> None:
    drafting = replace(FLASH_A3, chosen=replace(FLASH_A3.chosen, use_draft=True))
    assert failures(drafting) == ["engine.mindie.too-old"]
    assert failures(drafting, replace(OPTIONS, engine_version="0.25.1rc1")) == []
    assert failures(drafting, replace(OPTIONS, image="quay.io/ascend/vllm-ascend:DeepSeekV4-flash-0731-a3")) == []
    expected = {"method": "dspark", "enforce_eager": True, "num_speculative_tokens": 5}
    assert engine_config(drafting)["speculative_config"] == expected


def test_drafting_without_a_recipe_is_refused() -> None:
    drafting = replace(FLASH_950DT, chosen=replace(FLASH_950DT.chosen, use_draft=True))
    assert failures(drafting) == ["engine.mindie.no-draft-recipe"]
    with pytest.raises(UsageError, match="draft"):
        mindie.launch_spec(drafting, OPTIONS, PROFILE)
    assert "engine.mindie.recipe-of-other-release" in findings(FLASH_950DT, Severity.WARN)


@pytest.mark.parametrize(
    ("plan", "checkpoint", "reason"),
    [
        (FLASH_910B3, FLASH_NATIVE, "no FP8"),
        (FLASH_A3, FLASH_NATIVE, "no FP8"),
        (FLASH_950DT, FLASH_W8A8, "original"),
    ],
)
def test_weights_of_the_other_family_are_refused(plan: Plan, checkpoint: Checkpoint, reason: str) -> None:
    (refusal,) = mindie.check(with_checkpoint(plan, checkpoint), OPTIONS, PROFILE, "container")
    assert (refusal.id, refusal.severity) == ("engine.mindie.unsupported", Severity.FAIL)
    assert reason in (refusal.why or "")


def test_weights_that_the_profile_does_not_name_are_judged_by_what_they_are_for() -> None:
    unknown = replace(FLASH_NATIVE, quant="int9")
    assert failures(with_checkpoint(FLASH_A3, unknown)) == ["engine.mindie.weights-not-for-chip"]
    requantized = replace(unknown, compute_apis=("cann",))
    assert failures(with_checkpoint(FLASH_A3, requantized)) == []
    assert failures(with_checkpoint(FLASH_950DT, requantized)) == ["engine.mindie.weights-not-for-chip"]


@pytest.mark.parametrize("arch", ["ascend-910", "ascend-310p", "ascend-310b"])
def test_older_chips_are_refused(arch: str) -> None:
    (refusal,) = mindie.check(with_arch(FLASH_910B3, arch), OPTIONS, PROFILE, "container")
    assert (refusal.id, refusal.severity) == ("engine.mindie.unsupported", Severity.FAIL)
    assert refusal.why
    with pytest.raises(UsageError):
        mindie.values(with_arch(FLASH_910B3, arch), OPTIONS, PROFILE, "motor")


def test_devices_of_two_families_are_refused() -> None:
    first, *others = FLASH_910B3.host.devices
    mixed = replace(FLASH_910B3.host, devices=(replace(first, arch="ascend-a3"), *others))
    assert failures(replace(FLASH_910B3, host=mixed)) == ["engine.mindie.chip-unsupported"]


def test_small_devices_are_refused_except_for_the_community_build() -> None:
    small = with_device_memory(FLASH_910B3, 32 * GIB)
    assert failures(small) == ["engine.mindie.device-memory"]
    community = with_checkpoint(small, replace(FLASH_W8A8, quant="w4a8"))
    assert failures(community) == []
    assert "engine.mindie.device-memory" in findings(community, Severity.WARN)
    assert failures(with_device_memory(FLASH_910B3, 65_536 * 1024**2 - 900 * 1024**2)) == []


def test_models_that_take_several_servers_are_refused() -> None:
    checkpoint = replace(FLASH_W8A8, model="v4-pro", quant="w4a8")
    pro = with_checkpoint(replace(FLASH_A3, release=PRO), checkpoint)
    assert failures(pro) == ["engine.mindie.no-recipe"]


@pytest.mark.parametrize(
    "layout",
    [
        Layout(device_indices=(0, 1, 2, 3), tensor_parallel=4, expert_parallel=True),
        Layout(device_indices=(0, 1, 2, 3), pipeline_parallel=4),
    ],
)
def test_layouts_that_the_950_does_not_run_are_refused(layout: Layout) -> None:
    plan = replace(FLASH_950DT, chosen=replace(FLASH_950DT.chosen, layout=layout))
    assert failures(plan) == ["engine.mindie.layout"]


def test_motor_wants_kubernetes() -> None:
    assert "engine.mindie.no-kubernetes" in findings(FLASH_A3, Severity.WARN, target="motor")
    assert "engine.mindie.no-kubernetes" not in findings(on_kubernetes(FLASH_A3), Severity.WARN, target="motor")
    assert "engine.mindie.no-kubernetes" not in findings(FLASH_A3, Severity.WARN)


def test_a_context_beyond_the_recipe_is_a_warning() -> None:
    assert "engine.mindie.beyond-recipe" not in findings(preview(FLASH_910B3), Severity.WARN)
    longer = preview(replace(FLASH_910B3, chosen=replace(FLASH_910B3.chosen, context_tokens=262_144)))
    assert "engine.mindie.beyond-recipe" in findings(longer, Severity.WARN)


def test_the_950_pr_borrows_a_recipe_and_says_so() -> None:
    devices = tuple(replace(device, chip="ascend-950pr") for device in FLASH_950DT.host.devices)
    borrowed = replace(FLASH_950DT, host=replace(FLASH_950DT.host, devices=devices))
    assert "engine.mindie.chip-without-recipe" in findings(borrowed, Severity.WARN)


def run_script(
    folder: Path, plan: Plan, *, npus: int, options: LaunchOptions = OPTIONS
) -> subprocess.CompletedProcess[str]:
    """Run the script on a directory that stands for the machine's root, with a `docker` that tells its arguments.

    The fake starts what the container would start, with a `vllm` that tells how it was called.
    """
    text = text_of(plan, "container", "run-vllm-ascend.sh", options)
    for directory in ("dev", "etc", "usr/local", "bin"):
        (folder / directory).mkdir(parents=True, exist_ok=True)
    for number in range(npus):
        (folder / "dev" / f"davinci{number}").touch()
    for name in ("dev/davinci_manager", "dev/hisi_hdc", "etc/ascend_install.info"):
        (folder / name).touch()
    for prefix in ("/dev/", "/etc/", "/usr/local/"):
        text = text.replace(prefix, f"{folder}{prefix}")
    script = folder / "run.sh"
    script.write_text(text)
    fakes = {
        "docker": 'printf "%s\\n" "$@" >"$0.log"\nwhile [ "$1" != -c ]; do shift; done\nexec bash "$@"\n',
        "vllm": 'echo "$@"; echo "key=$VLLM_API_KEY"\n',
    }
    for name, body in fakes.items():
        (folder / "bin" / name).write_text(f"#!/bin/sh\n{body}")
        (folder / "bin" / name).chmod(0o755)
    return subprocess.run(
        ["bash", str(script), "--max-num-seqs", "4"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": f"{folder / 'bin'}:{os.defpath}"},
    )


def test_the_container_starts_vllm_with_the_plan(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "config.json").write_text("{}")
    (tmp_path / "key").write_text("# ours\nsk-very-secret\nsk-second\n")
    options = replace(OPTIONS, weights_dir=str(weights), api_key_file=str(tmp_path / "key"))
    run = run_script(tmp_path, FLASH_A3, npus=16, options=options)
    assert run.returncode == 0, run.stderr
    called, key = run.stdout.splitlines()
    words = called.split()
    assert words[:2] == ["serve", "/weights"]
    assert words[-2:] == ["--max-num-seqs", "4"]
    assert "--data-parallel-size 4 --tensor-parallel-size 4 --enable-expert-parallel" in called
    assert "--host 127.0.0.1 --port 8000" in called
    assert key == "key=sk-very-secret"
    docker = (tmp_path / "bin" / "docker.log").read_text()
    assert "sk-very-secret" not in docker
    assert "--env\nVLLM_API_KEY\n" in docker
    assert f"{weights}:/weights:ro" in docker
    assert docker.count(f"{tmp_path}/dev/davinci") == 2 * 17
    # What the host lacks is not mounted: Docker would make a directory of it.
    assert "hccn.conf" not in docker
    assert "devmm_svm" not in docker
    assert "ascend_install.info" in docker


def test_the_container_script_says_what_is_missing(tmp_path: Path) -> None:
    no_weights = run_script(tmp_path, FLASH_A3, npus=16)
    assert no_weights.returncode == 1
    assert "v4deploy pull" in no_weights.stderr
    (tmp_path / "config.json").write_text("{}")
    fresh = tmp_path / "other"
    fresh.mkdir()
    few = run_script(fresh, FLASH_A3, npus=2, options=replace(OPTIONS, weights_dir=str(tmp_path)))
    assert few.returncode == 1
    assert "takes 16 NPUs, and" in few.stderr
    assert "has 2 of them" in few.stderr


def test_the_container_takes_only_the_devices_of_the_plan() -> None:
    eight = replace(
        FLASH_950DT,
        host=replace(
            FLASH_950DT.host,
            devices=(
                *FLASH_950DT.host.devices,
                *(replace(device, index=device.index + 4) for device in FLASH_950DT.host.devices),
            ),
        ),
    )
    assert dict(mindie.launch_spec(eight, OPTIONS, PROFILE).env)["ASCEND_RT_VISIBLE_DEVICES"] == "0,1,2,3"
    assert "ASCEND_RT_VISIBLE_DEVICES" not in dict(mindie.launch_spec(FLASH_950DT, OPTIONS, PROFILE).env)


def test_only_the_documented_families_run_privileged() -> None:
    assert "--privileged" in text_of(FLASH_910B3, "container", "run-vllm-ascend.sh")
    assert "--privileged" not in text_of(FLASH_950DT, "container", "run-vllm-ascend.sh")


def test_loading_is_not_cut_off() -> None:
    env = dict(mindie.launch_spec(FLASH_A3, OPTIONS, PROFILE).env)
    assert int(env["VLLM_ENGINE_READY_TIMEOUT_S"]) >= 3600
    assert env["HF_HUB_OFFLINE"] == "1"
    assert env["VLLM_PREFIX_CACHE_RETENTION_INTERVAL"] == "4096"


def test_a_colon_in_the_path_of_the_weights_is_refused_where_docker_would_split_it() -> None:
    colon = replace(OPTIONS, weights_dir="/srv/v4:flash")
    assert failures(FLASH_A3, colon) == ["engine.mindie.colon-in-path"]
    assert failures(on_kubernetes(FLASH_A3), colon, "motor") == []
