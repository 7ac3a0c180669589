"""The two JSON documents of Motor (PyMotor): `user_config.json` v2.0 in its one-server ("hybrid") form, `env.json`.

The form follows Motor's validator and its `pd_hybrid` sample (MindIE-PyMotor of 2026-06-08). It was put together from
documents and was not run; the README that is written beside the files says so.
"""

from __future__ import annotations

import re

from v4deploy.domain.engine import EngineProfile, LaunchOptions
from v4deploy.domain.plan import Plan
from v4deploy.engines.common import engine_version, image_entry
from v4deploy.engines.mindie_arguments import engine_arguments, environment, plan_family

DATA_PARALLEL_RPC_PORT = 9000
_SET_BY_MOTOR = ("host", "port", "shutdown-timeout")


def user_config(plan: Plan, options: LaunchOptions, profile: EngineProfile) -> dict[str, object]:
    """`user_config.json`: one instance in one pod that takes all the plan's devices.

    Raises:
        UsageError: no recipe covers the plan.
    """
    arguments, _ = engine_arguments(plan, options, profile)
    family = plan_family(plan, profile)
    return {
        "version": "v2.0",
        "motor_deploy_config": {
            # Needs no custom resource, and is what Motor falls back to for this form anyway.
            "deploy_mode": "multi_deployment",
            "hybrid_instances_num": 1,
            "single_hybrid_instance_pod_num": 1,
            "hybrid_pod_npu_num": world_size(plan),
            "image_name": image_name(plan, options, profile),
            "job_id": job_id(plan),
            "hardware_type": "" if family is None else family.hardware_type,
            "weight_mount_path": options.weights_dir,
        },
        "motor_controller_config": {},
        "motor_coordinator_config": {"scheduler_config": {"deploy_mode": "single_node"}},
        "motor_engine_union_config": {
            "engine_type": "vllm",
            "engine_config": {
                **{_key(name): value for name, value in arguments.items() if name not in _SET_BY_MOTOR},
                "data_parallel_rpc_port": DATA_PARALLEL_RPC_PORT,
            },
        },
    }


def env_config(plan: Plan, profile: EngineProfile) -> dict[str, object]:
    """`env.json`. Values are texts: Motor writes them into `export NAME="value"` lines.

    Raises:
        UsageError: no recipe covers the plan.
    """
    return {
        "version": "2.0.0",
        "motor_common_env": {"CANN_INSTALL_PATH": "/usr/local/Ascend"},
        "motor_controller_env": {},
        "motor_coordinator_env": {},
        "motor_engine_union_env": dict(environment(plan, profile)),
        "motor_kv_cache_pool_env": {},
    }


def world_size(plan: Plan) -> int:
    """NPUs that the pod asks for: Motor refuses a number that is not the product of the parallel sizes."""
    layout = plan.chosen.layout
    return layout.tensor_parallel * layout.pipeline_parallel * layout.data_parallel


def job_id(plan: Plan) -> str:
    """Motor's job, which is also the Kubernetes namespace, so it has to be a DNS label."""
    return re.sub(r"[^a-z0-9-]+", "-", plan.release.id.lower()).strip("-")


def base_image_tag(plan: Plan, options: LaunchOptions, profile: EngineProfile) -> str:
    """Tag of the vLLM-Ascend image for the plan's devices; the version alone where the profile names none."""
    entry = image_entry(plan, profile)
    version = engine_version(plan, options)
    return f"v{version}" if entry is None else entry.tag.format(version=version)


def image_name(plan: Plan, options: LaunchOptions, profile: EngineProfile) -> str:
    """The user's image, else the name under which the README has one built: vLLM-Ascend with Motor added."""
    return options.image or f"vllm-ascend-motor:{base_image_tag(plan, options, profile)}"


def _key(name: str) -> str:
    return name.replace("-", "_")
