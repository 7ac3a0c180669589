"""A plan as arguments and variables of `vllm serve` with the vLLM-Ascend plugin, by chip family and recipe."""

from __future__ import annotations

from v4deploy.domain.engine import EngineProfile, LaunchOptions
from v4deploy.domain.errors import UsageError
from v4deploy.domain.launch_recipes import ChipFamily, LaunchRecipe
from v4deploy.domain.launch_settings import Arguments
from v4deploy.domain.model import DraftKind
from v4deploy.domain.plan import Plan
from v4deploy.engines.common import (
    engine_version,
    launch_settings,
    memory_utilisation,
    port_of,
    served_name,
    visible_devices_env,
)
from v4deploy.engines.vllm_arguments import (
    OFFLINE_ENV,
    SHUTDOWN_SECONDS,
    model_settings,
    ready_timeout_seconds,
    sequences_per_rank,
)
from v4deploy.engines.vllm_flags import split_by_version
from v4deploy.engines.vllm_support import device_architectures


def plan_family(plan: Plan, profile: EngineProfile) -> ChipFamily | None:
    """The family of all the plan's devices; None where they are of several, or of one without a recipe."""
    architectures = device_architectures(plan)
    if len(architectures) != 1:
        return None
    return next((family for family in launch_settings(profile).chip_families if family.arch == architectures[0]), None)


def plan_recipe(plan: Plan, profile: EngineProfile) -> LaunchRecipe | None:
    """The recipe for the plan's model, family and draft kind, else the first for model and family.

    None where nothing is documented for one server.
    """
    family = plan_family(plan, profile)
    if family is None:
        return None
    place = (family.arch, plan.chosen.checkpoint.model)
    fitting = [recipe for recipe in launch_settings(profile).recipes if (recipe.arch, recipe.model) == place]
    exact = [recipe for recipe in fitting if plan.release.draft and recipe.draft is plan.release.draft.kind]
    return next(iter(exact or fitting), None)


def engine_arguments(plan: Plan, options: LaunchOptions, profile: EngineProfile) -> tuple[Arguments, tuple[str, ...]]:
    """The arguments that this version knows, and the flags that it does not and that were left out.

    Raises:
        UsageError: no recipe covers the plan, or its draft has no length; `check` says so beforehand.
    """
    family, recipe = _covered(plan, profile)
    chosen, layout = plan.chosen, plan.chosen.layout
    parser = model_settings(plan, profile).parser
    values: dict[str, object] = {
        "model": options.weights_dir,
        "served-model-name": served_name(plan, options),
        "host": options.bind,
        "port": port_of(options, profile),
        "data-parallel-size": layout.data_parallel,
        "tensor-parallel-size": layout.tensor_parallel,
    }
    if layout.pipeline_parallel > 1:
        values["pipeline-parallel-size"] = layout.pipeline_parallel
    if layout.expert_parallel:
        values["enable-expert-parallel"] = True
    if family.quantized_weights:
        values["quantization"] = "ascend"
    values |= {
        "max-model-len": chosen.context_tokens,
        "max-num-seqs": sequences_per_rank(plan),
        "max-num-batched-tokens": chosen.batch_tokens,
        "gpu-memory-utilization": memory_utilisation(plan, profile),
        "block-size": recipe.block_tokens,
        "tokenizer-mode": parser,
        "tool-call-parser": parser,
        "enable-auto-tool-choice": True,
        "reasoning-parser": parser,
        "compilation-config": {"cudagraph_mode": "FULL_DECODE_ONLY"},
        **recipe.arguments,
        **_speculation(plan, recipe),
        "shutdown-timeout": SHUTDOWN_SECONDS,
    }
    return split_by_version(values, profile, engine_version(plan, options))


def environment(plan: Plan, profile: EngineProfile) -> tuple[tuple[str, str], ...]:
    """Variables of the recipe; offline, silent, patient; and only the plan's devices.

    Raises:
        UsageError: no recipe covers the plan.
    """
    family, recipe = _covered(plan, profile)
    return (
        *OFFLINE_ENV,
        # A load that takes longer than the engine's own limit of 600 s would be declared dead while it still reads.
        ("VLLM_ENGINE_READY_TIMEOUT_S", str(ready_timeout_seconds(plan))),
        *family.environment,
        *recipe.environment,
        *visible_devices_env(plan),
    )


def lacks_draft_length(plan: Plan) -> bool:
    """Whether the plan drafts with DSpark and nobody knows how many tokens; vLLM-Ascend always wants the number."""
    draft = plan.release.draft
    return plan.chosen.use_draft and draft is not None and draft.kind is DraftKind.DSPARK and draft.block_tokens is None


def _covered(plan: Plan, profile: EngineProfile) -> tuple[ChipFamily, LaunchRecipe]:
    family, recipe = plan_family(plan, profile), plan_recipe(plan, profile)
    if family is None or recipe is None:
        raise UsageError(
            f"no recipe for {plan.release.name} on one server with these devices is known",
            hint="plan again without `--engine mindie`",
        )
    return family, recipe


def _speculation(plan: Plan, recipe: LaunchRecipe) -> dict[str, object]:
    draft = plan.release.draft
    if not plan.chosen.use_draft or draft is None:
        return {}
    if recipe.draft is not draft.kind or lacks_draft_length(plan):
        raise UsageError(
            f"no recipe says how to draft with {plan.release.name} on these devices",
            hint="plan without drafting",
        )
    length = {} if draft.kind is DraftKind.MTP else {"num_speculative_tokens": draft.block_tokens}
    return {"speculative-config": {**recipe.draft_config, **length}}
