"""What speaks against a plan on llama.cpp."""

from __future__ import annotations

from v4deploy.domain.engine import EngineProfile, LaunchOptions
from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.hardware import ComputeApi
from v4deploy.domain.launch_settings import Ability
from v4deploy.domain.plan import Plan
from v4deploy.domain.versions import is_older
from v4deploy.engines import common
from v4deploy.engines.gguf_files import files_derived, files_unknown, first_shard
from v4deploy.engines.llama_cpp_arguments import build_number, draft_path, flag_version, left_out, projector_path
from v4deploy.engines.llama_cpp_dialect import has_flag

INDISPENSABLE = frozenset(
    {
        "--model",
        "--ctx-size",
        "--parallel",
        "--cache-type-k",
        "--cache-type-v",
        "--device",
        "--n-gpu-layers",
        "--n-cpu-moe",
        "--tensor-split",
        "--spec-type",
        "--spec-draft-model",
        "--mmproj",
        "--api-key-file",
    }
)
"""Without these the server would not be the planned one, or stand open; without the others it is only less tuned."""


def version_findings(plan: Plan, options: LaunchOptions, profile: EngineProfile) -> tuple[Finding, ...]:
    text = common.engine_version(plan, options)
    build = build_number(text)
    if build is None:
        return (
            Finding(
                id="engine.llama-cpp.version-unknown",
                severity=Severity.WARN,
                summary=f"the build of llama.cpp is not known; options are written {_dialect(options, profile)}",
                evidence=(Evidence(source="engine version", value=text),),
                why="builds before 9840 do not know V4, and options were renamed and removed during 2026",
                fix="`llama-server --version`; a build from a tree without history gives its number as 0",
            ),
        )
    findings = []
    minimum = common.minimum_version(plan, profile)
    if int(build) < int(build_number(minimum) or 0):
        findings.append(common.too_old(plan, profile, build, minimum))
    if options.known_flags is None:
        findings += common.newer_than_read(profile, build)
    clean = common.launch_settings(profile).since(Ability.QUANTISED_KV_CACHE)
    if plan.chosen.kv_cache_type != "f16" and clean is not None and is_older(build, clean):
        findings.append(
            Finding(
                id="engine.llama-cpp.quantised-cache",
                severity=Severity.FAIL,
                summary=f"build {build} gives nonsense with a {plan.chosen.kv_cache_type} KV cache",
                evidence=(Evidence(source="ggml-org/llama.cpp#25382"),),
                fix=f"update to build {clean}, or plan with an f16 KV cache",
            )
        )
    return tuple(findings)


def _dialect(options: LaunchOptions, profile: EngineProfile) -> str:
    return f"for build {profile.version}" if options.known_flags is None else "as its `--help` names them"


def option_findings(plan: Plan, options: LaunchOptions, profile: EngineProfile) -> tuple[Finding, ...]:
    """Options that the plan calls for and that this build does not have."""
    if first_shard(plan.chosen.checkpoint) is None:
        return ()
    version = flag_version(plan, options, profile)
    # Builds with the older options map the file without being told.
    maps_anyway = has_flag("--no-mmap", options.known_flags, profile, version)
    missing = [flag for flag in left_out(plan, options, profile) if not (flag == "--load-mode" and maps_anyway)]
    source = "flags by build" if options.known_flags is None else "llama-server --help"
    return tuple(
        Finding(
            id="engine.llama-cpp.option-missing",
            severity=Severity.FAIL if flag in INDISPENSABLE else Severity.WARN,
            summary=f"this llama-server has no `{flag}`" + ("" if flag in INDISPENSABLE else ", so it is left out"),
            evidence=(Evidence(source=source, value=flag),),
            why="the plan was made for a server with it",
            fix=f"use llama.cpp build {profile.version} or newer",
        )
        for flag in missing
    )


def plan_findings(plan: Plan) -> tuple[Finding, ...]:
    chosen = plan.chosen
    findings = []
    if chosen.compute_api is ComputeApi.CANN:
        findings.append(
            Finding(
                id="engine.llama-cpp.no-cann-operators",
                severity=Severity.FAIL,
                summary="llama.cpp's CANN build lacks the indexer and hyper-connection operators of V4",
                why="every layer would fall back to the processor",
                fix="plan with `--engine mindie`",
            )
        )
    if first_shard(chosen.checkpoint) is None:
        findings.append(files_unknown(plan))
    findings += files_derived(plan)
    if chosen.use_draft and draft_path(plan) is None:
        findings.append(
            Finding(
                id="engine.llama-cpp.no-draft-file",
                severity=Severity.FAIL,
                summary=f"the plan drafts tokens, but {chosen.checkpoint.id} has no draft file",
                why="llama.cpp reads draft stages from a file of their own",
                fix="plan without drafting",
            )
        )
    if projector_path(plan) is not None:
        findings.append(
            Finding(
                id="engine.llama-cpp.projector",
                severity=Severity.INFO,
                summary="the projector for images beside the weights is loaded too; the plan does not count its memory",
            )
        )
    return tuple(findings)
