"""`doctor` as a user meets it: options, exit codes, the document, the report, and what --deep measures."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support_cli import V4Deploy
from tests.support_plans import FLASH_NATIVE, FLASH_Q4
from v4deploy.cli.views.doctor_report import redacted
from v4deploy.commands import measure
from v4deploy.domain.errors import ExitCode
from v4deploy.domain.units import MIB
from v4deploy.pull.access import HubAccess
from v4deploy.system.redact import Redactor

RECORDINGS = Path(__file__).parents[1] / "recordings"
HGX = str(RECORDINGS / "hgx-h100-x8")
LOST = str(RECORDINGS / "four-a100-one-lost")
NO_GPU = str(RECORDINGS / "container-cpu-only-with-amx")


@contextmanager
def answering(status: int, location: str | None = None) -> Iterator[str]:
    """A loopback server that gives every GET this status; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            if location:
                self.send_header("Location", location)
            self.send_header("Content-Length", "1")
            self.end_headers()
            self.wfile.write(b"x")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Keep stderr for the test's own output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_good_machine_ends_with_0_and_its_plan(v4deploy: V4Deploy) -> None:
    ran = v4deploy("doctor", "--system", HGX)
    assert ran.code == ExitCode.OK
    assert "8 x NVIDIA H100 80GB HBM3 (sm_90): DeepSeek-V4-Flash-0731 runs on" in ran.stdout
    assert "fits as native in vLLM" in ran.stdout
    assert "0 failed" in ran.stdout


def test_a_lost_device_ends_with_4_and_its_fix(v4deploy: V4Deploy) -> None:
    ran = v4deploy("doctor", "--system", LOST, "--json")
    document = ran.document
    assert ran.code == ExitCode.CHECK_FAILED
    assert document["error"]["code"] == "check-failed"
    assert "gpu.nvidia.device-lost" in document["error"]["message"]
    assert document["error"]["hint"]


def test_no_accelerator_is_a_warning_that_only_strict_makes_a_failure(v4deploy: V4Deploy) -> None:
    assert v4deploy("doctor", "--system", NO_GPU, "--only", "accelerator").code == ExitCode.OK
    assert v4deploy("doctor", "--system", NO_GPU, "--only", "accelerator", "--strict").code == ExitCode.CHECK_FAILED


def test_what_is_skipped_can_neither_fail_nor_show(v4deploy: V4Deploy) -> None:
    ran = v4deploy("doctor", "--system", LOST, "--skip", "gpu", "--json")
    assert ran.code == ExitCode.OK
    assert not [f for f in ran.document["data"]["findings"] if f["id"].startswith("gpu.")]


def test_only_may_be_given_more_than_once(v4deploy: V4Deploy) -> None:
    ran = v4deploy("doctor", "--system", HGX, "--only", "plan", "--only", "accelerator.v4-support", "--json")
    assert [f["id"] for f in ran.document["data"]["findings"]] == ["accelerator.v4-support", "plan.fits"]


def test_the_document_says_how_long_each_part_took(v4deploy: V4Deploy) -> None:
    data = v4deploy("doctor", "--system", HGX, "--json").document["data"]
    names = {timing["name"] for timing in data["timings"]}
    assert {"survey", "probe.nvidia", "probe.amd", "plan", "checks.engine", "checks.accelerator"} <= names
    assert all(timing["milliseconds"] >= 0 for timing in data["timings"])
    assert (data["release"], data["target"]) == ("v4-flash-0731", None)


def test_the_list_names_groups_ids_and_titles(v4deploy: V4Deploy) -> None:
    stdout = v4deploy("doctor", "--list").stdout
    assert "config.token-readable" in stdout
    assert "a hub token that others can read" in stdout
    assert "gpu.nvidia.driver-too-old" in stdout


def test_the_list_is_a_document_too_and_can_be_narrowed(v4deploy: V4Deploy) -> None:
    document = v4deploy("doctor", "--list", "--only", "storage.read-speed", "--json").document
    assert document["schema"] == "v4deploy.doctor-checks/1"
    assert document["data"]["checks"] == [
        {
            "id": "storage.read-speed",
            "group": "storage",
            "title": "how fast weights are read",
            "needs": "deep",
            "findings": ["storage.read-speed"],
        }
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--only", "gpu.nvida"), "`gpu.nvidia`"),
        (("--skip", "storrage"), "`storage`"),
        (("--list", "--only", "nonsense"), "--list"),
        (("--target", "4x h2000"), "`h200`"),
        (("--model", "v4-flahs"), "`v4-flash`"),
        (("--report", "--json"), "leave one of them out"),
    ],
)
def test_wrong_words_end_with_2_before_anything_is_surveyed(
    v4deploy: V4Deploy, arguments: tuple[str, ...], expected: str
) -> None:
    ran = v4deploy("doctor", "--system", HGX, *arguments)
    assert ran.code == ExitCode.USAGE
    assert expected in ran.stderr + ran.stdout
    assert "memory" not in ran.stdout


