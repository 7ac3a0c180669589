"""What launch targets take beside the engine's command line: start-up time, devices, memory, restarts."""

from __future__ import annotations

import ipaddress
import math
import posixpath
import re

from v4deploy.domain.container_devices import ContainerDevices
from v4deploy.domain.engine import EngineProfile, LaunchOptions
from v4deploy.domain.finding import Finding, Severity
from v4deploy.domain.hardware import ComputeApi, OperatingSystem
from v4deploy.domain.plan import Plan
from v4deploy.domain.units import GIB, MB, MIB, format_gb
from v4deploy.engines import common

START_ATTEMPTS = 3
"""A load that failed three times will fail again; each attempt reads the whole model."""

PROBE_SECONDS = 15
"""Between two health checks of a container while it loads; a choice of this project."""

FIRST_OPEN_PORT = 1024
"""Below it, Linux and macOS let only root listen. Units get the right to it, Docker has it."""

_RUN_AS_YOU = frozenset({"launchd", "quadlet", "router", "script"})
_SYSTEM_DIRECTORIES = ("/bin/", "/opt/", "/usr/")


def unit_name(program: str, plan: Plan) -> str:
    """A name for services and containers: `llama-server-v4-flash-0731`."""
    return f"{program}-" + re.sub(r"[^a-z0-9-]+", "-", plan.release.id.lower())


def start_values(plan: Plan, timeout_seconds: int) -> dict[str, object]:
    """How long a start may take and what that rests on, for every target; `timeout_seconds` is the engine's."""
    return {
        "release_id": plan.release.id,
        "load_timeout_seconds": timeout_seconds,
        "load_time_words": _load_time_words(plan),
        "start_attempts": START_ATTEMPTS,
        # As long as all attempts may take, or systemd would forget the first before the last has failed.
        "start_limit_seconds": timeout_seconds * (START_ATTEMPTS + 1),
    }


def service_values(plan: Plan, options: LaunchOptions, program: str, *, depth: int = 1) -> dict[str, object]:
    """Values of a systemd unit. `depth`: how many levels above the program its installation lies (2 for a venv)."""
    visible = {options.weights_dir}
    if posixpath.isabs(program) and not program.startswith(_SYSTEM_DIRECTORIES):
        # It may lie in a home directory, and those are hidden from the service.
        for _ in range(depth):
            program = posixpath.dirname(program)
        visible.add(program)
    return {
        "is_loopback": options.bind in common.LOOPBACK,
        "needs_port_right": options.port is not None and options.port < FIRST_OPEN_PORT,
        "uses_devices": bool(plan.chosen.layout.device_indices),
        "visible_paths": sorted(visible),
    }


def cdi_devices(plan: Plan, profile: EngineProfile) -> list[str]:
    """Devices by the names of the container device interface; empty where their vendor's are named in another way."""
    names = _container_devices(plan, profile)
    if names is None or names.cdi_kind is None:
        return []
    return [f"{names.cdi_kind}={name}" for name in common.device_names(plan) or ("all",)]


def _container_devices(plan: Plan, profile: EngineProfile) -> ContainerDevices | None:
    return next((entry for entry in profile.container_devices if entry.compute_api == plan.chosen.compute_api), None)


def qualified_image(image: str) -> str:
    """The image with its registry, which Docker takes for granted and Podman does not."""
    first = image.split("/", 1)[0]
    has_registry = "/" in image and ("." in first or ":" in first or first == "localhost")
    return image if has_registry else f"docker.io/{image}"


