"""Puts the wheels of v4deploy into a bundle: those of a directory, or what pip can collect here."""

from __future__ import annotations

import shutil
from pathlib import Path

from packaging.markers import default_environment

from v4deploy.bundle import wheels as wheel_sets
from v4deploy.commands.result import Report, Step, StepState
from v4deploy.domain.errors import UsageError
from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.system.base import System


def add_wheels(system: System, source: Path | None, target: Path, *, report: Report) -> tuple[Finding, ...]:
    """Fill `target` from a directory of wheels, or (None) with pip; a finding for what is missing of them.

    Raises:
        UsageError: the directory holds no wheels.
        OSError: they cannot be copied.
    """
    if source is not None:
        _copy(source, target)
    elif problem := _collect(system, target, report):
        return (problem,)
    environment = {name: str(value) for name, value in default_environment().items()}
    found = wheel_sets.read_wheels(sorted(target.glob("*.whl")))
    missing = wheel_sets.lacking(found, extras=wheel_sets.wanted_extras(), environment=environment)
    if not missing:
        return ()
    return (_no_wheels(f"the wheels lack {', '.join(missing)}, so v4deploy cannot be installed from them", None),)


def _copy(source: Path, target: Path) -> None:
    wheels = sorted(source.glob("*.whl"))
    if not wheels:
        raise UsageError(f"{source} holds no wheels", hint="fill it: `pip wheel --wheel-dir DIR v4deploy`")
    if source.resolve() == target.resolve():
        return
    target.mkdir(exist_ok=True)
    for wheel in wheels:
        shutil.copyfile(wheel, target / wheel.name)


def _collect(system: System, target: Path, report: Report) -> Finding | None:
    """Let pip fetch and build them; why that failed, None where it did not."""
    report(Step(name="wheels", state=StepState.STARTED, message="collecting v4deploy and what it needs, with pip"))
    argv = wheel_sets.pip_command(target)
    ran = system.run(argv, timeout_seconds=wheel_sets.PIP_SECONDS)
    if ran.exit_status == 0:
        report(Step(name="wheels", state=StepState.DONE, message=f"{len(list(target.glob('*.whl')))} wheels"))
        return None
    last = [line for line in (ran.stderr or ran.stdout).splitlines() if line.strip()][-1:]
    words = last[0].strip() if last else str(ran.failure or f"pip ended with {ran.exit_status}")
    return _no_wheels("the bundle carries no wheels of v4deploy: pip could not collect them", words)


def _no_wheels(summary: str, words: str | None) -> Finding:
    return Finding(
        id="config.bundle-without-wheels",
        severity=Severity.WARN,
        summary=summary,
        evidence=(Evidence(source="pip wheel", value=words),) if words else (),
        why="the machine without a network needs v4deploy to install the bundle; without it `tar` unpacks the weights",
        fix="where there is a network, `pip wheel --wheel-dir DIR` the same v4deploy; then bundle with `--wheels DIR`",
    )