def test_a_target_is_judged_instead_of_this_machine(v4deploy: V4Deploy) -> None:
    ran = v4deploy("doctor", "--system", NO_GPU, "--target", "4x h200", "--only", "plan", "--json")
    ids = [finding["id"] for finding in ran.document["data"]["findings"]]
    assert ran.code == ExitCode.OK
    assert {"plan.target.fits", "plan.target.driver", "plan.target.engine", "plan.target.image"} <= set(ids)
    assert "plan.nothing-fits" not in ids


def test_a_target_too_small_ends_with_4_and_what_would_fit(v4deploy: V4Deploy) -> None:
    ran = v4deploy("doctor", "--system", HGX, "--target", "1x rtx-4090 + 16GB", "--only", "plan")
    assert ran.code == ExitCode.CHECK_FAILED
    assert "plan.target.does-not-fit" in ran.stderr
    assert "not checked: the driver that the target needs" in ran.stdout
    assert "hint: with " in ran.stderr


def test_another_model_is_checked_for(v4deploy: V4Deploy) -> None:
    ran = v4deploy("doctor", "--system", HGX, "--model", "v4.1-flash", "--only", "accelerator.v4-support")
    assert "DeepSeek-V4.1-Flash-1017 runs on vLLM" in ran.stdout


def test_the_report_is_markdown_alone_with_versions_findings_and_timings(v4deploy: V4Deploy) -> None:
    ran = v4deploy("doctor", "--system", LOST, "--report")
    assert ran.code == ExitCode.CHECK_FAILED
    assert ran.stdout.startswith("# v4deploy doctor\n")
    assert "**fail** `gpu.nvidia.device-lost`" in ran.stdout
    assert "## timings" in ran.stdout
    rows = [line for line in ran.stdout.splitlines() if line.startswith("|")]
    assert len({line.count("|") - line.count("\\|") for line in rows if "NVIDIA A100" in line}) <= 2


def test_the_report_names_no_user_host_or_home(
    v4deploy: V4Deploy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("USER", "erika")
    monkeypatch.setenv("HOME", str(tmp_path / "erika"))
    monkeypatch.setenv("V4DEPLOY_WEIGHTS_DIR", str(tmp_path / "erika" / "weights"))
    monkeypatch.setenv("HF_ENDPOINT", "http://erika:geheim@mirror.corp.example:8080")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://erika:geheim@proxy.corp.example:3128")
    stdout = v4deploy("doctor", "--report").stdout
    assert "network.loopback-through-proxy" in stdout
    assert "network.endpoint-unencrypted" in stdout
    assert not [word for word in ("erika", "geheim", "corp.example") if word in stdout]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("`http://proxy.corp:3128` (HTTPS_PROXY)", "`http://redacted:3128` (HTTPS_PROXY)"),
        ("see https://huggingface.co/x", "see https://huggingface.co/x"),
        ("http://127.0.0.1:8080/v1", "http://127.0.0.1:8080/v1"),
        ("token hf_abcdefghijklm", "token [redacted]"),
        ("Serial Number: C02XK0AAJG5H", "Serial Number: [redacted]"),
        ("GPU-8f2c3d4e-1111-2222-3333-444455556666", "GPU-00000000-0000-0000-0000-000000000001"),
        ("/home/otto/weights on gpu-07.example.org", "/home/user/weights on redacted"),
    ],
)
def test_what_a_report_takes_out(text: str, expected: str) -> None:
    assert redacted(text, Redactor(host_name="gpu-07.example.org")) == expected


def test_deep_reads_an_existing_weight_file(v4deploy: V4Deploy, tmp_path: Path) -> None:
    folder = tmp_path / "weights" / "owner--name" / "revision"
    folder.mkdir(parents=True)
    folder.joinpath("model.gguf").write_bytes(os.urandom(MIB) * 33)
    ran = v4deploy("doctor", "--deep", "--only", "storage.read-speed", "--json")
    (found,) = ran.document["data"]["findings"]
    assert found["evidence"][0]["source"].endswith("model.gguf")
    assert found["evidence"][0]["value"].startswith(f"{33 * MIB} bytes in ")


