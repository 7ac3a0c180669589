"""Plans built by hand, for tests that need one and do not test the planner."""

from __future__ import annotations

from dataclasses import replace

from v4deploy.domain.engine import EngineId
from v4deploy.domain.hardware import (
    Amount,
    ComputeApi,
    Cpu,
    Device,
    Host,
    HostOrigin,
    OperatingSystem,
    Pool,
    PoolKind,
    Vendor,
)
from v4deploy.domain.model import (
    Checkpoint,
    CheckpointFormat,
    Draft,
    DraftKind,
    FileRole,
    Hub,
    Release,
    Status,
    WeightFile,
)
from v4deploy.domain.plan import Basis, Candidate, FootprintPart, FootprintRow, Layout, Plan, PoolUse, Request
from v4deploy.domain.source import Source
from v4deploy.domain.speed import SpeedEstimate, SpeedFigure
from v4deploy.domain.units import GIB, MIB

SOURCE = Source(source="hand-made for tests", as_of="2026-11-22")
WEIGHTS_DIR = "/srv/models/weights"

FLASH = Release(
    id="v4-flash-0731",
    name="DeepSeek-V4-Flash-0731",
    status=Status.CURRENT,
    released="2026-07-31",
    draft=Draft(kind=DraftKind.DSPARK, stages=3, block_tokens=5),
    minimum_engine_versions=((EngineId.VLLM, "0.25.0"), (EngineId.LLAMA_CPP, "10242")),
    source=SOURCE,
)
PRO = Release(
    id="v4-pro-0813",
    name="DeepSeek-V4-Pro-0813",
    status=Status.CURRENT,
    released="2026-08-13",
    draft=Draft(kind=DraftKind.DSPARK, stages=3, block_tokens=5),
    minimum_engine_versions=((EngineId.VLLM, "0.25.0"), (EngineId.LLAMA_CPP, "10242")),
    source=SOURCE,
)


def gguf_files(folder: str, stem: str, shards: int) -> tuple[WeightFile, ...]:
    """Split files as llama.cpp names them."""
    return tuple(
        WeightFile(path=f"{folder}/{stem}-{number:05d}-of-{shards:05d}.gguf", role=FileRole.MAIN)
        for number in range(1, shards + 1)
    )


FLASH_Q4 = Checkpoint(
    id="v4-flash-0731-ud-q4_k_xl",
    model="v4-flash",
    release=FLASH.id,
    hub=Hub.HUGGINGFACE,
    repo="unsloth/DeepSeek-V4-Flash-0731-GGUF",
    revision=None,
    format=CheckpointFormat.GGUF,
    quant="UD-Q4_K_XL",
    size_bytes=155_095_241_120,
    shards=5,
    engines=(EngineId.LLAMA_CPP, EngineId.OLLAMA),
    dense_bytes=7_925_502_368,
    files=gguf_files("UD-Q4_K_XL", "DeepSeek-V4-Flash-0731-UD-Q4_K_XL", 5),
    path_prefix="UD-Q4_K_XL",
    source=SOURCE,
)
FLASH_NATIVE = Checkpoint(
    id="v4-flash-0731-native",
    model="v4-flash",
    release=FLASH.id,
    hub=Hub.HUGGINGFACE,
    repo="deepseek-ai/DeepSeek-V4-Flash-0731",
    revision="0123456789abcdef0123456789abcdef01234567",
    format=CheckpointFormat.SAFETENSORS,
    quant="native",
    size_bytes=166_878_536_440,
    shards=48,
    engines=(EngineId.VLLM,),
    official=True,
    source=SOURCE,
)
PRO_NATIVE = replace(
    FLASH_NATIVE,
    id="v4-pro-0813-native",
    model="v4-pro",
    release=PRO.id,
    repo="deepseek-ai/DeepSeek-V4-Pro-0813",
    size_bytes=892_727_580_904,
    shards=66,
)
FLASH_W8A8 = replace(
    FLASH_NATIVE,
    id="v4-flash-0731-w8a8",
    hub=Hub.MODELSCOPE,
    repo="Eco-Tech/DeepSeek-V4-Flash-0731-w8a8-mtp",
    quant="w8a8",
    size_bytes=None,
    engines=(EngineId.MINDIE,),
    compute_apis=("cann",),
    official=False,
)


