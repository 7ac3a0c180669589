"""Drivers against what the builds of the engines were made with."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from v4deploy.checks.engines import is_comparable, word
from v4deploy.checks.subject import Subject
from v4deploy.checks.toolchain import torch_build
from v4deploy.domain.engine import EngineId
from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.hardware import ComputeApi, Device
from v4deploy.domain.versions import is_older

_VOLTA = 70


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverFloor:
    """The oldest driver that a build of an engine starts on.

    Attributes:
        build: a part of the engine's version that marks the build; "" means the usual one.
        below_capability: counts for devices of a lower compute capability only; None: for all.
    """

    engine: EngineId
    compute_api: ComputeApi
    floor: str
    what: str
    source: str
    as_of: str = "2026-11-22"
    build: str = ""
    below_capability: int | None = None


FLOORS = (
    DriverFloor(
        engine=EngineId.VLLM,
        compute_api=ComputeApi.CUDA,
        floor="525",
        what="a build for CUDA 12",
        source="docs.nvidia.com/deploy/cuda-compatibility",
        build="+cu12",
    ),
    DriverFloor(
        engine=EngineId.VLLM,
        compute_api=ComputeApi.CUDA,
        floor="580",
        what="its wheels and images, which are built for CUDA 13",
        source="vllm wheels 0.20.2 to 0.33.0; docs.nvidia.com/deploy/cuda-compatibility",
    ),
    DriverFloor(
        engine=EngineId.OLLAMA,
        compute_api=ComputeApi.CUDA,
        floor="570",
        what="its kernels for old devices",
        source="ollama/ollama discover/cuda_compat.go at v0.33.0-rc2",
        below_capability=_VOLTA,
    ),
    DriverFloor(
        engine=EngineId.OLLAMA,
        compute_api=ComputeApi.CUDA,
        floor="550",
        what="its build for CUDA 12",
        source="ollama/ollama discover/cuda_compat.go at v0.33.0-rc2",
    ),
)
"""The first row that matches an engine and a device counts."""

# vLLM's recipes and Ollama's ROCm build are made for ROCm 7.
_ROCM_FLOOR = "7"
_ROCM_ENGINES = {EngineId.VLLM: "vllm-project/recipes (MI355X)", EngineId.OLLAMA: "ollama/ollama docs/gpu.mdx"}


def driver_floors(subject: Subject) -> Iterator[Finding]:
    """Each installed engine against the drivers of the devices; one finding an engine."""
    for installed in {engine.engine: engine for engine in subject.host.engines}.values():
        build = installed.version or ""
        if installed.engine is EngineId.VLLM and "+" not in build:
            build += torch_build(subject)
        for device in subject.host.devices:
            floor = floor_of(installed.engine, build, device)
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
                    Evidence(source=f"{floor.source}, read {floor.as_of}"),
                ),
                why="the engine starts and then fails at its first use of the device, or falls back to the CPU",
                fix=f"install driver {floor.floor} or newer",
            )
            break


def floor_of(engine: EngineId, version: str, device: Device) -> DriverFloor | None:
    """The row for an engine's build on a device; None where no floor is known."""
    capability = re.fullmatch(r"sm_(\d+)", device.arch or "")
    for row in FLOORS:
        is_old = row.below_capability is None or (capability and int(capability[1]) < row.below_capability)
        if row.engine is engine and row.compute_api is device.compute_api and row.build in version and is_old:
            return row
    return None


def rocm_need(engine: EngineId, device: Device) -> tuple[str, str, str] | None:
    """What, which version and by which source an engine needs on an AMD device; None where no floor is known."""
    if device.compute_api is not ComputeApi.ROCM or engine not in _ROCM_ENGINES:
        return None
    return "ROCm", _ROCM_FLOOR, _ROCM_ENGINES[engine]


def rocm_floor(subject: Subject) -> Iterator[Finding]:
    """ROCm before 7 under engines that are built for 7."""
    for device in subject.host.devices:
        version = device.compute_api_version
        if device.compute_api is not ComputeApi.ROCM or version is None or not is_comparable(version):
            continue
        if is_older(version, _ROCM_FLOOR):
            names = [subject.catalogue.engine(engine).name for engine in _ROCM_ENGINES]
            yield Finding(
                id="accelerator.rocm-too-old",
                severity=Severity.WARN,
                summary=f"ROCm {version} is here; {' and '.join(names)} are built for ROCm {_ROCM_FLOOR}",
                evidence=tuple(Evidence(source=source) for source in _ROCM_ENGINES.values()),
                why="early builds computed nonsense with V4, and Ollama's libraries do not load on an older driver",
                fix=f"install ROCm {_ROCM_FLOOR} or newer with its kernel driver",
            )
            return
