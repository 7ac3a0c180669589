"""The smoke test against chats that are good, and against each way to be broken."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.serve.fake_chat import FAULTS, PROSE, chat, stream
from v4deploy.serve.smoke.answer import Exchange, NoAnswerError, read_answer
from v4deploy.serve.smoke.figures import figures_of
from v4deploy.serve.smoke.judge import Judge
from v4deploy.serve.smoke.prompts import KEEPER, characters_for, long_prompt
from v4deploy.serve.smoke.result import CheckId, CheckResult, Figures, Outcome
from v4deploy.serve.smoke.run import SmokeWish, examine
from v4deploy.serve.smoke.text import markup_of, repeated_end, shortened, trouble_of, trouble_of_prose

_WISH = SmokeWish(model="m")


def _examine(*faults: str, wish: SmokeWish = _WISH) -> tuple[dict[CheckId, CheckResult], Figures]:
    """Against a chat in this process: what it sends, with a tenth of a second between lines."""
    assert set(faults) <= set(FAULTS)
    flaws = frozenset(faults)

    def ask(request: Mapping[str, Any]) -> Exchange:
        told = dict(request)
        asked = told["messages"][-1]["content"]
        exchange = {"asked": asked, "asked_characters": sum(len(turn["content"]) for turn in told["messages"])}
        status, body = chat(told, flaws)
        if told["stream"] and status == 200:
            lines = tuple((1 + number / 10, line) for number, line in enumerate(stream(told, flaws)))
            return Exchange(**exchange, status=200, lines=lines)
        return Exchange(**exchange, status=status, body=json.dumps(body))

    checks, figures, is_reachable = examine(ask, wish, on_check=lambda _what: None)
    assert is_reachable
    assert [check.id for check in checks] == list(CheckId)
    return {check.id: check for check in checks}, figures


def test_a_good_endpoint_passes_everything() -> None:
    checks, figures = _examine()
    assert {check.outcome for check in checks.values()} == {Outcome.PASS}
    assert "from the prefix cache" in checks[CheckId.SECOND_TURN].summary
    assert figures.first_token_seconds == 1
    assert figures.decode_tokens_per_second == pytest.approx((len(PROSE) // 4 - 1) / ((len(PROSE.split()) - 1) / 10))
    assert figures.missing == ()


@pytest.mark.parametrize(
    ("fault", "failed", "words"),
    [
        ("endless", {CheckId.LONG_PROMPT_FACT, CheckId.RECALL}, "should have said 7305"),
        (
            "gibberish",
            {CheckId.KNOWN_ANSWER, CheckId.PROSE, CheckId.LONG_PROMPT_FACT, CheckId.RECALL},
            "should have said 42",
        ),
        ("forgets", {CheckId.RECALL}, f"should have said {KEEPER}"),
        ("unparsed-tools", {CheckId.TOOL_CALL}, "came back as text"),
        ("no-call", {CheckId.TOOL_CALL}, "answered in words"),
        ("wrong-tool", {CheckId.TOOL_CALL}, "`rm_rf`, which was not offered"),
        (
            "markup",
            {CheckId.KNOWN_ANSWER, CheckId.PROSE, CheckId.LONG_PROMPT_FACT, CheckId.RECALL},
            "control markup was left in the answer: <think>",
        ),
        ("breaks-off", {CheckId.STREAM, CheckId.PROSE, CheckId.LONG_PROMPT}, "broke off before its end mark"),
    ],
)
def test_what_is_broken_fails_where_it_is_broken(fault: str, failed: set[CheckId], words: str) -> None:
    checks, _ = _examine(fault)
    assert {name for name, check in checks.items() if check.outcome is Outcome.FAIL} == failed
    assert any(words in checks[name].summary for name in failed)


def test_random_weights_are_not_judged_but_their_endpoint_is() -> None:
    toy = SmokeWish(model="m", content_judged=False)
    checks, _ = _examine("gibberish", wish=toy)
    judged = {CheckId.KNOWN_ANSWER, CheckId.PROSE, CheckId.LONG_PROMPT_FACT, CheckId.RECALL, CheckId.TOOL_CALL}
    assert {name for name, check in checks.items() if check.outcome is Outcome.NOT_JUDGED} == judged
    assert {check.outcome for name, check in checks.items() if name not in judged} == {Outcome.PASS}
    broken, _ = _examine("breaks-off", wish=toy)
    assert broken[CheckId.STREAM].outcome is Outcome.FAIL


def test_a_server_without_tools_is_said_to_have_none() -> None:
    checks, _ = _examine("no-tools")
    assert checks[CheckId.TOOLS].outcome is Outcome.NOT_SUPPORTED
    assert "--enable-auto-tool-choice" in checks[CheckId.TOOLS].summary
    assert checks[CheckId.TOOL_CALL].outcome is Outcome.NOT_RUN


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        # Of vLLM 0.32, Ollama and llama-server b11434 in their own words.
        (400, '"auto" tool choice requires --enable-auto-tool-choice', Outcome.NOT_SUPPORTED),
        (400, "registry.ollama.ai/library/x does not support tools", Outcome.NOT_SUPPORTED),
        (500, "tools param requires --jinja flag", Outcome.NOT_SUPPORTED),
        (501, "tools are not implemented", Outcome.NOT_SUPPORTED),
        (500, "unexpected error in function decode_impl", Outcome.FAIL),
        (500, "the tool parser raised KeyError", Outcome.FAIL),
        (503, "the tool pool is loading", Outcome.FAIL),
        (429, "too many function calls a minute", Outcome.FAIL),
        (400, "no such model", Outcome.FAIL),
    ],
)
def test_only_a_refusal_means_that_there_are_no_tools(status: int, body: str, outcome: Outcome) -> None:
    exchange = Exchange(asked="?", asked_characters=1, status=status, body=body)
    first, second = Judge(content_judged=False).tools(exchange)
    assert first.outcome is outcome
    assert f"HTTP {status}: {body}" in first.summary
    assert second.outcome is Outcome.NOT_RUN


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (400, "the request exceeds the available context size, try increasing it", Outcome.NOT_SUPPORTED),
        (429, "too many tokens a minute", Outcome.FAIL),
        (500, "context shift is disabled", Outcome.FAIL),
    ],
)
def test_only_a_refusal_means_that_the_context_is_short(status: int, body: str, outcome: Outcome) -> None:
    exchange = Exchange(asked="?", asked_characters=1, status=status, body=body)
    assert Judge(content_judged=True).long_prompt(exchange, more_than_tokens=64)[0].outcome is outcome


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"function": {"name": 5, "arguments": "{}"}}, "no chat completion"),
        ({"function": {"arguments": "{}"}}, "which was not offered"),
        ({"function": {"name": "get_weather", "arguments": "[" * 100_000}}, "no JSON"),
        ({"function": {"name": "get_weather", "arguments": "[1]"}}, "called the tool for None"),
        ({"function": "get_weather"}, "no chat completion"),
    ],
)
def test_calls_that_are_none(call: dict[str, Any], words: str) -> None:
    body = json.dumps({"choices": [{"message": {"content": None, "tool_calls": [call]}}]})
    checks = Judge(content_judged=True).tools(Exchange(asked="?", asked_characters=1, status=200, body=body))
    assert any(check.outcome is Outcome.FAIL and words in check.summary for check in checks)


def test_a_server_that_cannot_be_told_not_to_think_is_asked_plainly() -> None:
    checks, _ = _examine("no-thinking-flag")
    assert {check.outcome for check in checks.values()} == {Outcome.PASS}


def test_tokens_that_nobody_counts_give_no_speed() -> None:
    checks, figures = _examine("no-usage")
    assert {check.outcome for check in checks.values()} == {Outcome.PASS}
    assert figures.decode_tokens_per_second is None
    assert any("does not count its tokens" in reason for reason in figures.missing)


def test_a_context_without_room_for_a_long_prompt() -> None:
    checks, _ = _examine(wish=SmokeWish(model="m", context_tokens=2048))
    assert checks[CheckId.LONG_PROMPT].outcome is Outcome.NOT_RUN
    refused, _ = _examine("short-context")
    assert refused[CheckId.LONG_PROMPT].outcome is Outcome.NOT_SUPPORTED
    assert refused[CheckId.RECALL].outcome is Outcome.NOT_RUN
    assert refused[CheckId.TOOL_CALL].outcome is Outcome.PASS


def test_without_a_first_completion_nothing_else_is_asked() -> None:
    asked = []

    def ask(request: Mapping[str, Any]) -> Exchange:
        asked.append(request)
        return Exchange(asked="?", asked_characters=1, failure="ConnectionResetError: gone")

    checks, _, is_reachable = examine(ask, _WISH, on_check=lambda _what: None)
    assert (len(asked), is_reachable) == (1, False)
    assert checks[0].summary == "ConnectionResetError: gone"
    assert {check.outcome for check in checks[1:]} == {Outcome.NOT_RUN}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        (" \n ", "empty"),
        ("<" * 100, "repetitions of '<'"),
        ("Well, it goes. " + "over and over " * 20, "repetitions of"),
        ("Fine text \ufffd\ufffd\ufffd\ufffd and \x01 more", "control or replacement characters"),
        (" ".join(f"a b c d {number % 3}" for number in range(30)), "repetitions of|round in circles"),
    ],
)
def test_text_that_is_broken(text: str, words: str) -> None:
    trouble = trouble_of(text)
    assert trouble is not None
    assert any(word in trouble for word in words.split("|"))


@pytest.mark.parametrize("text", ["42", PROSE, "- one\n- two\n- three", "x = 1\ny = 2\n" * 3, "的自行车很好。" * 2])
def test_text_that_is_not(text: str) -> None:
    assert trouble_of(text) is None


def test_prose_has_to_be_english_about_its_topic() -> None:
    topic = ("bicycl", "wheel")
    assert trouble_of_prose(PROSE, topic) is None
    assert "no English" in str(
        trouble_of_prose("Zuweisung los karma oblong velvet sieben plinth orchid gamma " * 2, topic)
    )
    cats = "There is a cat on the mat, and it has been there for so long that no one can say when it came."
    assert "does not speak of" in str(trouble_of_prose(cats, topic))


def test_a_loop_is_found_with_its_piece() -> None:
    assert repeated_end("abc " + "xy" * 40) == ("xy", 40)
    assert repeated_end(PROSE) is None


@pytest.mark.parametrize(
    "markup", ["<|im_end|>", "<\uff5cDSML\uff5cinvoke>", "<\uff5cend\u2581of\u2581sentence\uff5c>", "</think>"]
)
def test_control_markup(markup: str) -> None:
    assert markup_of(f"Well, {markup} it is") is not None
    assert markup_of("a < b | c > d, and <b>bold</b>") is None


def test_the_long_prompt_is_as_long_as_asked_and_holds_its_facts() -> None:
    text = long_prompt(4000)
    assert 4000 < len(text) < 4300
    assert text.index(KEEPER) < len(text) / 4 < text.index("7305") < len(text) * 0.7
    assert long_prompt(10).count("7305") == 1


def test_how_long_a_prompt_has_to_be() -> None:
    assert characters_for(1000, ((50, 40), (350, 120))) == 3750
    assert characters_for(1000, ((50, None), (350, 120))) == 4000


@pytest.mark.parametrize(
    ("exchange", "words"),
    [
        ({"status": 200}, "HTTP 200 without a body"),
        ({"status": 200, "body": "[" * 100_000}, "no chat completion"),
        (
            {"status": 200, "body": '{"choices": [{"message": {}}], "usage": {"prompt_tokens": true}}'},
            "no chat completion",
        ),
        (
            {"status": 200, "body": '{"choices": [{"message": {}}], "usage": {"prompt_tokens": -1}}'},
            "no chat completion",
        ),
        ({"status": 200, "body": '{"cho', "failure": "it was silent for 5 s"}, "^it was silent for 5 s$"),
        ({"status": 308, "location": "https://a:b@x/v1?key=1"}, "^HTTP 308 to https://x/v1$"),
        ({"status": 200, "body": "<html>welcome"}, "no chat completion: <html>welcome"),
        ({"status": 200, "body": '{"choices": [{"message": {"content": 5}}]}'}, "no chat completion"),
        ({"status": 502, "body": "bad gateway"}, "HTTP 502: bad gateway"),
        ({"status": 200, "lines": ((0.1, "data: {broken"),)}, "no chat completion: data: {broken"),
        ({"status": 200, "lines": ((0.1, 'data: {"error": {"message": "boom"}}'),)}, "broke off.*boom"),
        ({"failure": "it was silent for 5 s"}, "silent for 5 s"),
    ],
)
def test_what_is_no_answer(exchange: dict[str, Any], words: str) -> None:
    with pytest.raises(NoAnswerError, match=words):
        read_answer(Exchange(asked="?", asked_characters=1, **exchange))


@pytest.mark.parametrize(
    ("status", "reachable", "way_on"),
    [
        (401, True, "--key-file FILE"),
        (404, True, "--model NAME"),
        (307, True, "no redirect is followed"),
        (500, True, None),
        (429, False, "wait 9 s, then ask again"),
        (502, False, "behind this gateway"),
        (503, False, "wait 9 s, then ask again"),
    ],
)
def test_a_first_question_that_is_refused_says_what_to_do(status: int, *, reachable: bool, way_on: str | None) -> None:
    def ask(_: Mapping[str, Any]) -> Exchange:
        return Exchange(asked="?", asked_characters=1, status=status, body="no", retry_after="9")

    checks, _, is_reachable = examine(ask, _WISH, on_check=lambda _what: None)
    assert checks[0].outcome is Outcome.FAIL
    assert is_reachable is reachable
    assert checks[0].fix is None if way_on is None else way_on in str(checks[0].fix)


def test_an_answer_in_one_piece_is_no_stream() -> None:
    body = json.dumps({"choices": [{"message": {"content": PROSE}}]})
    first, second = Judge(content_judged=True).prose(Exchange(asked="?", asked_characters=1, status=200, body=body))
    assert (first.outcome, second.outcome) == (Outcome.FAIL, Outcome.PASS)
    assert "it was not streamed" in first.summary


def test_tokens_without_any_text_are_told_as_such() -> None:
    body = json.dumps({"choices": [{"message": {"content": None}}], "usage": {"completion_tokens": 3}})
    _, known = Judge(content_judged=True).chat(Exchange(asked="?", asked_characters=1, status=200, body=body))
    assert known.outcome is Outcome.FAIL
    assert "no text came back" in known.summary
    assert "--reasoning-parser" in str(known.fix)


def test_evidence_gives_a_terminal_no_commands() -> None:
    assert shortened("\x1b]0;owned\x07 hi\u202e\ud800") == "\ufffd]0;owned\ufffd hi\ufffd\ufffd"


def test_evidence_is_shortened_in_its_middle() -> None:
    text = shortened("begin " + "x" * 1000 + " end")
    assert text.startswith("begin")
    assert text.endswith(" end")
    assert len(text) < 260


def _streamed(prompt_tokens: int, *, cached: int = 0) -> Exchange:
    usage = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": 1,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
    events: tuple[dict[str, Any], ...] = (
        {"choices": [{"delta": {"content": "7305"}, "finish_reason": "stop"}]},
        {"choices": [], "usage": usage},
    )
    lines = tuple((2.0, f"data: {json.dumps(event)}") for event in events)
    return Exchange(asked="?", asked_characters=1, status=200, lines=(*lines, (2.0, "data: [DONE]")))


@pytest.mark.parametrize(("tokens", "outcome"), [(2048, Outcome.NOT_RUN), (2049, Outcome.PASS)])
def test_a_prompt_that_came_out_short_proves_nothing(tokens: int, outcome: Outcome) -> None:
    check, _ = Judge(content_judged=True).long_prompt(_streamed(tokens), more_than_tokens=2048)
    assert check.outcome is outcome


def test_what_came_from_a_cache_was_not_read() -> None:
    assert figures_of(None, _streamed(3000, cached=1000)).prompt_tokens_per_second == 1000
