"""Our YAML files and command lines, read by the parser of each vLLM release that can be had."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.contract.vllm_environment import RELEASES, ask
from tests.support_plans import FLASH_8X_H200
from tests.support_vllm import (
    CASES,
    FLAG_TABLE,
    FLAG_TABLE_PATH,
    OPTIONS,
    PREVIEW_H200,
    PRO_B200,
    PROFILE,
    failures,
    on,
    rendered,
    v41,
    with_layout,
)
from v4deploy.domain.hardware import ComputeApi
from v4deploy.domain.versions import is_older
from v4deploy.engines import vllm
from v4deploy.engines.common import knows_flag

pytestmark = pytest.mark.contract

SCRIPT = Path(__file__).parent / "ask_vllm_arguments.py"

REFUSED_BY_ALL = (
    ("--attention-config", '{"no_such_key": true}'),
    ("--compilation-config", '{"cudagraph_mode": "NO_SUCH_MODE"}'),
    ("--moe-backend", "no_such_backend"),
    ("--tool-call-parser", "no_such_parser", "--enable-auto-tool-choice"),
    ("--reasoning-parser", "no_such_parser"),
    ("--no-such-flag",),
)
"""Each part of what we write, made wrong: a parser that takes these proves nothing about ours."""

PLANS = {
    **CASES,
    "flash-preview-4x-b200": on(PREVIEW_H200, "sm_100", count=4),
    "flash-preview-8x-mi355x": on(PREVIEW_H200, "gfx950", compute_api=ComputeApi.ROCM),
    "pro-8x-b200-tp": with_layout(PRO_B200, expert_parallel=False),
    "v4.1-flash-8x-h200": v41(on(FLASH_8X_H200, "sm_90")),
    "v4.1-flash-4x-mi355x": v41(on(FLASH_8X_H200, "gfx950", count=4, compute_api=ComputeApi.ROCM)),
}

INDEX_CACHE = "--attention-config.use_fp4_indexer_cache"
_NOT_COMPARED = {"model", "model_tag", "config", "subparser"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a release said: its flags (`named`: without negations), what it read or why it refused, by case."""

    flags: frozenset[str]
    named: frozenset[str]
    variables: frozenset[str]
    words: dict[str, dict[str, Any]]
    files: dict[str, dict[str, Any]]
    wrong: dict[tuple[str, ...], dict[str, Any]]


