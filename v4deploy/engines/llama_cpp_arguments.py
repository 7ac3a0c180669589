"""The arguments of `llama-server` for a plan, in the dialect of the build that is there."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass

from v4deploy.domain.engine import EngineProfile, LaunchOptions
from v4deploy.domain.errors import UsageError
from v4deploy.domain.hardware import HostOrigin
from v4deploy.domain.model import FileRole
from v4deploy.domain.plan import Plan
from v4deploy.engines import common
from v4deploy.engines.gguf_files import first_shard, has_amx, pull_command, tensor_split
from v4deploy.engines.llama_cpp_dialect import has_flag

DEFAULT_BATCH_TOKENS = 2048
"""llama-server's own `--batch-size` (help of b11434); it must not be smaller than the micro batch."""

DRAFT_TOKENS = 3
"""llama-server's own `--spec-draft-n-max` (help of b11434)."""


Option = tuple[str, str | None]
"""A long option and its value; None for a switch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the command line finds where it runs: on the host, or inside a container."""

    weights_dir: str
    bind: str
    port: int
    api_key_file: str | None


def build_number(version: str) -> str | None:
    """The build in a version text: `11434`, `b11434`, `0.6.0 (build 11434, commit abc)`, `2026.10.11549`.

    None where it names none; builds from a source tree without history say 0.
    """
    match = re.search(r"build (\d+)", version) or re.fullmatch(r"b?(\d+)|\d+\.\d+\.(\d{4,})(?:\..*)?", version.strip())
    number = next((group for group in match.groups() if group), None) if match else None
    return number if number and int(number) > 0 else None


def arguments(
    plan: Plan, options: LaunchOptions, profile: EngineProfile, surroundings: Surroundings
) -> tuple[str, ...]:
    """The command line behind the program's name, long options only, without those that this build does not have.

    Raises:
        UsageError: the names of the checkpoint's files are not known.
    """
    known = _known(plan, options, profile, surroundings)
    return tuple(word for option in known for word in option if word is not None)


def known_options(plan: Plan, options: LaunchOptions, profile: EngineProfile) -> tuple[Option, ...]:
    """The same on this host, option by option.

    Raises:
        UsageError: the names of the checkpoint's files are not known.
    """
    return _known(plan, options, profile, here(options, profile))


def left_out(plan: Plan, options: LaunchOptions, profile: EngineProfile) -> tuple[str, ...]:
    """Options that the plan calls for and this build does not have.

    Raises:
        UsageError: the names of the checkpoint's files are not known.
    """
    wanted = _wanted(plan, options, here(options, profile))
    return tuple(flag for flag, _ in wanted if not _has(flag, plan, options, profile))


def here(options: LaunchOptions, profile: EngineProfile) -> Surroundings:
    """What the command line finds on this host."""
    return Surroundings(
        weights_dir=options.weights_dir,
        bind=options.bind,
        port=common.port_of(options, profile),
        api_key_file=options.api_key_file,
    )


def flag_version(plan: Plan, options: LaunchOptions, profile: EngineProfile) -> str:
    """The build whose options are written; the profile's where the version names none."""
    return build_number(common.engine_version(plan, options)) or profile.version


def _known(
    plan: Plan, options: LaunchOptions, profile: EngineProfile, surroundings: Surroundings
) -> tuple[Option, ...]:
    return tuple(option for option in _wanted(plan, options, surroundings) if _has(option[0], plan, options, profile))


def _has(flag: str, plan: Plan, options: LaunchOptions, profile: EngineProfile) -> bool:
    return has_flag(flag, options.known_flags, profile, flag_version(plan, options, profile))


def _wanted(plan: Plan, options: LaunchOptions, surroundings: Surroundings) -> tuple[Option, ...]:
    key = surroundings.api_key_file
    return (
        ("--model", model_file(plan, surroundings.weights_dir)),
        ("--alias", common.served_name(plan, options)),
        *_memory_arguments(plan),
        *_draft_arguments(plan, surroundings.weights_dir),
        *_projector_arguments(plan, surroundings.weights_dir),
        *_sampling_arguments(),
        ("--jinja", None),
        ("--host", surroundings.bind),
        ("--port", str(surroundings.port)),
        # By default the server answers pages of every origin, with credentials.
        ("--cors-origins", "localhost"),
        ("--metrics", None),
        *((("--api-key-file", key),) if key else ()),
    )