def cluster_values(plan: Plan, profile: EngineProfile, timeout_seconds: int) -> dict[str, object]:
    """Values of a Deployment on one node: the devices to ask for, memory, room, and how often to probe."""
    host_bytes = next((use.needed_bytes for use in plan.pools if use.pool_id == "host"), None)
    names = _container_devices(plan, profile)
    return {
        "gpu_resource": (names and names.cluster_resource) or "",
        "gpu_count": len(plan.chosen.layout.device_indices),
        "host_memory_mib": -(-host_bytes // MIB) if host_bytes else 0,
        "weights_gib": -(-common.weights_bytes(plan) // GIB),
        "probe_seconds": PROBE_SECONDS,
        "startup_failures": math.ceil(timeout_seconds / PROBE_SECONDS),
        # The image has to come first: half an hour for some 20 GB, a choice of this project.
        "progress_deadline_seconds": timeout_seconds + 1800,
    }


def target_findings(
    plan: Plan, options: LaunchOptions, target: str, *, engine: str, image: str | None
) -> tuple[Finding, ...]:
    """Reasons why this target cannot work for this plan, or only after something else was done."""
    refusals = []
    if target == "launchd" and plan.host.os is not OperatingSystem.MACOS:
        refusals.append(("no-launchd", f"{plan.host.os.value} has no launchd", "`--target script`"))
    if target in {"systemd", "quadlet"} and plan.host.os is not OperatingSystem.LINUX:
        refusals.append(("no-systemd", f"{plan.host.os.value} has no systemd", "`--target script`"))
    if target in {"container", "systemd", "quadlet"} and ":" in options.weights_dir:
        refusals.append(
            (
                "colon-in-path",
                f"`{options.weights_dir}` cannot be mounted: the colon separates source and destination",
                "move the weights to a directory without a colon",
            )
        )
    if target in common.CONTAINER_TARGETS:
        refusals += _container_refusals(plan, options, target, image)
    refused = tuple(
        Finding(id=f"engine.{engine}.{word}", severity=Severity.FAIL, summary=summary, fix=fix)
        for word, summary, fix in refusals
    )
    return (*refused, *_port_findings(options, target))


def _port_findings(options: LaunchOptions, target: str) -> tuple[Finding, ...]:
    if options.port is None or options.port >= FIRST_OPEN_PORT or target not in _RUN_AS_YOU:
        return ()
    return (
        Finding(
            id="config.port-for-root",
            severity=Severity.WARN,
            summary=f"port {options.port} is for root only, and what is written runs as you",
            why="the engine reads its weights, and then it may not listen",
            fix=f"choose a `--port` from {FIRST_OPEN_PORT} on; or on Linux let everybody use it: "
            f"`sudo sysctl net.ipv4.ip_unprivileged_port_start={options.port}`",
        ),
    )


def _container_refusals(
    plan: Plan, options: LaunchOptions, target: str, image: str | None
) -> list[tuple[str, str, str]]:
    if plan.chosen.compute_api is ComputeApi.METAL:
        return [("no-metal-in-containers", "containers on macOS cannot reach the GPU", "`--target script`")]
    if image is None:
        what = f"no container image is known for {plan.chosen.compute_api.value}"
        return [("no-image", what, "name one with `--image`, or use `--target script`")]
    if target in {"compose", "quadlet"} and not _is_ip_address(options.bind):
        what = f"`{options.bind}` is a name, and containers are published under addresses only"
        return [("name-for-address", what, "`--host 127.0.0.1`, or another address of this machine")]
    if target == "kubernetes" and any(not name.isdecimal() for name in common.device_names(plan) or ()):
        what = "the plan is for a slice of a GPU, whose resource name the cluster decides"
        return [("slice-in-kubernetes", what, "`--target compose` or `quadlet`, which name the slice itself")]
    return []


def _is_ip_address(bind: str) -> bool:
    try:
        ipaddress.ip_address(bind)
    except ValueError:
        return False
    return True


def _load_time_words(plan: Plan) -> str:
    weights = format_gb(common.weights_bytes(plan))
    measured = plan.speed.load_seconds
    rest = f"and {common.START_UP_SECONDS} s"
    if measured.high is not None:
        return f"twice the {measured.high:.0f} s that {weights} take here ({measured.source}), {rest}"
    return f"{weights} at {common.LOAD_FLOOR_BYTES_PER_SECOND // MB} MB/s, assumed as nothing was measured, {rest}"
