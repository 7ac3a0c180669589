"""Groups of vLLM's cache: which pages share a block, by release, and what a block and a start therefore cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from v4deploy.domain.engine_memory import BlockLayout
from v4deploy.planning.cache_pages import Page, PageKind, ceil_div


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Pages that one block holds together; `kind` says how many such blocks a sequence pins."""

    kind: PageKind
    pages: tuple[Page, ...]

    def size_bytes(self, layers: range) -> int:
        return sum(page.size_bytes for page in self.pages if page.layer in layers)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupedCache:
    """All groups of a model in one layout. Every group draws from one pool, whose blocks all cost the same."""

    blocks: BlockLayout
    groups: tuple[Group, ...]

    def pinned_blocks(self, context_tokens: int, in_flight_tokens: int) -> int:
        """Blocks that one sequence holds at most, over all groups."""
        return sum(group.kind.pinned_pages(context_tokens, in_flight_tokens) for group in self.groups)

    def block_bytes(self, layers: range) -> int:
        """Bytes of one block on the rank that has these layers."""
        match self.blocks:
            case BlockLayout.TUPLES:
                return self._tuples_bytes(layers)
            case BlockLayout.SLOTS:
                used: Counter[int] = Counter()
                for group in self.groups:
                    used |= _pages_by_size(group.pages, layers)
                return sum(size * count for size, count in used.items())
            case BlockLayout.DENSE | BlockLayout.PACKED:
                return max(group.size_bytes(layers) for group in self.groups)

    def startup_bytes(self, layers: range, context_tokens: int, in_flight_tokens: int) -> int:
        """What the engine asks for before it starts, for one sequence of full length."""
        blocks = self.pinned_blocks(context_tokens, in_flight_tokens)
        if self.blocks is BlockLayout.PACKED:
            return (blocks + 1) * self.block_bytes(layers)
        return blocks * self._tuples_bytes(layers)

    def _tuples_bytes(self, layers: range) -> int:
        """One page of each size that the first group has, as often as any group repeats one."""
        sizes = _pages_by_size(self.groups[0].pages, layers)
        return sum(sizes) * max(max(_pages_by_size(group.pages, layers).values(), default=0) for group in self.groups)


def grouped(kinds: Sequence[PageKind], blocks: BlockLayout) -> GroupedCache:
    """The groups that a release with this layout makes of the pages; `kinds` begins with what keeps every token."""
    return GroupedCache(blocks=blocks, groups=_groups(kinds, blocks))


def _groups(kinds: Sequence[PageKind], blocks: BlockLayout) -> tuple[Group, ...]:
    match blocks:
        case BlockLayout.TUPLES | BlockLayout.SLOTS:
            return _tuple_groups(kinds, padded=True)
        case BlockLayout.DENSE:
            return _tuple_groups(kinds, padded=False)
        case BlockLayout.PACKED:
            return tuple(chain.from_iterable(_packed_groups(kinds)))


def _tuple_groups(kinds: Sequence[PageKind], *, padded: bool) -> tuple[Group, ...]:
    """Up to 0.28: every kind is cut into groups of about as many page tuples as the first kind has.

    Up to 0.26 pages were also padded to the next larger size of the first kind. Where index keys are FP4, their states
    grow to the size of the entries' states by that, and the group needs cutting in two.
    """
    first, *others = kinds
    repeats = _common_repeats([_repeats(kind.pages) for kind in kinds], least=_repeats(first.pages))
    sizes = sorted({page.size_bytes for page in first.pages})
    groups = [Group(kind=first, pages=first.pages)]
    for kind in others:
        pages = tuple(_padded(page, sizes) for page in kind.pages) if padded else kind.pages
        groups += _cut(kind, pages, ceil_div(_repeats(pages), repeats))
    return tuple(groups)


def _packed_groups(kinds: Sequence[PageKind]) -> Iterable[tuple[Group, ...]]:
    """From 0.29: only kinds that mix sizes evenly set the number of repeats; with none, states fill the block."""
    even = [kind for kind in kinds if _is_even(kind.pages)]
    least = max((_repeats(kind.pages) for kind in even if len(_sizes(kind.pages)) > 1), default=0)
    if least:
        repeats = _common_repeats([_repeats(kind.pages) for kind in even], least=least)
        for kind in kinds:
            yield _cut(kind, kind.pages, ceil_div(_repeats(kind.pages), repeats) if kind in even else 1)
        return
    block_bytes = max(
        max(page.size_bytes for page in kind.pages) if _is_state(kind) else sum(page.size_bytes for page in kind.pages)
        for kind in kinds
    )
    for kind in kinds:
        fitting = max(block_bytes // kind.pages[0].size_bytes, 1)
        yield _cut(kind, kind.pages, ceil_div(len(kind.pages), fitting) if _is_state(kind) else 1)


def _cut(kind: PageKind, pages: tuple[Page, ...], count: int) -> tuple[Group, ...]:
    """`count` groups, dealt out in turn, each with every size."""
    by_size = [[page for page in pages if page.size_bytes == size] for size in _sizes(pages)]
    return tuple(
        Group(kind=kind, pages=tuple(chain.from_iterable(same[start::count] for same in by_size)))
        for start in range(count)
    )


def _common_repeats(counts: Sequence[int], *, least: int) -> int:
    """The number from `least` on that wastes fewest repeats if every count is rounded up to it; of equals, the last."""
    candidates = range(least, max(*counts, least) + 1)
    return min(candidates, key=lambda repeats: (sum(-count % repeats for count in counts), -repeats))


def _is_state(kind: PageKind) -> bool:
    return kind.is_ring or kind.reach_tokens is not None


def _is_even(pages: tuple[Page, ...]) -> bool:
    return len(set(_counts(pages).values())) == 1


def _repeats(pages: tuple[Page, ...]) -> int:
    return max(_counts(pages).values())


def _sizes(pages: tuple[Page, ...]) -> tuple[int, ...]:
    return tuple(_counts(pages))


def _counts(pages: tuple[Page, ...]) -> Counter[int]:
    return Counter(page.size_bytes for page in pages)


def _pages_by_size(pages: tuple[Page, ...], layers: range) -> Counter[int]:
    return Counter(page.size_bytes for page in pages if page.layer in layers)


def _padded(page: Page, sizes: Sequence[int]) -> Page:
    return Page(layer=page.layer, size_bytes=min(size for size in sizes if size >= page.size_bytes))
