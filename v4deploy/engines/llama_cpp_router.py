"""llama-server without a model of its own: a router that starts one server for each section of a preset file.

Read in build 11434: a comment begins at `;` or `#` anywhere in a value, and nothing escapes them; a section's name
ends at `]`, and `*` means all sections.
"""

from __future__ import annotations

import re

from v4deploy.domain.engine import EngineProfile, LaunchOptions
from v4deploy.domain.finding import Finding, Severity
from v4deploy.domain.plan import Plan
from v4deploy.engines import common
from v4deploy.engines.gguf_files import first_shard
from v4deploy.engines.llama_cpp_arguments import Option, flag_version, known_options
from v4deploy.engines.llama_cpp_dialect import has_flag

TARGET = "router"
PRESET_FILE = "models.ini"

_OF_THE_ROUTER = frozenset({"--host", "--port", "--cors-origins", "--api-key-file", "--metrics"})
_NOT_IN_A_SECTION = _OF_THE_ROUTER | {"--alias"}
_PRESET_OPTIONS = ("--models-preset", "--models-max")
_MISREAD_IN_VALUES = re.compile(r"[;#]|^\s|\s$")
_MISREAD_IN_NAMES = re.compile(r"[;#\]]|^\s|\s$|^\*$")


def router_values(options: tuple[Option, ...], program: str) -> dict[str, object]:
    """The router's command line without its preset file, and the section of the plan's model.

    `--alias` is the section's name; a switch is written as `true`.
    """
    of_router = [(flag, value) for flag, value in options if flag in _OF_THE_ROUTER]
    words = tuple(word for option in of_router for word in option if word is not None)
    section = {
        flag.removeprefix("--"): "true" if value is None else value
        for flag, value in options
        if flag not in _NOT_IN_A_SECTION
    }
    # One model at a time: the plan was made for a machine that holds nothing else.
    return {"argv": (program, "--models-max", "1", *words), "section": section, "preset_file": PRESET_FILE}


def router_findings(plan: Plan, options: LaunchOptions, profile: EngineProfile, target: str) -> tuple[Finding, ...]:
    """What speaks against a preset file for this plan; nothing for other targets."""
    if target != TARGET:
        return ()
    version = flag_version(plan, options, profile)
    refusals = [
        ("option-missing", f"this llama-server has no `{flag}`", f"use llama.cpp build {profile.version} or newer")
        for flag in _PRESET_OPTIONS
        if not has_flag(flag, options.known_flags, profile, version)
    ]
    name = common.served_name(plan, options)
    if _MISREAD_IN_NAMES.search(name):
        refusals.append(("name-in-preset", f"`{name}` cannot name a section", "`--served-name` without `;`, `#`, `]`"))
    written = known_options(plan, options, profile) if first_shard(plan.chosen.checkpoint) else ()
    refusals += [
        ("value-in-preset", f"a preset file cannot hold `{value}`: a comment begins at `;` and `#`", "move the weights")
        for flag, value in written
        if flag not in _NOT_IN_A_SECTION and value is not None and _MISREAD_IN_VALUES.search(value)
    ]
    return tuple(
        Finding(id=f"engine.llama-cpp.{word}", severity=Severity.FAIL, summary=summary, fix=fix)
        for word, summary, fix in dict.fromkeys(refusals)
    )
