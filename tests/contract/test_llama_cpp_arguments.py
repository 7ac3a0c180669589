"""Our command lines, read by a real llama-server.

No registry has the program ready-made for Linux, so it is built from source unless V4DEPLOY_LLAMA_SERVER names one.
"""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.contract.serving_programs import llama_server
from tests.support_golden import shipped_profile
from tests.support_llama_cpp import PLANS
from tests.support_plans import WEIGHTS_DIR
from v4deploy.domain.engine import EngineId, LaunchOptions
from v4deploy.domain.finding import Severity
from v4deploy.engines import llama_cpp
from v4deploy.engines.llama_cpp_dialect import HELP, flags_in_help

pytestmark = pytest.mark.contract

PROFILE = shipped_profile(EngineId.LLAMA_CPP)
RECORDED = Path(__file__).parents[1] / "fixtures" / "llama-server-flags-b11434.txt"


@pytest.fixture(scope="module")
def program() -> str:
    return str(llama_server())


@pytest.fixture(scope="module")
def help_text(program: str) -> str:
    done = ask(program, *HELP)
    assert done.returncode == 0
    return done.stdout + done.stderr


def ask(program: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run it; `--version` as the last word ends it when all others were read."""
    return subprocess.run([program, *words], capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("name", PLANS)
def test_every_command_line_is_read(name: str, program: str, help_text: str, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("sk-test\n")
    options = LaunchOptions(weights_dir=WEIGHTS_DIR, known_flags=flags_in_help(help_text), api_key_file=str(key))
    findings = llama_cpp.check(PLANS[name], options, PROFILE, "script")
    assert not [finding for finding in findings if finding.severity is Severity.FAIL]
    words = llama_cpp.launch_spec(PLANS[name], options, PROFILE).argv[1:]
    read = ask(program, *words, "--version")
    assert (read.returncode, "error" in read.stderr) == (0, False), read.stderr
    assert llama_cpp.launch_spec(PLANS[name], replace(options, known_flags=None), PROFILE).argv[1:] == words


@pytest.mark.parametrize("wrong", [("--no-mmap",), ("--load-mode", "no-such-mode"), ("--fit", "maybe")])
def test_it_refuses_what_is_wrong(wrong: tuple[str, ...], program: str) -> None:
    assert ask(program, "--model", "x.gguf", *wrong, "--version").returncode == 1


def test_its_help_is_read_whole(help_text: str) -> None:
    recorded = {word for word in RECORDED.read_text().split() if word.startswith("--")}
    read = flags_in_help(help_text)
    assert recorded == read
    # What the profile lists for this build, the build has.
    assert {entry.flag for entry in PROFILE.flags if entry.since is None and entry.until is None} <= read
