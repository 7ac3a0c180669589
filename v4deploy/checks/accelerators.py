"""The devices: which engines run the model on them, and what takes their memory."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from v4deploy.checks.subject import Subject
from v4deploy.domain.engine import EngineId, EngineProfile, EngineSupport, SupportLevel
from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.hardware import ComputeApi, Device, Pool, PoolKind
from v4deploy.domain.model import Checkpoint
from v4deploy.domain.units import GIB, MIB, format_gib
from v4deploy.domain.versions import is_older

# CUDA 13 dropped compute capability below 7.5 (NVIDIA's release notes of CUDA 13.0; nvcc 13.5 lists 7.5 and up).
_FIRST_OF_CUDA_13 = 75
# What an idle device holds: a display and the driver; 2.6 to 5 GB for an Ascend's own processes.
_IDLE_BYTES = {ComputeApi.CANN: 6 * GIB}
_IDLE_BYTES_OTHERWISE = 2 * GIB
# What published raised limits of 128 GiB Macs leave to the system: 128 GiB less 114688 MiB (antirez/ds4 PR 893).
_LEFT_TO_MACOS = 8
_LEFT_TO_MACOS_BYTES = 8 * GIB
_LEVELS = (SupportLevel.UNSUPPORTED, SupportLevel.EXPECTED, SupportLevel.VERIFIED)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Support:
    """What an engine's profile says about a kind of device; the best row over the release's checkpoints."""

    profile: EngineProfile
    row: EngineSupport

    @property
    def runs(self) -> bool:
        return self.row.level is not SupportLevel.UNSUPPORTED

    @property
    def words(self) -> str:
        reason = f": {self.row.reason}" if self.row.reason else ""
        return f"{self.profile.name} {self.row.level}{reason}"


def v4_support(subject: Subject) -> Iterator[Finding]:
    """One finding a kind of usable device: the engines that run the release there."""
    kinds: dict[tuple[ComputeApi, str | None, str], int] = {}
    for device in (device for device in subject.host.devices if device.usable):
        kind = (device.compute_api, device.arch, device.name)
        kinds[kind] = kinds.get(kind, 0) + 1
    for (api, arch, name), count in kinds.items():
        yield _support_finding(subject, api, arch, f"{count} x {name} ({arch or 'architecture unknown'})")


def runs_on_a_device(subject: Subject, engine: EngineId) -> bool:
    """Whether an engine runs the release on any device here."""
    profile = subject.catalogue.engine(engine)
    kinds = {(device.compute_api, device.arch) for device in subject.host.devices if device.arch is not None}
    found = (_support(subject, profile, api, arch) for api, arch in kinds)
    return any(support is not None and support.runs for support in found)


def _support_finding(subject: Subject, api: ComputeApi, arch: str | None, what: str) -> Finding:
    release = subject.release.name
    if arch is None:
        return Finding(
            id="accelerator.v4-support",
            severity=Severity.WARN,
            summary=f"{what}: which engines run {release} on it is not known",
            evidence=(Evidence(source=api, error="the driver tells no architecture, and no profile matches"),),
            why="engines have kernels for named architectures only",
            fix="plan with `--hardware`, naming the chip",
        )
    found = [support for profile in subject.catalogue.engines if (support := _support(subject, profile, api, arch))]
    running = [support for support in found if support.runs]
    not_running = [support for support in found if not support.runs]
    reasons = "; ".join(f"{s.profile.name}: {s.row.reason}" for s in not_running if s.row.reason)
    evidence = tuple(Evidence(source=s.row.source, value=s.words) for s in found)
    if not running:
        return Finding(
            id="accelerator.v4-support",
            severity=Severity.WARN,
            summary=f"{what}: no engine that v4deploy drives runs {release} on it",
            evidence=evidence,
            why=reasons or "no profile of an engine speaks about it",
            fix='plan for other hardware: `v4deploy plan --hardware "8x h200"`',
        )
    words = ", ".join(f"{s.profile.name} ({s.row.level} from {_since(subject, s)} on)" for s in running)
    others = f"; not on {', '.join(s.profile.name for s in not_running)}" if not_running else ""
    is_verified = any(s.row.level is SupportLevel.VERIFIED for s in running)
    return Finding(
        id="accelerator.v4-support",
        severity=Severity.OK if is_verified and not not_running else Severity.INFO,
        summary=f"{what}: {release} runs on {words}{others}",
        evidence=evidence,
        why=reasons or None,
    )


def _support(subject: Subject, profile: EngineProfile, api: ComputeApi, arch: str) -> _Support | None:
    """None where none of the release's weights is for this engine on this compute API, so that it need not be named."""
    loadable = [
        checkpoint
        for checkpoint in subject.checkpoints
        if profile.id in checkpoint.engines and (not checkpoint.compute_apis or api in checkpoint.compute_apis)
    ]
    rows = [row for checkpoint in loadable if (row := support_row(profile, checkpoint, api, arch)) is not None]
    best = max(rows, key=lambda row: _LEVELS.index(row.level), default=None)
    # A row for every device of a compute API says that the engine is not for it at all: nobody expects it there.
    if best is None or (best.level is SupportLevel.UNSUPPORTED and best.arch == "*" and not _is_home(profile, api)):
        return None
    return _Support(profile=profile, row=best)


