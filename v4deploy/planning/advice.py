"""When nothing fits: single changes of the wish or the machine, each verified by planning again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from v4deploy.domain.catalogue import Catalogue
from v4deploy.domain.chip import Chip
from v4deploy.domain.finding import Finding, Severity
from v4deploy.domain.hardware import HOST_POOL_ID, Amount, Device, Host, Pool, PoolKind
from v4deploy.domain.layout_words import layout_words
from v4deploy.domain.plan import Candidate, Request, Verdict
from v4deploy.domain.units import GIB, format_gib
from v4deploy.planning import layouts, margins
from v4deploy.planning.choose import case_for, find_wanted, first_choice, weigh_on_host
from v4deploy.planning.notes import is_unpublished

HOST_SIZES_GIB = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)
"""Sizes that machines are sold with."""

MOST_DEVICES = 16
"""As many as one server is sold with."""

Planner = Callable[[Request, Host], Candidate | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A wish and a machine that differ from the given ones in one thing, and that thing in words."""

    word: str
    what: str
    fix: str | None
    request: Request
    host: Host


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """What one pool lacks. `missing_bytes` None: its size is unknown."""

    pool_id: str
    label: str
    missing_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """A candidate that does not fit: by how much in each pool, and each single change that would make just it fit."""

    verdict: Verdict
    shortages: tuple[Shortage, ...]
    remedies: tuple[Finding, ...]


def explain_miss(verdict: Verdict, request: Request, host: Host, catalogue: Catalogue) -> Miss:
    """What would make a nearest miss fit. A candidate that a rule forbids has no remedies: no byte would help it."""
    shortages = tuple(
        Shortage(pool_id=use.pool_id, label=use.label, missing_bytes=use.missing_bytes)
        for use in verdict.pools
        if use.missing_bytes != 0
    )
    checkpoint, engine = verdict.candidate.checkpoint, verdict.candidate.engine
    wanted = find_wanted(request, catalogue)

    def planner(request: Request, host: Host) -> Candidate | None:
        found = weigh_on_host(checkpoint, case_for(engine, host, catalogue, wanted), request)
        return next((one.candidate for one in found if one.fits), None)

    # Its quant and engine are what is asked about, so neither can be the change.
    narrowed = replace(request, quant=None, engine=None)
    changes = (
        *_wishes(narrowed, host),
        _smaller_cache(verdict, narrowed, host, catalogue),
        *_machines(narrowed, host, catalogue.chips),
    )
    remedies = tuple(_verified(iter(changes), planner)) if verdict.pools else ()
    return Miss(verdict=verdict, shortages=shortages, remedies=remedies)


def changes_that_fit(request: Request, host: Host, catalogue: Catalogue) -> tuple[Finding, ...]:
    """What would fit instead: changes of the wish first, then of the machine. Empty where no single change does it.

    Raises:
        UsageError: the request names what does not exist.
    """

    def planner(request: Request, host: Host) -> Candidate | None:
        return first_choice(request, host, catalogue)

    chips = catalogue.chips
    found = (*_verified(_wishes(request, host), planner), *_verified(_machines(request, host, chips), planner))
    if found:
        return found
    bare = Request(model=request.model, release=request.release, prefer=request.prefer)
    return () if bare == request else tuple(_verified(_machines(bare, host, chips), planner))


def _wishes(request: Request, host: Host) -> Iterator[tuple[Change, ...]]:
    """Groups of changes; in each group the first that fits is the advice."""
    asked = request.context_tokens
    if asked is not None:
        yield tuple(
            _wish(
                "smaller-context",
                f"{context:,} tokens of context",
                f"--context {context}",
                host,
                replace(request, context_tokens=context),
            )
            for context in margins.CONTEXT_LADDER_TOKENS
            if context < asked
        )
    slots = [request.concurrency >> shift for shift in range(1, request.concurrency.bit_length())]
    yield tuple(
        _wish(
            "fewer-sequences", f"{count} at once", f"--concurrency {count}", host, replace(request, concurrency=count)
        )
        for count in slots
    )
    if request.kv_cache_type is not None:
        yield (_wish("other-kv-cache", "the default KV cache", None, host, replace(request, kv_cache_type=None)),)
    if request.quant is not None:
        yield (_wish("other-quant", "another quant", None, host, replace(request, quant=None)),)
    if request.layout is not None:
        yield (_wish("other-layout", "another layout", None, host, replace(request, layout=None)),)
    if request.engine is not None:
        yield (_wish("other-engine", "another engine", None, host, replace(request, engine=None)),)


def _smaller_cache(verdict: Verdict, request: Request, host: Host, catalogue: Catalogue) -> tuple[Change, ...]:
    """The cache types that the engine takes beside the one that was counted."""
    counted = verdict.candidate.kv_cache_type
    return tuple(
        _wish(
            "smaller-kv-cache",
            f"a {name} KV cache",
            f"--kv-cache-type {name}",
            host,
            replace(request, kv_cache_type=name),
        )
        for name in catalogue.engine(verdict.candidate.engine).kv_cache_types
        if name != counted
    )


