"""Which catalogue entry a device is, and which one a typed name means. Never by a part of a name."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from v4deploy.domain.catalogue import unknown_name
from v4deploy.domain.chip import Chip
from v4deploy.domain.errors import UsageError
from v4deploy.domain.hardware import Amount, Device, Pool
from v4deploy.domain.units import format_gib

# Two chips can share a PCI id or a driver name and differ in memory (RX 7900 XT and XTX). What a driver reports lies up
# to 8 % below a data sheet (an L40S with ECC: 46068 of 49152 MiB); the nearest different sizes lie 16 % apart.
_MEMORY_TOLERANCE = 0.08


def match_chip(device: Device, total_bytes: int | None, chips: Sequence[Chip]) -> Chip | None:
    """The entry for a device that was found: by PCI id, then by its driver's exact name, then by its SoC's family
    (`Ascend950PR` of `Ascend950PR_9579`).

    `total_bytes` (the memory that the driver reports; None when unknown) and the GPU cores only choose between entries
    that share an id or a name: a card with more memory than was ever sold is still that card.
    None when nothing matches, or when what is known does not tell several entries apart.
    """
    same_vendor = [chip for chip in chips if chip.vendor is device.vendor]
    family = device.name.partition("_")[0]
    stages: tuple[Callable[[Chip], bool], ...] = (
        lambda chip: device.pci_id is not None and device.pci_id.lower() in chip.pci_ids,
        lambda chip: _is_called(chip, device.name),
        lambda chip: _is_called(chip, family),
    )
    for belongs in stages:
        found = _narrowed([chip for chip in same_vendor if belongs(chip)], device, total_bytes)
        if len(found) == 1:
            return found[0]
    return None


def apply_chip_ceiling(pool: Pool, chip: Chip) -> Pool:
    """The pool with the chip's stock ceiling for its size, where the machine itself did not tell one.

    A measured ceiling if there is one for this size, else the chip's default fraction, which the source then names.
    Unchanged where the ceiling or the total is not open, and for chips that may use everything.
    """
    size = pool.total.size_bytes
    if pool.ceiling.size_bytes is not None or size is None:
        return pool
    where = f"profiles/hardware/{chip.vendor}.yaml"
    for row in chip.memory_ceilings:
        if row.memory_bytes == size:
            return replace(pool, ceiling=Amount(size_bytes=row.ceiling_bytes, source=where))
    if chip.default_ceiling_fraction is None:
        return pool
    assumed = f"{where}: {chip.default_ceiling_fraction:.0%} assumed, no measurement for this size"
    return replace(pool, ceiling=Amount(size_bytes=round(size * chip.default_ceiling_fraction), source=assumed))


def find_chip(name: str, chips: Sequence[Chip]) -> Chip:
    """The entry that a typed name means.

    Raises:
        UsageError: no chip is called so, or several are; the message lists the nearest or the several.
    """
    found = find_chips(name, chips)
    if not found:
        raise unknown_name("chip", name.strip(), [chip.id for chip in chips])
    if len(found) > 1:
        raise several_versions(name, found)
    return found[0]


def find_chips(name: str, chips: Sequence[Chip]) -> tuple[Chip, ...]:
    """Every entry that carries a typed name; case, blanks, dashes and the vendor's name in front do not matter.

    An id wins over aliases, these over names. Several entries share an alias on purpose where the bare name leaves
    something open (`a100`: 40 or 80 GB, which differ in bandwidth).
    """
    for names_of in (lambda chip: (chip.id,), lambda chip: chip.aliases, lambda chip: (chip.name, *chip.driver_names)):
        found = tuple(chip for chip in chips if _carries(chip, name, names_of(chip)))
        if found:
            return found
    return ()


def several_versions(name: str, found: Sequence[Chip]) -> UsageError:
    """The error for a name that several entries carry."""
    versions = tuple(f"{chip.id}: {' or '.join(map(format_gib, chip.memory_bytes))}" for chip in found)
    return UsageError(
        f"`{name.strip()}` was made in several versions",
        hint=f"add its memory, or write one of: {', '.join(chip.id for chip in found)}",
        details=versions,
    )


def _carries(chip: Chip, typed: str, names: Sequence[str]) -> bool:
    return _key(chip, typed) in {_key(chip, name) for name in names}


def _key(chip: Chip, name: str) -> str:
    squashed = re.sub(r"[\s_-]+", "", name.lower())
    return squashed.removeprefix(chip.vendor.value) or squashed


def _is_called(chip: Chip, name: str) -> bool:
    return _one_spelling(name) in map(_one_spelling, chip.driver_names)


def _one_spelling(name: str) -> str:
    """Drivers print `910B3` and `Ascend910B3` for the same chip."""
    return name.strip().lower().removeprefix("ascend")


def _narrowed(found: list[Chip], device: Device, total_bytes: int | None) -> list[Chip]:
    """Drop entries as long as some remain: other driver names, then other GPU core counts, then other memory sizes."""
    filters: list[Callable[[Chip], bool]] = [
        lambda chip: _is_called(chip, device.name),
        lambda chip: chip.gpu_cores == device.gpu_cores,
    ]
    if total_bytes is not None:
        filters.append(lambda chip: any(_is_about(total_bytes, size) for size in chip.memory_bytes))
    for keeps in filters:
        found = [chip for chip in found if keeps(chip)] or found
    return found


def _is_about(total_bytes: int, size_bytes: int) -> bool:
    return abs(total_bytes - size_bytes) <= _MEMORY_TOLERANCE * size_bytes
