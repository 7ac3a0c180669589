"""Asks the host and every vendor's probe, and merges what they say into one checked `Host`."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

from v4deploy.domain.chip import Chip
from v4deploy.domain.chips import apply_chip_ceiling, match_chip
from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.hardware import (
    HOST_POOL_ID,
    Amount,
    Device,
    Host,
    HostOrigin,
    InstalledEngine,
    Link,
    Pool,
    PoolKind,
    ProbeOutcome,
)
from v4deploy.domain.surroundings import Software
from v4deploy.probes.base import Probe
from v4deploy.probes.container_findings import container_findings
from v4deploy.probes.containers import ContainerReport, collect_containers, parse_containers
from v4deploy.probes.engines import collect_engines, engine_findings, parse_engines
from v4deploy.probes.host import collect_host, parse_host
from v4deploy.probes.other_graphics import (
    GraphicsCapture,
    behind_windows_finding,
    collect_other_graphics,
    other_graphics_findings,
)
from v4deploy.probes.registry import ALL_PROBES
from v4deploy.probes.toolchain import collect_toolchain, parse_toolchain
from v4deploy.system.base import System

T = TypeVar("T")


def survey(system: System, *, weights_dir: str, chips: Sequence[Chip], probes: Sequence[Probe] = ALL_PROBES) -> Host:
    """The machine. A probe that crashes becomes a finding and hides no other probe's devices.

    `chips` gives each device its catalogue entry; the capacity of a device never comes from there.
    """
    capture = collect_host(system, weights_dir)
    report = parse_host(capture)
    answers = _ask_all(system, report.memory, probes)
    outcomes = answers.outcomes
    devices, pools, links = _merge(outcomes)
    coherent_bytes = sum(pool.total.size_bytes or 0 for pool in pools if pool.kind is PoolKind.COHERENT)
    if coherent_bytes:
        report = parse_host(capture, coherent_bytes=coherent_bytes)
    findings = [*report.findings, *(finding for outcome in outcomes for finding in outcome.findings)]
    findings += answers.findings
    findings += container_findings(answers.containers, devices, container=report.container)
    host = Host(
        origin=HostOrigin.LIVE if system.is_live else HostOrigin.RECORDING,
        os=report.os,
        os_version=report.os_version,
        kernel=report.kernel,
        cpu=report.cpu,
        pools=(_shared_memory(report.memory, devices, outcomes), *pools),
        devices=devices,
        links=links,
        disks=report.disks,
        engines=answers.engines,
        software=answers.software,
        container=report.container,
        kubernetes=report.kubernetes,
        numa_nodes=report.numa_nodes,
        limits=report.limits,
        network_devices=report.network_devices,
        rdma_ports=report.rdma_ports,
        network_settings=report.network_settings,
        container_support=answers.containers.support,
        findings=tuple(dict.fromkeys((*findings, *_nothing_found(outcomes)))),
    )
    return _with_chips(validate_host(host), chips)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answers:
    """What was asked side by side, beside the host itself; `findings` without those of the outcomes."""

    outcomes: tuple[ProbeOutcome, ...]
    engines: tuple[InstalledEngine, ...]
    software: tuple[Software, ...]
    containers: ContainerReport
    findings: tuple[Finding, ...]


def _ask_all(system: System, memory: Pool, probes: Sequence[Probe]) -> _Answers:
    with ThreadPoolExecutor(max_workers=len(probes) + 3) as pool:
        engine_part = pool.submit(_guarded, "engine", lambda: _engines(system), ((), (), ()))
        container_part = pool.submit(
            _guarded, "container", lambda: parse_containers(collect_containers(system)), ContainerReport()
        )
        graphics_part = pool.submit(_guarded, "accelerator", lambda: collect_other_graphics(system), GraphicsCapture())
        outcomes = tuple(pool.map(lambda probe: _ask(probe, system, memory), probes))
    (engines, software, several), crashed_engines = engine_part.result()
    containers, crashed_containers = container_part.result()
    graphics, crashed_graphics = graphics_part.result()
    crashed = (*crashed_graphics, *crashed_engines, *crashed_containers)
    return _Answers(
        outcomes=outcomes,
        engines=engines,
        software=(*software, *(part for outcome in outcomes for part in outcome.software)),
        containers=containers,
        findings=(*_beside_probes(graphics, outcomes), *several, *crashed),
    )


def validate_host(host: Host) -> Host:
    """The host with every contradiction taken out and named in a finding.

    Afterwards pool ids are unique, every device points at a pool, device indexes are dense, and no amount is negative
    or, for a total, zero.
    """
    findings: list[Finding] = []
    pools: dict[str, Pool] = {}
    for pool in host.pools:
        if pool.id in pools:
            findings.append(_contradiction(f"two pools are called `{pool.id}`", pool.total.source))
            continue
        pools[pool.id] = Pool(
            id=pool.id,
            kind=pool.kind,
            total=_checked(pool.total, f"total of pool `{pool.id}`", 1, findings),
            ceiling=_checked(pool.ceiling, f"ceiling of pool `{pool.id}`", 0, findings),
            free=_checked(pool.free, f"free part of pool `{pool.id}`", 0, findings),
        )
    devices: list[Device] = []
    indexes: dict[int, int] = {}
    for device in host.devices:
        if device.pool_id not in pools:
            findings.append(
                _contradiction(f"{device.name} points at an unknown pool `{device.pool_id}`", device.vendor)
            )
            continue
        indexes[device.index] = len(devices)
        devices.append(replace(device, index=len(devices)))
    return replace(
        host,
        pools=tuple(pools.values()),
        devices=tuple(devices),
        links=tuple(_renumbered(host.links, indexes)),
        findings=(*host.findings, *findings),
    )


def _ask(probe: Probe, system: System, memory: Pool) -> ProbeOutcome:
    def look() -> ProbeOutcome:
        capture = replace(
            probe.collect(system),
            host_memory_bytes=memory.total.size_bytes,
            host_free_bytes=memory.free.size_bytes,
        )
        return probe.parse(capture)

    outcome, crashed = _guarded(f"accelerator.{probe.VENDOR}", look, ProbeOutcome())
    return replace(outcome, findings=(*outcome.findings, *crashed))


_Installed = tuple[tuple[InstalledEngine, ...], tuple[Software, ...], tuple[Finding, ...]]


def _engines(system: System) -> _Installed:
    capture = collect_engines(system)
    software = parse_toolchain(collect_toolchain(system, capture.beside_vllm))
    return parse_engines(capture), software, engine_findings(capture)


def _beside_probes(capture: GraphicsCapture, outcomes: Sequence[ProbeOutcome]) -> Iterator[Finding]:
    """What is said of graphics that are nobody's; of one behind Windows only where no probe has a word on it."""
    yield from other_graphics_findings(capture)
    if capture.behind_windows and not any(outcome.devices or outcome.findings for outcome in outcomes):
        yield behind_windows_finding()


