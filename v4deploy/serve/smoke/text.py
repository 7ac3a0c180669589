"""Is a text language, or what broken weights and kernels print? Pure, and no proof: the known answers are that."""

from __future__ import annotations

import re
import unicodedata

_MOST_BAD_SHARE = 0.02
_LONGEST_PERIOD = 80
_LEAST_REPEATED_CHARACTERS = 48
_LEAST_REPEATS = 5
_LOOP_WORDS = 40
_LEAST_DISTINCT_SHARE = 0.25
_PROSE_WORDS = 12
# English prose has about 40 % of these; word salad of many languages has next to none.
_COMMON = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be but by can for from has have how if in into is it its more not of on or out so than "
        "that the their them then there these they this to up was when which while will with you your",
    )
)
_LEAST_COMMON_SHARE = 0.15
# \uff5c is the full-width bar of DeepSeek's own control tokens.
_MARKUP = re.compile(r"<([|\uff5c])[^|\uff5c<>]{1,40}\1>|</?(think|tool_calls?|function_calls?)>|\uff5cDSML\uff5c")


def trouble_of(text: str) -> str | None:
    """What is wrong with any text that a model wrote; None where nothing is seen."""
    if not text.strip():
        return "it is empty"
    bad = sum(_is_bad(character) for character in text)
    if bad > max(1, len(text) * _MOST_BAD_SHARE):
        return f"{bad} of {len(text)} characters are control or replacement characters"
    if loop := repeated_end(text):
        return f"it ends in {loop[1]} repetitions of {loop[0]!r}"
    words = text.lower().split()
    if len(words) >= _LOOP_WORDS and len(set(words)) / len(words) < _LEAST_DISTINCT_SHARE:
        return f"it goes round in circles: {len(set(words))} different words among {len(words)}"
    return None


def markup_of(text: str) -> str | None:
    """The first control markup that should have been parsed away; None where there is none."""
    found = _MARKUP.search(text)
    return found.group() if found else None


def trouble_of_prose(text: str, topic: tuple[str, ...]) -> str | None:
    """What is wrong with an English text about a topic, of which some word (or its beginning) has to occur."""
    if trouble := trouble_of(text):
        return trouble
    words = re.findall(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*", text.lower())
    if len(words) < _PROSE_WORDS:
        return f"it has {len(words)} words where a paragraph was asked for"
    common = sum(word in _COMMON for word in words)
    if common / len(words) < _LEAST_COMMON_SHARE:
        return f"it is no English: {common} of {len(words)} words are common ones"
    if not any(word.startswith(topic) for word in words):
        return f"it does not speak of what was asked: no word begins with {', '.join(topic)}"
    return None


def repeated_end(text: str) -> tuple[str, int] | None:
    """The piece that a text repeats up to its end, and how often; None where it does not run away."""
    text = text.rstrip("\n")
    for period in range(1, min(_LONGEST_PERIOD, len(text) // _LEAST_REPEATS) + 1):
        length = period
        while length < len(text) and text[-length - 1] == text[-length - 1 + period]:
            length += 1
        if length >= max(_LEAST_REPEATED_CHARACTERS, _LEAST_REPEATS * period):
            return text[-period:], length // period
    return None


def shortened(text: str, most: int = 240) -> str:
    """On one line, with the middle left out where it is long, and nothing that a terminal would take for a command."""
    line = "".join(character if character.isprintable() else "\ufffd" for character in " ".join(text.split()))
    if len(line) <= most:
        return line
    half = (most - 20) // 2
    return f"{line[:half]} [... {len(line) - 2 * half} more ...] {line[-half:]}"


def redirect_target(location: str) -> str:
    """A redirect's address without user, query and fragment, which may carry secrets."""
    return shortened(re.sub(r"//[^/]*@", "//", re.split(r"[?#]", location, maxsplit=1)[0]), 200)


def waiting_words(retry_after: str | None) -> str:
    """What a server's Retry-After asks for; it may be seconds or a date, and None where it was not sent."""
    after = shortened(retry_after or "", 40)
    amount = f"{after} s" if after.isdecimal() else f"until {after}"
    return f"wait {amount}, then ask again" if after else "wait, then ask again"


def _is_bad(character: str) -> bool:
    return character == "\ufffd" or (
        character not in "\n\r\t" and unicodedata.category(character) in {"Cc", "Cn", "Co", "Cs"}
    )
