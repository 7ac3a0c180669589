"""What speaks against a plan on Ascend with MindIE Motor or vLLM-Ascend: chip, weights, recipe, layout, target."""

from __future__ import annotations

from v4deploy.domain.engine import EngineProfile, LaunchOptions
from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.launch_recipes import ChipFamily, LaunchRecipe
from v4deploy.domain.launch_settings import Ability
from v4deploy.domain.model import DraftKind
from v4deploy.domain.plan import Plan
from v4deploy.domain.units import GIB
from v4deploy.domain.versions import is_older
from v4deploy.engines.common import image_of, launch_settings, newer_than_read, too_old
from v4deploy.engines.mindie_arguments import engine_arguments, lacks_draft_length, plan_family, plan_recipe
from v4deploy.engines.mindie_motor import world_size
from v4deploy.engines.targets import target_findings
from v4deploy.engines.vllm_support import device_architectures, is_readable_version

MOTOR = "motor"
CONTAINER = "container"
LEGACY_TARGETS = ("config.json", "mindie-service", "mindie-llm")

_TUTORIALS = "vLLM-Ascend tutorials of 2026-08"
_SMALLEST_SHARE = 0.9
"""Drivers report a little less than the nominal memory; the next smaller size is half."""


def refuse_legacy() -> Finding:
    """Why no `mindie-service/conf/config.json` is written for V4, and what to ask for instead."""
    return Finding(
        id="engine.mindie.legacy-config",
        severity=Severity.FAIL,
        summary="MindIE-LLM, which reads mindie-service/conf/config.json, does not run DeepSeek V4",
        evidence=(Evidence(source="MindIE-LLM model_support_list.md of 2026-05-30", value="ends at DeepSeek-V3.2"),),
        why="for V4, MindIE means Motor with vLLM-Ascend as its engine, and that reads other files",
        fix="use `--target motor` on Kubernetes, or `--target container` on a server without it",
    )


def own_findings(
    plan: Plan, options: LaunchOptions, profile: EngineProfile, target: str, version: str
) -> tuple[Finding, ...]:
    """Findings about chip family, weights, recipe, layout and target."""
    family = plan_family(plan, profile)
    if family is None:
        return (_no_family(plan),)
    findings = [*_weight_findings(plan, family), *_memory_findings(plan, family), *_layout_findings(plan, family)]
    findings += _chip_findings(plan, family)
    findings += _target_findings(plan, options, profile, family, target)
    findings += target_findings(plan, options, target, engine="mindie", image=image_of(plan, options, profile))
    recipe = plan_recipe(plan, profile)
    if recipe is None or launch_settings(profile).model(plan.gguf_arch) is None:
        return (*findings, _no_recipe(plan, family))
    drafting = _draft_findings(plan, recipe)
    findings += [*drafting, *_context_findings(plan, recipe)]
    if not is_readable_version(version) or any(finding.severity is Severity.FAIL for finding in drafting):
        return tuple(findings)
    return (
        *findings,
        *newer_than_read(profile, version),
        *_dspark_version_findings(plan, options, profile, version),
        *_left_out_findings(plan, options, profile, version),
    )


def _no_family(plan: Plan) -> Finding:
    found = ", ".join(arch or "unknown" for arch in device_architectures(plan)) or "none"
    return Finding(
        id="engine.mindie.chip-unsupported",
        severity=Severity.FAIL,
        summary=f"V4 runs on Atlas A2, Atlas A3 or Ascend 950 devices of one kind; this plan has: {found}",
        evidence=(Evidence(source="vLLM-Ascend support matrix and FAQ 1", value=found),),
        why="the 310P has no BF16 and the first-generation 910 (910A, 910B without a digit) is not planned for",
        fix="plan again without `--engine mindie` to see what does run here",
    )