def _guarded(part: str, look: Callable[[], T], nothing: T) -> tuple[T, tuple[Finding, ...]]:
    """What a part of the survey found, or `nothing` and a finding where it crashed."""
    try:
        return look(), ()
    except Exception as error:  # noqa: BLE001 - whatever it is, the other parts must still be reported
        where = traceback.extract_tb(error.__traceback__)[-1]
        finding = Finding(
            id=f"{part}.probe-failed",
            severity=Severity.FAIL,
            summary=f"looking at {part.rpartition('.')[2]} ended in an error of v4deploy",
            evidence=(Evidence(source=f"{where.name}, line {where.lineno}", error=repr(error)),),
            why="what it would have told is not in the plan",
            fix="`v4deploy doctor --record DIR` and report the recording",
        )
        return nothing, (finding,)


def _renumbered(links: Sequence[Link], indexes: Mapping[int, int]) -> Iterator[Link]:
    """Links between devices that remain, by their new indexes."""
    for link in links:
        if link.first_index in indexes and link.second_index in indexes:
            yield replace(link, first_index=indexes[link.first_index], second_index=indexes[link.second_index])


def _merge(outcomes: Sequence[ProbeOutcome]) -> tuple[tuple[Device, ...], tuple[Pool, ...], tuple[Link, ...]]:
    """Devices of all vendors with dense indexes; an address that an earlier vendor has is not counted again.

    Within one vendor several devices may share an address: slices do.
    """
    devices: list[Device] = []
    pools: list[Pool] = []
    links: list[Link] = []
    taken: set[str] = set()
    for outcome in outcomes:
        found = [device for device in outcome.devices if device.pci_address not in taken]
        taken.update(device.pci_address for device in found if device.pci_address is not None)
        used = {device.pool_id for device in found} - {HOST_POOL_ID}
        pools += [pool for pool in outcome.pools if pool.id in used]
        links += _renumbered(
            outcome.links, {device.index: len(devices) + number for number, device in enumerate(found)}
        )
        devices += [replace(device, index=len(devices) + number) for number, device in enumerate(found)]
    return tuple(devices), tuple(pools), tuple(links)


