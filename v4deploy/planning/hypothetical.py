"""Machines that are not here: `--hardware "2x rtx-4090 + 192GB"` as a Host, from the catalogue's chips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from v4deploy.domain.chip import Chip
from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.hardware import (
    HOST_POOL_ID,
    Amount,
    ComputeApi,
    Cpu,
    Device,
    Host,
    HostOrigin,
    OperatingSystem,
    Pool,
    PoolKind,
)
from v4deploy.domain.units import GIB, format_gib
from v4deploy.planning.hardware_text import Cards, Description, read_description

# What the one published Strix Halo with a raised page limit left to the system: 128 GiB less 122880 MiB
# (ggml-org/llama.cpp#20472).
_CARVE_OUT_RESERVE_BYTES = 8 * GIB

_NOT_GIVEN = Amount(size_bytes=None, source="not named with --hardware")


def parse_hardware(text: str, chips: Sequence[Chip]) -> Host:
    """Read a description such as `2x h100 + 2x rtx-4090 + 1TB`: cards, and the host's memory.

    A count counts cards (an Ascend A3 card holds two devices). A size behind a chip chooses among the sizes in which
    it was sold; a size alone is the host's memory. Sizes are labels, so GB means GiB. Everything counts as free. Host
    memory that is not named is unknown, and a finding says so.

    Raises:
        UsageError: a name, count or size that makes no machine; the hint says what would.
    """
    description = read_description(text, chips)
    host_pool, assumption = _host_pool(description)
    placed = tuple(_placed(description.cards))
    return Host(
        origin=HostOrigin.HYPOTHETICAL,
        os=_operating_system(description),
        os_version=None,
        kernel=None,
        cpu=_cpu(description),
        pools=(host_pool, *(pool for _, pool in placed if pool)),
        devices=tuple(device for device, _ in placed),
        findings=tuple(_findings(description, host_pool, assumption)),
    )


def _host_pool(description: Description) -> tuple[Pool, str | None]:
    """System RAM, and what had to be assumed about the part of it that a device may use."""
    shared, named = description.shared, description.memory_bytes
    if shared is None:
        total = _amount(named, "named with --hardware")
        return _pool(HOST_POOL_ID, PoolKind.HOST, total, total), None
    size = shared.memory_bytes if named is None else named
    total = _amount(size, _memory_source(shared.chip))
    ceiling, assumption = (_NOT_GIVEN, None) if size is None else _ceiling(shared.chip, size)
    return _pool(HOST_POOL_ID, shared.chip.pool_kind, total, ceiling), assumption


def _ceiling(chip: Chip, memory_bytes: int) -> tuple[Amount, str | None]:
    """The most that a device may take of the memory that it shares with the host, and what that assumes."""
    for row in chip.memory_ceilings:
        if row.memory_bytes == memory_bytes:
            return Amount(size_bytes=row.ceiling_bytes, source=f"profile of {chip.id}: measured"), None
    if chip.default_ceiling_fraction is not None:
        assumption = f"{chip.default_ceiling_fraction:.0%} of the memory; no measurement for this size"
        return _amount(round(memory_bytes * chip.default_ceiling_fraction), assumption), assumption
    if chip.pool_kind is PoolKind.CARVE_OUT_GTT:
        if memory_bytes <= _CARVE_OUT_RESERVE_BYTES:
            return Amount(size_bytes=None, source="no measurement for so little memory"), None
        assumption = f"a raised page limit that leaves {format_gib(_CARVE_OUT_RESERVE_BYTES)} to the system"
        return _amount(memory_bytes - _CARVE_OUT_RESERVE_BYTES, assumption), assumption
    return Amount(size_bytes=memory_bytes, source=_memory_source(chip)), None


def _placed(all_cards: Sequence[Cards]) -> Iterator[tuple[Device, Pool | None]]:
    """Every device, with its own pool where it has one."""
    index = 0
    for cards in all_cards:
        chip = cards.chip
        total = _amount(cards.memory_bytes, _memory_source(chip))
        for _ in range(cards.devices):
            pool = None if cards.shares_host_memory else _pool(f"{chip.vendor}-{index}", chip.pool_kind, total, total)
            yield _device(index, chip, pool.id if pool else HOST_POOL_ID), pool
            index += 1


def _device(index: int, chip: Chip, pool_id: str) -> Device:
    return Device(
        index=index,
        vendor=chip.vendor,
        compute_api=chip.compute_api,
        name=chip.name,
        arch=chip.arch,
        chip=chip.id,
        pool_id=pool_id,
        gpu_cores=chip.gpu_cores,
    )


def _amount(size_bytes: int | None, source: str) -> Amount:
    return _NOT_GIVEN if size_bytes is None else Amount(size_bytes=size_bytes, source=source)


def _pool(pool_id: str, kind: PoolKind, total: Amount, ceiling: Amount) -> Pool:
    free = _amount(ceiling.size_bytes, "hypothetical: all free")
    return Pool(id=pool_id, kind=kind, total=total, ceiling=ceiling, free=free)


def _memory_source(chip: Chip) -> str:
    if not chip.memory_bytes:
        return "named with --hardware"
    return f"profile of {chip.id}: {'nominal size' if chip.memory_is_nominal else 'size as drivers report it'}"


def _operating_system(description: Description) -> OperatingSystem:
    metal = any(cards.chip.compute_api is ComputeApi.METAL for cards in description.cards)
    return OperatingSystem.MACOS if metal else OperatingSystem.LINUX


def _cpu(description: Description) -> Cpu:
    known = {cards.chip.cpu_architecture for cards in description.cards if cards.chip.cpu_architecture}
    architecture = known.pop() if len(known) == 1 else "unknown"
    return Cpu(architecture=architecture, model=None, physical_cores=None, usable_cores=None)


def _findings(description: Description, host_pool: Pool, assumption: str | None) -> Iterator[Finding]:
    if host_pool.total.size_bytes is None:
        yield _memory_not_given(description)
    if assumption:
        yield Finding(
            id="accelerator.ceiling-assumed",
            severity=Severity.WARN,
            summary="how much of the memory the GPU may take is assumed",
            evidence=(Evidence(source=assumption, value=format_gib(host_pool.ceiling.size_bytes)),),
            why="the system's own limit decides what fits, and it differs between machines and versions",
            fix="run `v4deploy doctor` on the machine itself",
        )
    for chip in dict.fromkeys(cards.chip for cards in description.cards if cards.chip.memory_is_nominal):
        yield Finding(
            id="accelerator.memory-nominal",
            severity=Severity.INFO,
            summary=f"the memory of {chip.id} is its data sheet's figure",
            evidence=(
                Evidence(source=_memory_source(chip), value=" or ".join(map(format_gib, chip.memory_bytes))),
                Evidence(source=chip.source.source),
            ),
            why="drivers report up to 8 % less, so what only just fits here may not fit there",
        )


def _memory_not_given(description: Description) -> Finding:
    example = f"{description.text} 128GB" if description.shared else f"{description.text} + 256GB"
    if not description.cards:
        example = "cpu 256GB"
    return Finding(
        id="host.memory-not-given",
        severity=Severity.INFO,
        summary="the host's memory is unknown",
        evidence=(Evidence(source=_NOT_GIVEN.source, value=description.text),),
        why="without it nothing can be planned to lie in host memory",
        fix=f'name it: `--hardware "{example}"`',
    )
