"""Ascend chip families, and the documented one-server recipes of V4 on vLLM-Ascend, as data.

Sources: vLLM-Ascend tutorials DeepSeek-V4-Flash and its installation page (main of 2026-08-22, branch v0.23.0), read on
2026-11-22; Motor's deployer (MindIE-PyMotor of 2026-06-08) for `hardware_type` and the limits of a pod.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from v4deploy.domain.model import DraftKind
from v4deploy.domain.units import GIB

DSPARK_SINCE = "0.25.0"
"""vLLM-Ascend drafts with DSpark from here on, or from images made for one release."""

RECIPE_DEVICE_BYTES = 64 * GIB
"""Memory of one device in every A2 and A3 recipe; the 32 GB bin of the A2 has no official one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AscendFamily:
    """What differs between chip families outside of the model.

    Attributes:
        hardware_type: Motor's word for the server; None where its documents name no single one.
        quantized_weights: True where the weights have to be re-quantized for Ascend, False where the originals run.
        device_nodes: nodes beside /dev/davinci<N>; a node that the host lacks is left out.
        mounts: driver files of the host; a path that the host lacks is left out.
        privileged: the documented containers run with `--privileged`.
        tensor_parallel_alone: V4 runs with tensor parallelism and no data parallelism.
    """

    arch: str
    name: str
    hardware_type: str | None
    quantized_weights: bool
    device_nodes: tuple[str, ...]
    mounts: tuple[str, ...]
    privileged: bool
    tensor_parallel_alone: bool


_UP_TO_A3_NODES = ("/dev/davinci_manager", "/dev/devmm_svm", "/dev/hisi_hdc")
_UP_TO_A3_MOUNTS = (
    "/usr/local/dcmi",
    "/usr/local/Ascend/driver/tools/hccn_tool",
    "/usr/local/bin/npu-smi",
    "/usr/local/Ascend/driver/lib64",
    "/usr/local/Ascend/driver/version.info",
    "/etc/ascend_install.info",
    "/etc/hccn.conf",
)

FAMILIES = (
    AscendFamily(
        arch="ascend-a2",
        name="Atlas A2",
        hardware_type="800I_A2",
        quantized_weights=True,
        device_nodes=_UP_TO_A3_NODES,
        mounts=_UP_TO_A3_MOUNTS,
        privileged=True,
        tensor_parallel_alone=True,
    ),
    AscendFamily(
        arch="ascend-a3",
        name="Atlas A3",
        hardware_type="800I_A3",
        quantized_weights=True,
        device_nodes=_UP_TO_A3_NODES,
        mounts=_UP_TO_A3_MOUNTS,
        privileged=True,
        tensor_parallel_alone=True,
    ),
    AscendFamily(
        arch="ascend-950",
        name="Ascend 950",
        hardware_type=None,
        quantized_weights=False,
        # Documents disagree on devmm_svm for this family, so it is passed where the host has it.
        device_nodes=(
            "/dev/davinci_manager",
            "/dev/hisi_hdc",
            "/dev/ummu",
            "/dev/uburma",
            "/dev/devmm_svm",
        ),
        mounts=(
            "/usr/local/dcmi",
            "/usr/local/bin/npu-smi",
            "/usr/local/Ascend/driver",
            "/usr/local/sbin",
            "/etc/ascend_install.info",
            "/etc/hccl_rootinfo.json",
            "/etc/hixlep",
        ),
        privileged=False,
        tensor_parallel_alone=False,
    ),
)

HARDWARE_TYPE_950 = "850-Atlas-8p-8"
"""The only type of the 950 generation that Motor's configuration page names; six more exist in its code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Arguments and variables that the documents give for a model on a family, on one server.

    Attributes:
        draft: the draft kind that it was written for.
        max_context_tokens: the longest context that it documents.
        arguments: beyond those that the plan decides.
        environment: variables beyond those of the family.
    """

    arch: str
    model: str
    draft: DraftKind
    max_context_tokens: int
    block_tokens: int
    hccl_buffer_mib: int
    draft_config: Mapping[str, object]
    arguments: Mapping[str, object] = field(default_factory=dict)
    environment: tuple[tuple[str, str], ...] = ()


