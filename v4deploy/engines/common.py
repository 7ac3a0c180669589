"""What the engines share: versions of flags, names, images, load time, header facts, and the checks on options."""

from __future__ import annotations

import math
import posixpath
from collections import Counter

from v4deploy.domain.counting import counted
from v4deploy.domain.engine import EngineId, EngineImage, EngineProfile, LaunchOptions
from v4deploy.domain.errors import UsageError
from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.hardware import ComputeApi
from v4deploy.domain.launch_settings import LaunchSettings
from v4deploy.domain.model import CheckpointFormat
from v4deploy.domain.plan import FootprintPart, Plan, PoolUse
from v4deploy.domain.units import MB, format_gib
from v4deploy.domain.versions import is_older

LOAD_FLOOR_BYTES_PER_SECOND = 200 * MB
"""Assumed slowest disk worth waiting for: one hard disk or a share over 2 Gbit/s. A choice of this project, not a
measurement: it only has to be so low that a healthy load is never cut off."""

START_UP_SECONDS = 300
"""Process start, kernel compilation and warm-up beside reading the weights; a choice of this project as well."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")

CONTAINER_TARGETS = frozenset({"compose", "container", "kubernetes", "motor", "quadlet"})
"""Launch targets in which the engine comes as an image, whatever is installed on the machine."""

_VISIBLE_DEVICES = {
    ComputeApi.CUDA: "CUDA_VISIBLE_DEVICES",
    ComputeApi.ROCM: "ROCR_VISIBLE_DEVICES",
    ComputeApi.CANN: "ASCEND_RT_VISIBLE_DEVICES",
}


def engine_version(plan: Plan, options: LaunchOptions) -> str:
    """The version that flags are written for: the one found at launch, else the plan's."""
    return options.engine_version or plan.engine_version


def knows_flag(profile: EngineProfile, flag: str, version: str) -> bool:
    """Whether this version has the flag. A flag without a range in the profile is known to every version."""
    return all(
        not (entry.since and is_older(version, entry.since)) and not (entry.until and is_older(entry.until, version))
        for entry in profile.flags
        if entry.flag == flag
    )


def launch_settings(profile: EngineProfile) -> LaunchSettings:
    """What the engine is started with beside the plan."""
    assert profile.launch is not None, f"the profile of {profile.id} was read for planning only"
    return profile.launch


def served_name(plan: Plan, options: LaunchOptions) -> str:
    """The name that clients send: the user's, else the release (`v4-flash-0731`)."""
    return options.served_name or plan.release.id


def port_of(options: LaunchOptions, profile: EngineProfile) -> int:
    """The user's port, else the engine's own."""
    return profile.default_port if options.port is None else options.port


def reachable(bind: str) -> str:
    """An address that a client on this machine can use for what the server listens on, as it stands in a URL."""
    if bind in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        return "127.0.0.1"
    return f"[{bind}]" if ":" in bind else bind


