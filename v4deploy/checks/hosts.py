"""The host's memory: what several devices and V4.1's tables ask of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from v4deploy.checks.accelerators import runs_on_a_device
from v4deploy.checks.subject import Subject
from v4deploy.domain.engine import EngineId
from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.hardware import ComputeApi
from v4deploy.domain.units import GIB, format_gib

_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - it was examined, nothing is written there


@dataclass(frozen=True, slots=True, kw_only=True)
class _SharedMemoryFloor:
    """The smallest /dev/shm in published launch files. What lies below 1 GiB the host's probe tells already."""

    compute_apis: tuple[ComputeApi, ...]
    floor_bytes: int
    source: str


_FLOORS = (
    _SharedMemoryFloor(
        compute_apis=(ComputeApi.CUDA, ComputeApi.ROCM), floor_bytes=2 * GIB, source="llm-d's manifests for vLLM"
    ),
    _SharedMemoryFloor(
        compute_apis=(ComputeApi.CANN,), floor_bytes=4 * GIB, source="the engine template of Ascend/MindIE-PyMotor"
    ),
)
_TOLD_BY_THE_PROBE_BYTES = GIB


def shared_memory_below_recipes(subject: Subject) -> Iterator[Finding]:
    """More than one device, and less shared memory than any published launch file gives."""
    total_bytes = next((disk.total_bytes for disk in subject.host.disks if disk.path == _SHARED_MEMORY), None)
    if total_bytes is None or total_bytes < _TOLD_BY_THE_PROBE_BYTES:
        return
    for floor in _FLOORS:
        devices = [device for device in subject.host.devices if device.compute_api in floor.compute_apis]
        if len(devices) > 1 and total_bytes < floor.floor_bytes:
            yield Finding(
                id="host.shm-below-recipes",
                severity=Severity.WARN,
                summary=f"{_SHARED_MEMORY} holds {format_gib(total_bytes)}, less than launch files for "
                f"{len(devices)} devices give",
                evidence=(Evidence(source=floor.source, value=format_gib(floor.floor_bytes)),),
                why="the processes of one engine exchange data there and stop when it is full",
                fix="start the container with `--ipc=host` or `--shm-size=16g`",
            )


def memory_for_engram(subject: Subject) -> Iterator[Finding]:
    """V4.1's Engram tables lie in pinned host memory by default."""
    engram = subject.model.architecture.engram
    memory = subject.host.memory
    sizes = [size for size in (memory.total.size_bytes, memory.ceiling.size_bytes) if size is not None]
    if engram is None or not sizes or not runs_on_a_device(subject, EngineId.VLLM):
        return
    needed_bytes = sum(engram.rows) * engram.row_bytes
    if min(sizes) < needed_bytes:
        vllm = subject.catalogue.engine(EngineId.VLLM)
        yield Finding(
            id="host.memory-for-engram",
            severity=Severity.WARN,
            summary=f"the Engram tables of {subject.release.name} take {format_gib(needed_bytes)} of host memory, "
            f"and {format_gib(min(sizes))} may be used",
            evidence=(Evidence(source=memory.ceiling.source, value=str(min(sizes))),),
            why=f"{vllm.name} pins them there by default, and is killed while it loads (vllm-project/vllm#57469)",
            fix="raise the memory limit, add memory, or put the tables on the devices with `--engram-config`",
        )