def _shared_memory(memory: Pool, devices: Sequence[Device], outcomes: Sequence[ProbeOutcome]) -> Pool:
    """System RAM as the devices in it see it: a probe that returns the host's own pool knows its ceiling better."""
    if not any(device.pool_id == HOST_POOL_ID for device in devices):
        return memory
    seen = [pool.ceiling for outcome in outcomes for pool in outcome.pools if pool.id == HOST_POOL_ID]
    # A container's limit holds for the device's share too; a ceiling that the probe left open stays so for the
    # catalogue to fill.
    known = [amount for amount in (*seen[:1], memory.ceiling) if amount.size_bytes is not None]
    lowest = min(known, key=lambda amount: amount.size_bytes or 0, default=memory.ceiling)
    ceiling = seen[0] if seen and seen[0].size_bytes is None else lowest
    return replace(memory, kind=PoolKind.UNIFIED, ceiling=ceiling)


def _with_chips(host: Host, chips: Sequence[Chip]) -> Host:
    """Each device with its catalogue entry, and what only that can tell: an architecture that the driver leaves out,
    and the stock ceiling of a pool whose own ceiling is unknown.
    """
    devices, assumed = [], []
    pools = {pool.id: pool for pool in host.pools}
    for device in host.devices:
        pool = pools[device.pool_id]
        chip = match_chip(device, pool.total.size_bytes, chips)
        arch = device.arch or (chip.arch if chip else None)
        devices.append(replace(device, chip=chip.id if chip else None, arch=arch))
        pools[pool.id] = apply_chip_ceiling(pool, chip) if chip else pool
        if (
            chip
            and pools[pool.id] != pool
            and not any(r.memory_bytes == pool.total.size_bytes for r in chip.memory_ceilings)
        ):
            assumed.append(_ceiling_assumed(pools[pool.id]))
    return replace(host, devices=tuple(devices), pools=tuple(pools.values()), findings=(*host.findings, *assumed))


def _ceiling_assumed(pool: Pool) -> Finding:
    return Finding(
        id="accelerator.ceiling-assumed",
        severity=Severity.WARN,
        summary="how much of the memory the GPU may take is assumed",
        evidence=(Evidence(source=pool.ceiling.source, value=str(pool.ceiling.size_bytes)),),
        why="the system's own limit decides what fits, and it differs between machines and versions",
        fix="install llama.cpp, whose `llama-server --list-devices` asks the system for it",
    )


def _nothing_found(outcomes: Sequence[ProbeOutcome]) -> tuple[Finding, ...]:
    """Said only where no probe has found a device or a reason why there is none."""
    if any(outcome.devices for outcome in outcomes):
        return ()
    if any(finding.severity is Severity.FAIL for outcome in outcomes for finding in outcome.findings):
        return ()
    return (
        Finding(
            id="accelerator.none",
            severity=Severity.WARN,
            summary="no accelerator was found; engines run on the CPU",
            why="V4 on a CPU alone is slow, and needs all of its weights in RAM",
            fix='to plan for another machine, name it: `v4deploy plan --hardware "8x h200"`',
        ),
    )


def _checked(amount: Amount, what: str, least: int, findings: list[Finding]) -> Amount:
    if amount.size_bytes is None or amount.size_bytes >= least:
        return amount
    findings.append(_contradiction(f"the {what} reads {amount.size_bytes}", amount.source))
    return replace(amount, size_bytes=None)


def _contradiction(summary: str, source: str) -> Finding:
    return Finding(
        id="accelerator.contradiction",
        severity=Severity.FAIL,
        summary=summary,
        evidence=(Evidence(source=source),),
        why="planning with it would give numbers that mean nothing",
        fix="`v4deploy doctor --record DIR` and report the recording",
    )
