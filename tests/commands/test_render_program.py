"""Launch files are for the version of the program that they start."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support_plans import FLASH_CPU
from v4deploy.commands.render_program import for_installed
from v4deploy.domain.engine import EngineId, LaunchOptions
from v4deploy.domain.hardware import HostOrigin, InstalledEngine

OPTIONS = LaunchOptions(weights_dir="/w")
TWO = (
    InstalledEngine(engine=EngineId.VLLM, version="0.33.0", path="/usr/bin/vllm"),
    InstalledEngine(engine=EngineId.LLAMA_CPP, version="11434", path="/usr/bin/llama-server"),
    InstalledEngine(engine=EngineId.LLAMA_CPP, version="11549", path="python package"),
)
HERE = replace(FLASH_CPU, host=replace(FLASH_CPU.host, origin=HostOrigin.LIVE, engines=TWO))


@pytest.mark.parametrize(("target", "version"), [("script", "11434"), ("systemd", "11434"), ("compose", None)])
def test_a_program_on_path_comes_before_a_newer_engine_inside_python(target: str, version: str | None) -> None:
    assert for_installed(HERE, OPTIONS, target).engine_version == version


def test_a_program_that_tells_no_version_does_not_get_that_of_another() -> None:
    silent = replace(TWO[1], version=None)
    two = replace(HERE, host=replace(HERE.host, engines=(silent, TWO[2])))
    assert for_installed(two, OPTIONS, "script").engine_version == "of unknown version"
    alone = replace(HERE, host=replace(HERE.host, engines=(silent,)))
    assert for_installed(alone, OPTIONS, "script").engine_version is None


def test_a_version_that_was_asked_for_stays() -> None:
    assert for_installed(HERE, replace(OPTIONS, engine_version="11000"), "script").engine_version == "11000"


def test_of_another_machine_only_the_plan_tells() -> None:
    elsewhere = replace(HERE, host=replace(HERE.host, origin=HostOrigin.RECORDING))
    assert for_installed(elsewhere, OPTIONS, "script") == OPTIONS
    assert for_installed(replace(HERE, host=replace(HERE.host, engines=())), OPTIONS, "script") == OPTIONS