def memory_utilisation(plan: Plan, profile: EngineProfile) -> float:
    """`gpu-memory-utilization`: the share of a device's memory that the plan was made for, at most the profile's.

    Always written, so that a later default of the engine cannot change the arithmetic.

    The smallest of the plan's devices, as the engine takes one number for all. More would not start where memory is in
    use, and less would leave no room for the planned cache.
    """
    used = {device.pool_id for device in plan.host.devices if device.index in plan.chosen.layout.device_indices}
    # What an architecture is given less of is in the plan's budgets already.
    shares = [profile.recipes.most_percent(frozenset()) / 100]
    for use in plan.pools:
        total = plan.host.pool(use.pool_id).total.size_bytes
        if use.pool_id in used and total and use.budget_bytes is not None:
            # The planner cuts budgets to whole percent and then to whole bytes, so rounding up finds that percent.
            shares.append(-(-use.budget_bytes * 100 // total) / 100)
    return min(shares)


def weights_bytes(plan: Plan) -> int:
    """Bytes that are read while loading: the checkpoint's files once, however many ranks keep a copy of a part; where
    their size is unknown, the plan's weights over all pools.
    """
    return plan.chosen.checkpoint.size_bytes or sum(
        row.size_bytes for row in plan.footprint if row.part is FootprintPart.WEIGHTS
    )


def load_timeout_seconds(plan: Plan) -> int:
    """How long a start may take: twice what reading was measured to take here, as somebody else may read then; where
    nothing was measured, all weights at the assumed floor of the disk. And a constant.
    """
    measured_seconds = plan.speed.load_seconds.high
    if measured_seconds is not None:
        return math.ceil(2 * measured_seconds) + START_UP_SECONDS
    return math.ceil(weights_bytes(plan) / LOAD_FLOOR_BYTES_PER_SECOND) + START_UP_SECONDS


def image_of(plan: Plan, options: LaunchOptions, profile: EngineProfile) -> str | None:
    """The container image with its tag: the user's, else the profile's for the plan's devices.

    None where the profile has no image for this compute API.
    """
    if options.image is not None:
        return options.image
    entry = image_entry(plan, profile)
    if entry is None:
        return None
    return f"{entry.image}:{entry.tag.format(version=engine_version(plan, options))}"


def image_entry(plan: Plan, profile: EngineProfile) -> EngineImage | None:
    """The profile's first image for the compute API and the architecture of the plan's devices."""
    chosen = plan.chosen
    architectures = {device.arch for device in plan.host.devices if device.index in chosen.layout.device_indices}
    for entry in profile.images:
        if entry.compute_api == chosen.compute_api and (entry.arch == "*" or entry.arch in architectures):
            return entry
    return None


def device_names(plan: Plan) -> tuple[str, ...] | None:
    """The plan's devices as their driver and container runtimes take them. None where the plan takes all of that
    compute API, or has devices that cannot be named, which `check_basics` refuses.

    By number, counted in the order of the bus; beside MIG slices by UUID: CUDA's numbers tell no slice from another.
    """
    chosen = plan.chosen
    alike = [device for device in plan.host.devices if device.compute_api is chosen.compute_api]
    used = [number for number, device in enumerate(alike) if device.index in chosen.layout.device_indices]
    if len(used) == len(alike):
        return None
    if not _has_mig_slices(plan):
        return tuple(str(number) for number in used)
    uuids = tuple(uuid for number in used if (uuid := alike[number].uuid) is not None)
    return uuids if len(uuids) == len(used) else None


def _has_mig_slices(plan: Plan) -> bool:
    slices = any(plan.host.is_mig_slice(device) for device in plan.host.devices)
    return slices and plan.chosen.compute_api is ComputeApi.CUDA


def visible_devices_env(plan: Plan) -> tuple[tuple[str, str], ...]:
    """Variables that hide the devices which the plan does not use; empty where it uses all, or none.

    Engines take every device they see; one that the plan left out would change the arithmetic.
    """
    names = device_names(plan)
    variable = _VISIBLE_DEVICES.get(plan.chosen.compute_api)
    if not names or variable is None:
        return ()
    # CUDA numbers the fastest device first by default, the driver's own tools (and so the plan) go by the PCI bus.
    order = (("CUDA_DEVICE_ORDER", "PCI_BUS_ID"),) if plan.chosen.compute_api is ComputeApi.CUDA else ()
    return (*order, (variable, ",".join(names)))


def facts(plan: Plan, profile: EngineProfile, options: LaunchOptions) -> tuple[str, ...]:
    """The lines of a rendered file's header that say which plan it was written for."""
    chosen = plan.chosen
    layout = chosen.layout
    slots = counted(chosen.concurrency, "sequence")
    lines = [
        f"Model:   {plan.release.name} ({plan.release.id}), {chosen.checkpoint.repo}, quant {chosen.checkpoint.quant}",
        f"Engine:  {profile.name} {engine_version(plan, options)} on {chosen.compute_api.value}",
        f"Context: {chosen.context_tokens} tokens a sequence, {slots}, KV cache {chosen.kv_cache_type}",
        f"Layout:  {_layout_words(plan)}",
    ]
    lines += _memory_lines(plan.pools)
    if layout.host_expert_layers:
        lines.append(f"Offload: routed experts of {layout.host_expert_layers} layers stay in host memory")
    lines.append(f"Written by v4deploy {plan.tool_version}")
    return tuple(lines)


def _memory_lines(pools: tuple[PoolUse, ...]) -> list[str]:
    """One line a pool; devices that carry the same share one."""
    alike: dict[tuple[int, int | None], list[PoolUse]] = {}
    for pool in pools:
        alike.setdefault((pool.needed_bytes, pool.budget_bytes), []).append(pool)
    return [
        f"Memory:  {same[0].label}{f' and {len(same) - 1} more like it, each' if len(same) > 1 else ''}: "
        f"{format_gib(needed_bytes)} of {format_gib(budget_bytes)}"
        for (needed_bytes, budget_bytes), same in alike.items()
    ]


def _layout_words(plan: Plan) -> str:
    layout = plan.chosen.layout
    if not layout.device_indices:
        return "processor only"
    names = Counter(device.name for device in plan.host.devices if device.index in layout.device_indices)
    parts = [f"{count}x {name}" for name, count in names.items()]
    sizes = (
        ("tensor", layout.tensor_parallel),
        ("pipeline", layout.pipeline_parallel),
        ("data", layout.data_parallel),
    )
    parts += [f"{name} parallel {size}" for name, size in sizes if size > 1]
    if layout.expert_parallel:
        parts.append("expert parallel")
    return ", ".join(parts)


def check_basics(
    plan: Plan, options: LaunchOptions, profile: EngineProfile, formats: tuple[CheckpointFormat, ...]
) -> tuple[Finding, ...]:
    """What holds for every engine: the plan is for it, it can load the format, and the options can be written down.

    Raises:
        UsageError: the plan was made for another engine.
    """
    chosen = plan.chosen
    if chosen.engine is not profile.id:
        raise UsageError(
            f"this plan is for {chosen.engine.value}, not for {profile.id.value}",
            hint=f"plan again: `v4deploy plan {plan.request.model} --engine {profile.id.value}`",
        )
    findings = [*_option_findings(options), *_slice_findings(plan)]
    if chosen.checkpoint.format not in formats:
        findings.append(
            Finding(
                id=f"engine.{engine_word(profile.id)}.format",
                severity=Severity.FAIL,
                summary=f"{profile.name} does not load {chosen.checkpoint.format.value} checkpoints",
                evidence=(Evidence(source="catalogue", value=f"{chosen.checkpoint.id}: {chosen.checkpoint.repo}"),),
                fix="plan again without `--quant`, or with another engine",
            )
        )
    if options.bind not in LOOPBACK and options.api_key_file is None:
        findings.append(
            Finding(
                id="config.open-without-key",
                severity=Severity.WARN,
                summary=f"{profile.name} will listen on {options.bind} and ask for no key",
                why="anyone who reaches that address can use the model",
                fix="leave out the address, so that only this machine is served; or ask for a key, if the engine can",
            )
        )
    return tuple(findings)


def too_old(plan: Plan, profile: EngineProfile, version: str, minimum: str) -> Finding:
    """The finding that an engine cannot run this release yet."""
    return Finding(
        id=f"engine.{engine_word(profile.id)}.too-old",
        severity=Severity.FAIL,
        summary=f"{profile.name} {version} is too old for {plan.release.name}: it takes {minimum} or newer",
        evidence=(Evidence(source="engine version", value=version),),
        fix=f"update {profile.name}",
    )


def newer_than_read(profile: EngineProfile, version: str) -> tuple[Finding, ...]:
    """The finding that nobody looked at this version yet; empty for those that are known, and for unreadable ones."""
    try:
        is_newer = is_older(profile.newest_read, version)
    except ValueError:
        return ()
    if not is_newer:
        return ()
    return (
        Finding(
            id=f"engine.{engine_word(profile.id)}.newer-than-known",
            severity=Severity.WARN,
            summary=f"{profile.name} {version} is newer than what v4deploy knows; options are those of "
            f"{profile.newest_read}",
            evidence=(Evidence(source=profile.source, value=f"read on {profile.as_of}"),),
            why="an option that was renamed or removed since then stops the engine at its start",
            fix=f"update v4deploy, or use {profile.name} {profile.newest_read}",
        ),
    )


def minimum_version(plan: Plan, profile: EngineProfile) -> str:
    """The oldest version that runs this release: the stricter of the engine's and the release's."""
    minimum = profile.minimum_version
    for engine, version in plan.release.minimum_engine_versions:
        if engine is profile.id and is_older(minimum, version):
            minimum = version
    return minimum


def engine_word(engine: EngineId) -> str:
    """The engine in a finding's id, whose words have no dots of their own."""
    return engine.value.replace(".", "-")


def _slice_findings(plan: Plan) -> tuple[Finding, ...]:
    """A plan for one of several slices whose UUID nobody told: every other way to name it means another device."""
    used = [device for device in plan.host.devices if device.index in plan.chosen.layout.device_indices]
    others = any(device not in used and device.compute_api is ComputeApi.CUDA for device in plan.host.devices)
    if not (_has_mig_slices(plan) and used and others and device_names(plan) is None):
        return ()
    return (
        Finding(
            id="config.slice-without-uuid",
            severity=Severity.FAIL,
            summary=f"{used[0].name} is a slice beside other devices, and its UUID is not known",
            why="CUDA's numbers tell no slice from another, so that the engine would start on another one",
            fix="plan on the machine itself, where NVML tells UUIDs; or in a container that is given this slice only",
        ),
    )


def _option_findings(options: LaunchOptions) -> tuple[Finding, ...]:
    findings = []
    if not posixpath.isabs(options.weights_dir):
        findings.append(
            Finding(
                id="config.weights-dir-relative",
                severity=Severity.FAIL,
                summary=f"the weights directory `{options.weights_dir}` is not an absolute path",
                why="a service starts in another directory than you",
                fix="give the whole path",
            )
        )
    if options.api_key_file is not None and not posixpath.isabs(options.api_key_file):
        findings.append(
            Finding(
                id="config.key-file-relative",
                severity=Severity.FAIL,
                summary=f"the key file `{options.api_key_file}` is not an absolute path",
                why="a service starts in another directory than you",
                fix="give the whole path",
            )
        )
    texts = {
        "weights directory": options.weights_dir,
        "address": options.bind,
        "served name": options.served_name,
        "executable": options.executable,
        "key file": options.api_key_file,
        "image": options.image,
    }
    findings += [
        Finding(
            id="config.control-character",
            severity=Severity.FAIL,
            summary=f"the {what} {text!r} holds a line break or another control character",
            why="it would end the line of the file that it is written into",
            fix="use a name of printable characters",
        )
        for what, text in texts.items()
        if text is not None and not text.isprintable()
    ]
    return tuple(findings)
