from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support_golden import shipped_profile
from tests.support_llama_cpp import DRAFTED, PLANS, SEEING
from tests.support_plans import FLASH_CPU, FLASH_OFFLOAD, WEIGHTS_DIR
from v4deploy.domain.engine import EngineId, LaunchOptions
from v4deploy.domain.finding import Severity
from v4deploy.domain.plan import Plan
from v4deploy.engines import llama_cpp
from v4deploy.engines.llama_cpp_dialect import flags_in_help
from v4deploy.serve.embedded_flags import parse_flags

PROFILE = shipped_profile(EngineId.LLAMA_CPP)
FLAGS = frozenset(
    word
    for word in (Path(__file__).parents[1] / "fixtures" / "llama-server-flags-b11434.txt").read_text().split()
    if word.startswith("--")
)
UNKNOWN = "version: 0.6.0-dev (build 0, commit unknown)"
HELP = """----- common params -----

-h,    --help, --usage                  print usage and exit
-m,    --model FNAME                    model path to load
                                        (env: LLAMA_ARG_MODEL)
-kvu,  --kv-unified, -no-kvu, --no-kv-unified
                                        use single unified KV buffer --not-a-flag, --nor-this
--draft, --draft-n, --draft-max N       the argument has been removed. use --spec-draft-n-max or
                                        --spec-ngram-mod-n-max
--draft-min N                           the argument has
                                        been removed. use --spec-draft-n-min
--fim-qwen-1.5b-default                 use default Qwen 2.5 Coder 1.5B
"""


def options(known: frozenset[str] | None, version: str = UNKNOWN) -> LaunchOptions:
    return LaunchOptions(weights_dir=WEIGHTS_DIR, known_flags=known, engine_version=version)


def argv(plan: Plan, known: frozenset[str]) -> tuple[str, ...]:
    return llama_cpp.launch_spec(plan, options(known), PROFILE).argv


def found(plan: Plan, given: LaunchOptions, target: str = "script") -> dict[str, Severity]:
    return {finding.id: finding.severity for finding in llama_cpp.check(plan, given, PROFILE, target)}


def test_help_names_the_options_that_still_work() -> None:
    assert flags_in_help(HELP) == {
        "--help",
        "--usage",
        "--model",
        "--kv-unified",
        "--no-kv-unified",
        "--fim-qwen-1.5b-default",
    }


@pytest.mark.parametrize("text", ["", "bash: llama-server: cannot execute binary file", "usage: other --help"])
def test_what_is_no_help_of_llama_server_tells_nothing(text: str) -> None:
    assert flags_in_help(text) == frozenset()


def test_a_build_without_a_number_is_written_for_by_its_own_help() -> None:
    old = (FLAGS - {"--load-mode"}) | {"--mmap", "--no-mmap"}
    assert "--load-mode" in argv(FLASH_CPU, FLAGS)
    assert "--load-mode" not in argv(FLASH_CPU, old)
    assert found(FLASH_CPU, options(old)) == {"engine.llama-cpp.version-unknown": Severity.WARN}


def test_what_help_says_wins_over_the_number() -> None:
    assert "--load-mode" in llama_cpp.launch_spec(FLASH_CPU, options(FLAGS, "10250"), PROFILE).argv
    assert found(FLASH_CPU, options(FLAGS, "99999")) == {}


@pytest.mark.parametrize(
    ("plan", "flag", "severity"),
    [
        (FLASH_CPU, "--cors-origins", Severity.WARN),
        (FLASH_CPU, "--load-mode", Severity.WARN),
        (FLASH_CPU, "--parallel", Severity.FAIL),
        (FLASH_OFFLOAD, "--n-cpu-moe", Severity.FAIL),
        (DRAFTED, "--spec-type", Severity.FAIL),
        (SEEING, "--mmproj", Severity.FAIL),
    ],
)
def test_an_option_that_is_not_there_is_said_before_the_start(plan: Plan, flag: str, severity: Severity) -> None:
    known = FLAGS - {flag}
    assert found(plan, options(known))["engine.llama-cpp.option-missing"] is severity
    assert flag not in argv(plan, known)


def test_a_build_newer_than_ours_is_a_warning_unless_it_told_its_options() -> None:
    assert found(FLASH_CPU, options(None, "12000")) == {"engine.llama-cpp.newer-than-known": Severity.WARN}
    assert found(FLASH_CPU, options(None, PROFILE.newest_read)) == {}


def test_a_container_has_a_build_of_its_own() -> None:
    given = options(frozenset({"--model"}))
    assert "engine.llama-cpp.option-missing" not in found(FLASH_CPU, given, "compose")
    assert "--parallel" in llama_cpp.values(FLASH_CPU, given, PROFILE, "compose")["argv"]  # type: ignore[operator]


def test_the_projector_is_loaded_in_its_role_and_never_as_the_model() -> None:
    words = argv(SEEING, FLAGS)
    assert words[words.index("--mmproj") + 1] == f"{WEIGHTS_DIR}/mmproj-F16.gguf"
    assert words[words.index("--model") + 1].endswith("-00001-of-00005.gguf")
    assert found(SEEING, options(FLAGS, "11434")) == {"engine.llama-cpp.projector": Severity.INFO}


@pytest.mark.parametrize("name", PLANS)
def test_the_embedded_engine_takes_the_same_command_line(name: str) -> None:
    given = replace(options(None, "11549"), api_key_file="/etc/key")
    words = llama_cpp.launch_spec(PLANS[name], given, PROFILE).argv
    assert parse_flags(words[1:])
