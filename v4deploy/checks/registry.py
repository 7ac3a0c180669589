"""All checks in one table, and running those that were asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from v4deploy.checks import (
    accelerators,
    drivers,
    engines,
    environment,
    hosts,
    network,
    plans,
    release_sets,
    storage,
    toolchain,
)
from v4deploy.checks.base import Check, Needs, no_device_for_engines, no_usable_device
from v4deploy.checks.probe_findings import PROBE_FINDINGS
from v4deploy.checks.selection import Selection
from v4deploy.checks.subject import Subject
from v4deploy.domain.finding import CheckGroup, Finding, group_of

CHECKS: tuple[Check, ...] = (
    Check(
        id="accelerator.v4-support",
        title="which engines run the model on each kind of device",
        run=accelerators.v4_support,
        blocked_by=no_usable_device,
    ),
    Check(
        id="accelerator.dropped-by-cuda-13",
        title="devices that builds for CUDA 13 leave out",
        run=accelerators.dropped_by_cuda_13,
    ),
    Check(
        id="accelerator.memory-in-use",
        title="device memory that other processes hold",
        run=accelerators.memory_in_use,
        blocked_by=no_usable_device,
    ),
    Check(id="accelerator.rocm-too-old", title="ROCm against the engines' builds", run=drivers.rocm_floor),
    Check(id="engine.none", title="whether an engine is installed", run=engines.presence),
    Check(
        id="engine.version",
        title="installed engines against the oldest version that runs the model here",
        run=engines.versions,
        others=(*engines.ids("installed"), *engines.ids("too-old"), *engines.ids("version-unknown")),
    ),
    Check(
        id="engine.none-for-devices",
        title="whether an installed engine runs the model on a device here",
        run=engines.none_for_devices,
        blocked_by=no_device_for_engines,
    ),
    Check(
        id="engine.known-bad",
        title="versions that users reported as broken on the devices here",
        run=engines.known_bad,
        others=engines.ids("known-bad"),
    ),
    Check(
        id="engine.llama-cpp.blind-build",
        title="a llama.cpp that lists none of the GPUs here",
        run=engines.blind_build,
        blocked_by=no_device_for_engines,
    ),
    Check(
        id="engine.driver-floor",
        title="loaded drivers against the builds of installed engines",
        run=drivers.driver_floors,
        others=engines.ids("driver-floor"),
        blocked_by=no_device_for_engines,
    ),
    Check(
        id="engine.vllm.no-compiler",
        title="a CUDA compiler for the kernels that vLLM compiles at the start",
        run=toolchain.missing_compiler,
    ),
    Check(
        id="engine.vllm.other-compiler",
        title="CUDA compilers against the CUDA version of vLLM's torch",
        run=toolchain.other_compiler,
    ),
    Check(
        id="engine.vllm.aiter-too-old",
        title="AMD's kernel library beside vLLM",
        run=toolchain.old_aiter,
    ),
    Check(id="engine.mindie.version-set", title="vLLM-Ascend beside a vLLM of its release", run=engines.ascend_set),
    Check(id="engine.mindie.torch-npu", title="torch_npu against torch and vLLM-Ascend", run=release_sets.torch_npu),
    Check(id="engine.mindie.cann", title="CANN against vLLM-Ascend", run=release_sets.cann),
    Check(
        id="engine.mindie.image-and-weights",
        title="image and weights for the family of the NPUs",
        run=engines.ascend_image_and_weights,
    ),
    Check(
        id="config.llama-arg-ignored",
        title="variables that llama.cpp no longer reads",
        run=environment.removed_llama_variables,
    ),
    Check(
        id="config.llama-arg-set", title="variables that change every llama.cpp launch", run=environment.llama_variables
    ),
    Check(
        id="config.vllm-unknown-variables",
        title="VLLM_* that vLLM does not know",
        run=environment.unknown_vllm_variables,
    ),
    Check(id="config.vllm-dev-mode", title="vLLM's open control endpoints", run=environment.vllm_server_dev_mode),
    Check(
        id="config.cuda-visible-devices-uuid",
        title="CUDA devices named by UUID, which stops vLLM",
        run=environment.cuda_devices_by_uuid,
    ),
    Check(
        id="config.ggml-unified-memory",
        title="a variable that lets llama.cpp spill into system RAM",
        run=environment.unified_memory_variable,
    ),
    Check(
        id="config.ollama-vulkan",
        title="Ollama past the variables that hide devices",
        run=environment.ollama_past_hidden_devices,
    ),
    Check(
        id="config.unknown-v4deploy-variable",
        title="V4DEPLOY_* that do not exist",
        run=environment.unknown_own_variables,
    ),
    Check(
        id="config.ascend-removed-variables",
        title="variables that vLLM-Ascend no longer reads",
        run=environment.removed_ascend_variables,
    ),
    Check(id="config.ascend-environment", title="CANN's and nnal's variables", run=environment.ascend_environment),
    Check(id="config.token-readable", title="a hub token that others can read", run=environment.readable_token),
    Check(
        id="host.shm-below-recipes",
        title="shared memory with several devices against published launch files",
        run=hosts.shared_memory_below_recipes,
    ),
    Check(id="host.memory-for-engram", title="host memory for V4.1's Engram tables", run=hosts.memory_for_engram),
    Check(id="host.wired-limit", title="how far Metal's limit can be raised", run=accelerators.wired_limit),
    Check(id="network.offline", title="the switch that forbids the network", run=network.offline),
    Check(
        id="network.endpoint",
        title="the hub's address in the environment",
        run=network.endpoint,
        others=("network.endpoint-invalid", "network.endpoint-unencrypted"),
    ),
    Check(
        id="network.loopback-through-proxy",
        title="a proxy without an exception for this machine",
        run=network.loopback_through_proxy,
    ),
    Check(id="network.port-in-use", title="the ports of installed engines", run=network.taken_ports),
    Check(id="network.hub", title="whether a byte of a weight file comes back", run=network.hub, needs=Needs.DEEP),
    Check(
        id="storage.room-for-weights",
        title="free disk for the weights",
        run=storage.room,
        others=("storage.too-small-for-weights",),
    ),
    Check(id="storage.read-speed", title="how fast weights are read", run=storage.read_speed, needs=Needs.DEEP),
    Check(
        id="plan.fits",
        title="whether the model fits this machine",
        run=plans.fits_here,
        others=("plan.nothing-fits", "plan.cpu-only"),
    ),
    Check(
        id="plan.target.fits",
        title="whether the model fits the machine of --target",
        run=plans.target_fits,
        others=("plan.target.does-not-fit",),
    ),
    Check(
        id="plan.target.driver",
        title="the driver that the target needs",
        run=plans.target_driver,
        blocked_by=plans.no_target_plan,
    ),
    Check(
        id="plan.target.engine",
        title="the engine that the target needs",
        run=plans.target_engine,
        blocked_by=plans.no_target_plan,
    ),
    Check(
        id="plan.target.image",
        title="the container image for the target",
        run=plans.target_image,
        blocked_by=plans.no_target_plan,
    ),
    Check(
        id="plan.target.disk",
        title="free disk here for the target's weights",
        run=plans.target_disk,
        blocked_by=plans.no_target_plan,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A line of `--list`.

    Attributes:
        needs: `fast`, `deep`, or `probe` for a finding that comes with the survey of the machine.
        findings: ids that it gives.
    """

    id: str
    group: CheckGroup
    title: str
    needs: str
    findings: tuple[str, ...]


