"""Reads what an endpoint sent: a chat completion in one piece, or streamed. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from v4deploy.serve.smoke.text import redirect_target, shortened


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request and all that came back.

    Attributes:
        asked: the last turn.
        asked_characters: of all turns.
        status: HTTP status; None when nothing came back, and then `failure` says why.
        body: of an answer in one piece, or of an error.
        lines: of a streamed answer, each with the seconds since the request.
        failure: what a network or server did in place of an answer; also after a part of it (an answer in one piece is
            then none, however good its status was).
        location, retry_after: the headers of these names; None where it sent none.
    """

    asked: str
    asked_characters: int
    status: int | None = None
    body: str = ""
    lines: tuple[tuple[float, str], ...] = ()
    duration_seconds: float = 0.0
    failure: str | None = None
    location: str | None = None
    retry_after: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """`arguments` is text that should be JSON."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatAnswer:
    """A completion.

    Attributes:
        prompt_tokens, completion_tokens: as the endpoint counts them; None when it does not say.
        cached_tokens: of the prompt, taken from the prefix cache; None when it does not say.
        first_token_seconds, last_token_seconds: since the request, of a streamed answer; None of another.
        is_finished: the stream came to its end mark; true for an answer in one piece.
    """

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    first_token_seconds: float | None = None
    last_token_seconds: float | None = None
    is_finished: bool = True

    @property
    def said(self) -> str:
        """The answer, or the thoughts where there is no answer."""
        return self.text if self.text.strip() else self.reasoning


class NoAnswerError(Exception):
    """What came back is no completion; the message says why."""


def read_answer(exchange: Exchange) -> ChatAnswer:
    """Understand an exchange.

    Raises:
        NoAnswerError: it failed, was refused, or is not of the form of the OpenAI API.
    """
    if exchange.status is None or (exchange.failure and not exchange.lines):
        raise NoAnswerError(exchange.failure or "nothing came back")
    if exchange.status != 200:  # noqa: PLR2004 - HTTP
        leads = f" to {redirect_target(exchange.location)}" if exchange.location else ""
        raise NoAnswerError(f"HTTP {exchange.status}{leads}: {shortened(exchange.body, 300)}".rstrip(": "))
    if not (exchange.lines or exchange.body.strip()):
        raise NoAnswerError(f"HTTP {exchange.status} without a body")
    try:
        return _streamed(exchange) if exchange.lines else _whole(json.loads(exchange.body))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        seen = exchange.body or "\n".join(line for _, line in exchange.lines)
        raise NoAnswerError(f"it is no chat completion: {shortened(seen, 300)}") from error


def is_end(line: str) -> bool:
    """Whether a line of a stream is its end mark; the space in it is optional."""
    return line.removeprefix("data:").strip() == "[DONE]"


def _whole(data: Any) -> ChatAnswer:
    choice = data["choices"][0]
    message = choice["message"]
    calls = tuple(
        ToolCall(name=_text(call["function"].get("name")), arguments=_text(call["function"].get("arguments")))
        for call in message.get("tool_calls") or ()
    )
    answer = ChatAnswer(
        text=_text(message.get("content")),
        reasoning=_text(message.get("reasoning_content") or message.get("reasoning")),
        tool_calls=calls,
        finish_reason=choice.get("finish_reason"),
    )
    return _with_usage(answer, data.get("usage"))


def _streamed(exchange: Exchange) -> ChatAnswer:
    text, reasoning, times = "", "", []
    finish_reason, usage, is_finished = None, None, False
    for seconds, line in exchange.lines:
        if not line.startswith("data:"):
            continue
        if is_end(line):
            is_finished = True
            continue
        payload = line.removeprefix("data:").strip()
        data = json.loads(payload)
        if data.get("error"):
            raise NoAnswerError(f"it broke off: {shortened(payload, 300)}")
        usage = data.get("usage") or usage
        for choice in data.get("choices") or ():
            delta = choice.get("delta") or {}
            more, thought = _text(delta.get("content")), _text(delta.get("reasoning_content") or delta.get("reasoning"))
            if more or thought:
                times.append(seconds)
            text, reasoning = text + more, reasoning + thought
            finish_reason = choice.get("finish_reason") or finish_reason
    answer = ChatAnswer(
        text=text,
        reasoning=reasoning,
        finish_reason=finish_reason,
        first_token_seconds=times[0] if times else None,
        last_token_seconds=times[-1] if times else None,
        is_finished=is_finished,
    )
    return _with_usage(answer, usage)


def _with_usage(answer: ChatAnswer, usage: Any) -> ChatAnswer:
    usage = usage or {}
    details = usage.get("prompt_tokens_details") or {}
    return replace(
        answer,
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
        cached_tokens=_count(details.get("cached_tokens")),
    )


def _text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _count(value: Any) -> int | None:
    if value is not None and (type(value) is not int or value < 0):
        raise TypeError(value)
    return value
