"""What a llama.cpp container needs beside its command line: paths, image, devices."""

from __future__ import annotations

from v4deploy.domain.engine import EngineProfile, LaunchOptions
from v4deploy.domain.hardware import ComputeApi
from v4deploy.domain.plan import Plan
from v4deploy.engines import common
from v4deploy.engines.llama_cpp_arguments import Surroundings
from v4deploy.engines.targets import cdi_devices, qualified_image

KEY_INSIDE = "/run/secrets/api-key"


def container_surroundings(options: LaunchOptions, profile: EngineProfile) -> Surroundings:
    """Where the command line finds things inside the container."""
    return Surroundings(
        weights_dir="/models",
        bind="0.0.0.0",  # noqa: S104 - inside the container; the published address is the user's
        port=profile.default_port,
        api_key_file=KEY_INSIDE if options.api_key_file else None,
    )


def container_values(plan: Plan, options: LaunchOptions, profile: EngineProfile) -> dict[str, object]:
    """Values that only containers have."""
    # Without an image `check` has refused already; the empty text keeps this function total.
    image = common.image_of(plan, options, profile) or ""
    environment = dict(common.visible_devices_env(plan)) if plan.chosen.compute_api is ComputeApi.ROCM else {}
    if plan.chosen.compute_api is ComputeApi.CUDA:
        # Kernels that the driver compiles for this GPU; the container's file system is read-only elsewhere.
        environment["CUDA_CACHE_PATH"] = "/tmp/cuda-cache"  # noqa: S108 - the container's own tmpfs
    return {
        "cdi_devices": cdi_devices(plan, profile),
        "container_env": environment,
        "container_port": profile.default_port,
        "key_inside": KEY_INSIDE,
        "device_ids": list(common.device_names(plan) or ()),
        "image": image,
        "qualified_image": qualified_image(image),
    }
