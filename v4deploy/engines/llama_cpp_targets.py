"""What a llama.cpp service or container needs beside its command line: paths, limits, image, devices."""

from __future__ import annotations

import posixpath

from v4deploy.domain.engine import EngineProfile, LaunchOptions
from v4deploy.domain.hardware import ComputeApi
from v4deploy.domain.plan import Plan
from v4deploy.engines import common
from v4deploy.engines.llama_cpp_arguments import Surroundings

START_ATTEMPTS = 3
"""A load that failed three times will fail again; each attempt reads the whole model."""

_SYSTEM_DIRECTORIES = ("/bin/", "/opt/", "/usr/")


def service_values(plan: Plan, options: LaunchOptions, argv: tuple[str, ...]) -> dict[str, object]:
    """Values that only the systemd unit has; `argv` is the command line without a key file."""
    timeout = common.load_timeout_seconds(plan)
    visible = {options.weights_dir}
    program = argv[0]
    if posixpath.isabs(program) and not program.startswith(_SYSTEM_DIRECTORIES):
        # It may lie in a home directory, and those are hidden from the service.
        visible.add(posixpath.dirname(program))
    return {
        "argv": argv,
        "is_loopback": options.bind in common.LOOPBACK,
        "start_attempts": START_ATTEMPTS,
        "start_limit_seconds": timeout * (START_ATTEMPTS + 1),
        "uses_devices": bool(plan.chosen.layout.device_indices),
        "visible_paths": sorted(visible),
    }


def container_surroundings(options: LaunchOptions, profile: EngineProfile) -> Surroundings:
    """Where the command line finds things inside the container."""
    return Surroundings(
        weights_dir="/models",
        bind="0.0.0.0",  # noqa: S104 - inside the container; the published address is the user's
        port=profile.default_port,
        api_key_file="/run/secrets/api-key" if options.api_key_file else None,
    )


def container_values(plan: Plan, options: LaunchOptions, profile: EngineProfile) -> dict[str, object]:
    """Values that only the compose file has."""
    environment = dict(common.visible_devices_env(plan)) if plan.chosen.compute_api is ComputeApi.ROCM else {}
    if plan.chosen.compute_api is ComputeApi.CUDA:
        # Kernels that the driver compiles for this GPU; the container's file system is read-only elsewhere.
        environment["CUDA_CACHE_PATH"] = "/tmp/cuda-cache"  # noqa: S108 - the container's own tmpfs
    return {
        "container_env": environment,
        "container_port": profile.default_port,
        "device_ids": list(common.device_names(plan) or ()),
        # Without an image `check` has refused already; the empty text keeps this function total.
        "image": common.image_of(plan, options, profile) or "",
    }
