"""Containers started from what was rendered: the Compose file by `docker compose`, the Quadlet's command by Podman."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.contract.container_engine import Containers, containers
from tests.contract.launch_tools import docker_compose, quadlet
from tests.contract.test_launch_files import say_who_starts, write
from tests.contract.test_launch_starts import answer_of, free_port
from tests.render.test_launch_files import rendered
from tests.support_plans import FLASH_CPU
from v4deploy.domain.engine import LaunchOptions
from v4deploy.domain.model import FileRole, WeightFile
from v4deploy.shapes.write import write_tiny

pytestmark = pytest.mark.contract

_SHIM = """#!/bin/sh
# Docker's own program only looks for the plugin.
shift
exec {compose} "$@"
"""
# Limits can be raised by whoever may; not here.
_OVERRIDE = """
services:
  llama-server:
    ulimits: !override
      nofile: {soft: 1024, hard: 4096}
      nproc: {soft: 4096, hard: 8192}
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    with containers(tmp_path_factory.mktemp("podman")) as found:
        yield found


def launch_file(target: str, place: Path) -> tuple[Path, int]:
    """A rendered file for the tiny model behind a key, and its port."""
    key, weights = place / "key", place / "weights"
    key.write_text("sk-test\n")
    tiny = tuple(WeightFile(path=path.name, role=FileRole.MAIN) for path in write_tiny(weights, seed=1))
    for path in (place, weights, *weights.iterdir()):
        path.chmod(path.stat().st_mode | 0o055)
    checkpoint = replace(FLASH_CPU.chosen.checkpoint, files=tiny)
    plan = replace(FLASH_CPU, chosen=replace(FLASH_CPU.chosen, checkpoint=checkpoint, context_tokens=4096))
    port = free_port()
    options = LaunchOptions(weights_dir=str(weights), api_key_file=str(key), port=port)
    (file,) = write(rendered(target, plan, options), place / "out")
    return file, port


def test_docker_compose_starts_it_and_v4deploy_asks_and_ends_it(running: Containers, tmp_path: Path) -> None:
    file, port = launch_file("compose", tmp_path)
    (tmp_path / "override.yaml").write_text(_OVERRIDE)
    shim = tmp_path / "bin" / "docker"
    shim.parent.mkdir()
    shim.write_text(_SHIM.format(compose=docker_compose()))
    shim.chmod(0o755)
    environ = {
        "PATH": f"{shim.parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "DOCKER_HOST": f"unix://{running.socket}",
    }

    def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(words, env=environ, capture_output=True, text=True, check=False, timeout=60)

    def v4deploy(*words: str) -> subprocess.CompletedProcess[str]:
        return run(sys.executable, "-m", "v4deploy", *words, "--compose", str(file))

    say_who_starts(file)
    more = ("--file", str(file), "--file", str(tmp_path / "override.yaml"))
    up = run("docker", "compose", *more, "up", "--detach", "--pull", "never")
    assert up.returncode == 0, up.stderr
    assert answer_of(f"http://127.0.0.1:{port}", "sk-test", lambda: True)
    status = v4deploy("status")
    assert (status.returncode, "running" in status.stdout) == (0, True), status
    assert "model loaded" in v4deploy("logs").stdout
    stop = v4deploy("stop")
    assert stop.returncode == 0, stop.stderr
    after = v4deploy("status")
    assert (after.returncode, "exited with exit code 0" in after.stdout + after.stderr) == (7, True), after
    assert run("docker", "compose", "--file", file, "down").returncode == 0
    assert "no container was made from this file" in v4deploy("status").stdout


def test_podman_runs_what_the_quadlet_generator_makes(running: Containers, tmp_path: Path) -> None:
    file, port = launch_file("quadlet", tmp_path)
    dry = subprocess.run(
        (quadlet(), "-dryrun", "-user", "-no-kmsg-log"),
        env={"QUADLET_UNIT_DIRS": str(file.parent)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    (line,) = re.findall(r"^ExecStart=(.*)$", dry.stdout, re.MULTILINE)
    _, *words = shlex.split(line)
    # What systemd says, and what Podman only does for an ordinary user, or since version 5.
    for flag in ("--cidfile=%t/%N.cid", "--cgroups=split", "--sdnotify=healthy"):
        words.remove(flag)
    for flag, value in (("--userns", "keep-id"), ("--ulimit", "host")):
        at = words.index(flag)
        assert words[at : at + 2] == [flag, value]
        del words[at : at + 2]
    words[1:1] = ["--user", "1000:1000", "--pull", "never"]
    secret = next(word.split(",")[0] for word in words if word.endswith("mode=0444"))
    made = running.podman("secret", "create", secret, str(tmp_path / "key"))
    assert made.returncode == 0, made.stderr
    started = running.podman(*words)
    assert started.returncode == 0, started.stderr
    name = words[words.index("--name") + 1]
    assert answer_of(f"http://127.0.0.1:{port}", "sk-test", lambda: True)
    assert running.podman("healthcheck", "run", name).returncode == 0
    (pid,) = running.podman("inspect", "--format", "{{.State.Pid}}", name).stdout.split()
    facts = dict(row.split(":\t", 1) for row in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in row)
    assert (facts["Uid"].split()[0], int(facts["CapEff"], 16), facts["NoNewPrivs"]) == ("1000", 0, "1")
    assert running.podman("stop", name).returncode == 0
