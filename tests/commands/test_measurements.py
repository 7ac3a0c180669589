"""This machine's own measurements: read for plans of this machine only, and never in the way of a plan."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tests.planning.support import catalogue, machine
from v4deploy.commands.measured import Load, add_runs, measured_runs
from v4deploy.commands.measurements import read_measurements
from v4deploy.commands.plan import plan
from v4deploy.commands.workspace import Workspace
from v4deploy.domain.finding import Severity
from v4deploy.domain.hardware import Host, HostOrigin
from v4deploy.domain.plan import Plan, Request
from v4deploy.domain.speed import SpeedBasis
from v4deploy.serve.smoke.result import Figures, SmokeReport
from v4deploy.serve.storage_reads import storage_read_bytes
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


SERVED = SmokeReport(
    base_url="http://127.0.0.1:8000/v1",
    model="v4-flash-0731",
    content_judged=True,
    is_reachable=True,
    checks=(),
    figures=Figures(
        decode_tokens_per_second=18.5, decoded_tokens=120, prompt_tokens_per_second=540.0, prompt_tokens=2600
    ),
    elapsed_seconds=9.0,
)
NOW = "2026-11-28T15:00:00+00:00"


def environ_of(tmp_path: Path) -> dict[str, str]:
    return {"XDG_STATE_HOME": str(tmp_path)}


def test_what_was_served_is_told_as_measured_by_the_next_plan(tmp_path: Path) -> None:
    before = plan_with(None, tmp_path)
    assert before.speed.single_tokens_per_second.basis is not SpeedBasis.MEASURED_HERE
    runs = measured_runs(before, SERVED, None, engine_version="11434", now=NOW)
    assert [(run.context_tokens, run.engine_version) for run in runs] == [(120, "11434"), (2600, "11434")]
    assert add_runs(environ_of(tmp_path), runs) == ()
    speed = plan_with(None, tmp_path).speed
    for figure, value in ((speed.single_tokens_per_second, 18.5), (speed.prefill_tokens_per_second, 540.0)):
        assert (figure.low, figure.high, figure.basis) == (value, value, SpeedBasis.MEASURED_HERE)
        assert "1 run on this machine" in (figure.source or "")
    assert speed.load_seconds.basis is not SpeedBasis.MEASURED_HERE


def test_nothing_is_measured_where_it_would_not_be_true(tmp_path: Path) -> None:
    plan = plan_with(None, tmp_path)
    short = replace(SERVED, figures=Figures(decoded_tokens=3, missing=("too few",)))
    noise = replace(plan, release=replace(plan.release, random_weights=True))
    elsewhere = replace(plan, host=replace(plan.host, origin=HostOrigin.HYPOTHETICAL))
    for given, smoke in ((plan, short), (noise, SERVED), (elsewhere, SERVED)):
        assert measured_runs(given, smoke, None, engine_version=None, now=NOW) == ()
    assert add_runs(environ_of(tmp_path), ()) == ()
    assert not (tmp_path / "v4deploy").exists()


def test_the_file_keeps_rates_and_the_last_runs_and_does_not_grow(tmp_path: Path) -> None:
    plan = plan_with(json.dumps(RATES), tmp_path)
    for number in range(12):
        runs = measured_runs(plan, SERVED, None, engine_version=str(number), now=NOW)
        assert add_runs(environ_of(tmp_path), runs) == ()
    kept, _ = read_measurements(environ_of(tmp_path))
    assert kept.disk_read is not None
    decoded = [run.engine_version for run in kept.runs if run.tokens_per_second]
    assert decoded == [str(number) for number in range(4, 12)]
    assert len(kept.runs) == 16


def test_a_file_that_is_no_measurement_is_never_replaced(tmp_path: Path) -> None:
    plan = plan_with("mine", tmp_path)
    (finding,) = add_runs(environ_of(tmp_path), measured_runs(plan, SERVED, None, engine_version=None, now=NOW))
    assert finding.id == "plan.measurements-unreadable"
    assert (tmp_path / "v4deploy" / "measurements.json").read_text() == "mine"


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    plan = plan_with(None, tmp_path)
    (tmp_path / "v4deploy" / "measurements.json.new").mkdir(parents=True)
    (finding,) = add_runs(environ_of(tmp_path), measured_runs(plan, SERVED, None, engine_version=None, now=NOW))
    assert (finding.id, finding.severity) == ("plan.measurements-unwritten", Severity.WARN)


@pytest.mark.parametrize(("share", "is_kept"), [(1.0, True), (0.91, True), (0.5, False), (0.0, False), (None, False)])
def test_a_load_out_of_the_page_cache_is_no_measurement(tmp_path: Path, share: float | None, *, is_kept: bool) -> None:
    plan = plan_with(None, tmp_path)
    size = plan.chosen.checkpoint.size_bytes
    assert size is not None
    load = Load(seconds=95.0, read_bytes=None if share is None else round(size * share))
    runs = measured_runs(plan, SERVED, load, engine_version=None, now=NOW)
    assert [run.load_seconds for run in runs if run.load_seconds] == ([95.0] if is_kept else [])
    add_runs(environ_of(tmp_path), runs)
    found = plan_with(None, tmp_path).speed.load_seconds
    assert (found.basis is SpeedBasis.MEASURED_HERE) is is_kept


@pytest.mark.skipif(not hasattr(psutil.Process, "io_counters"), reason="this system does not tell what was read")
def test_a_process_that_is_gone_has_read_nothing_that_is_known() -> None:
    assert storage_read_bytes(2**22 - 7) is None
    before = psutil.Process().io_counters().read_bytes
    own = storage_read_bytes(os.getpid())
    assert own is not None
    assert own >= before