def test_deep_says_that_there_is_nothing_to_read(v4deploy: V4Deploy) -> None:
    (found,) = v4deploy("doctor", "--deep", "--only", "storage.read-speed", "--json").document["data"]["findings"]
    assert found["severity"] == "info"
    assert "no weight file" in found["evidence"][0]["error"]


def test_without_deep_nothing_is_measured(v4deploy: V4Deploy) -> None:
    assert v4deploy("doctor", "--only", "storage.read-speed", "--json").document["data"]["findings"] == []


def test_a_slow_disk_is_read_for_seconds_only(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(bytes(40 * MIB))
    ticks = iter([0.0, 0.0, 3.0, 6.0, 6.0])
    reading = measure.read_speed(tmp_path, clock=lambda: next(ticks))
    assert (reading.read_bytes, reading.seconds) == (16 * MIB, 6.0)


def test_small_and_other_files_are_not_worth_reading(tmp_path: Path) -> None:
    tmp_path.joinpath("tiny.gguf").write_bytes(b"GGUF")
    tmp_path.joinpath("other.bin").write_bytes(bytes(40 * MIB))
    assert measure.largest_weight_file(tmp_path) is None


def test_deep_asks_the_hub_that_the_environment_names(v4deploy: V4Deploy, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(206) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        ran = v4deploy("doctor", "--deep", "--only", "network.hub", "--json")
    (found,) = ran.document["data"]["findings"]
    assert found["severity"] == "ok"
    assert address.removeprefix("http://") in found["summary"]


def test_deep_asks_nobody_when_the_network_is_forbidden(v4deploy: V4Deploy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    ran = v4deploy("doctor", "--deep", "--only", "network", "--json")
    assert "network.hub" not in {finding["id"] for finding in ran.document["data"]["findings"]}


def test_the_way_of_a_download_leads_over_the_servers_behind_the_hub() -> None:
    with answering(206) as cdn, answering(302, location=f"{cdn}/signed") as hub:
        answer = measure.ask_hub(HubAccess(endpoint=hub), (FLASH_NATIVE, FLASH_Q4))
    assert (answer.status, answer.from_cdn, answer.error) == (206, True, None)
    assert answer.what.endswith("-00001-of-00005.gguf")


def test_a_hub_that_does_not_listen_is_an_answer_too() -> None:
    with answering(200) as gone:
        pass
    answer = measure.ask_hub(HubAccess(endpoint=gone), (FLASH_Q4,))
    assert answer.status is None
    assert answer.error


def test_without_a_file_by_name_there_is_nothing_to_ask_for() -> None:
    unnamed = replace(FLASH_Q4, files=())
    assert measure.ask_hub(HubAccess(endpoint="http://127.0.0.1:9"), (unnamed,)).error == "nothing to ask for"


@pytest.mark.parametrize(("mode", "fires"), [(0o644, True), (0o600, False)])
def test_the_token_file_that_pull_reads_is_the_one_that_is_judged(
    v4deploy: V4Deploy,
    tmp_path: Path,
    mode: int,
    fires: bool,  # noqa: FBT001
) -> None:
    token = tmp_path / "home" / ".cache" / "huggingface" / "token"
    token.parent.mkdir(parents=True)
    token.write_text("hf_verysecrettoken")
    token.chmod(mode)
    ran = v4deploy("doctor", "--only", "config.token-readable", "--json")
    assert bool(ran.document["data"]["findings"]) is fires
    assert "verysecret" not in ran.stdout


def test_a_recording_is_not_judged_by_this_machines_environment(
    v4deploy: V4Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("V4DEPLOY_NONSENSE", "1")
    ran = v4deploy("doctor", "--system", HGX, "--only", "config", "--json")
    assert ran.document["data"]["findings"] == []


def test_a_recording_is_written_beside_the_findings(v4deploy: V4Deploy, tmp_path: Path) -> None:
    ran = v4deploy("doctor", "--system", HGX, "--record", str(tmp_path / "mine"))
    assert f"recorded in {tmp_path / 'mine'}" in ran.stdout.replace("\n", "")
    again = v4deploy("doctor", "--system", str(tmp_path / "mine"), "--json")
    assert len(json.loads(again.stdout)["data"]["host"]["devices"]) == 8
