"""The header's Apply, Check and Undo are for typing: what a shell would not take does not help."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.support_golden import ROOT

_LINE = re.compile(r"^[#; ]*(?:Apply|Check|Undo): +(.+)$", re.MULTILINE)
_NOT_TYPED = {"Ctrl-C", "as compose.yaml says"}
_PROGRAMS = {
    "OLLAMA_MODELS=store", "cp", "curl", "docker", "install", "kubectl", "launchctl", "mkdir", "ollama",
    "podman", "printf", "rm", "sudo", "systemctl",
}  # fmt: skip


def typed_lines() -> list[str]:
    texts = (path.read_text() for path in (ROOT / "tests" / "golden").rglob("*") if path.is_file())
    return sorted({line for text in texts for line in _LINE.findall(text)} - _NOT_TYPED)


@pytest.mark.parametrize("line", typed_lines())
def test_a_shell_takes_the_line(line: str) -> None:
    read = subprocess.run(("bash", "-n", "-c", line), capture_output=True, text=True, check=False)
    assert (read.returncode, read.stderr) == (0, "")


@pytest.mark.parametrize("line", typed_lines())
def test_each_command_of_the_line_is_a_program(line: str) -> None:
    without_substitutions = re.sub(r"\$\([^)]*\)", "", line)
    commands = re.split(r" && |; | \| ", without_substitutions)
    firsts = {command.split()[0] for command in commands}
    assert {first for first in firsts if not first.startswith("./")} <= _PROGRAMS