def listing() -> tuple[Listed, ...]:
    """Everything that `--only` and `--skip` can name, by group."""
    lines = [
        Listed(id=check.id, group=check.group, title=check.title, needs=check.needs, findings=(check.id, *check.others))
        for check in CHECKS
    ]
    lines += [
        Listed(id=id_, group=group_of(id_), title=title, needs="probe", findings=(id_,))
        for id_, title in PROBE_FINDINGS
    ]
    order = list(CheckGroup)
    return tuple(sorted(lines, key=lambda line: (order.index(line.group), line.needs == "probe", line.id)))


def known_ids() -> tuple[str, ...]:
    """Ids of all checks and findings."""
    return tuple(id_ for line in listing() for id_ in line.findings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What the checks found, and how long each group took."""

    findings: tuple[Finding, ...]
    group_seconds: tuple[tuple[CheckGroup, float], ...]


def judge(subject: Subject, selection: Selection, *, deep: bool, clock: Callable[[], float]) -> Judged:
    """Run the checks that were asked for; `clock` gives seconds."""
    findings: list[Finding] = []
    taken: dict[CheckGroup, float] = {}
    for check in CHECKS:
        if not selection.leaves((check.id, *check.others)) or (check.needs is Needs.DEEP and not deep):
            continue
        begun = clock()
        findings += [finding for finding in check.judge(subject) if selection.shows(finding, check)]
        taken[check.group] = taken.get(check.group, 0.0) + clock() - begun
    return Judged(findings=tuple(findings), group_seconds=tuple(taken.items()))
