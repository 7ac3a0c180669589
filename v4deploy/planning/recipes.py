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
    """

    arch: str
    model: str
    tensor_parallel: int
    data_parallel: int
    batch_tokens: int
    max_context_tokens: int
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
    ),
    RecipeLayout(
        arch="ascend-950",
        model="v4-flash",
        tensor_parallel=1,
        data_parallel=4,
        batch_tokens=4096,
        max_context_tokens=1_048_576,
    ),
    RecipeLayout(
        arch="ascend-a2",
        model="v4-pro",
        tensor_parallel=8,
        data_parallel=4,
        batch_tokens=4096,
        max_context_tokens=135_000,
    ),
    RecipeLayout(
        arch="ascend-a3",
        model="v4-pro",
        tensor_parallel=16,
        data_parallel=2,
        batch_tokens=4096,
        max_context_tokens=135_000,
    ),
    RecipeLayout(
        arch="ascend-950",
        model="v4-pro",
        tensor_parallel=8,
        data_parallel=2,
        batch_tokens=8192,
        max_context_tokens=200_000,
    ),
    RecipeLayout(
        arch="ascend-a2",
        model="v4.1-flash",
        tensor_parallel=8,
        data_parallel=4,
        batch_tokens=4096,
        max_context_tokens=1_048_576,
    ),
    RecipeLayout(
        arch="ascend-a3",
        model="v4.1-flash",
        tensor_parallel=8,
        data_parallel=4,
        batch_tokens=4096,
        max_context_tokens=1_048_576,
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
        ("sm_100", "v4.1-flash"),
        ("sm_103", "v4.1-flash"),
    }
)
"""(architecture, model) whose recipe has no expert parallelism; elsewhere tensor with expert parallelism is the default
(vllm-project/recipes at 8959cf6)."""
