"""Subjects of `doctor`'s checks built by hand, on the shipped catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from tests.support_golden import shipped_profile
from tests.support_plans import devices, host
from v4deploy.catalogue.load import load_catalogue
from v4deploy.checks.registry import CHECKS, judge
from v4deploy.checks.selection import Selection
from v4deploy.checks.subject import Planned, Subject
from v4deploy.domain.catalogue import Catalogue
from v4deploy.domain.engine import EngineId
from v4deploy.domain.finding import Finding
from v4deploy.domain.hardware import ComputeApi, Device, Disk, Host, InstalledEngine, Vendor
from v4deploy.domain.launch_settings import LaunchSettings
from v4deploy.domain.plan import Request
from v4deploy.domain.units import GIB
from v4deploy.planning.choose import make_plan
from v4deploy.planning.hypothetical import parse_hardware

ROOT = Path(__file__).parents[1]
WEIGHTS_DIR = "/srv/weights"


@cache
def catalogue() -> Catalogue:
    return load_catalogue([ROOT / "profiles"])


def cuda(count: int, arch: str, *, driver: str | None = "580.95.05") -> tuple[Device, ...]:
    found = devices(count, vendor=Vendor.NVIDIA, compute_api=ComputeApi.CUDA, name=f"card of {arch}", arch=arch)
    return tuple(replace(device, driver_version=driver) for device in found)


def rocm(count: int, arch: str, *, version: str | None = "7.1") -> tuple[Device, ...]:
    found = devices(count, vendor=Vendor.AMD, compute_api=ComputeApi.ROCM, name=f"card of {arch}", arch=arch)
    return tuple(replace(device, compute_api_version=version) for device in found)


def ascend(count: int, arch: str) -> tuple[Device, ...]:
    return devices(count, vendor=Vendor.HUAWEI, compute_api=ComputeApi.CANN, name=f"card of {arch}", arch=arch)


def machine(
    *some: Device, engines: Mapping[EngineId, str | None] | None = None, disks: tuple[Disk, ...] = (), **options: Any
) -> Host:
    """A machine with these devices, engines by version, and disks."""
    installed = tuple(
        InstalledEngine(engine=engine, version=version, path=f"/usr/bin/{engine}")
        for engine, version in (engines or {}).items()
    )
    return replace(host(some, device_bytes=80 * GIB, **options), engines=installed, disks=disks)


def disk(path: str, *, total_bytes: int | None = None, free_bytes: int | None = None) -> Disk:
    return Disk(path=path, mount_point="/", filesystem="ext4", total_bytes=total_bytes, free_bytes=free_bytes)


@cache
def _launch() -> dict[EngineId, LaunchSettings]:
    found = (shipped_profile(engine) for engine in EngineId)
    return {profile.id: profile.launch for profile in found if profile.launch is not None}


def subject(
    found: Host | None = None, environ: Mapping[str, str] | None = None, *, model: str = "v4-flash", **more: Any
) -> Subject:
    of, release = catalogue().model_and_release(model)
    return Subject(
        host=found or machine(),
        catalogue=catalogue(),
        launch=_launch(),
        model=of,
        release=release,
        environ=environ or {},
        weights_dir=WEIGHTS_DIR,
        **more,
    )


@cache
def planned(hardware: str, model: str = "v4-flash") -> Planned:
    """What the planner says about hardware that is named."""
    of, release = catalogue().model_and_release(model)
    found = parse_hardware(hardware, catalogue().chips)
    decision = make_plan(Request(model=of.id, release=release.id), found, catalogue(), tool_version="test")
    return Planned(machine=hardware, host=found, plan=decision.plan, nearest=() if decision.plan else decision.verdicts)


def run(check: str, given: Subject) -> tuple[Finding, ...]:
    """The findings of one check."""
    return next(entry for entry in CHECKS if entry.id == check).judge(given)


def run_all(given: Subject, *, deep: bool = False) -> tuple[Finding, ...]:
    return judge(given, Selection(), deep=deep, clock=lambda: 0.0).findings
