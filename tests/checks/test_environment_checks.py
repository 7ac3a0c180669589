"""Variables, files and the way to the hub: each check fires on the fault and is silent without it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.support_checks import ascend, cuda, disk, machine, planned, run, run_all, subject
from v4deploy.checks.environment import OWN_VARIABLES
from v4deploy.checks.subject import DiskReading, HubAnswer, TokenFile
from v4deploy.domain.engine import EngineId
from v4deploy.domain.finding import Severity
from v4deploy.domain.hardware import Host
from v4deploy.domain.units import GB, MB

ROOT = Path(__file__).parents[2]
GPU_HERE = machine(*cuda(2, "sm_90"))
OLLAMA_HERE = machine(*cuda(2, "sm_86"), engines={EngineId.OLLAMA: "0.33.0"})
VLLM_HERE = machine(engines={EngineId.VLLM: "0.33.0"})
OLD_LLAMA = machine(engines={EngineId.LLAMA_CPP: "10500"})
NEW_LLAMA = machine(engines={EngineId.LLAMA_CPP: "11434"})
ASCEND_HERE = machine(*ascend(8, "ascend-a2"), engines={EngineId.MINDIE: "0.25.1"})
PATHS = {"ASCEND_HOME_PATH": "/usr/local/Ascend/ascend-toolkit/latest", "ATB_HOME_PATH": "/usr/local/Ascend/nnal/atb"}
PROXY = {"HTTPS_PROXY": "http://alice:secret@proxy.example:3128"}


@pytest.mark.parametrize(
    ("check", "environ", "found", "severity"),
    [
        ("config.llama-arg-ignored", {"LLAMA_ARG_MLOCK": "1"}, NEW_LLAMA, Severity.WARN),
        ("config.llama-arg-ignored", {"LLAMA_ARG_NO_MMAP": "1"}, None, Severity.WARN),
        ("config.llama-arg-ignored", {"LLAMA_ARG_MLOCK": "1"}, OLD_LLAMA, None),
        ("config.llama-arg-ignored", {}, NEW_LLAMA, None),
        ("config.llama-arg-set", {"LLAMA_ARG_CTX_SIZE": "4096"}, None, Severity.WARN),
        ("config.llama-arg-set", {"LLAMA_ARG_MLOCK": "1"}, None, None),
        ("config.vllm-unknown-variables", {"VLLM_USE_V1": "1"}, VLLM_HERE, Severity.WARN),
        ("config.vllm-unknown-variables", {"VLLM_USE_V1": "1"}, None, None),
        ("config.vllm-unknown-variables", {"VLLM_HOST_IP": "127.0.0.1"}, VLLM_HERE, None),
        ("config.vllm-unknown-variables", {"VLLM_SERVICE_HOST": "10.0.0.1"}, VLLM_HERE, None),
        ("config.vllm-unknown-variables", {"VLLM_ASCEND_ENABLE_NZ": "1"}, VLLM_HERE, None),
        ("config.vllm-dev-mode", {"VLLM_SERVER_DEV_MODE": "1"}, None, Severity.WARN),
        ("config.vllm-dev-mode", {"VLLM_SERVER_DEV_MODE": "0"}, None, None),
        ("config.cuda-visible-devices-uuid", {"CUDA_VISIBLE_DEVICES": "MIG-1f2"}, GPU_HERE, Severity.WARN),
        ("config.cuda-visible-devices-uuid", {"CUDA_VISIBLE_DEVICES": "0, GPU-1f2"}, GPU_HERE, Severity.WARN),
        ("config.cuda-visible-devices-uuid", {"CUDA_VISIBLE_DEVICES": "0,1"}, GPU_HERE, None),
        ("config.cuda-visible-devices-uuid", {"CUDA_VISIBLE_DEVICES": "GPU-1f2"}, None, None),
        ("config.ggml-unified-memory", {"GGML_CUDA_ENABLE_UNIFIED_MEMORY": "0"}, GPU_HERE, Severity.WARN),
        ("config.ggml-unified-memory", {"GGML_CUDA_ENABLE_UNIFIED_MEMORY": "1"}, None, None),
        ("config.ggml-unified-memory", {}, GPU_HERE, None),
        ("config.ollama-vulkan", {"CUDA_VISIBLE_DEVICES": "1"}, OLLAMA_HERE, Severity.WARN),
        ("config.ollama-vulkan", {"CUDA_VISIBLE_DEVICES": "1", "OLLAMA_VULKAN": "0"}, OLLAMA_HERE, None),
        ("config.ollama-vulkan", {"CUDA_VISIBLE_DEVICES": "1"}, GPU_HERE, None),
        ("config.ollama-vulkan", {}, OLLAMA_HERE, None),
        ("config.unknown-v4deploy-variable", {"V4DEPLOY_WEIGHT_DIR": "/w"}, None, Severity.WARN),
        ("config.unknown-v4deploy-variable", {"V4DEPLOY_WEIGHTS_DIR": "/w"}, None, None),
        ("config.ascend-removed-variables", {"ASCEND_BUFFER_POOL": "4:8"}, ASCEND_HERE, Severity.WARN),
        ("config.ascend-removed-variables", {"ASCEND_BUFFER_POOL": "4:8"}, None, None),
        ("config.ascend-environment", {}, ASCEND_HERE, Severity.WARN),
        ("config.ascend-environment", PATHS, ASCEND_HERE, None),
        ("config.ascend-environment", {}, machine(*ascend(8, "ascend-a2")), None),
        ("network.offline", {"HF_HUB_OFFLINE": "1"}, None, Severity.WARN),
        ("network.offline", {"TRANSFORMERS_OFFLINE": "true"}, None, Severity.WARN),
        ("network.offline", {"HF_HUB_OFFLINE": "0"}, None, None),
        ("network.endpoint", {"HF_ENDPOINT": "http://mirror.example"}, None, Severity.WARN),
        ("network.endpoint", {"HF_ENDPOINT": "http://u:p@127.0.0.1:8000"}, None, None),
        ("network.endpoint", {"HF_ENDPOINT": "http://[::1]:8000"}, None, None),
        ("network.endpoint", {"HF_ENDPOINT": "https://mirror.example"}, None, None),
        ("network.endpoint", {}, None, None),
        ("network.loopback-through-proxy", PROXY, None, Severity.WARN),
        ("network.loopback-through-proxy", {**PROXY, "no_proxy": "example.org"}, None, Severity.WARN),
        ("network.loopback-through-proxy", {**PROXY, "NO_PROXY": "localhost, 127.0.0.1"}, None, None),
        ("network.loopback-through-proxy", {**PROXY, "no_proxy": "*"}, None, None),
        ("network.loopback-through-proxy", {"HTTPS_PROXY": ""}, None, None),
    ],
)  # fmt: skip
def test_a_variable_is_told_where_it_matters_and_only_there(
    check: str, environ: dict[str, str], found: Host | None, severity: Severity | None
) -> None:
    findings = run(check, subject(found, environ))
    assert [finding.severity for finding in findings] == ([severity] if severity else [])


def test_a_misspelt_variable_of_ours_gets_the_right_name() -> None:
    (found,) = run("config.unknown-v4deploy-variable", subject(environ={"V4DEPLOY_WEIGHT_DIR": "/w"}))
    assert found.fix == "did you mean V4DEPLOY_WEIGHTS_DIR?"


def test_no_finding_shows_a_key_or_a_login() -> None:
    environ = {**PROXY, "LLAMA_ARG_API_KEY": "sk-verysecret", "HF_ENDPOINT": "http://bob:geheim@mirror.example"}
    text = repr(run_all(subject(environ=environ)))
    assert "proxy.example:3128" in text
    assert not {word for word in ("secret", "alice", "geheim", "sk-verysecret") if word in text}


def test_every_variable_of_ours_is_known() -> None:
    texts = [
        path.read_text(encoding="utf-8")
        for folder in ("v4deploy", "templates")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    ]
    used = {name for text in texts for name in re.findall(r"\bV4DEPLOY_[A-Z]+(?:_[A-Z]+)*\b", text)}
    assert used <= set(OWN_VARIABLES)


@pytest.mark.parametrize(("mode", "fires"), [(0o644, True), (0o640, True), (0o600, False)])
def test_a_token_that_others_can_read_is_told(mode: int, fires: bool) -> None:  # noqa: FBT001
    file = TokenFile(path="/home/user/.cache/huggingface/token", mode=mode)
    assert bool(run("config.token-readable", subject(token_file=file))) is fires


def test_an_address_that_pull_refuses_is_told_without_its_login() -> None:
    given = subject(environ={"HF_ENDPOINT": "ftp://u:p@hub"}, hub_refusal="HF_ENDPOINT is not an address of a hub")
    (found,) = run("network.endpoint", given)
    assert found.id == "network.endpoint-invalid"
    assert found.evidence[0].value == "ftp://hub"


@pytest.mark.parametrize(
    ("answer", "severity", "words"),
    [
        ({"status": 206, "from_cdn": True, "seconds": 0.5}, Severity.OK, "and the servers that it sends to answered"),
        ({"status": 200}, Severity.OK, "hub.example answered"),
        ({"status": 404}, Severity.WARN, "it refused a weight file (404)"),
        ({"status": 403, "from_cdn": True}, Severity.WARN, "a server behind it refused"),
        ({"error": "its name cannot be resolved"}, Severity.WARN, "cannot be asked: its name cannot be resolved"),
    ],
)
def test_what_the_hub_answered_is_told(answer: dict[str, Any], severity: Severity, words: str) -> None:
    (found,) = run("network.hub", subject(hub=HubAnswer(host="hub.example", what="o/r/f.gguf", **answer)))
    assert found.severity is severity
    assert words in found.summary


def here(free_bytes: int | None, **more: Any) -> Any:
    found = machine(disks=(disk("/srv/weights", total_bytes=4000 * GB, free_bytes=free_bytes),))
    return subject(found, here=planned("8x h200 + 2TB"), **more)


@pytest.mark.parametrize(
    ("free_bytes", "expected"),
    [
        (200 * GB, ["storage.room-for-weights"]),
        (100 * GB, ["storage.too-small-for-weights"]),
        (None, []),
    ],
)
def test_room_is_held_against_the_weights_of_the_plan(free_bytes: int | None, expected: list[str]) -> None:
    found = run("storage.room-for-weights", here(free_bytes))
    assert [finding.id for finding in found] == expected
    assert all("166.9 GB" in finding.summary for finding in found)


def test_weights_that_are_here_need_no_room() -> None:
    (found,) = run("storage.room-for-weights", here(0, weights_here="/srv/weights/x"))
    assert found.severity is Severity.OK


def test_a_broken_manifest_is_told_not_guessed_around() -> None:
    (found,) = run("storage.room-for-weights", here(0, weights_refusal="manifest.json is not JSON"))
    assert found.evidence[0].error == "manifest.json is not JSON"


def test_without_a_plan_room_is_held_against_the_smallest_weights() -> None:
    found = machine(disks=(disk("/srv/weights", free_bytes=1 * GB),))
    (finding,) = run("storage.room-for-weights", subject(found))
    assert "the smallest checkpoint takes" in finding.summary


@pytest.mark.parametrize(
    ("reading", "severity", "words"),
    [
        ({"read_bytes": GB, "seconds": 0.2}, Severity.OK, "5.0 GB/s; reading 166.9 GB takes 33 s"),
        ({"read_bytes": 100 * MB, "seconds": 1.0}, Severity.WARN, "100 MB/s; reading 166.9 GB takes 1,669 s"),
        ({"error": "no weight file lies there"}, Severity.INFO, "was not measured"),
        ({"read_bytes": 0, "seconds": 0.0}, Severity.INFO, "was not measured"),
    ],
)
def test_the_read_speed_becomes_a_time(reading: dict[str, Any], severity: Severity, words: str) -> None:
    (found,) = run("storage.read-speed", here(None, reading=DiskReading(path="/srv/weights/a.gguf", **reading)))
    assert found.severity is severity
    assert words in found.summary