def model_file(plan: Plan, weights_dir: str) -> str:
    """The path of the file that llama.cpp opens.

    Raises:
        UsageError: the names of the checkpoint's files are not known.
    """
    path = first_shard(plan.chosen.checkpoint)
    if path is None:
        raise UsageError(
            f"the file names of {plan.chosen.checkpoint.id} are not known yet",
            hint=f"fetch them first: `{pull_command(plan)}`",
        )
    return posixpath.join(weights_dir, path)


def draft_path(plan: Plan) -> str | None:
    """The file that holds the draft stages, relative to the weights directory; None where there is none."""
    checkpoint = plan.chosen.checkpoint
    drafts = [file.path for file in (*checkpoint.files, *checkpoint.side_files) if file.role is FileRole.DRAFT]
    return drafts[0] if drafts else None


def _memory_arguments(plan: Plan) -> tuple[Option, ...]:
    """Context, batches, placement and loading: what the planner's arithmetic was done for."""
    chosen = plan.chosen
    arguments: list[Option] = [
        # Without a unified cache the server divides the context by the slots; the unified one would be
        # allocated once for every slot at full length (the memory is the same, the default of 4 slots is not).
        ("--ctx-size", str(chosen.context_tokens * chosen.concurrency)),
        ("--parallel", str(chosen.concurrency)),
        ("--no-kv-unified", None),
        ("--batch-size", str(max(DEFAULT_BATCH_TOKENS, chosen.batch_tokens))),
        ("--ubatch-size", str(chosen.batch_tokens)),
    ]
    if chosen.kv_cache_type != "f16":
        arguments += [("--cache-type-k", chosen.kv_cache_type), ("--cache-type-v", chosen.kv_cache_type)]
    arguments += _placement_arguments(plan)
    # "auto" gives up mapping on devices with shared memory and then allocates the whole model beside the page cache.
    arguments.append(("--load-mode", "mmap"))
    if has_amx(plan.host):
        # Builds for such processors abort on V4's quantised attn_output_a while repacking (seen with b11434).
        arguments.append(("--no-repack", None))
    return tuple(arguments)


def _placement_arguments(plan: Plan) -> list[Option]:
    """Our own placement, so the engine's fitting is off: any of these options would disable it with a mere warning."""
    layout = plan.chosen.layout
    arguments: list[Option] = [("--fit", "off")]
    if not layout.device_indices:
        arguments += [("--device", "none"), ("--numa", "distribute")]
    else:
        arguments.append(("--n-gpu-layers", "all"))
        if layout.host_expert_layers:
            arguments.append(("--n-cpu-moe", str(layout.host_expert_layers)))
        if len(layout.device_layers) > 1:
            arguments += [("--split-mode", "layer"), ("--tensor-split", tensor_split(layout.device_layers))]
    return [*arguments, *_thread_arguments(plan)]


def _thread_arguments(plan: Plan) -> list[Option]:
    """A thread count only under a CPU quota: the engine counts cores, not quotas, and would wait for itself."""
    cpu = plan.host.cpu
    layout = plan.chosen.layout
    on_host = not layout.device_indices or layout.host_expert_layers > 0
    if not on_host or plan.host.origin is HostOrigin.HYPOTHETICAL:
        return []
    if cpu.physical_cores is None or cpu.usable_cores is None or cpu.usable_cores >= cpu.physical_cores:
        return []
    return [("--threads", str(cpu.usable_cores))]


def _draft_arguments(plan: Plan, weights_dir: str) -> tuple[Option, ...]:
    draft = draft_path(plan)
    if not plan.chosen.use_draft or draft is None:
        return ()
    return (
        ("--spec-draft-model", posixpath.join(weights_dir, draft)),
        ("--spec-type", "draft-dspark"),
        ("--spec-draft-n-max", str(DRAFT_TOKENS)),
    )


def projector_path(plan: Plan) -> str | None:
    """The file that reads images, relative to the weights directory; None where it was not fetched with the rest."""
    files = plan.chosen.checkpoint.files
    return next((file.path for file in files if file.role is FileRole.MMPROJ), None)


def _projector_arguments(plan: Plan, weights_dir: str) -> tuple[Option, ...]:
    projector = projector_path(plan)
    return () if projector is None else (("--mmproj", posixpath.join(weights_dir, projector)),)


def _sampling_arguments() -> tuple[Option, ...]:
    """DeepSeek recommends temperature 1 and top-p 1; the server's defaults (0.8, top-p 0.95, top-k 40, min-p 0.05) are
    meant for other models.
    """
    return (("--temp", "1.0"), ("--top-p", "1.0"), ("--top-k", "0"), ("--min-p", "0"))
