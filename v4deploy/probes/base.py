"""What a vendor's probe is: a module with a vendor, a collector and a parser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from v4deploy.domain.hardware import ProbeOutcome, Vendor
from v4deploy.system.base import CommandRun, FileRead, LibraryAnswer, System


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """Everything that a collector read, by the path, command line or library it came from.

    `commands` is keyed by the command line joined with blanks. `entries` holds directory listings by path.
    `host_memory_bytes` and `host_free_bytes` are what the host probe found out, for devices that share the host's RAM.
    """

    files: Mapping[str, FileRead] = field(default_factory=dict)
    commands: Mapping[str, CommandRun] = field(default_factory=dict)
    libraries: Mapping[str, LibraryAnswer] = field(default_factory=dict)
    entries: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)
    host_memory_bytes: int | None = None
    host_free_bytes: int | None = None


class Probe(Protocol):
    """A vendor's module. `collect` touches the machine and judges nothing; `parse` judges and touches nothing.

    Device indexes in the outcome are the probe's own; the survey makes them dense over the host.
    """

    VENDOR: Vendor

    def collect(self, system: System) -> Capture: ...

    def parse(self, capture: Capture) -> ProbeOutcome: ...
