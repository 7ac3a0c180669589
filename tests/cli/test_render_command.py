"""`render` as a user meets it: files appear, edits survive, impossible wishes are refused with the reason."""

from __future__ import annotations

from pathlib import Path

from tests.support_cli import V4Deploy
from v4deploy.domain.errors import ExitCode

H200 = ("render", "v4-pro", "--hardware", "8x h200 + 2TB")
ASCEND = ("render", "v4-flash", "--hardware", "8x ascend-910b3")
MAC = ("render", "v4-flash", "--hardware", "m3-ultra 256GB")


def test_files_appear_where_they_were_asked_for(v4deploy: V4Deploy, tmp_path: Path) -> None:
    ran = v4deploy(*H200, "--output", str(tmp_path / "out"))
    assert ran.code == ExitCode.OK
    assert (tmp_path / "out" / "vllm.yaml").is_file()
    assert (tmp_path / "out" / "run-vllm.sh").stat().st_mode & 0o111


def test_the_same_call_again_changes_nothing(v4deploy: V4Deploy, tmp_path: Path) -> None:
    arguments = (*H200, "--output", str(tmp_path / "out"), "--json")
    v4deploy(*arguments)
    files = v4deploy(*arguments).document["data"]["files"]
    assert {file["outcome"] for file in files} == {"unchanged"}


def test_an_edited_file_is_kept_and_the_new_one_stands_beside_it(v4deploy: V4Deploy, tmp_path: Path) -> None:
    output = tmp_path / "out"
    v4deploy(*H200, "--output", str(output))
    edited = (output / "vllm.yaml").read_text() + "max-num-seqs: 3\n"
    (output / "vllm.yaml").write_text(edited)
    ran = v4deploy(*H200, "--output", str(output), "--port", "9000")
    assert ran.code == ExitCode.OK
    assert (output / "vllm.yaml").read_text() == edited
    assert "port: 9000" in (output / "vllm.yaml.new").read_text()
    assert "kept" in ran.stdout
    v4deploy(*H200, "--output", str(output), "--port", "9000", "--force")
    assert (output / "vllm.yaml").read_text() == (output / "vllm.yaml.new").read_text()


def test_a_dry_run_prints_the_files_and_writes_none(v4deploy: V4Deploy, tmp_path: Path) -> None:
    ran = v4deploy(*H200, "--output", str(tmp_path / "out"), "--dry-run")
    assert "tensor-parallel-size: 8" in ran.stdout
    assert not (tmp_path / "out").exists()


def test_mindie_without_kubernetes_also_gets_the_container(v4deploy: V4Deploy, tmp_path: Path) -> None:
    data = v4deploy(*ASCEND, "--output", str(tmp_path / "out"), "--json").document["data"]
    assert data["targets"] == ["motor", "container"]
    assert {"user_config.json", "env.json", "run-vllm-ascend.sh"} <= {file["path"] for file in data["files"]}


def test_the_old_mindie_file_is_refused_with_the_reason(v4deploy: V4Deploy, tmp_path: Path) -> None:
    for target in ("config.json", "mindie-service"):
        ran = v4deploy(*ASCEND, "--target", target, "--output", str(tmp_path / "out"))
        assert ran.code == ExitCode.USAGE
        assert "V4" in ran.stderr
        assert "motor" in ran.stderr
    assert not (tmp_path / "out").exists()


def test_an_unknown_target_gets_the_list(v4deploy: V4Deploy, tmp_path: Path) -> None:
    ran = v4deploy(*MAC, "--target", "systemdd", "--output", str(tmp_path / "out"))
    assert ran.code == ExitCode.USAGE
    assert "`systemd`" in ran.stderr


def test_a_plan_file_replays_elsewhere(v4deploy: V4Deploy, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(v4deploy("plan", "v4-pro", "--hardware", "8x h200 + 2TB", "--json").stdout)
    files = v4deploy("render", "--plan", str(tmp_path / "plan.json"), "--dry-run", "--json").document["data"]["files"]
    direct = v4deploy(*H200, "--dry-run", "--json").document["data"]["files"]
    assert files == direct


def test_a_file_that_is_no_plan_is_refused_by_name(v4deploy: V4Deploy, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text('{"schema": "v4deploy.host/1"}')
    ran = v4deploy("render", "--plan", str(tmp_path / "plan.json"))
    assert ran.code == ExitCode.USAGE
    assert "plan.json" in ran.stderr


def test_weights_that_are_not_here_are_said_to_be(v4deploy: V4Deploy, tmp_path: Path) -> None:
    findings = v4deploy(*H200, "--output", str(tmp_path / "out"), "--json").document["findings"]
    assert "storage.weights-not-here" in {finding["id"] for finding in findings}


def test_a_plan_file_and_a_wish_contradict_each_other(v4deploy: V4Deploy, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(v4deploy("plan", "v4-pro", "--hardware", "8x h200 + 2TB", "--json").stdout)
    for command in (("render",), ("serve",), ("pull", "--dry-run")):
        ran = v4deploy(*command, "v4-flash", "--plan", str(plan))
        assert ran.code == ExitCode.USAGE
        assert "MODEL was given too" in ran.stderr
    ran = v4deploy("render", "--plan", str(plan), "--quant", "nvfp4", "--concurrency", "1")
    assert "--quant, --concurrency were given too" in ran.stderr


def test_an_empty_value_is_an_unset_variable_not_a_default(v4deploy: V4Deploy) -> None:
    for arguments in (
        ("plan", "--hardware", ""),
        ("plan", "--context", ""),
        ("plan", "--quant", ""),
        ("render", "--output", ""),
        ("render", "--weights", ""),
        ("pull", "--repo", "", "--dry-run"),
    ):
        assert v4deploy(*arguments).code == ExitCode.USAGE, arguments


def test_what_is_no_address_and_no_image_is_refused(v4deploy: V4Deploy, tmp_path: Path) -> None:
    for option, value in (
        ("--host", ""),
        ("--host", "a b"),
        ("--host", "-x"),
        ("--image", ""),
        ("--image", "a;rm -rf /"),
    ):
        ran = v4deploy(*MAC, "--output", str(tmp_path / "out"), option, value)
        assert ran.code == ExitCode.USAGE, (option, value)
        assert option in ran.stderr
    assert not (tmp_path / "out").exists()
