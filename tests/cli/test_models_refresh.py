"""`models --refresh` against loopback hubs that publish under the catalogue's own names."""

from __future__ import annotations

import functools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.modelscope_hub import FaultyModelScope
from tests.support.pull_builders import gguf_bytes, safetensors_bytes, write
from tests.support_cli import Ran, V4Deploy
from v4deploy.domain.errors import ExitCode
from v4deploy.pull.retry import RetryPolicy
from v4deploy.shapes.hub_server import LoopbackHub

UNSLOTH = "unsloth/DeepSeek-V4-Flash-0731-GGUF"
OFFICIAL = "deepseek-ai/DeepSeek-V4-Flash-0731"
ASCEND = "Eco-Tech/DeepSeek-V4-Flash-0731-w8a8"
SHARED = "antirez/deepseek-v4-gguf"
REFRESH = ("models", "v4-flash", "--refresh")
OWN = """\
id: v4-flash
source: my notes
as_of: 2026-11-23
repositories:
  - {repo: unsloth/DeepSeek-V4-Flash-0731-GGUF, release: v4-flash-0731, format: gguf, engines: [llama.cpp],
     quants: {UD-Q4_K_XL: {bytes: 5}}}
"""


def publish(root: Path, quants: tuple[str, ...] = ("UD-Q4_K_XL", "UD-Q5_K_NEW")) -> None:
    for seed, quant in enumerate(quants):
        for part in (1, 2):
            name = f"{quant}/DeepSeek-V4-Flash-0731-{quant}-{part:05d}-of-00002.gguf"
            write(root / "hf" / UNSLOTH / name, gguf_bytes(seed=seed, body_bytes=2000, part=part, parts=2))
    write(root / "hf" / OFFICIAL / "model-00001-of-00001.safetensors", safetensors_bytes(seed=1, body_bytes=3000))
    write(root / "hf" / OFFICIAL / "config.json", b"{}\n")
    write(root / "hf" / SHARED / "Something-New.gguf", gguf_bytes(seed=9, body_bytes=100))
    write(root / "ms" / ASCEND / "model-00001-of-00001.safetensors", safetensors_bytes(seed=2, body_bytes=4000))
    write(root / "ms" / ASCEND / "config.json", b"{}\n")


@pytest.fixture
def hubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    publish(tmp_path / "published")
    with LoopbackHub(tmp_path / "published" / "hf") as hub, FaultyModelScope(tmp_path / "published" / "ms") as scope:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", scope.endpoint)
        monkeypatch.setattr("v4deploy.commands.refresh.RetryPolicy", functools.partial(RetryPolicy, attempts=1))
        yield hub


def refreshed(tmp_path: Path) -> Path:
    return tmp_path / "home" / ".config" / "v4deploy" / "refreshed" / "models" / "v4-flash.yaml"


def kinds(ran: Ran) -> dict[str, str]:
    return {
        one["checkpoint"]: one["kind"]
        for repository in ran.document["data"]["repositories"]
        for one in repository["checkpoints"]
    }


def checkpoints(v4deploy: V4Deploy) -> dict[str, dict[str, Any]]:
    models = v4deploy("models", "v4-flash-0731", "--json").document["data"]["models"]
    return {one["id"]: one for model in models for release in model["releases"] for one in release["checkpoints"]}


def asked(v4deploy: V4Deploy, name: str) -> set[str]:
    data = v4deploy("models", name, "--refresh", "--dry-run", "--json").document["data"]
    return {one["repo"] for one in data["repositories"]}


@pytest.mark.usefixtures("hubs")
def test_only_what_is_named_is_asked_for(v4deploy: V4Deploy) -> None:
    model, release = asked(v4deploy, "v4-flash"), asked(v4deploy, "v4-flash-0731")
    assert {UNSLOTH, OFFICIAL, SHARED} <= release < model
    assert "deepseek-ai/DeepSeek-V4-Flash" in model - release
    assert asked(v4deploy, UNSLOTH.upper()) == {UNSLOTH}


def test_listings_become_a_profile_that_the_next_commands_use(
    v4deploy: V4Deploy, hubs: LoopbackHub, tmp_path: Path
) -> None:
    first = v4deploy(*REFRESH, "--json")
    assert first.code == ExitCode.OK
    assert first.document["schema"] == "v4deploy.models-refresh/1"
    found = kinds(first)
    assert (
        found["v4-flash-0731-native"] == found["v4-flash-0731-w8a8"] == found["v4-flash-0731-ud-q4_k_xl"] == "changed"
    )
    assert found["v4-flash-0731-ud-q5_k_new"] == "new"
    assert found["v4-flash-0731-ud-iq1_s"] == "gone"
    assert first.document["data"]["files"] == [str(refreshed(tmp_path))]
    ids = [finding["id"] for finding in first.document["findings"]]
    assert {"network.hub.not-listed", "network.hub.quant-gone", "network.hub.unknown-weights"} == set(ids)

    now = checkpoints(v4deploy)
    commit = hubs.repositories[UNSLOTH].commit
    new = now["v4-flash-0731-ud-q5_k_new"]
    assert (new["revision"], new["engines"], new["runnable"], len(new["files"])) == (commit, [], "other-engine", 2)
    assert now["v4-flash-0731-ud-q4_k_xl"]["revision"] == commit
    assert now["v4-flash-0731-native"]["source"]["source"].startswith("listing of 127.0.0.1:")
    # What is not listed any more stays as the catalogue has it.
    assert now["v4-flash-0731-ud-iq1_s"]["size_bytes"] > 80 * 10**9
    for quant in ("UD-Q5_K_NEW", "w8a8", "native"):
        assert v4deploy("pull", "v4-flash", "--quant", quant).code == ExitCode.OK

    again = v4deploy(*REFRESH, "--json")
    assert again.document["data"]["files"] == []
    assert set(kinds(again).values()) == {"unchanged", "gone"}


