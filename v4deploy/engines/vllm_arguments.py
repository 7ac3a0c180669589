"""A plan as arguments of `vllm serve`, for the version and the devices of the plan. Nothing else is emitted.

Source, read on 2026-11-22: wheels of vLLM 0.20.2 to 0.33.0 (choices, defaults). Flags by version, parsers by model and
settings by device are in the engine's profile.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from v4deploy.domain.engine import EngineProfile, LaunchOptions
from v4deploy.domain.errors import UsageError
from v4deploy.domain.launch_settings import Ability, Arguments, DeviceSettings, ModelSettings
from v4deploy.domain.model import DraftKind
from v4deploy.domain.plan import Plan
from v4deploy.domain.versions import is_older
from v4deploy.engines.common import (
    engine_version,
    knows_flag,
    launch_settings,
    load_timeout_seconds,
    memory_utilisation,
    port_of,
    served_name,
)
from v4deploy.engines.vllm_support import device_architectures

SHUTDOWN_SECONDS = 30
"""Running requests may end within this time after SIGTERM; vLLM's default of 0 aborts them."""

MTP_TOKENS = 1
"""Tokens that an MTP head drafts; the Hopper recipe of V4-Flash."""


MINIMUM_READY_TIMEOUT_SECONDS = 3600
"""vLLM gives up on its own engine after 600 s; the recipes of V4-Pro and V4.1 raise that to an hour."""

OFFLINE_ENV = (
    # The weights are on the disk and verified: nothing may be fetched or reported at the start.
    ("HF_HUB_OFFLINE", "1"),
    ("TRANSFORMERS_OFFLINE", "1"),
    ("VLLM_NO_USAGE_STATS", "1"),
    ("VLLM_DO_NOT_TRACK", "1"),
)


def arguments(plan: Plan, options: LaunchOptions, profile: EngineProfile) -> Arguments:
    """Everything that the plan decides, before it is cut down to what the version knows.

    Raises:
        UsageError: the model is of an architecture that this module has no parsers for, or its draft has no length.
    """
    chosen, layout, model = plan.chosen, plan.chosen.layout, model_settings(plan, profile)
    values: dict[str, object] = {
        "model": options.weights_dir,
        "served-model-name": served_name(plan, options),
        "host": options.bind,
        "port": port_of(options, profile),
        "tensor-parallel-size": layout.tensor_parallel,
    }
    if layout.data_parallel > 1:
        values["data-parallel-size"] = layout.data_parallel
    if layout.pipeline_parallel > 1:
        values["pipeline-parallel-size"] = layout.pipeline_parallel
    if layout.expert_parallel:
        values["enable-expert-parallel"] = True
    values |= {
        "max-model-len": chosen.context_tokens,
        "max-num-seqs": sequences_per_rank(plan),
        "max-num-batched-tokens": chosen.batch_tokens,
        "gpu-memory-utilization": memory_utilisation(plan, profile),
        # Before 0.30 vLLM stopped with an AssertionError where V4 was left on `auto`.
        "kv-cache-dtype": chosen.kv_cache_type,
    }
    if model.block_tokens is not None:
        values["block-size"] = model.block_tokens
    values |= {
        "tool-call-parser": model.parser,
        "enable-auto-tool-choice": True,
        "reasoning-parser": model.parser,
    }
    values |= _device_arguments(plan, profile, engine_version(plan, options))
    values |= _engram(plan) | _speculation(plan, profile, engine_version(plan, options))
    return values | {"shutdown-timeout": SHUTDOWN_SECONDS}


def model_settings(plan: Plan, profile: EngineProfile) -> ModelSettings:
    """What the profile says of the plan's architecture.

    Raises:
        UsageError: it says nothing.
    """
    settings = launch_settings(profile).model(plan.gguf_arch)
    if settings is None:
        raise UsageError(
            f"no parsers are known for the architecture `{plan.gguf_arch}` of {plan.release.name}",
            hint="update v4deploy, or start vLLM by hand",
        )
    return settings


def device_environment(plan: Plan, profile: EngineProfile) -> tuple[tuple[str, str], ...]:
    """Variables that the recipes set for the plan's model on its devices."""
    return tuple(variable for row in _device_settings(plan, profile) for variable in row.environment)


