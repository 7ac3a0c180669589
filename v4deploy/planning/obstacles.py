"""What rules a checkpoint out on an engine and its devices before any byte is counted."""

from __future__ import annotations

from v4deploy.domain.engine import EngineSupport, MemoryModel, SupportLevel
from v4deploy.domain.finding import Evidence, Finding
from v4deploy.domain.hardware import ComputeApi, Device
from v4deploy.domain.model import Checkpoint, Runnable
from v4deploy.planning.attention import shares_kv_stream
from v4deploy.planning.case import Case
from v4deploy.planning.compute_buffers import ComputeBuffer, compute_buffer
from v4deploy.planning.engine_versions import is_too_old, minimum_version
from v4deploy.planning.graph_memory import GraphSettings
from v4deploy.planning.rank_layouts import every_layout, fewest_recipe_devices, why_unplanned
from v4deploy.planning.ruling import forbids
from v4deploy.planning.weights import checkpoint_parts
from v4deploy.planning.weights_gguf import gguf_parts


def find_obstacles(
    checkpoint: Checkpoint, case: Case, devices: tuple[Device, ...], kv_cache_type: str | None
) -> tuple[Finding, ...]:
    """Every reason why this cannot run; empty where only memory decides. `devices` empty means the CPU."""
    found = (
        _not_driven(checkpoint),
        _engine_cannot_load(checkpoint, case),
        _wrong_device(checkpoint, devices),
        _unsupported(checkpoint, case, devices),
        _no_layout(case, devices),
        _too_old(checkpoint, case, devices),
        _kv_cache_type(case, kv_cache_type),
        _size_unknown(checkpoint, case),
    )
    return tuple(obstacle for obstacle in found if obstacle is not None)


def support_row(checkpoint: Checkpoint, case: Case, devices: tuple[Device, ...]) -> EngineSupport | None:
    """The worst of the rows for these devices; None where a device has none."""
    api = devices[0].compute_api if devices else ComputeApi.CPU
    architectures = dict.fromkeys(device.arch for device in devices) or {case.host.cpu.architecture: None}
    rows = [_first_row(checkpoint, case, api, arch) for arch in architectures]
    if None in rows:
        return None
    order = (SupportLevel.UNSUPPORTED, SupportLevel.EXPECTED, SupportLevel.VERIFIED)
    return min((row for row in rows if row is not None), key=lambda row: order.index(row.level))


def _first_row(checkpoint: Checkpoint, case: Case, api: ComputeApi, arch: str | None) -> EngineSupport | None:
    for row in case.profile.support:
        if row.compute_api != api.value or row.arch not in {"*", arch}:
            continue
        if row.models and checkpoint.model not in row.models:
            continue
        if row.quants and checkpoint.quant.lower() not in {quant.lower() for quant in row.quants}:
            continue
        return row
    return None


def _not_driven(checkpoint: Checkpoint) -> Finding | None:
    match checkpoint.runnable:
        case Runnable.DRIVEN:
            return None
        case Runnable.CLOUD_ONLY:
            return forbids("cloud-only", f"{checkpoint.repo} is served in the cloud and has no weights to download")
        case Runnable.OTHER_ENGINE:
            return forbids(
                "other-engine",
                f"{checkpoint.repo} runs only in engines that v4deploy does not drive",
                why=checkpoint.note,
            )


def _engine_cannot_load(checkpoint: Checkpoint, case: Case) -> Finding | None:
    if case.profile.id in checkpoint.engines and checkpoint.format.value in case.profile.formats:
        return None
    names = ", ".join(checkpoint.engines) or "no engine that v4deploy drives"
    return forbids(
        "engine-cannot-load",
        f"{case.profile.name} does not run {checkpoint.quant} of {checkpoint.repo}; {names} does",
    )