def _weight_findings(plan: Plan, family: ChipFamily) -> tuple[Finding, ...]:
    checkpoint = plan.chosen.checkpoint
    requantized = plan.chosen.compute_api.value in checkpoint.compute_apis
    if requantized == family.quantized_weights:
        return ()
    if family.quantized_weights:
        why = "these chips have no FP8 or FP4 units, so the original weights have no kernels on them"
        fix = "plan again with `--quant w8a8`"
    else:
        why = "this generation runs the original FP8 and FP4 weights and has no recipe for re-quantized ones"
        fix = "plan again with `--quant native`"
    return (
        Finding(
            id="engine.mindie.weights-not-for-chip",
            severity=Severity.FAIL,
            summary=f"the weights {checkpoint.repo} ({checkpoint.quant}) do not run on {family.name}",
            evidence=(Evidence(source=_TUTORIALS, value=checkpoint.id),),
            why=why,
            fix=fix,
        ),
    )


def _memory_findings(plan: Plan, family: ChipFamily) -> tuple[Finding, ...]:
    """Devices with less memory than every recipe has; a build may have been seen to run there all the same."""
    least_bytes = family.recipe_device_bytes
    used = [device for device in plan.host.devices if device.index in plan.chosen.layout.device_indices]
    sizes = [plan.host.pool(device.pool_id).total.size_bytes for device in used]
    known = [size for size in sizes if size is not None]
    if least_bytes is None or not known or min(known) >= _SMALLEST_SHARE * least_bytes:
        return ()
    checkpoint, lesser = plan.chosen.checkpoint, family.lesser_devices
    ran = lesser is not None and (checkpoint.quant.lower(), checkpoint.model) == (lesser.quant, lesser.model)
    return (
        Finding(
            id="engine.mindie.device-memory",
            severity=Severity.WARN if ran else Severity.FAIL,
            summary=f"the V4 recipes for {family.name} are for devices of {least_bytes // GIB} GB, and these have less",
            evidence=(Evidence(source="smallest device", value=f"{min(known)} bytes"),),
            why=None if lesser is None else lesser.why,
            fix=None if ran or lesser is None else lesser.fix,
        ),
    )


def _layout_findings(plan: Plan, family: ChipFamily) -> tuple[Finding, ...]:
    layout = plan.chosen.layout
    sizes = {"pipeline": layout.pipeline_parallel, "tensor": layout.tensor_parallel}
    refused = [row for row in family.refused if sizes[row.parallel] > 1]
    return tuple(
        Finding(
            id="engine.mindie.layout",
            severity=Severity.FAIL,
            summary=f"on {family.name} {row.what}",
            evidence=(Evidence(source=row.source.source),),
            fix="use data parallelism with expert parallelism, one device a rank",
        )
        for row in refused[:1]
    )


def _chip_findings(plan: Plan, family: ChipFamily) -> tuple[Finding, ...]:
    used = plan.chosen.layout.device_indices
    chips = {device.chip for device in plan.host.devices if device.index in used and device.chip}
    if not family.recipe_chips or chips <= set(family.recipe_chips):
        return ()
    return (
        Finding(
            id="engine.mindie.chip-without-recipe",
            severity=Severity.WARN,
            summary=f"the recipe for {', '.join(family.recipe_chips)} is used for {', '.join(sorted(chips))}, "
            "for which none is documented",
            evidence=(Evidence(source="vLLM-Ascend support matrix", value="Ascend 950 products"),),
        ),
    )


def _target_findings(
    plan: Plan, options: LaunchOptions, profile: EngineProfile, family: ChipFamily, target: str
) -> tuple[Finding, ...]:
    if target == MOTOR:
        return (*_motor_findings(plan, options, profile, family),)
    if target == CONTAINER and family.image_tag_doubt is not None and options.image is None:
        return (
            Finding(
                id="engine.mindie.image-tag",
                severity=Severity.WARN,
                summary=family.image_tag_doubt,
                fix="look at the tags of quay.io/ascend/vllm-ascend and give the right one with `--image`",
            ),
        )
    return ()