def host(  # noqa: PLR0913
    devices: tuple[Device, ...] = (),
    *,
    device_bytes: int = 0,
    memory_bytes: int = 256 * GIB,
    pool_kind: PoolKind = PoolKind.DEDICATED,
    system: OperatingSystem = OperatingSystem.LINUX,
    cpu_features: tuple[str, ...] = ("avx2",),
) -> Host:
    """A machine with one pool a device, or with everything in the host's pool where the devices point there."""
    amount = Amount(size_bytes=memory_bytes, source="test")
    unified = any(device.pool_id == "host" for device in devices)
    host_kind = PoolKind.UNIFIED if unified else PoolKind.HOST
    pools = [Pool(id="host", kind=host_kind, total=amount, ceiling=amount, free=amount)]
    device_amount = Amount(size_bytes=device_bytes, source="test")
    pools += [
        Pool(id=device.pool_id, kind=pool_kind, total=device_amount, ceiling=device_amount, free=device_amount)
        for device in devices
        if device.pool_id != "host"
    ]
    return Host(
        origin=HostOrigin.HYPOTHETICAL,
        os=system,
        os_version=None,
        kernel=None,
        cpu=Cpu(architecture="x86_64", model=None, physical_cores=32, usable_cores=64, features=cpu_features),
        pools=tuple(pools),
        devices=devices,
    )


def devices(  # noqa: PLR0913
    count: int, *, vendor: Vendor, compute_api: ComputeApi, name: str, arch: str, pool_id: str | None = None
) -> tuple[Device, ...]:
    """Equal devices, each with a pool of its own unless `pool_id` says where they point."""
    return tuple(
        Device(
            index=index,
            vendor=vendor,
            compute_api=compute_api,
            name=name,
            arch=arch,
            pool_id=pool_id or f"{vendor.value}-{index}",
        )
        for index in range(count)
    )


_NOT_KNOWN = SpeedFigure(reason="not estimated in this test")
NOT_ESTIMATED = SpeedEstimate(
    single_tokens_per_second=_NOT_KNOWN,
    each_tokens_per_second=_NOT_KNOWN,
    all_tokens_per_second=_NOT_KNOWN,
    prefill_tokens_per_second=_NOT_KNOWN,
    load_seconds=_NOT_KNOWN,
    download_seconds=_NOT_KNOWN,
    token_read_bytes=None,
)


