"""Judges recorded exchanges, one function a pair of checks. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from v4deploy.serve.smoke import prompts
from v4deploy.serve.smoke.answer import ChatAnswer, Exchange, NoAnswerError, read_answer
from v4deploy.serve.smoke.result import CheckId, CheckResult, Outcome
from v4deploy.serve.smoke.text import markup_of, shortened, trouble_of, trouble_of_prose, waiting_words

RANDOM = "the weights are random, so what it says is noise"
_WEIGHTS = (
    "check the weights (`v4deploy verify`), then the engine's version and its KV cache type: quantised caches of early "
    "llama.cpp builds and wrong kernels print such text behind a good health check"
)
_CACHE = (
    "start the engine without its prefix cache (llama.cpp: `--no-cache-prompt`) and ask again: then the cache is it"
)
_STREAMING = (
    "let the server stream (`text/event-stream`), and look for a proxy that collects answers before it sends them"
)
_PARSER = (
    "give the engine V4's parsers (vLLM: `--enable-auto-tool-choice --tool-call-parser deepseek_v4 --reasoning-parser "
    "deepseek_v4`; llama.cpp: `--jinja` and a GGUF with V4's chat template)"
)
# vLLM and Ollama refuse with 400, other servers with the status for what is not of the form or not there.
_REFUSALS = (400, 422, 501)
_TOOLS_REFUSED = re.compile(r"tool|function|jinja", re.IGNORECASE)
# llama-server (b11434) without Jinja calls its refusal a server error; no other 500 is one.
_TOOLS_WITHOUT_JINJA = re.compile(r"tools? param requires --jinja")
_REDIRECTS, _SERVER_ERROR = range(300, 400), 500
_CONTEXT_REFUSED = re.compile(r"context|too (long|large|many tokens)|max_model_len|maximum.{0,20}length", re.IGNORECASE)
# Not 429: a gateway's "too many tokens" a minute is no context.
_TOO_LONG = (400, 413, 422)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Turns exchanges into results. `content_judged` is false for random weights."""

    content_judged: bool

    def chat(self, exchange: Exchange) -> tuple[CheckResult, ...]:
        """The first completion, and whether it is right."""
        known = _must_say(prompts.KNOWN_ANSWER, _WEIGHTS)
        return self._pair(exchange, CheckId.CHAT, CheckId.KNOWN_ANSWER, known)

    def prose(self, exchange: Exchange) -> tuple[CheckResult, ...]:
        """A streamed paragraph, and whether it is one."""
        first, second = self._pair(exchange, CheckId.STREAM, CheckId.PROSE, _prose)
        if first.outcome is Outcome.PASS and not exchange.lines:
            whole = "it was not streamed: the answer came in one piece"
            first = _result(exchange, CheckId.STREAM, Outcome.FAIL, whole, fix=_STREAMING)
        return first, second

    def long_prompt(self, exchange: Exchange, *, more_than_tokens: int) -> tuple[CheckResult, ...]:
        """A prompt that takes more than one micro-batch, and whether its middle was read."""
        fact = _must_say(prompts.DOOR_CODE, _WEIGHTS)
        if exchange.status in _TOO_LONG and _CONTEXT_REFUSED.search(exchange.body):
            return _not_supported(exchange, (CheckId.LONG_PROMPT, CheckId.LONG_PROMPT_FACT), "its context is too short")
        first, second = self._pair(exchange, CheckId.LONG_PROMPT, CheckId.LONG_PROMPT_FACT, fact)
        tokens = _prompt_tokens(exchange)
        if first.outcome is Outcome.PASS and tokens is not None and tokens <= more_than_tokens:
            short = (
                f"the prompt came out at {tokens} tokens, which is not more than a micro-batch of {more_than_tokens}"
            )
            first = _result(exchange, CheckId.LONG_PROMPT, Outcome.NOT_RUN, short)
        return first, second

    def second_turn(self, exchange: Exchange) -> tuple[CheckResult, ...]:
        """A second turn on the long prompt, which comes from the prefix cache, and whether the first is remembered."""
        return self._pair(exchange, CheckId.SECOND_TURN, CheckId.RECALL, _must_say(prompts.KEEPER, _CACHE))

    def tools(self, exchange: Exchange) -> tuple[CheckResult, ...]:
        """A request with a tool, and whether a call of it came back."""
        refused = exchange.status in _REFUSALS and _TOOLS_REFUSED.search(exchange.body)
        if refused or (exchange.status == _SERVER_ERROR and _TOOLS_WITHOUT_JINJA.search(exchange.body)):
            said = f"it takes no tools: HTTP {exchange.status}: {shortened(exchange.body, 200)}"
            return _not_supported(exchange, (CheckId.TOOLS, CheckId.TOOL_CALL), said, fix=_PARSER)
        return self._pair(exchange, CheckId.TOOLS, CheckId.TOOL_CALL, _tool_call)

    def _pair(
        self, exchange: Exchange, protocol: CheckId, content: CheckId, judge: Callable[[ChatAnswer], _Judgement]
    ) -> tuple[CheckResult, CheckResult]:
        try:
            answer = read_answer(exchange)
        except NoAnswerError as error:
            failed = _result(exchange, protocol, Outcome.FAIL, str(error), fix=_way_on(exchange))
            return failed, _result(exchange, content, Outcome.NOT_RUN, "nothing came back to judge")
        wrong = _protocol_trouble(answer, exchange)
        said = answer.said
        first = _result(
            exchange, protocol, Outcome.FAIL if wrong else Outcome.PASS, wrong or _counted(answer, protocol), said=said
        )
        if not self.content_judged:
            return first, _result(exchange, content, Outcome.NOT_JUDGED, RANDOM, said=said)
        judgement = judge(answer)
        outcome = Outcome.FAIL if judgement.trouble else Outcome.PASS
        summary = judgement.trouble or judgement.good
        fix = judgement.fix if judgement.trouble else None
        return first, _result(exchange, content, outcome, summary, said=said or _calls(answer), fix=fix)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judgement:
    """`trouble` None: it is as it should be, and `good` says how."""

    trouble: str | None
    good: str
    fix: str


