"""Published launch recipes as data: layouts of vLLM-Ascend, limits and habits of vLLM's recipes by device."""

from __future__ import annotations

from dataclasses import dataclass

from v4deploy.domain.engine import EngineId


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeLayout:
    """A documented layout of vLLM-Ascend; other ones have no known outcome there.

    Attributes:
        batch_tokens: its `max-num-batched-tokens`.
        max_context_tokens: the longest context that it documents.
        documented: what the documents show instead, where this layout follows from it; None where they show this one.
    """

    arch: str
    model: str
    tensor_parallel: int
    data_parallel: int
    batch_tokens: int
    max_context_tokens: int
    documented: str | None = None
    source: str = "vllm-project/vllm-ascend docs/source/tutorials/models, 2026-08"

    @property
    def devices(self) -> int:
        return self.tensor_parallel * self.data_parallel


RECIPE_LAYOUTS = (
    RecipeLayout(
        arch="ascend-a2",
        model="v4-flash",
        tensor_parallel=8,
        data_parallel=1,
        batch_tokens=8192,
        max_context_tokens=133_120,
    ),
    RecipeLayout(
        arch="ascend-a3",
        model="v4-flash",
        tensor_parallel=4,
        data_parallel=4,
        batch_tokens=10_240,
        max_context_tokens=1_048_576,
    ),
    RecipeLayout(
        arch="ascend-950",
        model="v4-flash",
        tensor_parallel=1,
        data_parallel=8,
        batch_tokens=4096,
        max_context_tokens=1_048_576,
        documented="the recipe takes four of a server's eight (DP4 with expert parallelism)",
    ),
    RecipeLayout(
        arch="ascend-950",
        model="v4-flash",
        tensor_parallel=1,
        data_parallel=4,
        batch_tokens=4096,
        max_context_tokens=1_048_576,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unplanned:
    """A model that is documented on these devices, but in no way that a plan for one server can hold."""

    arch: str
    model: str
    why: str
    source: str = "vllm-project/vllm-ascend docs/source/tutorials/models, 2026-08"


UNPLANNED = (
    Unplanned(arch="ascend-a2", model="v4-pro", why="it is documented for four servers, and a plan is for one"),
    Unplanned(arch="ascend-a3", model="v4-pro", why="it is documented for two servers, and a plan is for one"),
    Unplanned(arch="ascend-950", model="v4-pro", why="it is documented for two servers, and a plan is for one"),
    Unplanned(
        arch="ascend-a2",
        model="v4.1-flash",
        why="it is documented for four servers and for development versions with an image of their own",
    ),
    Unplanned(
        arch="ascend-a3",
        model="v4.1-flash",
        why="it is documented for development versions with an image of their own; on two servers, or on one with the "
        "Engram tables in host memory, for which no complete recipe is published",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextLimit:
    """The context at which the recipe for a model on a device stops. Not passed unless the user asks for more."""

    engine: EngineId
    arch: str
    model: str
    max_context_tokens: int
    source: str


CONTEXT_LIMITS = (
    ContextLimit(
        engine=EngineId.VLLM,
        arch="sm_90",
        model="v4-pro",
        max_context_tokens=200_000,
        source="vllm-project/recipes, DeepSeek-V4-Pro on 8x H200",
    ),
)

UNVERIFIED_DRAFTING = frozenset({"sm_120", "sm_121"})
"""Where recipes are verified without drafting only: DSpark needs a newer FlashInfer kernel there (recipe of 0731)."""

PLAIN_TENSOR_PARALLEL = frozenset(
    {
        ("gfx950", "v4-flash"),
        ("gfx950", "v4-pro"),
        ("gfx950", "v4.1-flash"),
    }
)
"""(architecture, model) whose recipe has no expert parallelism; elsewhere tensor with expert parallelism is the default
(vllm-project/recipes at 8959cf6). The recipe of V4.1 on Blackwell has none either, but its kernels pad V4.1's experts
there by a ninth over four devices and by a third over eight, which whole experts avoid."""

UTILISATION_PERCENT = {(EngineId.VLLM, "gfx950"): 90}
"""`gpu-memory-utilization` of (engine, architecture) where the recipe gives less than the engine's default
(vllm-project/recipes, MI355X)."""
