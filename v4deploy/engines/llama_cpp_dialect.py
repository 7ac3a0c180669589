"""The options that one build of llama-server takes: read from its own help, or from the profile by its number.

The command line changed three times in 2026, and a build from a tree without history gives its number as 0: what the
program says of itself is the only thing that holds for every build.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from v4deploy.domain.engine import EngineProfile
from v4deploy.engines.common import knows_flag

HELP = ("--help",)
"""What makes the program print its options and end, before it looks for devices or a model (0.03 s with b11434)."""

# `-np,   --parallel N`, `--mmap, --no-mmap`: options stand in front, separated by commas; the rest is their value.
_OPTION = re.compile(r"(-{1,2}[A-Za-z][\w.-]*)(?:,\s*|\s|$)")
_REMOVED = "has been removed"


def flags_in_help(text: str) -> frozenset[str]:
    """The long options of a help text that still work; empty where it is no help text of llama-server."""
    # An entry begins in the first column; what describes it is indented.
    entries = re.split(r"\n(?=-)", text)
    found = {flag for entry in entries if _REMOVED not in " ".join(entry.split()) for flag in _named(entry)}
    return frozenset(found) if "--model" in found else frozenset()


def _named(entry: str) -> Iterator[str]:
    position = 0
    while match := _OPTION.match(entry, position):
        if match[1].startswith("--"):
            yield match[1]
        if "," not in match[0]:
            return
        position = match.end()


def has_flag(flag: str, known: frozenset[str] | None, profile: EngineProfile, version: str) -> bool:
    """Whether the program takes the option: as its help says, else as the profile has it for its build."""
    return knows_flag(profile, flag, version) if known is None else flag in known