@pytest.mark.usefixtures("hubs")
def test_what_changed_is_printed(v4deploy: V4Deploy, tmp_path: Path) -> None:
    ran = v4deploy(*REFRESH)
    assert ran.code == ExitCode.OK
    text = " ".join(ran.stdout.split())
    assert "changed UD-Q4_K_XL revision" in text
    assert "size 155.1 GB (155,095,241,120 bytes) -> 4." in text
    assert "new UD-Q5_K_NEW" in text
    assert "4 of 34 repositories listed" in text
    assert f"written {refreshed(tmp_path)}" in text


@pytest.mark.usefixtures("hubs")
def test_a_dry_run_writes_nothing(v4deploy: V4Deploy, tmp_path: Path) -> None:
    ran = v4deploy(*REFRESH, "--dry-run", "--json")
    assert kinds(ran)["v4-flash-0731-native"] == "changed"
    assert ran.document["data"]["files"] == []
    assert not refreshed(tmp_path).exists()
    assert v4deploy("models", "--dry-run").code == ExitCode.USAGE


@pytest.mark.usefixtures("hubs")
def test_the_users_own_profile_is_neither_touched_nor_beaten(v4deploy: V4Deploy, tmp_path: Path) -> None:
    own = tmp_path / "home" / ".config" / "v4deploy" / "profiles" / "models" / "v4-flash.yaml"
    write(own, OWN.encode())
    ran = v4deploy(*REFRESH, "--json")
    assert kinds(ran)["v4-flash-0731-ud-q4_k_xl"] == "own"
    assert own.read_text() == OWN
    assert checkpoints(v4deploy)["v4-flash-0731-ud-q4_k_xl"]["size_bytes"] == 5
    assert "UD-Q4_K_XL:" not in refreshed(tmp_path).read_text()


def test_a_hub_that_is_down_takes_nothing_away(
    v4deploy: V4Deploy, hubs: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hubs.repositories
    v4deploy(*REFRESH)
    before = checkpoints(v4deploy)
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:9")
    write(
        tmp_path / "published" / "hf" / OFFICIAL / "model-00001-of-00001.safetensors",
        safetensors_bytes(seed=3, body_bytes=9),
    )
    with LoopbackHub(tmp_path / "published" / "hf") as later:
        monkeypatch.setenv("HF_ENDPOINT", later.endpoint)
        ran = v4deploy(*REFRESH, "--json")
    assert ran.code == ExitCode.OK
    assert kinds(ran)["v4-flash-0731-native"] == "changed"
    after = checkpoints(v4deploy)
    assert after["v4-flash-0731-w8a8"] == before["v4-flash-0731-w8a8"]
    assert after["v4-flash-0731-native"]["size_bytes"] != before["v4-flash-0731-native"]["size_bytes"]


@pytest.mark.usefixtures("hubs")
def test_no_hub_at_all_is_a_failure_that_writes_nothing(
    v4deploy: V4Deploy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:9")
    ran = v4deploy(*REFRESH, "--json")
    assert ran.code == ExitCode.DOWNLOAD_FAILED
    assert len(ran.document["findings"]) == len(ran.document["data"]["repositories"]) == 34
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    offline = v4deploy(*REFRESH)
    assert offline.code == ExitCode.DOWNLOAD_FAILED
    assert "HF_HUB_OFFLINE" in offline.stderr
    assert not refreshed(tmp_path).exists()


def test_ctrl_c_does_not_wait_for_a_hub_that_hangs(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        environ = {**os.environ, "HF_ENDPOINT": endpoint, "MODELSCOPE_ENDPOINT": endpoint}
        argv = [sys.executable, "-m", "v4deploy", *REFRESH]
        with subprocess.Popen(argv, env=environ, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as ran:
            connection, _ = silent.accept()
            ran.send_signal(signal.SIGINT)
            # Long for a busy machine, and short of the 30 seconds after which the listing itself gives up.
            assert ran.wait(20) == ExitCode.INTERRUPTED
            connection.close()


@pytest.mark.usefixtures("hubs")
def test_a_directory_that_cannot_be_written_is_named(v4deploy: V4Deploy, tmp_path: Path) -> None:
    write(tmp_path / "home" / ".config" / "v4deploy" / "refreshed", b"a file")
    ran = v4deploy(*REFRESH)
    assert ran.code == ExitCode.USAGE
    assert "cannot write to" in ran.stderr