def _wrong_device(checkpoint: Checkpoint, devices: tuple[Device, ...]) -> Finding | None:
    api = devices[0].compute_api if devices else ComputeApi.CPU
    if checkpoint.compute_apis and api.value not in checkpoint.compute_apis:
        allowed = ", ".join(checkpoint.compute_apis)
        return forbids("wrong-device", f"these weights are made for {allowed}, and this is {api}")
    found = {device.arch for device in devices}
    if checkpoint.architectures and not (found and found <= set(checkpoint.architectures)):
        here = ", ".join(sorted(arch or "unknown" for arch in found)) or "the CPU"
        return forbids(
            "wrong-device", f"these weights are made for {', '.join(checkpoint.architectures)}, and this is {here}"
        )
    return None


def _unsupported(checkpoint: Checkpoint, case: Case, devices: tuple[Device, ...]) -> Finding | None:
    row = support_row(checkpoint, case, devices)
    if row is not None and row.level is not SupportLevel.UNSUPPORTED:
        return None
    where = _where(devices)
    if row is None:
        return forbids("engine-unsupported", f"nothing is known about {case.profile.name} on {where}")
    return forbids(
        "engine-unsupported",
        f"{case.profile.name} does not run this on {where}",
        why=row.reason,
        evidence=(Evidence(source=row.source),),
    )


def _too_old(checkpoint: Checkpoint, case: Case, devices: tuple[Device, ...]) -> Finding | None:
    row = support_row(checkpoint, case, devices)
    needed = minimum_version(case.profile, case.release, row.minimum_version if row else None)
    if not is_too_old(case.profile.id, case.engine_version, needed):
        return None
    return forbids(
        "engine-too-old",
        f"{case.profile.name} {case.engine_version} is too old: {case.release.name} needs {needed}",
        fix=f"update {case.profile.name} to {needed} or newer",
    )


def _kv_cache_type(case: Case, kv_cache_type: str | None) -> Finding | None:
    allowed = case.profile.kv_cache_types
    if kv_cache_type is None or kv_cache_type in allowed:
        return None
    return forbids(
        "kv-cache-type",
        f"{case.profile.name} has no `{kv_cache_type}` KV cache for V4",
        fix=f"choose one of {', '.join(allowed)}, or leave the type out",
    )


def _smallest_buffer(case: Case) -> ComputeBuffer | None:
    settings = GraphSettings(
        context_tokens=1, micro_batch_tokens=1, slots=1, kv_cache_type=case.profile.kv_cache_types[0]
    )
    return compute_buffer(case.profile.compute_graphs, case.model.architecture, settings)


def _size_unknown(checkpoint: Checkpoint, case: Case) -> Finding | None:
    architecture = case.model.architecture
    if case.profile.memory_model is MemoryModel.LLAMA_CPP:
        smallest = _smallest_buffer(case)
        if shares_kv_stream(architecture) or smallest is None:
            return forbids("no-memory-model", f"how {case.profile.name} lays out {architecture.id} was never measured")
        is_known = gguf_parts(checkpoint, architecture) is not None
    else:
        is_known = checkpoint_parts(checkpoint, architecture, case.release.draft) is not None
    if is_known:
        return None
    return forbids(
        "size-unknown",
        f"the size of {checkpoint.quant} of {checkpoint.repo} is not known",
        why="no source gives it, and it is not guessed",
        fix="give its `bytes` in a profile of your own, or choose another quant",
    )


def _no_layout(case: Case, devices: tuple[Device, ...]) -> Finding | None:
    if case.profile.memory_model is MemoryModel.LLAMA_CPP or not devices:
        return None
    if any(offer.obstacle is None for offer in every_layout(devices, case)):
        return None
    fewest = fewest_recipe_devices(devices, case)
    if fewest is not None:
        return forbids(
            "needs-more-devices",
            f"the smallest documented layout takes {fewest} devices, and here are {len(devices)}",
        )
    known = why_unplanned(devices, case)
    return forbids(
        "no-layout",
        f"no layout of {case.model.name} on one server with {_where(devices)} is documented",
        why=None if known is None else known.why,
        evidence=() if known is None else (Evidence(source=known.source),),
    )


def _where(devices: tuple[Device, ...]) -> str:
    names = dict.fromkeys(device.arch or "an unknown architecture" for device in devices)
    return ", ".join(names) or "the CPU"
