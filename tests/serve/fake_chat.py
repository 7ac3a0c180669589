"""A chat that is as good or as bad as a test wants it: what a server would send for a request."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

PROSE = (
    "When you ride a bicycle, you keep it from falling by steering a little to the side on which it begins to lean. "
    "The handlebars turn the front wheel, the wheels roll back under your weight, and you are upright again. At a good "
    "speed a tiny turn is enough, and the turning wheels help as well. When the bicycle hardly moves, you have to turn "
    "far and fast, and that is why slow riding is hard."
)
FAULTS = (
    "endless", "gibberish", "forgets", "unparsed-tools", "wrong-tool", "no-tools", "markup", "breaks-off",
    "no-thinking-flag", "no-usage", "no-call", "short-context",
)  # fmt: skip
_PROMPTS = {
    "17 plus 25": "42",
    "eighty English words": PROSE,
    "door code of the depot": "7305",
    "keeps the keys, going": "Marisol",
}
_CALL = {"id": "call-1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Lisbon"}'}}


def chat(request: dict[str, Any], faults: frozenset[str]) -> tuple[int, dict[str, Any]]:
    """Status and body of an answer in one piece."""
    refused = _refusal(request, faults)
    if refused is not None:
        return 400, {"error": {"message": refused}}
    message: dict[str, Any] = {"role": "assistant", "content": _text(request, faults)}
    if request.get("tools") and not faults & {"unparsed-tools", "no-call"}:
        name = "rm_rf" if "wrong-tool" in faults else "get_weather"
        message |= {"content": None, "tool_calls": [{**_CALL, "function": {**_CALL["function"], "name": name}}]}  # type: ignore[dict-item]
    usage = None if "no-usage" in faults else _usage(request, message["content"] or "")
    return 200, {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}


def stream(request: dict[str, Any], faults: frozenset[str]) -> Iterator[str]:
    """The lines of a streamed answer."""
    text = _text(request, faults)
    for word in re.findall(r"\s*\S+", text):
        yield _event({"choices": [{"delta": {"content": word}, "finish_reason": None}]})
        if "breaks-off" in faults:
            return
    yield _event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
    if "no-usage" not in faults:
        yield _event({"choices": [], "usage": _usage(request, text)})
    yield "data: [DONE]"


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data)}"


def _refusal(request: dict[str, Any], faults: frozenset[str]) -> str | None:
    if "no-thinking-flag" in faults and "chat_template_kwargs" in request:
        return "unknown field chat_template_kwargs"
    if "no-tools" in faults and request.get("tools"):
        return '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
    if "short-context" in faults and len(str(request["messages"])) > 4000:
        return "the request exceeds the available context size, try increasing it"
    return None


def _text(request: dict[str, Any], faults: frozenset[str]) -> str:
    asked = request["messages"][-1]["content"]
    long = len(str(request["messages"])) > 4000
    if "endless" in faults and long:
        return "<" * 200
    if "gibberish" in faults:
        return "Zuweisung los приём 的 karma teh oblong, velvet sieben plinth над orchid 门 gamma sette " * 3
    if "forgets" in faults and len(request["messages"]) > 1:
        return "I do not see any list in our conversation."
    if request.get("tools"):
        return "It is sunny." if "no-call" in faults else '<tool_calls>get_weather(city="Lisbon")</tool_calls>'
    answer = next((text for words, text in _PROMPTS.items() if words in asked[-400:]), "hello")
    return f"<think>\n\n</think>{answer}" if "markup" in faults else answer


def _usage(request: dict[str, Any], text: str) -> dict[str, Any]:
    """Four characters a token, and twenty for the template."""
    characters = sum(len(message["content"]) for message in request["messages"])
    cached = 0 if len(request["messages"]) == 1 else len(request["messages"][0]["content"]) // 4
    return {
        "prompt_tokens": 20 + characters // 4,
        "completion_tokens": max(1, len(text) // 4),
        "prompt_tokens_details": {"cached_tokens": cached},
    }
