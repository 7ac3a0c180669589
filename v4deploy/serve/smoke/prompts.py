"""What is asked. Pure: the same every time, so that two endpoints can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KNOWN_QUESTION = "What is 17 plus 25? Answer with the number alone."
KNOWN_ANSWER = "42"

PROSE_QUESTION = (
    "Explain to a child, in one paragraph of about eighty English words, how the rider of a bicycle keeps it from "
    "falling over, what the turning wheels and the handlebars have to do with it, and why it is harder when the "
    "bicycle is hardly moving. Write plain sentences, no list and no heading."
)
PROSE_TOPIC = ("bicycl", "bike", "wheel", "rid", "handlebar", "balanc", "steer", "pedal", "lean")

DOOR_CODE = "7305"
KEEPER = "Marisol"
_GOODS = ("copper lamps", "oak barrels", "wool coats", "clay jars", "iron hinges", "paper lanterns", "glass floats")
LONG_QUESTION = "Going by this list, what is the door code of the depot? Answer with the number alone."
RECALL_QUESTION = "And who keeps the keys, going by the same list? Answer with the name alone."

TOOL_NAME = "get_weather"
TOOL_CITY = "Lisbon"
TOOL_QUESTION = f"Use the tool to find out what the weather in {TOOL_CITY} is right now."
_TOOL = {
    "type": "function",
    "function": {
        "name": TOOL_NAME,
        "description": "The weather in a city right now.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "name of the city"}},
            "required": ["city"],
        },
    },
}

ANSWER_TOKENS = 64
PROSE_TOKENS = 256
THINKING_TOKENS = 2048
"""For endpoints that cannot be asked not to think first."""

UNREAD_TOKENS = 8

_CHARACTERS_A_TOKEN = 4.0
"""Of English text, where the endpoint does not count tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How this endpoint is asked.

    Attributes:
        thinks: it may think before it answers, so answers need room; false where it took the request not to.
        is_read: somebody judges its answers; what nobody reads need not be long.
        takes_effort: it is asked not to think by `reasoning_effort`, and reads no template arguments (Ollama, whose
            models think unless they are asked not to).
    """

    model: str
    thinks: bool = False
    is_read: bool = True
    takes_effort: bool = False

    def request(
        self, *turns: str, tokens: int = ANSWER_TOKENS, stream: bool = False, tools: bool = False
    ) -> Mapping[str, Any]:
        """A chat request. Turns alternate: user, assistant, user."""
        roles = ("user", "assistant")
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": roles[number % 2], "content": text} for number, text in enumerate(turns)],
            "max_tokens": self._most(tokens),
            # What fails now shall fail again when it is looked into.
            "temperature": 0,
            "stream": stream,
        }
        if stream:
            body["stream_options"] = {"include_usage": True}
        if tools:
            body |= {"tools": [_TOOL], "tool_choice": "auto"}
        if not self.thinks and self.takes_effort:
            body["reasoning_effort"] = "none"
        elif not self.thinks:
            # V4's templates call it `thinking`; others listen to `enable_thinking`.
            body["chat_template_kwargs"] = {"thinking": False, "enable_thinking": False}
        return body

    def _most(self, tokens: int) -> int:
        if not self.is_read:
            return UNREAD_TOKENS
        return max(tokens, THINKING_TOKENS) if self.thinks else tokens


def long_prompt(characters: int) -> str:
    """A list of about that length, with the name of a keeper near its front and a door code in its middle."""
    lines: list[str] = ["An inventory of the depot, shelf by shelf:"]
    length, number = 0, 0
    facts = [
        (characters // 10, f"Note: {KEEPER} keeps the keys."),
        (characters // 2, f"Note: the door code is {DOOR_CODE}."),
    ]
    while length < characters or facts:
        if facts and length >= facts[0][0]:
            lines.append(facts.pop(0)[1])
        number += 1
        lines.append(f"Shelf {number}: {number * 37 % 89 + 2} {_GOODS[number * 5 % len(_GOODS)]}.")
        length += len(lines[-1]) + 1
    return "\n".join((*lines, LONG_QUESTION))


def characters_for(tokens: int, samples: tuple[tuple[int, int | None], ...]) -> int:
    """How long a prompt has to be to have so many tokens.

    Args:
        tokens: wanted.
        samples: characters and counted tokens of earlier prompts; None where they were not counted. What the template
            adds is the same in all of them, so the difference of two says how long a token is.
    """
    known = sorted((characters, counted) for characters, counted in samples if counted is not None)
    if len(known) > 1 and known[-1][1] > known[0][1] and known[-1][0] > known[0][0]:
        return round(tokens * (known[-1][0] - known[0][0]) / (known[-1][1] - known[0][1]))
    return round(tokens * _CHARACTERS_A_TOKEN)
