"""What people write behind `--hardware`, as cards and host memory: `2x rtx-4090 + 192GB`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from v4deploy.domain.catalogue import unknown_name
from v4deploy.domain.chip import Chip
from v4deploy.domain.chips import find_chips, several_versions
from v4deploy.domain.errors import UsageError
from v4deploy.domain.hardware import ComputeApi, PoolKind
from v4deploy.domain.units import GB, GIB, MIB, TIB, format_gib

_EXAMPLES = 'for example "8x h200", "2x rtx-4090 + 192GB", "m3-ultra 256GB" or "cpu 256GB"'
_COUNT = re.compile(r"(\d{1,12})\s*[x×*]\s*(.*)", re.IGNORECASE | re.DOTALL)  # noqa: RUF001 - people paste that sign
_SIZE = re.compile(r"(?:(.*?)\s+)?(\d{1,7}(?:\.\d{1,7})?)\s*([mgt])i?b?", re.IGNORECASE | re.DOTALL)
_UNITS = {"m": MIB, "g": GIB, "t": TIB}

# More than any single machine has: a typing error must not become a host with a billion pools.
_MAX_DEVICES = 256
# A label says 80 GB where the driver reports 79.6 GiB, and 192 GB where it reports 179.1: both readings are tried.
_LABEL_TOLERANCE = 0.05

_SHARED_KINDS = (PoolKind.UNIFIED, PoolKind.CARVE_OUT_GTT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cards:
    """Equal cards. `memory_bytes` is one device's; of a chip that shares the host's memory, None: not named."""

    text: str
    chip: Chip
    count: int
    memory_bytes: int | None

    @property
    def devices(self) -> int:
        return self.count * self.chip.devices_per_card

    @property
    def shares_host_memory(self) -> bool:
        return self.chip.pool_kind in _SHARED_KINDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """Everything written: cards in order, and the host's memory; None where it was not named."""

    text: str
    cards: tuple[Cards, ...]
    memory_bytes: int | None

    @property
    def shared(self) -> Cards | None:
        """The chip that uses the host's memory as its own; a machine has at most one."""
        return next((cards for cards in self.cards if cards.shares_host_memory), None)


def read_description(text: str, chips: Sequence[Chip]) -> Description:
    """Read cards and memory, separated by plus signs.

    Raises:
        UsageError: a name, count or size that makes no machine; the hint says what would.
    """
    terms = [_term(piece, chips) for piece in text.split("+")]
    cards = tuple(term for term in terms if isinstance(term, Cards))
    memories = [term for term in terms if isinstance(term, int)]
    if len(memories) > 1:
        raise UsageError(f"`{text.strip()}` names the host's memory {len(memories)} times", hint="name it once")
    description = Description(text=text.strip(), cards=cards, memory_bytes=memories[0] if memories else None)
    _check_counts(description)
    _check_shared(description)
    return description


def _term(piece: str, chips: Sequence[Chip]) -> Cards | int | None:
    """Cards, bytes of host memory, or None for a bare `cpu`."""
    text = piece.strip()
    counted = _COUNT.fullmatch(text)
    count, name = (int(counted[1]), counted[2].strip()) if counted else (1, text)
    if not name:
        raise UsageError(f"`{text}` names no hardware", hint=f"write {_EXAMPLES}")
    found = find_chips(name, chips)  # first as a whole: `a100 80gb` is a name of its own
    size = None if found else _SIZE.fullmatch(name)
    rest = (size[1] or "").strip() if size else name
    amount = round(float(size[2]) * _UNITS[size[3].lower()]) if size else None
    if amount == 0:
        raise UsageError(f"`{text}` is no memory", hint="leave it away, or write for example `64GB`")
    if rest.lower() in ("", "cpu") and not counted:
        return amount
    found = found or find_chips(rest, chips)
    if not found:
        raise _unknown(rest or name, chips)
    chip, memory_bytes = _version(text, rest, found, amount)
    return Cards(text=text, chip=chip, count=count, memory_bytes=memory_bytes)


def _unknown(name: str, chips: Sequence[Chip]) -> UsageError:
    if re.fullmatch(r"\d+(\.\d+)?", name):
        return UsageError(f"`{name}` has no unit", hint=f"write `{name}GB` for memory")
    return unknown_name("chip", name, [chip.id for chip in chips], also=f"write {_EXAMPLES}")


def _version(text: str, name: str, found: Sequence[Chip], amount: int | None) -> tuple[Chip, int | None]:
    """The one chip and size that a name and an optional size leave over."""
    options = [(chip, size) for chip in found for size in chip.memory_bytes or (amount,)]
    sizes = sorted({size for _, size in options if size is not None})
    if amount is not None:
        options = [(chip, size) for chip, size in options if size is not None and _is_label(amount, size)]
        if not options:
            raise UsageError(
                f"no {name} was made with {format_gib(amount)}",
                hint=f"it was made with {' or '.join(map(format_gib, sizes))}",
            )
    versions = tuple(dict.fromkeys(chip for chip, _ in options))
    if len(versions) > 1:
        raise several_versions(name, versions)
    if len(options) > 1:
        raise UsageError(
            f"{name} was sold with {' or '.join(map(format_gib, sizes))}",
            hint=f'say which, for example "{text} {sizes[-1] // GIB}GB"',
        )
    return options[0]


def _is_label(label_bytes: int, size_bytes: int) -> bool:
    readings = (label_bytes, label_bytes * GB // GIB)
    return any(abs(reading - size_bytes) <= _LABEL_TOLERANCE * size_bytes for reading in readings)


def _check_counts(description: Description) -> None:
    for cards in description.cards:
        if cards.count == 0:
            raise UsageError(f"`{cards.text}` is no card", hint="leave it away, or count from 1")
    devices = sum(cards.devices for cards in description.cards)
    if devices > _MAX_DEVICES:
        raise UsageError(
            f"{devices} devices are more than one machine holds",
            hint=f"a plan is for one machine; name at most {_MAX_DEVICES} devices",
        )


def _check_shared(description: Description) -> None:
    shared = [cards for cards in description.cards if cards.shares_host_memory]
    if not shared:
        return
    first = shared[0]
    if sum(cards.devices for cards in shared) > 1:
        raise UsageError(
            f"{' + '.join(cards.text for cards in shared)}: each of these is a machine with memory of its own",
            hint=f'a plan is for one machine; write "{first.chip.id}"',
        )
    if first.memory_bytes is not None and description.memory_bytes is not None:
        raise UsageError(
            f"`{first.text}` has no memory beside the {format_gib(first.memory_bytes)} that it shares with the host",
            hint="leave the second size away",
        )
    if first.chip.compute_api is ComputeApi.METAL and len(description.cards) > 1:
        raise UsageError(f"`{first.text}` drives no other cards", hint="name it alone")