def _footprint(checkpoint: Checkpoint, layout: Layout, pool_ids: tuple[str, ...]) -> tuple[FootprintRow, ...]:
    """Weights and KV cache over the pools; the routed experts of an offloaded layout in host memory."""
    weights = checkpoint.size_bytes or 300 * 10**9
    experts = weights - (checkpoint.dense_bytes or 0) if layout.host_expert_layers else 0
    parts = [(FootprintPart.WEIGHTS, "weights", pool_id, (weights - experts) // len(pool_ids)) for pool_id in pool_ids]
    parts += [(FootprintPart.KV_CACHE, "KV cache", pool_id, 473 * MIB // len(pool_ids)) for pool_id in pool_ids]
    if experts:
        parts.append((FootprintPart.WEIGHTS, "routed experts", "host", experts))
    return tuple(
        FootprintRow(part=part, what=what, pool_id=pool_id, size_bytes=size, basis=Basis.FILE_SIZES)
        for part, what, pool_id, size in parts
    )


def make_plan(  # noqa: PLR0913
    machine: Host,
    release: Release,
    checkpoint: Checkpoint,
    engine: EngineId,
    *,
    layout: Layout | None = None,
    compute_api: ComputeApi = ComputeApi.CPU,
    context_tokens: int = 65_536,
    concurrency: int = 1,
    kv_cache_type: str = "f16",
    batch_tokens: int = 512,
    engine_version: str = "11434",
    use_draft: bool = False,
) -> Plan:
    """A plan whose weights are spread evenly over the device pools, or lie in host memory."""
    layout = layout or Layout(device_indices=())
    used = [device.pool_id for device in machine.devices if device.index in layout.device_indices]
    pool_ids = tuple(dict.fromkeys(used)) or ("host",)
    rows = _footprint(checkpoint, layout, pool_ids)
    pool_ids = tuple(dict.fromkeys(row.pool_id for row in rows))
    pools = tuple(
        PoolUse(
            pool_id=pool_id,
            label="host memory" if pool_id == "host" else pool_id,
            needed_bytes=sum(row.size_bytes for row in rows if row.pool_id == pool_id),
            budget_bytes=machine.pool(pool_id).free.size_bytes,
            margin_bytes=GIB,
            budget_source="test",
        )
        for pool_id in pool_ids
    )
    return Plan(
        tool_version="0.1.0",
        request=Request(model=checkpoint.model),
        release=release,
        gguf_arch="deepseek4",
        chosen=Candidate(
            checkpoint=checkpoint,
            engine=engine,
            compute_api=compute_api,
            layout=layout,
            context_tokens=context_tokens,
            concurrency=concurrency,
            kv_cache_type=kv_cache_type,
            batch_tokens=batch_tokens,
            use_draft=use_draft,
        ),
        alias=None,
        engine_version=engine_version,
        footprint=rows,
        pools=pools,
        speed=NOT_ESTIMATED,
        findings=(),
        capacity=(),
        rejected=(),
        host=machine,
    )


def _cuda(count: int, name: str, arch: str) -> tuple[Device, ...]:
    return devices(count, vendor=Vendor.NVIDIA, compute_api=ComputeApi.CUDA, name=name, arch=arch)


def _ascend(count: int, name: str, arch: str) -> tuple[Device, ...]:
    return devices(count, vendor=Vendor.HUAWEI, compute_api=ComputeApi.CANN, name=name, arch=arch)


def _vllm(machine: Host, release: Release, checkpoint: Checkpoint) -> Plan:
    return make_plan(
        machine,
        release,
        checkpoint,
        EngineId.VLLM,
        layout=Layout(device_indices=tuple(range(8)), tensor_parallel=8, expert_parallel=True),
        compute_api=ComputeApi.CUDA,
        context_tokens=262_144,
        concurrency=16,
        kv_cache_type="fp8",
        batch_tokens=8192,
        engine_version="0.33.0",
        use_draft=True,
    )


def _mindie(machine: Host, checkpoint: Checkpoint, layout: Layout, context_tokens: int, batch_tokens: int) -> Plan:
    return make_plan(
        machine,
        FLASH,
        checkpoint,
        EngineId.MINDIE,
        layout=layout,
        compute_api=ComputeApi.CANN,
        context_tokens=context_tokens,
        concurrency=32,
        kv_cache_type="auto",
        batch_tokens=batch_tokens,
        engine_version="0.23.0",
    )


FLASH_CPU = make_plan(host(), FLASH, FLASH_Q4, EngineId.LLAMA_CPP)
FLASH_OFFLOAD = make_plan(
    host(_cuda(1, "NVIDIA GeForce RTX 4090", "sm_89"), device_bytes=24_564 * MIB),
    FLASH,
    FLASH_Q4,
    EngineId.LLAMA_CPP,
    layout=Layout(device_indices=(0,), host_expert_layers=43),
    compute_api=ComputeApi.CUDA,
    concurrency=2,
    batch_tokens=2048,
)
FLASH_M3_ULTRA = make_plan(
    host(
        devices(
            1, vendor=Vendor.APPLE, compute_api=ComputeApi.METAL, name="Apple M3 Ultra", arch="apple-m3", pool_id="host"
        ),
        system=OperatingSystem.MACOS,
        cpu_features=(),
    ),
    FLASH,
    FLASH_Q4,
    EngineId.LLAMA_CPP,
    layout=Layout(device_indices=(0,)),
    compute_api=ComputeApi.METAL,
    context_tokens=1_048_576,
)
FLASH_OLLAMA = replace(
    make_plan(host(), FLASH, FLASH_Q4, EngineId.OLLAMA, concurrency=2, engine_version="0.33.0"),
    footprint=FLASH_CPU.footprint,
)
FLASH_OLLAMA_MAC = replace(
    FLASH_OLLAMA, host=FLASH_M3_ULTRA.host, chosen=replace(FLASH_M3_ULTRA.chosen, engine=EngineId.OLLAMA)
)
FLASH_8X_H200 = _vllm(host(_cuda(8, "NVIDIA H200", "sm_90"), device_bytes=143_771 * MIB), FLASH, FLASH_NATIVE)
PRO_8X_H200 = _vllm(host(_cuda(8, "NVIDIA H200", "sm_90"), device_bytes=143_771 * MIB), PRO, PRO_NATIVE)
FLASH_910B3 = _mindie(
    host(_ascend(8, "Ascend 910B3", "ascend-a2"), device_bytes=64 * GIB),
    FLASH_W8A8,
    Layout(device_indices=tuple(range(8)), tensor_parallel=8, expert_parallel=True),
    133_120,
    8192,
)
FLASH_A3 = _mindie(
    host(_ascend(16, "Ascend910", "ascend-a3"), device_bytes=64 * GIB),
    FLASH_W8A8,
    Layout(device_indices=tuple(range(16)), tensor_parallel=4, data_parallel=4, expert_parallel=True),
    1_048_576,
    10_240,
)
FLASH_950DT = _mindie(
    host(_ascend(4, "Ascend950DT", "ascend-950"), device_bytes=144 * GIB),
    replace(FLASH_NATIVE, engines=(EngineId.VLLM, EngineId.MINDIE)),
    Layout(device_indices=(0, 1, 2, 3), data_parallel=4, expert_parallel=True),
    1_048_576,
    4096,
)
