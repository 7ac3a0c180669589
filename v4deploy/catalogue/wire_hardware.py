"""The form of profiles/hardware/<vendor>.yaml, compact for humans, its chips, and how containers are given them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from v4deploy.catalogue.yaml_source import YamlDocument, parse_profile
from v4deploy.domain.chip import Chip, MemoryCeiling, NumberFormat
from v4deploy.domain.container_devices import ContainerDevices
from v4deploy.domain.hardware import ComputeApi, PoolKind, Vendor
from v4deploy.domain.source import Source
from v4deploy.domain.units import GB, GIB, MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class CeilingEntry:
    """What a GPU may take by default of a unified machine's memory, measured."""

    memory_gib: int
    ceiling_mib: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChipEntry:
    """One chip. Sizes stand under at most one of four keys, which says where they come from.

    Attributes:
        memory_mib, memory_gib: as drivers or the kernel report it.
        nominal_gib, nominal_gb: from a data sheet, in binary or decimal units as the vendor counts.
        bandwidth_gb_s: of one device, decimal; null when no source was found.
        pool, formats, default_ceiling_fraction, source, as_of, confidence: null means the file's default.
    """

    id: str
    name: str
    arch: str
    bandwidth_gb_s: float | None
    memory_mib: tuple[int, ...] = ()
    memory_gib: tuple[int, ...] = ()
    nominal_gib: tuple[int, ...] = ()
    nominal_gb: tuple[int, ...] = ()
    pool: PoolKind | None = None
    formats: tuple[NumberFormat, ...] | None = None
    aliases: tuple[str, ...] = ()
    driver_names: tuple[str, ...] = ()
    pci_ids: tuple[str, ...] = ()
    gpu_cores: int | None = None
    default_ceiling_fraction: float | None = None
    devices_per_card: int = 1
    cpu_architecture: str | None = None
    note: str | None = None
    source: str | None = None
    as_of: str | None = None
    confidence: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerEntry:
    """As ContainerDevices documents it."""

    cdi_kind: str | None = None
    cluster_resource: str | None = None
    source: str
    as_of: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HardwareFile:
    """A vendor's chips, with the defaults that they share.

    Attributes:
        formats_by_arch: every architecture of the file, with the number formats of its matrix units.
        memory_ceilings: measured ceilings; they apply to every chip of the file that was sold with that memory.
    """

    vendor: Vendor
    compute_api: ComputeApi
    pool: PoolKind
    source: str
    as_of: str
    confidence: str
    formats_by_arch: dict[str, tuple[NumberFormat, ...]]
    chips: tuple[ChipEntry, ...]
    memory_ceilings: tuple[CeilingEntry, ...] = ()
    default_ceiling_fraction: float | None = None
    cpu_architecture: str | None = None
    containers: ContainerEntry | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """What a hardware profile says; `containers` None where it says nothing about them."""

    chips: tuple[Chip, ...]
    containers: ContainerDevices | None


def hardware_of(document: YamlDocument) -> Hardware:
    """What a hardware profile says.

    Raises:
        ProfileError: the file has not the form of HardwareFile, an architecture is not listed in `formats_by_arch`,
            sizes stand under two keys, or an id stands twice.
    """
    file = parse_profile(HardwareFile, document)
    for path, message in _faults(file):
        raise document.error(path, message)
    return Hardware(chips=tuple(_chip(file, entry) for entry in file.chips), containers=_containers(file))


def _containers(file: HardwareFile) -> ContainerDevices | None:
    entry = file.containers
    if entry is None:
        return None
    return ContainerDevices(
        compute_api=file.compute_api.value,
        cdi_kind=entry.cdi_kind,
        cluster_resource=entry.cluster_resource,
        source=Source(source=entry.source, as_of=entry.as_of),
    )


def _faults(file: HardwareFile) -> Iterator[tuple[tuple[str | int, ...], str]]:
    seen: set[str] = set()
    for index, entry in enumerate(file.chips):
        if entry.id in seen:
            yield ("chips", index, "id"), f"`{entry.id}` stands twice"
        seen.add(entry.id)
        if entry.arch not in file.formats_by_arch:
            yield ("chips", index, "arch"), f"`{entry.arch}` is not listed in formats_by_arch"
        if sum(map(bool, (entry.memory_mib, entry.memory_gib, entry.nominal_gib, entry.nominal_gb))) > 1:
            yield ("chips", index), f"`{entry.id}` gives its memory under two keys"


def _chip(file: HardwareFile, entry: ChipEntry) -> Chip:
    sizes = tuple(sorted(_sizes(entry)))
    fraction = entry.default_ceiling_fraction
    bandwidth = entry.bandwidth_gb_s
    return Chip(
        id=entry.id,
        name=entry.name,
        vendor=file.vendor,
        compute_api=file.compute_api,
        arch=entry.arch,
        pool_kind=entry.pool or file.pool,
        memory_bytes=sizes,
        bandwidth_bytes_per_second=None if bandwidth is None else round(bandwidth * GB),
        formats=file.formats_by_arch[entry.arch] if entry.formats is None else entry.formats,
        aliases=entry.aliases,
        driver_names=entry.driver_names,
        pci_ids=entry.pci_ids,
        gpu_cores=entry.gpu_cores,
        memory_ceilings=_ceilings(file, sizes),
        default_ceiling_fraction=file.default_ceiling_fraction if fraction is None else fraction,
        memory_is_nominal=bool(entry.nominal_gib or entry.nominal_gb),
        devices_per_card=entry.devices_per_card,
        cpu_architecture=entry.cpu_architecture or file.cpu_architecture,
        note=entry.note,
        source=Source(
            source=entry.source or file.source,
            as_of=entry.as_of or file.as_of,
            confidence=entry.confidence or file.confidence,
        ),
    )


def _sizes(entry: ChipEntry) -> Iterator[int]:
    for sizes, unit in (
        (entry.memory_mib, MIB),
        (entry.memory_gib, GIB),
        (entry.nominal_gib, GIB),
        (entry.nominal_gb, GB),
    ):
        yield from (size * unit for size in sizes)


def _ceilings(file: HardwareFile, sizes: tuple[int, ...]) -> tuple[MemoryCeiling, ...]:
    return tuple(
        MemoryCeiling(memory_bytes=row.memory_gib * GIB, ceiling_bytes=row.ceiling_mib * MIB)
        for row in file.memory_ceilings
        if row.memory_gib * GIB in sizes
    )
