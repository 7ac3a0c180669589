"""What we write for Huawei's NPUs, read by MindIE Motor, and by vLLM-Ascend and the vLLM below it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.contract.vllm_environment import ask, files_of
from tests.support_mindie import CASES, OPTIONS, PROFILE, text_of
from v4deploy.domain.finding import Severity
from v4deploy.domain.plan import Plan
from v4deploy.engines import mindie
from v4deploy.engines.mindie_arguments import engine_arguments

pytestmark = pytest.mark.contract

HERE = Path(__file__).parent
MOTOR = ("mindie-motor", "3.0.0b2")
"""The newest that a registry has; its loader of one-server ("union") engine configurations came later."""

RELEASES = {"0.23.0": "0.23.0", "0.25.1rc1": "0.25.1", "0.26.0rc1": "0.26.0"}
"""vLLM-Ascend, and the vLLM that it goes with."""

WRONG = {"additional_config": {"enable_dsa_cp": True}, "tensor_parallel": 8}
"""What the tutorials' tables give, and what the engine refuses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """By case: what Motor made of its file, what vLLM-Ascend said, and what vLLM read of both command lines."""

    motor: dict[str, dict[str, Any]]
    context_parallel: dict[str, dict[str, Any]]
    wrong: dict[str, Any]
    container: dict[str, dict[str, Any]]
    pod: dict[str, dict[str, Any]]


@pytest.fixture(scope="module", params=RELEASES)
def release(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def accepted(release: str) -> dict[str, Plan]:
    """The plans that `check` does not refuse for this release."""
    options = replace(OPTIONS, engine_version=release)
    return {
        name: plan
        for name, plan in CASES.items()
        if all(found.severity is not Severity.FAIL for found in mindie.check(plan, options, PROFILE, "motor"))
    }


@pytest.fixture(scope="module")
def answers(release: str, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    plans, folder = accepted(release), tmp_path_factory.mktemp("motor")
    options = replace(OPTIONS, engine_version=release)
    files, rules = [], []
    for name, plan in plans.items():
        path = folder / f"{name}.json"
        path.write_text(text_of(plan, "motor", "user_config.json", options))
        files.append({"user_config": str(path)})
        written = engine_arguments(plan, options, PROFILE)[0].get("additional-config", {})
        rules.append({"additional_config": written, "tensor_parallel": plan.chosen.layout.tensor_parallel})
    beside = (("vllm-ascend", release), MOTOR)
    given = iter(ask(RELEASES[release], HERE / "ask_ascend.py", [*files, *rules, WRONG], beside))
    motor, rule = (dict(zip(plans, given, strict=False)) for _ in range(2))
    container = {name: mindie.launch_spec(plan, options, PROFILE).argv[2:] for name, plan in plans.items()}
    read = _read(release, [*container.values(), *(motor[name].get("words", []) for name in plans)])
    return Answers(
        motor=motor,
        context_parallel=rule,
        wrong=next(given),
        container=dict(zip(plans, read, strict=False)),
        pod=dict(zip(plans, read[len(plans) :], strict=True)),
    )


def _read(release: str, command_lines: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    cases = [{"arguments": list(words)} for words in command_lines]
    return ask(RELEASES[release], HERE / "ask_vllm_arguments.py", cases)[1:]


def refused(answers: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {name: answer["refusal"] for name, answer in answers.items() if "refusal" in answer}


def test_motor_loads_its_file_in_the_one_server_form(release: str, answers: Answers) -> None:
    print(f"\nmotor {MOTOR[1]} and vllm-ascend {release} read: {', '.join(answers.motor)}")  # noqa: T201
    assert not refused(answers.motor)
    assert {answer["deploy_mode"] for answer in answers.motor.values()} == {"single_node"}


def test_the_engine_takes_its_additional_configuration(answers: Answers) -> None:
    assert not refused(answers.context_parallel)


def test_the_engine_refuses_what_the_tutorials_leave_out(answers: Answers) -> None:
    assert "requires SP" in answers.wrong["refusal"]


def test_the_engine_knows_every_key_of_its_additional_configuration(release: str) -> None:
    source = "".join(path.read_text() for path in (files_of("vllm-ascend", release) / "vllm_ascend").glob("*.py"))
    options = replace(OPTIONS, engine_version=release)
    for plan in accepted(release).values():
        written = engine_arguments(plan, options, PROFILE)[0].get("additional-config", {})
        assert isinstance(written, dict)
        unread = [key for key in written if f'"{key}"' not in source]
        assert not unread


def test_vllm_reads_the_command_line_of_the_container(answers: Answers) -> None:
    assert not refused(answers.container)


def test_vllm_reads_what_motor_makes_of_its_file_as_it_reads_the_container(answers: Answers) -> None:
    assert not refused(answers.pod)
    for name, answer in answers.pod.items():
        theirs, ours = answer["read"], answers.container[name]["read"]
        differing = {key for key in ours if ours[key] != theirs.get(key)}
        assert differing <= {"model", "model_tag", "host", "port", "shutdown_timeout", "data_parallel_rpc_port"}, name