def not_run(ids: tuple[CheckId, ...], reason: str) -> tuple[CheckResult, ...]:
    """Checks that were left out."""
    return tuple(CheckResult(id=check, outcome=Outcome.NOT_RUN, summary=reason) for check in ids)


def _must_say(word: str, fix: str) -> Callable[[ChatAnswer], _Judgement]:
    pattern = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE)
    good = f"it said {word}"

    def judge(answer: ChatAnswer) -> _Judgement:
        # In the thoughts it counts too: a model whose room went into thinking works.
        if pattern.search(f"{answer.text}\n{answer.reasoning}"):
            markup = markup_of(answer.text)
            trouble = f"control markup was left in the answer: {markup}" if markup else None
            return _Judgement(trouble=trouble, good=good, fix=_PARSER)
        if not answer.said.strip():
            lost = f"no text came back, neither content nor reasoning, of {answer.completion_tokens or 'its'} tokens"
            return _Judgement(trouble=lost, good=good, fix=_PARSER)
        return _Judgement(trouble=f"it should have said {word}{_length_words(answer)}", good=good, fix=fix)

    return judge


def _prose(answer: ChatAnswer) -> _Judgement:
    markup = markup_of(answer.text)
    if markup:
        return _Judgement(trouble=f"control markup was left in the answer: {markup}", good="", fix=_PARSER)
    trouble = trouble_of_prose(answer.said, prompts.PROSE_TOPIC)
    return _Judgement(trouble=trouble, good="plain English about what was asked, without loops", fix=_WEIGHTS)