def _machines(request: Request, host: Host, chips: Sequence[Chip]) -> Iterator[tuple[Change, ...]]:
    freed, taken_bytes = _freed(host)
    if taken_bytes:
        what = f"{format_gib(taken_bytes)} freed that other processes use now,"
        yield (_machine("freed-memory", what, request, freed),)
    raised, limit_bytes = _raised(host)
    if limit_bytes:
        what = f"the devices' limit raised to {format_gib(limit_bytes)}"
        yield (_machine("raised-limit", what, request, raised, fix="`v4deploy doctor` names the setting"),)
    groups = layouts.device_groups(host)
    if len(groups) == 1 and not any(device.pool_id == HOST_POOL_ID for device in groups[0]):
        yield tuple(
            _machine("more-devices", f"{count}x {groups[0][0].name}", request, _with_devices(host, groups[0], count))
            for count in range(len(groups[0]) + 1, MOST_DEVICES + 1)
        )
    yield tuple(
        _machine("more-memory", f"{size // GIB} GiB of host memory", request, _with_memory(host, size))
        for size in _larger_memories(host, chips)
    )


def _larger_memories(host: Host, chips: Sequence[Chip]) -> tuple[int, ...]:
    """Sizes with which such a machine is sold, in bytes; none where its chip comes with no more than it has."""
    sold = {chip.id: chip.memory_bytes for chip in chips}
    on_chip = [sold.get(device.chip or "", ()) for device in host.devices if device.pool_id == HOST_POOL_ID]
    # Systems report a few percent less than was sold.
    now = (host.memory.total.size_bytes or 0) * 11 // 10 if any(on_chip) else host.memory.total.size_bytes or 0
    sizes = next((found for found in on_chip if found), tuple(size * GIB for size in HOST_SIZES_GIB))
    return tuple(size for size in sorted(sizes) if size > now)


def _verified(groups: Iterator[tuple[Change, ...]], planner: Planner) -> Iterator[Finding]:
    for changes in groups:
        unusual: Finding | None = None
        for change in changes:
            chosen = planner(change.request, change.host)
            if chosen is None:
                continue
            if not is_unpublished(chosen.layout):
                yield _finding(change, chosen)
                break
            # Three cards in a layout that nobody published are a worse purchase than four in one that is.
            unusual = unusual or _finding(change, chosen)
        else:
            if unusual is not None:
                yield unusual


def _finding(change: Change, chosen: Candidate) -> Finding:
    return Finding(
        id=f"plan.fits-with-{change.word}",
        severity=Severity.INFO,
        summary=f"with {change.what} {chosen.checkpoint.quant} fits: {chosen.engine}, "
        f"{layout_words(chosen.layout)}, {chosen.context_tokens:,} tokens of context",
        fix=change.fix or (f"--quant {chosen.checkpoint.quant}" if change.word == "other-quant" else None),
    )


def _wish(word: str, what: str, fix: str | None, host: Host, request: Request) -> Change:
    return Change(word=word, what=what, fix=fix, request=request, host=host)


def _machine(word: str, what: str, request: Request, host: Host, *, fix: str | None = None) -> Change:
    return Change(word=word, what=what, fix=fix, request=request, host=host)


def _with_memory(host: Host, total_bytes: int) -> Host:
    """The same machine with that much host memory; on a unified one the devices' limit keeps its share."""
    pool = host.memory
    known, ceiling = pool.total.size_bytes, pool.ceiling.size_bytes
    allowed = total_bytes if known is None or ceiling is None else total_bytes * min(ceiling, known) // known
    changed = replace(
        pool,
        total=_supposed(total_bytes),
        ceiling=_supposed(allowed),
        free=_supposed(allowed),
    )
    return replace(host, pools=tuple(changed if p.id == HOST_POOL_ID else p for p in host.pools))


def _with_devices(host: Host, group: tuple[Device, ...], count: int) -> Host:
    """The same machine with so many devices like its first one."""
    model, pool = group[0], host.pool(group[0].pool_id)
    added = [
        replace(model, index=len(host.devices) + number, pool_id=f"{pool.id}+{number}")
        for number in range(1, count - len(group) + 1)
    ]
    pools: list[Pool] = [replace(pool, id=device.pool_id) for device in added]
    devices = tuple(replace(device, index=index) for index, device in enumerate((*host.devices, *added)))
    return replace(host, devices=devices, pools=(*host.pools, *pools))


def _raised(host: Host) -> tuple[Host, int]:
    """The same machine with no limit on how much of unified memory its devices may take, and that memory's size.

    What is left for the system is the planner's own margin then. Zero bytes where no such limit binds.
    """
    limit_bytes, pools = 0, []
    for pool in host.pools:
        total, ceiling = pool.total.size_bytes, pool.ceiling.size_bytes
        is_shared = pool.kind in {PoolKind.UNIFIED, PoolKind.CARVE_OUT_GTT}
        if is_shared and total is not None and ceiling is not None and ceiling < total:
            limit_bytes = total
            pool = replace(pool, ceiling=_supposed(total), free=_supposed(total))  # noqa: PLW2901
        pools.append(pool)
    return replace(host, pools=tuple(pools)), limit_bytes


def _freed(host: Host) -> tuple[Host, int]:
    """The same machine with nothing else running on it, and the bytes that this frees."""
    taken_bytes = 0
    pools = []
    for pool in host.pools:
        ceiling, free = pool.ceiling.size_bytes, pool.free.size_bytes
        if ceiling is not None and free is not None and free < ceiling:
            taken_bytes += ceiling - free
            pool = replace(pool, free=_supposed(ceiling))  # noqa: PLW2901
        pools.append(pool)
    return replace(host, pools=tuple(pools)), taken_bytes


def _supposed(size_bytes: int) -> Amount:
    return Amount(size_bytes=size_bytes, source="supposed for this advice")
