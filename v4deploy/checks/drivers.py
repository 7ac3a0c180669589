"""Drivers against what the builds of the engines were made with."""

from __future__ import annotations

import re
from collections.abc import Iterator

from v4deploy.checks.engines import is_comparable, word
from v4deploy.checks.subject import Subject
from v4deploy.checks.toolchain import torch_build
from v4deploy.domain.engine import EngineId
from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.hardware import ComputeApi, Device
from v4deploy.domain.launch_settings import DriverFloor, LaunchSettings
from v4deploy.domain.versions import is_older, version_numbers


def driver_floors(subject: Subject) -> Iterator[Finding]:
    """Each installed engine against the drivers of the devices; one finding an engine."""
    for installed in {engine.engine: engine for engine in subject.host.engines}.values():
        build = installed.version or ""
        if installed.engine is EngineId.VLLM and "+" not in build:
            build += torch_build(subject)
        for device in subject.host.devices:
            floor = floor_of(subject.launch.get(installed.engine), build, device)
            driver = device.driver_version
            if floor is None or driver is None or not is_comparable(driver) or not is_older(driver, floor.floor):
                continue
            name = subject.catalogue.engine(installed.engine).name
            yield Finding(
                id=f"engine.{word(installed.engine)}.driver-floor",
                severity=Severity.WARN,
                summary=f"{name} is installed, and {floor.what} need driver {floor.floor}; {driver} is loaded",
                evidence=(
                    Evidence(source=f"driver of {device.name}", value=driver),
                    Evidence(source=f"{floor.source.source}, read {floor.source.as_of}"),
                ),
                why="the engine starts and then fails at its first use of the device, or falls back to the CPU",
                fix=f"install driver {floor.floor} or newer",
            )
            break


def floor_of(launch: LaunchSettings | None, version: str, device: Device) -> DriverFloor | None:
    """The row for an engine's build on a device; None where no floor is known."""
    capability = re.fullmatch(r"sm_(\d+)", device.arch or "")
    for row in launch.driver_floors if launch else ():
        is_old = row.below_capability is None or (capability and int(capability[1]) < row.below_capability)
        if row.compute_api == device.compute_api and row.build in version and is_old:
            return row
    return None


def rocm_need(launch: LaunchSettings | None, device: Device) -> tuple[str, str, str] | None:
    """What, which version and by which source an engine needs on a ROCm device; None where no floor is known."""
    if device.compute_api is not ComputeApi.ROCM:
        return None
    floors = launch.stack_floors if launch else ()
    return next((("ROCm", row.floor, row.source.source) for row in floors if row.compute_api == ComputeApi.ROCM), None)


def rocm_floor(subject: Subject) -> Iterator[Finding]:
    """A ROCm that is older than what engines are built for."""
    for device in subject.host.devices:
        version = device.compute_api_version
        if device.compute_api is not ComputeApi.ROCM or version is None or not is_comparable(version):
            continue
        needs = {engine: need for engine in EngineId if (need := rocm_need(subject.launch.get(engine), device))}
        old = {engine: need for engine, need in needs.items() if is_older(version, need[1])}
        if old:
            names = [subject.catalogue.engine(engine).name for engine in old]
            floor = max((floor for _, floor, _ in old.values()), key=version_numbers)
            yield Finding(
                id="accelerator.rocm-too-old",
                severity=Severity.WARN,
                summary=f"ROCm {version} is here; {' and '.join(names)} are built for ROCm {floor}",
                evidence=tuple(Evidence(source=source) for _, _, source in old.values()),
                why="early builds computed nonsense with V4, and Ollama's libraries do not load on an older driver",
                fix=f"install ROCm {floor} or newer with its kernel driver",
            )
            return
