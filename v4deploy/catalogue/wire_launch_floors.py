"""The form of `driver_floors:`, `stack_floors:` and `abilities:` in profiles/launch/<engine>.yaml, and their values."""

from __future__ import annotations

from dataclasses import dataclass

from v4deploy.domain.hardware import ComputeApi
from v4deploy.domain.launch_settings import Ability, AbilitySince, DriverFloor, StackFloor
from v4deploy.domain.source import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverFloorEntry:
    """As DriverFloor documents it; each stands on its own source."""

    compute_api: ComputeApi
    floor: str
    what: str
    build: str = ""
    below_capability: int | None = None
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StackFloorEntry:
    """As StackFloor documents it; each stands on its own source."""

    compute_api: ComputeApi
    floor: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AbilityEntry:
    """As AbilitySince documents it; each stands on its own source."""

    ability: Ability
    since: str
    source: str


def driver_floor_of(entry: DriverFloorEntry, as_of: str) -> DriverFloor:
    """The floor of an entry that was read on that day."""
    return DriverFloor(
        compute_api=entry.compute_api.value,
        floor=entry.floor,
        what=entry.what,
        build=entry.build,
        below_capability=entry.below_capability,
        source=Source(source=entry.source, as_of=as_of),
    )


def stack_floor_of(entry: StackFloorEntry, as_of: str) -> StackFloor:
    """The floor of an entry that was read on that day."""
    return StackFloor(
        compute_api=entry.compute_api.value, floor=entry.floor, source=Source(source=entry.source, as_of=as_of)
    )


def ability_of(entry: AbilityEntry, as_of: str) -> AbilitySince:
    """The ability of an entry that was read on that day."""
    return AbilitySince(ability=entry.ability, since=entry.since, source=Source(source=entry.source, as_of=as_of))