_GRAPH = {"ascend_compilation_config": {"enable_npugraph_ex": True, "enable_static_kernel": False}}
_DSA_CP = {"enable_flashcomm1": True, "enable_dsa_cp": True}
"""The tutorials' tables name the second alone, on which vLLM-Ascend (0.23.0 to 0.26.0rc1) ends with a ValueError."""
_A2_A3_LOADER = {"model-loader-extra-config": {"enable_multithread_load": True, "num_threads": 128}}
_RETENTION = (("VLLM_PREFIX_CACHE_RETENTION_INTERVAL", "4096"),)

RECIPES = (
    Recipe(
        arch="ascend-a2",
        model="v4-flash",
        draft=DraftKind.MTP,
        max_context_tokens=133_120,
        block_tokens=128,
        hccl_buffer_mib=1024,
        draft_config={"method": "mtp", "num_speculative_tokens": 1, "enforce_eager": True},
        arguments={
            "no-enable-prefix-caching": True,
            **_A2_A3_LOADER,
            "additional-config": {
                **_GRAPH,
                "enable_cpu_binding": True,
                **_DSA_CP,
                "multistream_overlap_shared_expert": True,
            },
        },
    ),
    Recipe(
        arch="ascend-a2",
        model="v4-flash",
        draft=DraftKind.DSPARK,
        max_context_tokens=800_000,
        block_tokens=128,
        hccl_buffer_mib=1024,
        draft_config={"method": "dspark", "enforce_eager": True},
        arguments={"no-disable-hybrid-kv-cache-manager": True, **_A2_A3_LOADER},
    ),
    Recipe(
        arch="ascend-a3",
        model="v4-flash",
        draft=DraftKind.MTP,
        max_context_tokens=1_048_576,
        block_tokens=32,
        hccl_buffer_mib=1024,
        draft_config={"method": "mtp", "num_speculative_tokens": 1, "enforce_eager": True},
        arguments={
            **_A2_A3_LOADER,
            "additional-config": {
                **_GRAPH,
                "enable_cpu_binding": True,
                "multistream_overlap_shared_expert": True,
            },
        },
        environment=_RETENTION,
    ),
    Recipe(
        arch="ascend-a3",
        model="v4-flash",
        draft=DraftKind.DSPARK,
        max_context_tokens=1_048_576,
        block_tokens=32,
        hccl_buffer_mib=1024,
        draft_config={"method": "dspark", "enforce_eager": True},
        arguments={
            **_A2_A3_LOADER,
            "additional-config": {
                **_GRAPH,
                "enable_cpu_binding": True,
                **_DSA_CP,
                "multistream_overlap_shared_expert": True,
            },
        },
        environment=_RETENTION,
    ),
    Recipe(
        arch="ascend-950",
        model="v4-flash",
        draft=DraftKind.MTP,
        max_context_tokens=1_048_576,
        block_tokens=32,
        hccl_buffer_mib=1024,
        draft_config={"method": "deepseek_mtp", "num_speculative_tokens": 1},
        arguments={
            "additional-config": {
                "enable_cpu_binding": True,
                "multistream_overlap_shared_expert": True,
                "enable_shared_expert_dp": True,
            },
        },
    ),
)

ENVIRONMENT = (
    ("OMP_PROC_BIND", "false"),
    ("OMP_NUM_THREADS", "10"),
    ("PYTORCH_NPU_ALLOC_CONF", "expandable_segments:True"),
    ("TASK_QUEUE_ENABLE", "1"),
    ("HCCL_OP_EXPANSION_MODE", "AIV"),
)
"""Variables of every A2 and A3 recipe. The 950 recipe is documented without them."""


def family_of(arch: str | None) -> AscendFamily | None:
    """The family of an architecture; None for chips that no V4 recipe covers (310P, first-generation 910)."""
    return next((family for family in FAMILIES if family.arch == arch), None)


def recipe_of(arch: str, model: str, draft: DraftKind | None) -> Recipe | None:
    """The recipe for that draft kind, else the model's first on that family; None where nothing is documented."""
    fitting = [recipe for recipe in RECIPES if recipe.arch == arch and recipe.model == model]
    exact = [recipe for recipe in fitting if recipe.draft is draft]
    return next(iter(exact or fitting), None)
