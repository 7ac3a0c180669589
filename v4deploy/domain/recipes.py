"""Published launch recipes of an engine, as data: layouts, limits and habits by device architecture and model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeLayout:
    """A documented layout.

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
    source: str

    @property
    def devices(self) -> int:
        return self.tensor_parallel * self.data_parallel


@dataclass(frozen=True, slots=True, kw_only=True)
class Unplanned:
    """A model that is documented on these devices, but in no way that a plan for one server can hold."""

    arch: str
    model: str
    why: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextLimit:
    """The context at which the recipe for a model on a device stops. Not passed unless the user asks for more."""

    arch: str
    model: str
    max_context_tokens: int
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Habit:
    """What recipes do for a model on a device architecture, "*" for any."""

    arch: str
    model: str
    why: str | None
    source: str

    def covers(self, arch: str | None, model: str) -> bool:
        return self.arch in {"*", arch} and self.model in {"*", model}


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryShare:
    """The share of a device's memory that the engine is given there, in whole percent; `arch` "*" for any."""

    arch: str
    percent: int
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipes:
    """Everything that an engine's published recipes say about where and how it runs a model.

    Attributes:
        layouts: where there are any, other layouts have no known outcome, and none of them is planned.
        plain_tensor_parallel: where the recipe has no expert parallelism; elsewhere it is the default.
        undrafted: where recipes are verified without drafting only.
        memory_shares: the smallest one that covers a device counts. Empty where the engine takes no share.
    """

    layouts: tuple[RecipeLayout, ...] = ()
    unplanned: tuple[Unplanned, ...] = ()
    context_limits: tuple[ContextLimit, ...] = ()
    plain_tensor_parallel: tuple[Habit, ...] = ()
    undrafted: tuple[Habit, ...] = ()
    memory_shares: tuple[MemoryShare, ...] = ()

    def most_percent(self, archs: frozenset[str | None]) -> int:
        """The share of a device's memory, in percent, that the engine is given on these architectures at most."""
        return min((share.percent for share in self.memory_shares if share.arch in {"*", *archs}), default=100)
