"""Arguments of `vllm serve` as a mapping: kept to what a version knows, and turned into a command line."""

from __future__ import annotations

import json
from collections.abc import Mapping

from v4deploy.domain.engine import EngineProfile
from v4deploy.domain.launch_settings import Arguments
from v4deploy.engines.common import knows_flag

_NEGATION = "no-"


def split_by_version(arguments: Arguments, profile: EngineProfile, version: str) -> tuple[Arguments, tuple[str, ...]]:
    """What this version knows of the arguments, and the flags that had to be left out."""
    known = {name: value for name, value in arguments.items() if _knows(profile, name, version)}
    return known, tuple(f"--{name}" for name in arguments if name not in known)


def as_argv(arguments: Arguments) -> tuple[str, ...]:
    """The arguments as words of a command line."""
    words: list[str] = []
    for name, value in arguments.items():
        words.append(f"--{name}")
        if isinstance(value, Mapping):
            words.append(json.dumps(value, separators=(",", ":")))
        elif value is not True:
            words.append(str(value))
    return tuple(words)


def _knows(profile: EngineProfile, name: str, version: str) -> bool:
    """`--no-X` exists wherever the boolean flag `--X` does."""
    return knows_flag(profile, f"--{name.removeprefix(_NEGATION)}", version)
