from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from v4deploy.domain.finding import Severity
from v4deploy.domain.hardware import (
    Amount,
    ComputeApi,
    Device,
    HostOrigin,
    Pool,
    PoolKind,
    ProbeOutcome,
    Vendor,
)
from v4deploy.probes.base import Capture
from v4deploy.probes.registry import ALL_PROBES
from v4deploy.probes.survey import survey, validate_host
from v4deploy.system.base import System
from v4deploy.system.live import LiveSystem
from v4deploy.system.recorded import RecordedSystem

MACHINE = Path(__file__).parents[1] / "recordings" / "container-cpu-only-with-amx"


class FixedProbe:
    """A probe that says what it was made with, or raises it."""

    def __init__(self, vendor: Vendor, outcome: ProbeOutcome | Exception) -> None:
        self.VENDOR = vendor
        self.outcome = outcome
        self.seen: Capture | None = None

    def collect(self, system: System) -> Capture:  # noqa: ARG002
        return Capture()

    def parse(self, capture: Capture) -> ProbeOutcome:
        self.seen = capture
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def device(vendor: Vendor, pool_id: str, address: str | None = None) -> Device:
    return Device(
        index=0,
        vendor=vendor,
        compute_api=ComputeApi.ROCM,
        name="device",
        arch=None,
        pool_id=pool_id,
        pci_address=address,
    )


def pool(pool_id: str, size_bytes: int | None = 100, kind: PoolKind = PoolKind.DEDICATED) -> Pool:
    amount = Amount(size_bytes=size_bytes, source="test")
    return Pool(id=pool_id, kind=kind, total=amount, ceiling=amount, free=amount)


def one(vendor: Vendor, pool_id: str, address: str | None = None) -> FixedProbe:
    return FixedProbe(vendor, ProbeOutcome(devices=(device(vendor, pool_id, address),), pools=(pool(pool_id),)))


def surveyed(*probes: FixedProbe) -> tuple[list[tuple[int, str, str]], list[str], set[str]]:
    host = survey(RecordedSystem(MACHINE), weights_dir="/w", chips=(), probes=probes)
    devices = [(found.index, found.vendor.value, found.pool_id) for found in host.devices]
    return devices, [found.id for found in host.pools], {finding.id for finding in host.findings}


def test_devices_of_all_vendors_get_dense_indexes() -> None:
    devices, pools, findings = surveyed(one(Vendor.NVIDIA, "nvidia-0", "0000:01:00.0"), one(Vendor.AMD, "amd-0"))
    assert devices == [(0, "nvidia", "nvidia-0"), (1, "amd", "amd-0")]
    assert pools == ["host", "nvidia-0", "amd-0"]
    assert "accelerator.none" not in findings


def test_one_address_counts_once() -> None:
    devices, pools, _ = surveyed(
        one(Vendor.NVIDIA, "nvidia-0", "0000:01:00.0"), one(Vendor.AMD, "amd-0", "0000:01:00.0")
    )
    assert devices == [(0, "nvidia", "nvidia-0")]
    assert pools == ["host", "nvidia-0"]


def test_slices_share_an_address_and_all_count() -> None:
    outcome = ProbeOutcome(
        devices=tuple(device(Vendor.NVIDIA, f"nvidia-{n}", "0000:01:00.0") for n in (0, 1)),
        pools=tuple(pool(f"nvidia-{n}", kind=PoolKind.SLICE) for n in (0, 1)),
    )
    assert len(surveyed(FixedProbe(Vendor.NVIDIA, outcome))[0]) == 2


def test_a_part_of_the_host_that_crashes_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("v4deploy.probes.survey.parse_containers", crash)
    monkeypatch.setattr("v4deploy.probes.survey.collect_engines", crash)
    machine = RecordedSystem(MACHINE.parent / "docker-with-nvidia-runtime")
    host = survey(machine, weights_dir="/srv/weights", chips=())
    failed = {finding.id for finding in host.findings if finding.severity is Severity.FAIL}
    assert {"container.probe-failed", "engine.probe-failed"} <= failed
    assert host.devices


def test_a_probe_that_crashes_hides_no_other() -> None:
    devices, _, findings = surveyed(FixedProbe(Vendor.AMD, ZeroDivisionError("x")), one(Vendor.NVIDIA, "nvidia-0"))
    assert devices == [(0, "nvidia", "nvidia-0")]
    assert "accelerator.amd.probe-failed" in findings


def test_broken_is_not_absent() -> None:
    assert "accelerator.none" not in surveyed(FixedProbe(Vendor.AMD, ValueError("x")))[2]
    assert "accelerator.none" in surveyed(FixedProbe(Vendor.AMD, ProbeOutcome()))[2]


def test_a_device_on_the_hosts_memory_makes_it_unified() -> None:
    probe = FixedProbe(Vendor.APPLE, ProbeOutcome(devices=(device(Vendor.APPLE, "host"),)))
    host = survey(RecordedSystem(MACHINE), weights_dir="/w", chips=(), probes=(probe,))
    assert host.memory.kind is PoolKind.UNIFIED
    assert probe.seen is not None
    assert probe.seen.host_memory_bytes == host.memory.total.size_bytes
    assert probe.seen.host_free_bytes == host.memory.free.size_bytes


@pytest.mark.parametrize(
    "outcome",
    [
        ProbeOutcome(devices=(device(Vendor.AMD, "amd-7"),), pools=(pool("amd-0"),)),
        ProbeOutcome(devices=(device(Vendor.AMD, "amd-0"),), pools=(pool("amd-0", -1),)),
        ProbeOutcome(devices=(device(Vendor.AMD, "amd-0"),), pools=(pool("amd-0", 0),)),
        ProbeOutcome(devices=(device(Vendor.AMD, "amd-0"),), pools=(pool("amd-0"), pool("amd-0", 50))),
    ],
    ids=["no-such-pool", "negative", "zero", "twice"],
)
def test_a_contradiction_becomes_a_finding_and_never_a_number(outcome: ProbeOutcome) -> None:
    host = survey(RecordedSystem(MACHINE), weights_dir="/w", chips=(), probes=(FixedProbe(Vendor.AMD, outcome),))
    found = [finding for finding in host.findings if finding.id == "accelerator.contradiction"]
    assert found
    assert all(finding.severity is Severity.FAIL for finding in found)
    assert all((one.total.size_bytes or 1) > 0 for one in host.pools)
    assert all(host.pool(device.pool_id) for device in host.devices)
    assert replace(validate_host(host), findings=()) == replace(host, findings=())


def test_every_vendor_has_one_probe() -> None:
    vendors = [probe.VENDOR for probe in ALL_PROBES]
    assert len(vendors) == len(set(vendors))


def test_this_machine_can_be_surveyed(tmp_path: Path) -> None:
    host = survey(LiveSystem({"PATH": os.environ["PATH"]}), weights_dir=str(tmp_path), chips=())
    assert host.origin is HostOrigin.LIVE
    assert host.memory.total.size_bytes
    assert not [finding for finding in host.findings if finding.id.endswith("probe-failed")]
    assert host.disks[0].path == str(tmp_path)
    assert host.disks[0].free_bytes
