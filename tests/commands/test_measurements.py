"""This machine's own measurements: read for plans of this machine only, and never in the way of a plan."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.planning.support import catalogue, machine
from v4deploy.commands.plan import plan
from v4deploy.commands.workspace import Workspace
from v4deploy.domain.hardware import Host, HostOrigin
from v4deploy.domain.plan import Plan, Request
from v4deploy.domain.speed import SpeedBasis
from v4deploy.system.live import LiveSystem

RATES = {
    "schema": "v4deploy.measurements/1",
    "disk_read": {"bytes_per_second": 2e9, "what": "/weights", "measured_at": "2026-11-28T08:00:00Z"},
}


class StandIn(Workspace):
    """A workspace on a machine that is said to be this one."""

    def host(self, hardware: str | None = None) -> Host:
        return machine(hardware) if hardware else replace(machine("gb10"), origin=HostOrigin.LIVE)


def plan_with(text: str | None, tmp_path: Path, *, hardware: str | None = None) -> Plan:
    if text is not None:
        (tmp_path / "v4deploy").mkdir()
        (tmp_path / "v4deploy" / "measurements.json").write_text(text, encoding="utf-8")
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    workspace = StandIn(environ=environ, system=LiveSystem(environ), catalogue=catalogue())
    found = plan(workspace, Request(model="v4-flash"), hardware=hardware).data
    assert isinstance(found, Plan)
    return found


def test_a_measured_disk_gives_the_time_of_a_start(tmp_path: Path) -> None:
    found = plan_with(json.dumps(RATES), tmp_path)
    assert found.speed.load_seconds.basis is SpeedBasis.RATE
    assert "measurements" not in str([finding.id for finding in found.findings])


def test_no_file_is_no_fault(tmp_path: Path) -> None:
    assert plan_with(None, tmp_path).speed.load_seconds.low is None


def test_another_machine_has_not_this_ones_disk(tmp_path: Path) -> None:
    assert plan_with(json.dumps(RATES), tmp_path, hardware="gb10").speed.load_seconds.low is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"schema": "v4deploy.measurements/1", "disc_read": 1}', "disc_read"),
        (json.dumps(RATES).replace("2000000000.0", "0.0"), "above zero"),
        (json.dumps(RATES).replace("2000000000.0", "NaN"), "above zero"),
        (json.dumps(RATES).replace("measurements/1", "measurements/2"), "measurements/2"),
        ("", "not JSON"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_and_stops_nothing(tmp_path: Path, text: str, words: str) -> None:
    found = plan_with(text, tmp_path)
    told = next(finding for finding in found.findings if finding.id == "plan.measurements-unreadable")
    assert words in str(told.evidence)
    assert found.speed.load_seconds.low is None