def _is_home(profile: EngineProfile, api: ComputeApi) -> bool:
    """Whether the engine runs V4 on any device of this compute API."""
    return any(row.compute_api == api and row.level is not SupportLevel.UNSUPPORTED for row in profile.support)


def support_row(profile: EngineProfile, checkpoint: Checkpoint, api: str, arch: str) -> EngineSupport | None:
    """The first row that speaks about this checkpoint on this architecture; None where none does."""
    for row in profile.support:
        if (
            row.compute_api == api
            and row.arch in {"*", arch}
            and (not row.models or checkpoint.model in row.models)
            and (not row.quants or checkpoint.quant.lower() in {quant.lower() for quant in row.quants})
        ):
            return row
    return None


def _since(subject: Subject, support: _Support) -> str:
    of_release = dict(subject.release.minimum_engine_versions).get(support.profile.id)
    return newest((support.profile.minimum_version, of_release, support.row.minimum_version))


def newest(versions: Sequence[str | None]) -> str:
    """The strictest of several minimum versions; None stands for no demand."""
    known = [version for version in versions if version is not None]
    found = known[0]
    for version in known[1:]:
        found = version if is_older(found, version) else found
    return found


def dropped_by_cuda_13(subject: Subject) -> Iterator[Finding]:
    """Devices for which programs built with CUDA 13 hold no code."""
    old = [device for device in subject.host.devices if _capability(device) < _FIRST_OF_CUDA_13]
    if old:
        yield Finding(
            id="accelerator.dropped-by-cuda-13",
            severity=Severity.WARN,
            summary=f"programs built with CUDA 13 do not run on {old[0].name} ({old[0].arch})",
            evidence=(
                Evidence(source="NVIDIA's release notes of CUDA 13.0", value="compute capability 7.5 and newer"),
            ),
            why="llama.cpp runs V4 on it, but its ready-made images are built with CUDA 13",
            fix="build llama.cpp with CUDA 12",
        )


def _capability(device: Device) -> int:
    """`sm_75` as 75; a large number for devices without a compute capability."""
    match = re.fullmatch(r"sm_(\d+)", device.arch or "")
    return int(match[1]) if match and device.compute_api is ComputeApi.CUDA else 10_000


def memory_in_use(subject: Subject) -> Iterator[Finding]:
    """Memory of devices that other processes hold already."""
    taken = [
        (device, used)
        for device in subject.host.devices
        if (used := _used_bytes(device, subject.host.pool(device.pool_id))) is not None
    ]
    if taken:
        vllm = subject.catalogue.engine(EngineId.VLLM)
        share = vllm.recipes.most_percent(frozenset(device.arch for device, _ in taken))
        yield Finding(
            id="accelerator.memory-in-use",
            severity=Severity.WARN,
            summary=f"other processes hold memory of {len(taken)} of {len(subject.host.devices)} devices",
            evidence=tuple(
                Evidence(
                    source=subject.host.pool(device.pool_id).free.source,
                    value=f"{device.name} ({device.index}): {format_gib(used)} in use",
                )
                for device, used in taken
            ),
            why=f"V4 plans use all of a device; vLLM does not start where less than {share}% is free",
            fix="end what holds the memory, or leave those devices out of the plan",
        )


def _used_bytes(device: Device, pool: Pool) -> int | None:
    """What is taken beyond a device's idle share; None where that is nothing, unknown, or memory of the host."""
    total, free = pool.total.size_bytes, pool.free.size_bytes
    if pool.kind not in {PoolKind.DEDICATED, PoolKind.SLICE} or total is None or free is None:
        return None
    used = total - free
    return used if used > _IDLE_BYTES.get(device.compute_api, _IDLE_BYTES_OTHERWISE) else None


def wired_limit(subject: Subject) -> Iterator[Finding]:
    """How far the limit of Metal can be raised."""
    for device in subject.host.devices:
        pool = subject.host.pool(device.pool_id)
        total, ceiling = pool.total.size_bytes, pool.ceiling.size_bytes
        if device.compute_api is not ComputeApi.METAL or total is None or ceiling is None:
            continue
        most = total - max(_LEFT_TO_MACOS_BYTES, total // _LEFT_TO_MACOS)
        if ceiling < most:
            yield Finding(
                id="host.wired-limit",
                severity=Severity.INFO,
                summary=f"macOS lets the GPU use {format_gib(ceiling)} of {format_gib(total)}",
                evidence=(Evidence(source=pool.ceiling.source, value=str(ceiling)),),
                why="a V4 that misses the limit by a little fits once it is raised; the setting is lost at a restart",
                fix=f"`sudo sysctl iogpu.wired_limit_mb={most // MIB}`",
            )
