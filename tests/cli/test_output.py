"""The four ways in which a result can come out: human, JSON, quiet, and as a failure."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass

import pytest
from rich.console import Console

from v4deploy.cli.output import Mode, Output
from v4deploy.commands.result import Result, Step, StepState, Transfer
from v4deploy.domain.errors import CheckFailedError, DownloadError, ExitCode
from v4deploy.domain.finding import Finding, Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    number: int


FINDING = Finding(id="host.swap", severity=Severity.WARN, summary="no swap")
RESULT = Result(kind="answer", data=Answer(number=42), findings=(FINDING,))


def view(console: Console, answer: Answer) -> None:
    console.print(f"the answer is {answer.number}")


def speak(mode: Mode, result: Result[Answer] = RESULT) -> tuple[str, str, ExitCode]:
    stdout, stderr = io.StringIO(), io.StringIO()
    output = Output(mode, stdout=stdout, stderr=stderr)
    output.report(Step(name="think", state=StepState.STARTED, message="for a while"))
    code = output.finish(result, view)
    return stdout.getvalue(), stderr.getvalue(), code


def test_people_get_the_view_on_stdout_and_talk_on_stderr() -> None:
    stdout, stderr, code = speak(Mode.HUMAN)
    assert stdout == "the answer is 42\n"
    assert "think" in stderr
    assert code is ExitCode.OK


def test_quiet_keeps_the_data_and_drops_the_talk() -> None:
    stdout, stderr, _ = speak(Mode.QUIET)
    assert stdout == "the answer is 42\n"
    assert stderr == ""


def test_json_is_one_document_and_no_talk() -> None:
    stdout, stderr, _ = speak(Mode.JSON)
    assert stderr == ""
    assert json.loads(stdout) == {
        "schema": "v4deploy.answer/1",
        "ok": True,
        "data": {"number": 42},
        "findings": [
            {"id": "host.swap", "severity": "warn", "summary": "no swap", "evidence": [], "why": None, "fix": None}
        ],
        "error": None,
    }


@pytest.mark.parametrize("mode", [Mode.HUMAN, Mode.QUIET])
def test_a_command_in_a_hint_is_never_folded(mode: Mode) -> None:
    hint = f"`v4deploy verify {'/long' * 40} --repair`"
    _, stderr, _ = speak(mode, Result(kind="answer", data=Answer(number=1), error=CheckFailedError("no", hint=hint)))
    assert hint in stderr


@pytest.mark.parametrize("mode", [Mode.HUMAN, Mode.QUIET])
def test_a_result_with_an_error_shows_both(mode: Mode) -> None:
    error = CheckFailedError("1 check failed", hint="v4deploy doctor")
    stdout, stderr, code = speak(mode, Result(kind="answer", data=Answer(number=1), error=error))
    assert stdout == "the answer is 1\n"
    assert stderr.endswith("error: 1 check failed\n\nhint: v4deploy doctor\n")
    assert code is ExitCode.CHECK_FAILED


def test_a_failed_result_keeps_its_data_in_json() -> None:
    stdout, _, _ = speak(Mode.JSON, Result(kind="answer", data=Answer(number=1), error=CheckFailedError("bad")))
    document = json.loads(stdout)
    assert document["ok"] is False
    assert document["data"] == {"number": 1}
    assert document["error"] == {"code": "check-failed", "message": "bad", "hint": None, "details": []}


def test_a_failure_without_data_is_json_too() -> None:
    stdout = io.StringIO()
    error = DownloadError("the line broke", hint="again", details=("2 files are complete",))
    code = Output(Mode.JSON, stdout=stdout, stderr=io.StringIO()).fail(error, kind="pull")
    document = json.loads(stdout.getvalue())
    assert (document["schema"], document["data"], document["ok"]) == ("v4deploy.pull/1", None, False)
    assert document["error"]["details"] == ["2 files are complete"]
    assert code is ExitCode.DOWNLOAD_FAILED


def test_square_brackets_of_others_are_not_markup() -> None:
    stderr = io.StringIO()
    Output(Mode.HUMAN, stdout=io.StringIO(), stderr=stderr).fail(DownloadError("[bold]x[/bold] [/nope]"))
    assert "[bold]x[/bold] [/nope]" in stderr.getvalue()


def test_a_stream_that_cannot_carry_a_check_mark_gets_words() -> None:
    raw = io.BytesIO()
    stderr = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    Output(Mode.HUMAN, stdout=io.StringIO(), stderr=stderr).report(
        Step(name="plan", state=StepState.DONE, message="fits")
    )
    assert raw.getvalue() == b"ok plan  fits\n"


def test_a_transfer_is_told_in_steps_not_by_the_byte() -> None:
    stderr = io.StringIO()
    output = Output(Mode.HUMAN, stdout=io.StringIO(), stderr=stderr)
    for done in range(1001):
        output.report(Transfer(path="a", done_bytes=done, total_bytes=1000))
    assert 4 <= len(stderr.getvalue().splitlines()) <= 6
    assert "100 %" in stderr.getvalue()


def test_names_of_others_in_talk_are_not_markup() -> None:
    stderr = io.StringIO()
    output = Output(Mode.HUMAN, stdout=io.StringIO(), stderr=stderr)
    for state in StepState:
        output.report(Step(name="render", state=state, message="a[/b] in c[d]"))
    assert stderr.getvalue().count("a[/b] in c[d]") == len(StepState)


def test_a_table_in_a_pipe_is_not_folded() -> None:
    stdout = io.StringIO()
    Output(Mode.HUMAN, stdout=stdout, stderr=io.StringIO()).data.print("word " * 25)
    assert len(stdout.getvalue().splitlines()) == 1
