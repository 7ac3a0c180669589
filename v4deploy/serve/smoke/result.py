"""What a smoke test found out. Pure data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class CheckId(StrEnum):
    """What is looked at. The first of each pair is the endpoint's work, the second what the model made of it."""

    CHAT = "chat"
    KNOWN_ANSWER = "known-answer"
    STREAM = "stream"
    PROSE = "prose"
    LONG_PROMPT = "long-prompt"
    LONG_PROMPT_FACT = "long-prompt-fact"
    SECOND_TURN = "second-turn"
    RECALL = "recall"
    TOOLS = "tools"
    TOOL_CALL = "tool-call"


class Outcome(StrEnum):
    """NOT_SUPPORTED: the endpoint does not offer it. NOT_JUDGED: random weights say nothing. NOT_RUN: it says why."""

    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    NOT_SUPPORTED = "not-supported"
    NOT_JUDGED = "not-judged"
    NOT_RUN = "not-run"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """One check, with its evidence.

    Attributes:
        summary: what was found, in one sentence without a full stop; the reason where it did not pass.
        asked, answered: shortened in their middle; "" where nothing was asked or came back.
        fix: what to do; None where it passed or nothing is known.
    """

    id: CheckId
    outcome: Outcome
    summary: str
    asked: str = ""
    answered: str = ""
    fix: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What was measured by this client, over the network as it is.

    Attributes:
        first_token_seconds: from the request to the first token of the prose answer.
        decode_tokens_per_second: after the first token of that answer; None where it was short or its tokens were not
            counted.
        decoded_tokens: so many tokens stand behind it.
        prompt_tokens_per_second: the long prompt's tokens, without those that came from a cache, up to its first token.
        prompt_tokens: so many tokens stand behind it.
        missing: why a figure is None.
    """

    first_token_seconds: float | None = None
    decode_tokens_per_second: float | None = None
    decoded_tokens: int | None = None
    prompt_tokens_per_second: float | None = None
    prompt_tokens: int | None = None
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SmokeReport:
    """All checks of one endpoint.

    Attributes:
        content_judged: false when the weights are random, so that only the endpoint was tested.
        is_reachable: it answered the first request; else it is down, still loading, or takes no requests now.
    """

    base_url: str
    model: str
    content_judged: bool
    is_reachable: bool
    checks: tuple[CheckResult, ...]
    figures: Figures
    elapsed_seconds: float

    @property
    def failed(self) -> tuple[CheckResult, ...]:
        return tuple(check for check in self.checks if check.outcome is Outcome.FAIL)