def _tool_call(answer: ChatAnswer) -> _Judgement:
    good = f"it called {prompts.TOOL_NAME} for {prompts.TOOL_CITY}"
    if not answer.tool_calls:
        markup = markup_of(answer.text)
        if markup or prompts.TOOL_NAME in answer.text:
            return _Judgement(trouble="its call came back as text, unparsed", good=good, fix=_PARSER)
        garbled = trouble_of(answer.said)
        words = f"it called no tool: {garbled}" if garbled else "it answered in words and called no tool"
        return _Judgement(trouble=f"{words}{_length_words(answer)}", good=good, fix=_PARSER)
    call = answer.tool_calls[0]
    if call.name != prompts.TOOL_NAME:
        return _Judgement(
            trouble=f"it called `{shortened(call.name, 60)}`, which was not offered", good=good, fix=_PARSER
        )
    try:
        arguments = json.loads(call.arguments)
    except (ValueError, RecursionError):
        return _Judgement(trouble="the arguments of its call are no JSON", good=good, fix=_PARSER)
    city = arguments.get("city") if isinstance(arguments, dict) else None
    right = isinstance(city, str) and prompts.TOOL_CITY.lower() in city.lower()
    return _Judgement(trouble=None if right else f"it called the tool for {city!r}", good=good, fix=_WEIGHTS)


def _protocol_trouble(answer: ChatAnswer, exchange: Exchange) -> str | None:
    if not answer.is_finished:
        return exchange.failure or "the stream broke off before its end mark"
    if not (answer.said.strip() or answer.tool_calls or answer.completion_tokens):
        return "it answered with nothing"
    return None


def _way_on(exchange: Exchange) -> str | None:
    """What to do about an answer that is none; None where its own words have to do."""
    match exchange.status:
        case 401 | 403:
            return "give the server's key: `--key-file FILE`"
        case 404:
            return "is the model's name one that the server knows? `--model NAME`"
        case 429 | 503:
            return waiting_words(exchange.retry_after)
        case 502 | 504:
            return "is the server behind this gateway up?"
        case int() as status if status in _REDIRECTS:
            return "ask where it leads, if that is the API; no redirect is followed, as it would take the key elsewhere"
        case _:
            return None


def _counted(answer: ChatAnswer, check: CheckId) -> str:
    tokens = "tokens not counted" if answer.completion_tokens is None else f"{answer.completion_tokens} tokens"
    prompt = "" if answer.prompt_tokens is None else f" on a prompt of {answer.prompt_tokens}"
    words = f"{tokens}{prompt}"
    if check is CheckId.SECOND_TURN:
        cached = answer.cached_tokens
        words += ", cache not told" if cached is None else f", {cached} of them from the prefix cache"
    return f"{words}, {len(answer.tool_calls)} calls parsed" if check is CheckId.TOOLS else words


def _length_words(answer: ChatAnswer) -> str:
    return f" within {answer.completion_tokens or 'its'} tokens" if answer.finish_reason == "length" else ""


def _calls(answer: ChatAnswer) -> str:
    return "; ".join(f"{call.name}({call.arguments})" for call in answer.tool_calls)


def _prompt_tokens(exchange: Exchange) -> int | None:
    try:
        return read_answer(exchange).prompt_tokens
    except NoAnswerError:
        return None


def _not_supported(
    exchange: Exchange, ids: tuple[CheckId, CheckId], reason: str, fix: str | None = None
) -> tuple[CheckResult, ...]:
    first, second = ids
    return (
        _result(exchange, first, Outcome.NOT_SUPPORTED, reason, said=exchange.body, fix=fix),
        _result(exchange, second, Outcome.NOT_RUN, reason),
    )


def _result(  # noqa: PLR0913 - one keyword a field
    exchange: Exchange, check: CheckId, outcome: Outcome, summary: str, *, said: str = "", fix: str | None = None
) -> CheckResult:
    return CheckResult(
        id=check, outcome=outcome, summary=summary, asked=shortened(exchange.asked), answered=shortened(said), fix=fix
    )
