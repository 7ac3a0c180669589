"""Tools that never answer, started for real: each is named, ends with its time limit, and leaves no process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from v4deploy.domain.finding import Finding
from v4deploy.domain.hardware import Host
from v4deploy.probes import amd, ascend, nvidia
from v4deploy.probes.survey import survey
from v4deploy.system.base import CommandRun, LibraryAnswer
from v4deploy.system.live import LiveSystem

LIMIT_SECONDS = 0.4


class Impatient(LiveSystem):
    """This machine with a shorter time limit for every command, and nothing but `folder` on PATH."""

    def __init__(self, folder: Path) -> None:
        super().__init__({"PATH": f"{folder}:/usr/bin:/bin"})
        self._folder = folder
        self.started: list[str] = []

    def which(self, program: str) -> str | None:
        """Programs of the machine that runs the tests are not asked: only what the test put there."""
        found = super().which(program)
        return found if found is not None and found.startswith(str(self._folder)) else None

    def run(self, argv: Sequence[str], *, timeout_seconds: float) -> CommandRun:
        assert timeout_seconds > LIMIT_SECONDS
        if self.which(argv[0]) is not None:
            self.started.append(argv[0])
        return super().run(argv, timeout_seconds=LIMIT_SECONDS)

    def library(self, library: str, *, timeout_seconds: float) -> LibraryAnswer:  # noqa: ARG002 - not there
        return LibraryAnswer(library=library, data=None, error="not on this machine")


def hanging(folder: Path, name: str) -> Path:
    """A program that never ends, and writes its own number down first."""
    path = folder / name
    path.write_text(f"#!/bin/sh\necho $$ >> {folder}/{name}.pids\nexec sleep 600\n")
    path.chmod(0o755)
    return path


def surveyed(system: Impatient) -> Host:
    return survey(system, weights_dir="/w", chips=(), probes=(nvidia, amd, ascend))


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("program", "finding", "questions"),
    [
        ("nvidia-smi", "gpu.nvidia.tool-hangs", 1),
        ("npu-smi", "npu.huawei.driver-not-answering", 1),
        ("llama-server", "engine.program-hangs", 1),
        ("ollama", "engine.program-hangs", 1),
        ("docker", "container.docker-hangs", 1),
        ("podman", "container.podman-hangs", 1),
    ],
)
def test_a_tool_that_hangs_is_named_and_ended(tmp_path: Path, program: str, finding: str, questions: int) -> None:
    hanging(tmp_path, program)
    system = Impatient(tmp_path)
    host = surveyed(system)
    found: list[Finding] = [one for one in host.findings if one.id == finding]
    assert found, [one.id for one in host.findings]
    words = " ".join([found[0].summary, *(f"{e.source} {e.error}" for e in found[0].evidence)])
    assert program in words
    assert system.started == [program] * questions
    pids = [int(line) for line in (tmp_path / f"{program}.pids").read_text().split()]
    assert pids
    assert not [pid for pid in pids if is_running(pid)]


def test_all_of_them_hanging_at_once_hide_nothing(tmp_path: Path) -> None:
    for program in ("nvidia-smi", "npu-smi", "llama-server", "docker"):
        hanging(tmp_path, program)
    ids = {finding.id for finding in surveyed(Impatient(tmp_path)).findings}
    assert ids >= {
        "gpu.nvidia.tool-hangs",
        "npu.huawei.driver-not-answering",
        "engine.program-hangs",
        "container.docker-hangs",
    }