def sequences_per_rank(plan: Plan) -> int:
    """Sequences that each data parallel rank takes: vLLM counts `max-num-seqs` by rank, the plan by server."""
    return math.ceil(plan.chosen.concurrency / plan.chosen.layout.data_parallel)


def ready_timeout_seconds(plan: Plan) -> int:
    """From the start to the first answer; vLLM is told the same, so that it does not give up before we do."""
    return max(MINIMUM_READY_TIMEOUT_SECONDS, load_timeout_seconds(plan))


def stop_timeout_seconds() -> int:
    """Longer than vLLM's own draining time, or the kill would cut off the answers that it still lets finish."""
    return 2 * SHUTDOWN_SECONDS


def length_wanted_before(plan: Plan, profile: EngineProfile, version: str) -> str | None:
    """Where the plan drafts with DSpark and the block size is unknown: the first vLLM that finds it out itself, if this
    one is older. None where nothing is wanted.
    """
    draft = plan.release.draft
    is_unknown = (
        plan.chosen.use_draft and draft is not None and draft.kind is DraftKind.DSPARK and draft.block_tokens is None
    )
    since = launch_settings(profile).since(Ability.DRAFT_BLOCK)
    return since if is_unknown and since is not None and is_older(version, since) else None


def _device_settings(plan: Plan, profile: EngineProfile) -> tuple[DeviceSettings, ...]:
    return launch_settings(profile).device_settings(plan.gguf_arch, frozenset(device_architectures(plan)))


def _device_arguments(plan: Plan, profile: EngineProfile, version: str) -> dict[str, object]:
    values: dict[str, object] = {}
    for settings in _device_settings(plan, profile):
        values |= settings.arguments
        if plan.chosen.layout.expert_parallel and _has_fp4_experts(plan):
            values |= settings.expert_parallel_native
    return {name: _current_spelling(name, value, profile, version) for name, value in values.items()}


def _has_fp4_experts(plan: Plan) -> bool:
    """Native weights, but not of a base model: those have FP8 experts, and no draft stages by which they are told."""
    return plan.chosen.checkpoint.quant == "native" and plan.release.draft is not None


def _current_spelling(name: str, value: object, profile: EngineProfile, version: str) -> object:
    """Of a switch with an old and a new key the one that this version knows; the new one where it knows both."""
    if not isinstance(value, Mapping):
        return value
    known = {key: item for key, item in value.items() if knows_flag(profile, f"--{name}.{key}", version)}
    return {key: item for key, item in known.items() if _replacement(f"--{name}.", key, profile) not in known}


def _replacement(prefix: str, key: str, profile: EngineProfile) -> str | None:
    """The key that took this one's place; None where none did."""
    found = (flag.replaced_by for flag in profile.flags if flag.flag == prefix + key)
    return (next(found, None) or "").removeprefix(prefix) or None


def _engram(plan: Plan) -> dict[str, object]:
    """Where V4.1's n-gram tables go: host memory, vLLM's default, or where the plan counted them."""
    on_devices = plan.chosen.engram_on_devices
    if not (on_devices or plan.chosen.checkpoint.offloadable_bytes):
        return {}
    return {"engram-config": {"cpu_offload": not on_devices}}


def _speculation(plan: Plan, profile: EngineProfile, version: str) -> dict[str, object]:
    draft = plan.release.draft
    if not plan.chosen.use_draft or draft is None:
        return {}
    if draft.kind is DraftKind.MTP:
        return {"speculative-config": {"method": "mtp", "num_speculative_tokens": MTP_TOKENS}}
    if since := length_wanted_before(plan, profile, version):
        raise UsageError(
            f"the DSpark block size of {plan.release.name} is not known, and vLLM {version} does not find it out",
            hint=f"use vLLM {since} or newer, or plan without drafting",
        )
    # Another number than the block size loses most of the accepted tokens (reported: 4.4 % against 34.7 %).
    length = {} if draft.block_tokens is None else {"num_speculative_tokens": draft.block_tokens}
    return {"speculative-config": {"method": "dspark", **length}}
