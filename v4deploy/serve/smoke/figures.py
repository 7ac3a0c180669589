"""What the exchanges of a smoke test say about speed. Pure; only what was measured."""

from __future__ import annotations

from v4deploy.serve.smoke.answer import ChatAnswer, Exchange, NoAnswerError, read_answer
from v4deploy.serve.smoke.result import Figures

_LEAST_DECODED_TOKENS = 32
_LEAST_PROMPT_TOKENS = 256


def figures_of(prose: Exchange | None, long_prompt: Exchange | None) -> Figures:
    """Times of the prose answer and of the long prompt; a figure that cannot be had is None, and `missing` says why."""
    told, read = _answer(prose), _answer(long_prompt)
    missing = []
    decode = prompt_rate = None
    decoded = told.completion_tokens if told else None
    if told is None or told.first_token_seconds is None or told.last_token_seconds is None:
        missing.append("no time to the first token: nothing was streamed")
    elif decoded is None:
        missing.append("no decode speed: the endpoint does not count its tokens")
    elif decoded < _LEAST_DECODED_TOKENS or told.last_token_seconds <= told.first_token_seconds:
        missing.append(f"no decode speed: {decoded} tokens are too few to tell")
    else:
        decode = (decoded - 1) / (told.last_token_seconds - told.first_token_seconds)
    tokens = read.prompt_tokens - (read.cached_tokens or 0) if read and read.prompt_tokens is not None else None
    if tokens is None or read is None or not read.first_token_seconds:
        missing.append("no prompt speed: the long prompt was not read, or its tokens not counted")
    elif tokens < _LEAST_PROMPT_TOKENS:
        missing.append(f"no prompt speed: {tokens} tokens are too few to tell")
    else:
        prompt_rate = tokens / read.first_token_seconds
    return Figures(
        first_token_seconds=told.first_token_seconds if told else None,
        decode_tokens_per_second=decode,
        decoded_tokens=decoded,
        prompt_tokens_per_second=prompt_rate,
        prompt_tokens=tokens,
        missing=tuple(missing),
    )


def _answer(exchange: Exchange | None) -> ChatAnswer | None:
    if exchange is None:
        return None
    try:
        return read_answer(exchange)
    except NoAnswerError:
        return None
