"""The form of `recipes:` in profiles/engines/<engine>.yaml, compact for humans, and its Recipes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from v4deploy.domain.recipes import ContextLimit, Habit, MemoryShare, RecipeLayout, Recipes, Unplanned


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutEntry:
    """As RecipeLayout documents it. `source` null means that of `recipes:`, here and below."""

    arch: str
    model: str
    tensor_parallel: int = 1
    data_parallel: int = 1
    batch_tokens: int
    max_context_tokens: int
    documented: str | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WhereEntry:
    """Some models on some architectures, and what is to be said of them; "*" means every one."""

    archs: tuple[str, ...] = ("*",)
    models: tuple[str, ...] = ("*",)
    why: str | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnplannedEntry:
    """Models that are documented for more than one server, or for software of their own."""

    archs: tuple[str, ...]
    models: tuple[str, ...]
    why: str
    source: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextLimitEntry:
    """As ContextLimit documents it."""

    arch: str
    model: str
    max_context_tokens: int
    source: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryShareEntry:
    """As MemoryShare documents it, for several architectures."""

    archs: tuple[str, ...] = ("*",)
    percent: int
    source: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipesEntry:
    """All that an engine's recipes say."""

    source: str
    layouts: tuple[LayoutEntry, ...] = ()
    unplanned: tuple[UnplannedEntry, ...] = ()
    context_limits: tuple[ContextLimitEntry, ...] = ()
    plain_tensor_parallel: tuple[WhereEntry, ...] = ()
    undrafted: tuple[WhereEntry, ...] = ()
    memory_shares: tuple[MemoryShareEntry, ...] = ()


def recipes_of(entry: RecipesEntry | None) -> Recipes:
    """The recipes of an engine; none where its profile has no such key."""
    if entry is None:
        return Recipes()
    return Recipes(
        layouts=tuple(_layout(layout, entry.source) for layout in entry.layouts),
        unplanned=tuple(
            Unplanned(arch=arch, model=model, why=row.why, source=row.source or entry.source)
            for row in entry.unplanned
            for arch in row.archs
            for model in row.models
        ),
        context_limits=tuple(
            ContextLimit(
                arch=row.arch,
                model=row.model,
                max_context_tokens=row.max_context_tokens,
                source=row.source or entry.source,
            )
            for row in entry.context_limits
        ),
        plain_tensor_parallel=tuple(_habits(entry.plain_tensor_parallel, entry.source)),
        undrafted=tuple(_habits(entry.undrafted, entry.source)),
        memory_shares=tuple(
            MemoryShare(arch=arch, percent=row.percent, source=row.source or entry.source)
            for row in entry.memory_shares
            for arch in row.archs
        ),
    )


def faults_of(entry: RecipesEntry | None) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """What the form allows and no recipe can mean: path and message of each."""
    if entry is None:
        return
    for index, share in enumerate(entry.memory_shares):
        if not 1 <= share.percent <= 100:  # noqa: PLR2004 - a percentage
            yield ("recipes", "memory_shares", index, "percent"), f"{share.percent} is no share of a device in percent"
    for index, layout in enumerate(entry.layouts):
        if min(layout.tensor_parallel, layout.data_parallel, layout.batch_tokens, layout.max_context_tokens) < 1:
            yield ("recipes", "layouts", index), "sizes and tokens of a layout are at least 1"


def _layout(entry: LayoutEntry, source: str) -> RecipeLayout:
    return RecipeLayout(
        arch=entry.arch,
        model=entry.model,
        tensor_parallel=entry.tensor_parallel,
        data_parallel=entry.data_parallel,
        batch_tokens=entry.batch_tokens,
        max_context_tokens=entry.max_context_tokens,
        documented=entry.documented,
        source=entry.source or source,
    )


def _habits(rows: tuple[WhereEntry, ...], source: str) -> Iterator[Habit]:
    for row in rows:
        for arch in row.archs:
            for model in row.models:
                yield Habit(arch=arch, model=model, why=row.why, source=row.source or source)
