"""`render` as a user meets it: files appear, edits survive, impossible wishes are refused with the reason."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from tests.support_cli import V4Deploy
from tests.support_golden import shipped_profile
from v4deploy.commands.render_preflight import key_file_findings, preflight
from v4deploy.domain.engine import EngineId, LaunchOptions
from v4deploy.domain.errors import ExitCode
from v4deploy.domain.finding import Severity

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
    assert "port: 9000" in (output / "vllm.yaml").read_text()
    assert not (output / "vllm.yaml.new").exists()


def test_a_dry_run_prints_the_files_and_writes_none(v4deploy: V4Deploy, tmp_path: Path) -> None:
    ran = v4deploy(*H200, "--output", str(tmp_path / "out"), "--dry-run")
    assert "tensor-parallel-size: 8" in ran.stdout
    assert not (tmp_path / "out").exists()


_PLANS: dict[str, str] = {}


def plan_file(v4deploy: V4Deploy, tmp_path: Path, command: tuple[str, ...]) -> str:
    """A plan of what the command would render: planned once for all tests, as they are not about planning."""
    words = " ".join(command)
    if words not in _PLANS:
        _PLANS[words] = v4deploy("plan", *command[1:], "--json").stdout
    path = tmp_path / "plan.json"
    path.write_text(_PLANS[words])
    return str(path)


def test_diff_shows_what_would_change_and_writes_nothing(v4deploy: V4Deploy, tmp_path: Path) -> None:
    output = tmp_path / "out"
    render = ("render", "--plan", plan_file(v4deploy, tmp_path, MAC), "--output", str(output))
    assert "+++ run-llama-server.sh (new)" in v4deploy(*render, "--diff").stdout
    assert not output.exists()
    v4deploy(*render)
    assert "nothing would change" in v4deploy(*render, "--diff").stdout
    changed = v4deploy(*render, "--port", "9000", "--diff")
    assert "-    --port 8080" in changed.stdout
    assert "+    --port 9000" in changed.stdout
    assert "--port 8080" in (output / "run-llama-server.sh").read_text()


def test_undo_takes_the_last_render_back(v4deploy: V4Deploy, tmp_path: Path) -> None:
    output = tmp_path / "out"
    render = ("render", "--plan", plan_file(v4deploy, tmp_path, MAC), "--output", str(output))
    v4deploy(*render)
    before = (output / "run-llama-server.sh").read_text()
    v4deploy(*render, "--port", "9000")
    undone = v4deploy("render", "--undo", "--output", str(output), "--json").document["data"]
    assert {(file["path"], file["outcome"]) for file in undone["files"]} == {
        ("run-llama-server.sh", "restored"),
        ("v4deploy.lock.json", "restored"),
    }
    assert (output / "run-llama-server.sh").read_text() == before
    assert v4deploy("render", "--undo", "--output", str(output)).code == ExitCode.OK
    assert list(output.iterdir()) == []
    assert v4deploy("render", "--undo", "--output", str(output)).code == ExitCode.USAGE


def test_check_fails_where_files_lock_and_plan_disagree(v4deploy: V4Deploy, tmp_path: Path) -> None:
    check = ("render", "--check", "--output", str(tmp_path / "out"))
    assert v4deploy(*check).code == ExitCode.CHECK_FAILED
    plan = ("--plan", plan_file(v4deploy, tmp_path, H200))
    v4deploy("render", *plan, "--output", str(tmp_path / "out"))
    assert v4deploy(*check).code == ExitCode.OK
    assert v4deploy(*check, *plan).code == ExitCode.OK
    other_plan = v4deploy(*check, *plan, "--port", "9000")
    assert other_plan.code == ExitCode.CHECK_FAILED
    assert "vllm.yaml would be rendered otherwise now" in other_plan.stdout
    with (tmp_path / "out" / "vllm.yaml").open("a") as stream:
        stream.write("max-num-seqs: 3\n")
    edited = v4deploy(*check, "--json")
    assert edited.code == ExitCode.CHECK_FAILED
    assert [(m["name"], m["kind"]) for m in edited.document["data"]["mismatches"]] == [("vllm.yaml", "edited")]
    assert edited.document["error"]["code"] == "check-failed"


def test_check_looks_at_the_targets_of_the_lock_and_needs_no_weights_here(
    v4deploy: V4Deploy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = ("--plan", plan_file(v4deploy, tmp_path, H200))
    v4deploy("render", *plan, "--target", "systemd", "--output", str(tmp_path / "out"))
    check = ("render", "--check", "--output", str(tmp_path / "out"))
    monkeypatch.setenv("V4DEPLOY_WEIGHTS_DIR", str(tmp_path / "where" / "another" / "has" / "them"))
    assert v4deploy(*check, *plan).code == ExitCode.OK
    missing = v4deploy(*check, *plan, "--target", "compose", "--json").document["data"]["mismatches"]
    assert [(m["name"], m["kind"]) for m in missing] == [("vllm/compose for v4-pro-0813", "unlocked")]
    changed = v4deploy(*check, *plan, "--port", "9000", "--json").document["data"]["mismatches"]
    (arguments,) = (m for m in changed if m["name"].endswith(": arguments"))
    assert (arguments["locked"], arguments["found"]) == ("--port 8000", "--port 9000")


def test_a_machine_that_is_not_told_whole_is_asked_for_the_rest(v4deploy: V4Deploy, tmp_path: Path) -> None:
    ran = v4deploy("render", "v4-flash", "--engine", "llama.cpp", "--hardware", "8x h200", "-o", str(tmp_path / "out"))
    assert ran.code == ExitCode.NOTHING_FITS
    assert 'hint: the host\'s memory is unknown; name it: `--hardware "8x h200 + 256GB"`' in ran.stderr


def test_clients_may_know_the_model_by_another_name(v4deploy: V4Deploy, tmp_path: Path) -> None:
    plan = ("render", "--plan", plan_file(v4deploy, tmp_path, H200), "--output", str(tmp_path / "out"))
    v4deploy(*plan, "--served-name", "deepseek")
    assert "served-model-name: deepseek\n" in (tmp_path / "out" / "vllm.yaml").read_text()
    for name in ("", " ", "-x"):
        assert v4deploy(*plan, f"--served-name={name}").code == ExitCode.USAGE


@pytest.mark.parametrize(("target", "is_told"), [("systemd", True), ("script", False), ("compose", False)])
def test_a_service_for_another_machine_tells_that_it_names_the_program_only(
    v4deploy: V4Deploy, tmp_path: Path, target: str, *, is_told: bool
) -> None:
    plan = ("--plan", plan_file(v4deploy, tmp_path, H200))
    ran = v4deploy("render", *plan, "--target", target, "--output", str(tmp_path / "out"), "--json")
    assert ("engine.vllm.program-by-name" in [one["id"] for one in ran.document["findings"]]) is is_told


def test_the_lock_pins_commit_engine_arguments_and_tool(v4deploy: V4Deploy, tmp_path: Path) -> None:
    v4deploy("render", "--plan", plan_file(v4deploy, tmp_path, H200), "--output", str(tmp_path / "out"))
    (one,) = json.loads((tmp_path / "out" / "v4deploy.lock.json").read_text())["sets"]
    assert len(one["pins"]["revision"]) == 40
    assert one["pins"]["engine_version"]
    assert "--tensor-parallel-size" in one["pins"]["arguments"]
    assert one["pins"]["tool_version"]


def test_options_that_contradict_each_other_are_refused(v4deploy: V4Deploy) -> None:
    for arguments in (
        ("--check", "--force"),
        ("--check", "--undo"),
        ("--check", "--diff"),
        ("--undo", "v4-flash"),
        ("--undo", "--port", "1"),
    ):
        assert v4deploy("render", *arguments).code == ExitCode.USAGE, arguments


def test_weights_that_cannot_be_pinned_yet_are_told(v4deploy: V4Deploy, tmp_path: Path) -> None:
    plan = plan_file(v4deploy, tmp_path, H200)
    findings = v4deploy("render", "--plan", plan, "--output", str(tmp_path / "out"), "--json").document["findings"]
    assert "config.weights-not-pinned" in {finding["id"] for finding in findings}


def test_a_taken_port_is_a_note_only() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        options = LaunchOptions(weights_dir="/w", port=server.getsockname()[1])
        (finding,) = preflight(options, shipped_profile(EngineId.LLAMA_CPP))
    assert (finding.id, finding.severity) == ("network.port-in-use", Severity.INFO)


def test_a_key_that_everybody_may_read_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("secret\n")
    key.chmod(0o644)
    (finding,) = key_file_findings(str(key))
    assert (finding.id, finding.severity) == ("config.key-file-open", Severity.FAIL)
    key.chmod(0o600)
    assert key_file_findings(str(key)) == ()
    key.write_text("")
    assert [finding.id for finding in key_file_findings(str(key))] == ["config.key-file-empty"]
    assert [finding.id for finding in key_file_findings(str(tmp_path / "none"))] == ["config.key-file-missing"]


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