@pytest.fixture(scope="module", params=RELEASES)
def release(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def answers(release: str, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    return _ask(release, tmp_path_factory.mktemp("files"))


@cache
def _ask(release: str, folder: Path) -> Answers:
    plans = accepted(release)
    options = replace(OPTIONS, engine_version=release)
    words = {name: list(vllm.launch_spec(plan, options, PROFILE).argv[2:]) for name, plan in plans.items()}
    files = {}
    for name, plan in plans.items():
        for target in ("script", "compose"):
            path = folder / f"{name}-{target}.yaml"
            path.write_text(rendered(plan, options, target)["vllm.yaml"])
            files[f"{name} {target}"] = ["--config", str(path)]
    wrong = {(*case,): ["some-model", *case] for case in (*REFUSED_BY_ALL, index_cache())}
    questions = [*words.values(), *files.values(), *wrong.values()]
    about, *given = ask(release, SCRIPT, [{"arguments": question} for question in questions])
    in_turn = iter(given)
    return Answers(
        flags=frozenset(about["flags"]),
        named=frozenset(about["named"]),
        variables=frozenset(about["variables"]),
        words={name: next(in_turn) for name in words},
        files={name: next(in_turn) for name in files},
        wrong={case: next(in_turn) for case in wrong},
    )


def accepted(release: str) -> dict[str, Any]:
    """The plans that `check` does not refuse for this release."""
    options = replace(OPTIONS, engine_version=release)
    return {name: plan for name, plan in PLANS.items() if not failures(plan, options)}


def index_cache() -> tuple[str, ...]:
    return ("--attention-config", '{"use_fp4_indexer_cache": true}')


def test_every_plan_that_is_not_refused_is_read(release: str, answers: Answers) -> None:
    refused = {
        name: answer["refusal"] for name, answer in {**answers.words, **answers.files}.items() if "refusal" in answer
    }
    print(f"\nvllm {release} read: {', '.join(answers.words)}")  # noqa: T201 - the matrix, with `pytest -s`
    assert not refused
    assert answers.words


def test_the_file_says_what_the_command_line_says(answers: Answers) -> None:
    for name, answer in answers.words.items():
        by_file = answers.files[f"{name} script"]["read"]
        differing = {key for key, value in answer["read"].items() if by_file.get(key) != value}
        assert differing <= _NOT_COMPARED, name


def test_it_understands_what_we_meant(release: str, answers: Answers) -> None:
    options = replace(OPTIONS, engine_version=release)
    for name, plan in accepted(release).items():
        written = yaml.safe_load(rendered(plan, options)["vllm.yaml"])
        read = answers.files[f"{name} script"]["read"]
        for key, value in written.items():
            meant = {key.removeprefix("no-").replace("-", "_"): not key.startswith("no-") and value}
            assert read == read | _as_read(meant, read), (name, key)


def _as_read(meant: dict[str, Any], read: dict[str, Any]) -> dict[str, Any]:
    """What was meant, with the engine's own values where it keeps a configuration: only our keys are compared."""
    ((key, value),) = meant.items()
    kept = read.get(key)
    if isinstance(kept, list) and not isinstance(value, list):
        return {key: [value]}
    if not isinstance(value, dict) or not isinstance(kept, dict):
        return meant
    told = {inner: item if kept.get(inner) == item else _named(kept.get(inner), item) for inner, item in value.items()}
    return {key: kept | told}


def _named(kept: Any, meant: Any) -> Any:
    """An enum's member reads as `CUDAGraphMode.FULL`, or as its number behind it; its name is what we wrote."""
    return kept if str(meant) in str(kept) else meant


def test_it_refuses_what_is_wrong(answers: Answers) -> None:
    taken = [case for case in REFUSED_BY_ALL if "refusal" not in answers.wrong[case]]
    assert not taken


def test_the_old_name_of_the_index_cache_is_refused_where_the_profile_says_so(release: str, answers: Answers) -> None:
    assert ("refusal" not in answers.wrong[index_cache()]) == knows_flag(PROFILE, INDEX_CACHE, release)


def test_the_profile_knows_the_flags_of_each_release(release: str, answers: Answers) -> None:
    # A key inside a JSON flag is no flag of its own for the parser.
    listed = {entry.flag for entry in PROFILE.flags if "." not in entry.flag}
    differing = {flag for flag in listed if knows_flag(PROFILE, flag, release) != (flag in answers.flags)}
    assert not differing


def test_it_knows_the_variables_that_we_set(release: str, answers: Answers) -> None:
    options = replace(OPTIONS, engine_version=release)
    ours = {
        name
        for plan in accepted(release).values()
        for name, _ in vllm.launch_spec(plan, options, PROFILE).env
        if name.startswith("VLLM_")
    }
    assert ours <= answers.variables


def test_the_recorded_table_is_the_engines_own(release: str, answers: Answers) -> None:
    if os.environ.get("V4DEPLOY_UPDATE_GOLDEN"):
        _record(release, answers.named)
    recorded = {
        flag
        for flag, known in json.loads(FLAG_TABLE_PATH.read_text())["flags"].items()
        if not is_older(release, known["since"]) and not is_older(known.get("until", release), release)
    }
    assert recorded == answers.named


def _record(release: str, flags: frozenset[str]) -> None:
    """Write one release into the table; releases come in their order."""
    table = json.loads(FLAG_TABLE_PATH.read_text()) if release != RELEASES[0] else {**FLAG_TABLE, "flags": {}}
    table["releases_read"] = [*RELEASES]
    earlier = RELEASES[RELEASES.index(release) - 1] if release != RELEASES[0] else None
    for flag in sorted(flags):
        table["flags"].setdefault(flag, {"since": release})
    for flag, known in table["flags"].items():
        if flag not in flags and "until" not in known:
            known["until"] = earlier
    table["flags"] = dict(sorted(table["flags"].items()))
    FLAG_TABLE_PATH.write_text(json.dumps(table, indent=1) + "\n")
