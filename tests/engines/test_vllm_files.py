from __future__ import annotations

import itertools
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support_golden import assert_golden
from tests.support_plans import FLASH_8X_H200, PRO_8X_H200, WEIGHTS_DIR
from tests.support_vllm import CASES, FLASH_MI355X, OPTIONS, PROFILE, artefacts, config, found, on, rendered
from v4deploy.domain.engine import LaunchOptions
from v4deploy.domain.plan import Plan
from v4deploy.engines import vllm


@pytest.mark.parametrize(("case", "target"), list(itertools.product(CASES, ("script", "compose"))))
def test_files_are_as_recorded(case: str, target: str) -> None:
    assert_golden(artefacts(CASES[case], target=target), case)


def test_a_key_appears_in_no_file_and_no_argument(tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_text("sk-very-secret\n")
    options = replace(OPTIONS, api_key_file=str(key_file))
    for target in PROFILE.targets:
        assert "sk-very-secret" not in "".join(rendered(FLASH_8X_H200, options, target).values())
    spec = vllm.launch_spec(FLASH_8X_H200, options, PROFILE)
    assert not [word for word in spec.argv if "key" in word.lower()]
    assert "VLLM_API_KEY" not in dict(spec.env)
    assert "engine.vllm.key-guards-api-only" in [finding.id for finding in found(FLASH_8X_H200, options)]


def start_script(folder: Path, options: LaunchOptions, *, with_vllm: bool = True) -> subprocess.CompletedProcess[str]:
    """Write the files and run the script with a `vllm` that tells how it was called."""
    for artefact in artefacts(FLASH_8X_H200, options).artefacts:
        path = folder / artefact.path
        path.write_text(artefact.text)
        path.chmod(artefact.mode)
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    if with_vllm:
        fake = programs / "vllm"
        fake.write_text('#!/bin/sh\necho "$PWD"; echo "$@"; echo "key=$VLLM_API_KEY offline=$HF_HUB_OFFLINE"\n')
        fake.chmod(0o755)
    return subprocess.run(
        [str(folder / "run-vllm.sh"), "--port", "9000"],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env={"PATH": f"{programs}:{os.defpath}"},
    )


def test_the_script_starts_vllm_beside_its_settings(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    key_file = tmp_path / "key file"
    key_file.write_text("# ours\n\nsk-very-secret\nsk-second\n")
    run = start_script(tmp_path, replace(OPTIONS, weights_dir=str(tmp_path), api_key_file=str(key_file)))
    assert run.stderr == ""
    assert run.stdout.splitlines() == [
        str(tmp_path),
        "serve --config vllm.yaml --port 9000",
        "key=sk-very-secret offline=1",
    ]


def test_the_script_says_what_is_missing(tmp_path: Path) -> None:
    no_weights = start_script(tmp_path, replace(OPTIONS, weights_dir=str(tmp_path / "weights of 'mine'")))
    assert no_weights.returncode == 1
    assert "weights of 'mine'" in no_weights.stderr
    assert "v4deploy pull" in no_weights.stderr
    (tmp_path / "config.json").write_text("{}")
    no_key = start_script(tmp_path, replace(OPTIONS, weights_dir=str(tmp_path), api_key_file=str(tmp_path / "none")))
    assert no_key.returncode == 1
    assert "key file" in no_key.stderr
    (tmp_path / "bin" / "vllm").unlink()
    no_engine = start_script(tmp_path, replace(OPTIONS, weights_dir=str(tmp_path)), with_vllm=False)
    assert no_engine.returncode == 1
    assert "not installed" in no_engine.stderr


def service(plan: Plan, options: LaunchOptions = OPTIONS) -> dict[str, Any]:
    loaded = yaml.safe_load(rendered(plan, options, "compose")["compose.yaml"])
    found_service = loaded["services"]["inference"]
    assert isinstance(found_service, dict)
    return found_service


def test_compose_publishes_on_loopback_and_mounts_weights_read_only() -> None:
    written = service(FLASH_8X_H200)
    assert written["image"] == "vllm/vllm-openai:v0.33.0"
    assert written["ports"] == [{"target": 8000, "published": "8000", "host_ip": "127.0.0.1"}]
    weights = {key: written["volumes"][0][key] for key in ("source", "target", "read_only")}
    assert weights == {"source": WEIGHTS_DIR, "target": "/weights", "read_only": True}
    assert written["security_opt"] == ["no-new-privileges:true"]
    assert written["command"] == ["--config", "/etc/vllm.yaml"]
    inside = config(FLASH_8X_H200, target="compose")
    assert (inside["model"], inside["host"], inside["port"]) == ("/weights", "0.0.0.0", 8000)  # noqa: S104
    assert "privileged" not in written


def test_compose_reserves_the_devices_of_the_plan() -> None:
    def reservation(plan: Plan) -> dict[str, Any]:
        entry = service(plan)["deploy"]["resources"]["reservations"]["devices"][0]
        assert isinstance(entry, dict)
        return entry

    assert reservation(FLASH_8X_H200) == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    four = on(FLASH_8X_H200, "sm_100", used=4)
    assert reservation(four)["device_ids"] == ["4", "5", "6", "7"]
    # Inside the container the reserved devices count from 0: the host's numbers would hide all of them.
    assert "CUDA_VISIBLE_DEVICES" not in service(four)["environment"]
    rocm = service(FLASH_MI355X)
    assert rocm["devices"] == ["/dev/kfd", "/dev/dri"]
    assert "deploy" not in rocm


def test_compose_waits_for_the_load_and_for_the_last_answers() -> None:
    written = service(PRO_8X_H200)
    spec = vllm.launch_spec(PRO_8X_H200, OPTIONS, PROFILE)
    assert written["healthcheck"]["start_period"] == f"{int(spec.ready.timeout_seconds)}s"
    assert written["stop_grace_period"] == f"{int(spec.stop_timeout_seconds)}s"
    assert config(PRO_8X_H200)["shutdown-timeout"] < spec.stop_timeout_seconds


def test_compose_reads_the_key_from_its_file_where_one_was_asked_for(tmp_path: Path) -> None:
    assert service(FLASH_8X_H200)["entrypoint"] == ["vllm", "serve"]
    with_key = service(FLASH_8X_H200, replace(OPTIONS, api_key_file="/etc/key"))
    assert with_key["secrets"] == ["api-key"]
    # As the container runs it, with a file of ours in place of the mounted one, and `$$` read as Compose reads it.
    shell, dash_c, script, _ = (word.replace("$$", "$") for word in with_key["entrypoint"])
    key = tmp_path / "key"

    def run() -> subprocess.CompletedProcess[str]:
        words = [shell, dash_c, script, str(key), "sh", "-c", 'echo "$VLLM_API_KEY"']
        return subprocess.run(words, capture_output=True, text=True, check=False)

    assert run().returncode == 1
    for keyless in ("", "# none yet\n", "\n"):
        key.write_text(keyless)
        assert run().returncode == 1
        assert "holds no key" in run().stderr
    key.write_text("# ours\nsk-secret\nsk-second\n")
    assert run().stdout == "sk-secret\n"


def test_the_address_that_others_reach_needs_a_key() -> None:
    open_to_all = replace(OPTIONS, bind="0.0.0.0")  # noqa: S104
    assert "config.open-without-key" in [finding.id for finding in found(FLASH_8X_H200, open_to_all)]
    assert "curl -fsS http://127.0.0.1:8000/" in rendered(FLASH_8X_H200, open_to_all)["vllm.yaml"]
    assert "curl -fsS 'http://[::1]:8000/health'" in rendered(FLASH_8X_H200, replace(OPTIONS, bind="::1"))["vllm.yaml"]
