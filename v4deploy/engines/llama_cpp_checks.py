"""What speaks against a plan on llama.cpp."""

from __future__ import annotations

from v4deploy.domain.engine import EngineProfile, LaunchOptions
from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.hardware import ComputeApi
from v4deploy.domain.plan import Plan
from v4deploy.engines import common
from v4deploy.engines.gguf_files import files_derived, files_unknown, first_shard
from v4deploy.engines.llama_cpp_arguments import build_number, draft_path

QUANTISED_CACHE_BUILD = "10242"
"""Quantised KV caches gave fluent nonsense on early builds (ggml-org/llama.cpp#25382); the build of 2026-08-04 is the
first that is known to be clean."""


def version_findings(plan: Plan, options: LaunchOptions, profile: EngineProfile) -> tuple[Finding, ...]:
    text = common.engine_version(plan, options)
    build = build_number(text)
    if build is None:
        return (
            Finding(
                id="engine.llama-cpp.version-unknown",
                severity=Severity.WARN,
                summary=f"the build of llama.cpp is not known; options are written for build {profile.version}",
                evidence=(Evidence(source="engine version", value=text),),
                why="options that loading needs were renamed and removed during 2026",
                fix="`llama-server --version`, then give the build number",
            ),
        )
    findings = []
    minimum = common.minimum_version(plan, profile)
    if int(build) < int(build_number(minimum) or 0):
        findings.append(common.too_old(plan, profile, build, minimum))
    if plan.chosen.kv_cache_type != "f16" and int(build) < int(QUANTISED_CACHE_BUILD):
        findings.append(
            Finding(
                id="engine.llama-cpp.quantised-cache",
                severity=Severity.FAIL,
                summary=f"build {build} gives nonsense with a {plan.chosen.kv_cache_type} KV cache",
                evidence=(Evidence(source="ggml-org/llama.cpp#25382"),),
                fix=f"update to build {QUANTISED_CACHE_BUILD}, or plan with an f16 KV cache",
            )
        )
    return tuple(findings)


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
    return tuple(findings)