def _motor_findings(plan: Plan, options: LaunchOptions, profile: EngineProfile, family: ChipFamily) -> list[Finding]:
    findings = []
    if not plan.host.kubernetes:
        findings.append(
            Finding(
                id="engine.mindie.no-kubernetes",
                severity=Severity.WARN,
                summary="Motor runs on Kubernetes with MindCluster, and no Kubernetes was found on this host",
                fix="use `--target container` to run vLLM-Ascend with Docker on one server",
            )
        )
    if family.hardware_type_doubt is not None:
        findings.append(
            Finding(
                id="engine.mindie.hardware-type",
                severity=Severity.WARN,
                summary=f"{family.hardware_type_doubt}; `{family.hardware_type}` is written",
                why="pods are placed by that type, and the one-server form is documented for A2 and A3 only",
                fix="set `hardware_type` in user_config.json to your server's `accelerator-type` label",
            )
        )
    most = launch_settings(profile).maximum_pod_devices
    if most is not None and world_size(plan) > most:
        findings.append(
            Finding(
                id="engine.mindie.pod-too-large",
                severity=Severity.FAIL,
                summary=f"a pod of Motor takes {most} NPUs, and this plan uses {world_size(plan)}",
                fix="plan for one server",
            )
        )
    if options.api_key_file is not None:
        findings.append(
            Finding(
                id="engine.mindie.key-by-hand",
                severity=Severity.WARN,
                summary="Motor's coordinator checks keys, not the engine, so the key file is not used",
                why="v4deploy writes no secret, and Motor keeps encrypted keys in user_config.json",
                fix="set `api_key_config` below motor_coordinator_config by hand",
            )
        )
    return findings


def _no_recipe(plan: Plan, family: ChipFamily) -> Finding:
    return Finding(
        id="engine.mindie.no-recipe",
        severity=Severity.FAIL,
        summary=f"no recipe for {plan.release.name} on one {family.name} server is documented",
        evidence=(Evidence(source=_TUTORIALS),),
        why="V4-Pro takes four A2, two A3 or two 950 servers; V4.1 runs from images of its own",
        fix="plan V4-Flash, or follow the multi-server tutorials of vLLM-Ascend",
    )


def _draft_findings(plan: Plan, recipe: LaunchRecipe) -> tuple[Finding, ...]:
    draft = plan.release.draft
    if draft is None:
        return ()
    if plan.chosen.use_draft and (recipe.draft is not draft.kind or lacks_draft_length(plan)):
        return (
            Finding(
                id="engine.mindie.no-draft-recipe",
                severity=Severity.FAIL,
                summary=f"no recipe says how to draft with {plan.release.name} ({draft.kind.value}) on these devices",
                evidence=(Evidence(source=_TUTORIALS),),
                fix="plan without drafting",
            ),
        )
    if recipe.draft is not draft.kind:
        return (
            Finding(
                id="engine.mindie.recipe-of-other-release",
                severity=Severity.WARN,
                summary=f"the settings are documented for the preview, not for {plan.release.name}",
                evidence=(Evidence(source=_TUTORIALS),),
            ),
        )
    return ()


def _dspark_version_findings(
    plan: Plan, options: LaunchOptions, profile: EngineProfile, version: str
) -> tuple[Finding, ...]:
    """An image that the user named may be one of those that were made for a DSpark release."""
    draft = plan.release.draft
    if not plan.chosen.use_draft or draft is None or draft.kind is not DraftKind.DSPARK or options.image is not None:
        return ()
    since = launch_settings(profile).since(Ability.DSPARK)
    return (too_old(plan, profile, version, since),) if since and is_older(version, since) else ()


def _context_findings(plan: Plan, recipe: LaunchRecipe) -> tuple[Finding, ...]:
    if plan.chosen.context_tokens <= recipe.max_context_tokens:
        return ()
    return (
        Finding(
            id="engine.mindie.beyond-recipe",
            severity=Severity.WARN,
            summary=f"{plan.chosen.context_tokens} tokens of context are more than the recipe documents",
            evidence=(Evidence(source=_TUTORIALS, value=f"{recipe.max_context_tokens} tokens"),),
            fix=f"plan with `--context {recipe.max_context_tokens}` if it does not start",
        ),
    )


def _left_out_findings(plan: Plan, options: LaunchOptions, profile: EngineProfile, version: str) -> tuple[Finding, ...]:
    _, left_out = engine_arguments(plan, options, profile)
    return tuple(
        Finding(
            id="engine.mindie.flag-left-out",
            severity=Severity.WARN,
            summary=f"vLLM-Ascend {version} does not know `{flag}`, so it is left out",
            evidence=(Evidence(source="flags by version", value=flag),),
            fix=f"use vLLM-Ascend {profile.version}",
        )
        for flag in left_out
    )
