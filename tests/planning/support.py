"""Architectures of the released models as their config.json gives them, the shipped catalogue, and built hosts."""

from __future__ import annotations

from functools import cache, lru_cache

from v4deploy.catalogue.load import load_catalogue
from v4deploy.domain.catalogue import Catalogue
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
from v4deploy.domain.model import Architecture, Draft, DraftKind, Engram
from v4deploy.domain.plan import Request
from v4deploy.domain.source import Source
from v4deploy.planning.choose import Decision, make_plan
from v4deploy.planning.hypothetical import parse_hardware
from v4deploy.resources import data_dir

SOURCE = Source(source="config.json of the release", as_of="2026-11-22")

FLASH = Architecture(
    id="v4-flash",
    gguf_arch="deepseek4",
    layers=43,
    hidden_size=4096,
    heads=64,
    head_dim=512,
    rope_dim=64,
    q_lora_rank=1024,
    o_lora_rank=1024,
    o_groups=8,
    routed_experts=256,
    active_experts=6,
    shared_experts=1,
    expert_width=2048,
    hash_layers=3,
    compress_ratios=(0, 0, *(4, 128) * 20, 4),
    window_tokens=128,
    index_heads=64,
    index_dim=128,
    index_topk=512,
    hyper_connections=4,
    vocabulary=129280,
    max_context_tokens=1_048_576,
    rope_original_context_tokens=65_536,
    routed_scaling=1.5,
    source=SOURCE,
)

PRO = Architecture(
    id="v4-pro",
    gguf_arch="deepseek4",
    layers=61,
    hidden_size=7168,
    heads=128,
    head_dim=512,
    rope_dim=64,
    q_lora_rank=1536,
    o_lora_rank=1024,
    o_groups=16,
    routed_experts=384,
    active_experts=6,
    shared_experts=1,
    expert_width=3072,
    hash_layers=3,
    compress_ratios=(128, 128, *(4, 128) * 29, 4),
    window_tokens=128,
    index_heads=64,
    index_dim=128,
    index_topk=1024,
    hyper_connections=4,
    vocabulary=129280,
    max_context_tokens=1_048_576,
    rope_original_context_tokens=65_536,
    routed_scaling=2.5,
    source=SOURCE,
)

FLASH_41 = Architecture(
    id="v4.1-flash",
    gguf_arch="deepseek41",
    layers=40,
    hidden_size=5120,
    heads=64,
    head_dim=512,
    rope_dim=64,
    q_lora_rank=1280,
    o_lora_rank=1024,
    o_groups=8,
    routed_experts=384,
    active_experts=6,
    shared_experts=1,
    expert_width=2304,
    hash_layers=0,
    compress_ratios=(0, 0, *(2,) * 18, *(1,) * 20),
    window_tokens=128,
    index_heads=32,
    index_dim=128,
    index_topk=512,
    hyper_connections=4,
    vocabulary=129280,
    max_context_tokens=1_048_576,
    rope_original_context_tokens=65_536,
    routed_scaling=1.5,
    expert_block=32,
    kv_source_layers=(2, 8, 14, 20),
    index_source_layers=(2, 8, 14, 20, 24, 28, 32, 36),
    engram=Engram(layers=(1, 14), rows=(384_006_168, 384_016_682), row_bytes=264),
    vision_bytes=970_555_552,
    source=SOURCE,
)

MTP = Draft(kind=DraftKind.MTP, stages=1)
FLASH_DSPARK = Draft(kind=DraftKind.DSPARK, stages=3, block_tokens=5, markov_rank=256)
PRO_DSPARK = Draft(kind=DraftKind.DSPARK, stages=3, block_tokens=5, markov_rank=512)
FLASH_41_DSPARK = Draft(kind=DraftKind.DSPARK, stages=3, block_tokens=5, markov_rank=256, experts=128)


@cache
def catalogue() -> Catalogue:
    """The shipped one."""
    return load_catalogue([data_dir("profiles")])


@cache
def machine(text: str) -> Host:
    """A hypothetical machine, as `--hardware` names it."""
    return parse_hardware(text, catalogue().chips)


@lru_cache(maxsize=256)
def decide(request: Request, host: Host) -> Decision:
    """Each wish on each machine is decided once in a run of the tests."""
    return make_plan(request, host, catalogue(), tool_version="test")


def amount(size_bytes: int | None) -> Amount:
    return Amount(size_bytes=size_bytes, source="test")


def cards(sizes: tuple[int | None, ...], *, arch: str = "sm_89", memory_bytes: int | None) -> Host:
    """A Linux machine with one CUDA card for each size."""
    pools = [Pool(id="host", kind=PoolKind.HOST, total=amount(memory_bytes), ceiling=amount(None), free=amount(None))]
    devices = []
    for index, size in enumerate(sizes):
        pool_id = f"nvidia-{index}"
        pools.append(
            Pool(id=pool_id, kind=PoolKind.DEDICATED, total=amount(size), ceiling=amount(None), free=amount(size))
        )
        devices.append(
            Device(
                index=index,
                vendor=Vendor.NVIDIA,
                compute_api=ComputeApi.CUDA,
                name="Test card",
                arch=arch,
                pool_id=pool_id,
            )
        )
    return Host(
        origin=HostOrigin.HYPOTHETICAL,
        os=OperatingSystem.LINUX,
        os_version=None,
        kernel=None,
        cpu=Cpu(architecture="x86_64", model=None, physical_cores=16, usable_cores=32),
        pools=tuple(pools),
        devices=tuple(devices),
    )
