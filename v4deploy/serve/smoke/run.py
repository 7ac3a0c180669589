"""Runs the smoke test: five requests, one after the other, and their judgements."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from v4deploy.serve.smoke import prompts
from v4deploy.serve.smoke.answer import Exchange, NoAnswerError, read_answer
from v4deploy.serve.smoke.client import post_chat
from v4deploy.serve.smoke.figures import figures_of
from v4deploy.serve.smoke.judge import Judge, not_run
from v4deploy.serve.smoke.prompts import Dialect
from v4deploy.serve.smoke.result import CheckId, CheckResult, Figures, Outcome, SmokeReport
from v4deploy.serve.wire import Endpoint

CHAT_PATH = "/v1/chat/completions"
DEFAULT_MICRO_BATCH_TOKENS = 2048
"""What vLLM's smallest prefill chunk and llama.cpp's usual micro batches (512 to 2048) stay within."""

_LONGER = 1.25
_CONTEXT_SHARE = 0.7
_UNKNOWN_FIELD = (400, 422)
# Too many requests, and what gateways and servers that load say: it may answer later.
_NOT_NOW = (429, 502, 503, 504)
Ask = Callable[[Mapping[str, Any]], Exchange]


@dataclass(frozen=True, slots=True, kw_only=True)
class SmokeWish:
    """What to test.

    Attributes:
        model: the name that requests carry.
        content_judged: false for random weights.
        micro_batch_tokens: the long prompt takes more than this.
        context_tokens: what fits in one sequence; None when not known.
        timeout_seconds: longest silence of the endpoint, for each request.
        takes_effort: it is asked not to think by `reasoning_effort`, and reads no template arguments (Ollama).
    """

    model: str
    content_judged: bool = True
    micro_batch_tokens: int = DEFAULT_MICRO_BATCH_TOKENS
    context_tokens: int | None = None
    timeout_seconds: float = 300.0
    path: str = CHAT_PATH
    takes_effort: bool = False


def smoke_test(
    endpoint: Endpoint, wish: SmokeWish, *, on_check: Callable[[str], None] = lambda _what: None
) -> SmokeReport:
    """Ask an endpoint and judge it. Never raises for what a network or a server can do.

    Args:
        endpoint: where it listens, with its key.
        wish: what to test.
        on_check: told before each request what it is about.
    """

    def ask(request: Mapping[str, Any]) -> Exchange:
        return post_chat(endpoint, wish.path, request, timeout_seconds=wish.timeout_seconds)

    begun = time.monotonic()
    checks, figures, is_reachable = examine(ask, wish, on_check=on_check)
    return SmokeReport(
        base_url=endpoint.base_url,
        model=wish.model,
        content_judged=wish.content_judged,
        is_reachable=is_reachable,
        checks=checks,
        figures=figures,
        elapsed_seconds=time.monotonic() - begun,
    )


def examine(
    ask: Ask, wish: SmokeWish, *, on_check: Callable[[str], None]
) -> tuple[tuple[CheckResult, ...], Figures, bool]:
    """The requests in their order, each made from what the ones before it told.

    Returns the checks, what was measured, and whether the first request was answered with anything but "not now".
    """
    judge = Judge(content_judged=wish.content_judged)
    on_check("a question with a known answer")
    dialect, first = _first(ask, Dialect(model=wish.model, is_read=wish.content_judged, takes_effort=wish.takes_effort))
    checks = judge.chat(first)
    if checks[0].outcome is Outcome.FAIL:
        rest = not_run(tuple(CheckId)[2:], "there was no first completion")
        return (*checks, *rest), figures_of(None, None), first.status is not None and first.status not in _NOT_NOW
    on_check("a paragraph, streamed")
    prose = ask(dialect.request(prompts.PROSE_QUESTION, tokens=prompts.PROSE_TOKENS, stream=True))
    checks += judge.prose(prose)
    long_checks, long = _long(ask, dialect, wish, judge, (first, prose), on_check)
    on_check("a tool call")
    tools = judge.tools(ask(dialect.request(prompts.TOOL_QUESTION, tools=True)))
    return (*checks, *long_checks, *tools), figures_of(prose, long), True


def _first(ask: Ask, dialect: Dialect) -> tuple[Dialect, Exchange]:
    """The first question; once more where the endpoint refuses to be asked not to think."""
    first = ask(dialect.request(prompts.KNOWN_QUESTION))
    if first.status in _UNKNOWN_FIELD:
        plain = replace(dialect, thinks=True)
        second = ask(plain.request(prompts.KNOWN_QUESTION))
        if second.status not in _UNKNOWN_FIELD:
            return plain, second
    return dialect, first


def _long(  # noqa: PLR0913, PLR0917 - what the requests before it left
    ask: Ask,
    dialect: Dialect,
    wish: SmokeWish,
    judge: Judge,
    before: tuple[Exchange, Exchange],
    on_check: Callable[[str], None],
) -> tuple[tuple[CheckResult, ...], Exchange | None]:
    ids = (CheckId.LONG_PROMPT, CheckId.LONG_PROMPT_FACT, CheckId.SECOND_TURN, CheckId.RECALL)
    tokens = round(wish.micro_batch_tokens * _LONGER)
    if wish.context_tokens is not None and tokens > wish.context_tokens * _CONTEXT_SHARE:
        reason = f"a context of {wish.context_tokens} tokens leaves no room for more than {wish.micro_batch_tokens}"
        return not_run(ids, reason), None
    on_check(f"a prompt of some {tokens} tokens")
    characters = prompts.characters_for(tokens, tuple(_sample(exchange) for exchange in before))
    question = prompts.long_prompt(characters)
    long = ask(dialect.request(question, stream=True))
    checks = judge.long_prompt(long, more_than_tokens=wish.micro_batch_tokens)
    if checks[0].outcome not in {Outcome.PASS, Outcome.NOT_RUN}:
        return (*checks, *not_run(ids[2:], "the long prompt was not answered")), long
    on_check("a second turn on it")
    # Its own words, or the prefix would be another one than it has in its cache.
    turn = ask(dialect.request(question, read_answer(long).text, prompts.RECALL_QUESTION, stream=True))
    return (*checks, *judge.second_turn(turn)), long


def _sample(exchange: Exchange) -> tuple[int, int | None]:
    try:
        return exchange.asked_characters, read_answer(exchange).prompt_tokens
    except NoAnswerError:
        return exchange.asked_characters, None
