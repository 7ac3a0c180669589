"""Huawei Ascend: DCMI, npu-smi, the device nodes, the bus and the version files of driver, CANN and nnal."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from v4deploy.domain.finding import Finding
from v4deploy.domain.hardware import Amount, ComputeApi, Device, Pool, PoolKind, ProbeOutcome, Vendor
from v4deploy.domain.surroundings import Software
from v4deploy.probes.ascend_answers import (
    Refusal,
    parse_health,
    parse_product,
    parse_section,
    parse_usage,
    parse_version,
    refusal_of,
)
from v4deploy.probes.ascend_collect import (
    NNAL,
    NODES,
    TOOLKIT_FILES,
    TOPOLOGY,
    board_questions,
    collect,
    first_of_each_name,
    health_question,
    listed_table,
    nnal_files,
    npus_on_bus,
    product_question,
    usage_question,
)
from v4deploy.probes.ascend_dcmi import SOURCE as DCMI
from v4deploy.probes.ascend_dcmi import DcmiReport, parse_dcmi
from v4deploy.probes.ascend_device_findings import die_findings, hung_findings, link_findings, source_findings
from v4deploy.probes.ascend_family import NpuChip, family_of, normal_name, soc_name
from v4deploy.probes.ascend_findings import (
    INSTALL_RECORD,
    NpuSurroundings,
    chip_findings,
    machine_findings,
    refusal_finding,
)
from v4deploy.probes.ascend_merge import MergedRow, merge
from v4deploy.probes.ascend_table import Layout, NpuRow, NpuTable, parse_table
from v4deploy.probes.ascend_topology import links_of, parse_topology, paths_of
from v4deploy.probes.ascend_versions import (
    DRIVER_RECORD,
    FIRMWARE_RECORD,
    Versions,
    parse_firmware_ranges,
    same_release,
    version_findings,
)
from v4deploy.probes.base import Capture
from v4deploy.probes.device_nodes import parse_nodes
from v4deploy.system.base import CommandRun

__all__ = ["VENDOR", "collect", "parse"]

VENDOR = Vendor.HUAWEI

_NO_SECTION: Mapping[str, str] = {}
_RESOURCE_OCCUPIED = -8020
_WHOLE_PERCENT = 100


def parse(capture: Capture) -> ProbeOutcome:
    """Devices, their pools and links, and what stands in the way. Each die of an A3 card is a device of its own."""
    around = _surroundings(capture)
    info, report = _run(capture, "info"), parse_dcmi(capture.libraries.get("dcmi"))
    if info is None and not around.present and not report.chips:
        return ProbeOutcome()
    table = parse_table(info.stdout) if info else NpuTable()
    if table.rows or report.chips:
        return _answered(capture, report, table, around)
    listed = listed_table(_output(capture, "info", "-m"), _output(capture, "info", "-l"))
    refusal = refusal_finding(info, _refusal(info, report), around, report.failure)
    merged, _ = merge((), listed.rows)
    chips = _chips(merged, listed, capture, around) if listed.rows else _chips_of_kernel(around)
    outcome = _outcome(chips, capture, report, listed, usable=bool(listed.rows))
    return replace(outcome, findings=(refusal, *hung_findings(_others(capture))))


def _answered(capture: Capture, report: DcmiReport, table: NpuTable, around: NpuSurroundings) -> ProbeOutcome:
    """At least one of DCMI and npu-smi described the devices."""
    info = _run(capture, "info")
    merged, disagreements = merge(report.chips, table.rows)
    chips = _chips(merged, table, capture, around)
    outcome = _outcome(chips, capture, report, table, usable=True)
    paths = paths_of(parse_topology(_output(capture, *TOPOLOGY)), [chip.row for chip in chips])
    everything = replace(table, rows=tuple(chip.row for chip in chips))
    findings: list[Finding] = [
        *machine_findings(everything, info, around),
        *chip_findings(chips),
        *die_findings(chips),
        *link_findings(chips, paths),
        *source_findings(report, disagreements, info, table_is_empty=not table.rows),
        *version_findings(_versions(capture, outcome, chips, around), [chip.family for chip in chips]),
        *hung_findings(_others(capture)),
    ]
    return replace(
        outcome,
        findings=tuple(dict.fromkeys(findings)),
        links=tuple(links_of(paths)),
        software=tuple(_software(capture, around)),
    )


def _software(capture: Capture, around: NpuSurroundings) -> Iterator[Software]:
    """CANN and nnal, which engines outside of a container are built on."""
    toolkit = _toolkit_file(capture)
    if toolkit is not None and around.cann_version is not None:
        yield Software(name="CANN toolkit", version=around.cann_version, path=toolkit)
    if around.nnal_version is not None:
        yield Software(name="nnal", version=around.nnal_version, path=NNAL)


def _refusal(info: CommandRun | None, report: DcmiReport) -> Refusal | None:
    """What npu-smi refused; where it is not here, what DCMI did."""
    refusal = refusal_of(info) if info else None
    if refusal not in {None, Refusal.NOT_INSTALLED} or report.failure is None:
        return refusal
    if report.failure.code == _RESOURCE_OCCUPIED:
        return Refusal.IN_USE
    return Refusal.NO_ANSWER if report.failure.is_hang else Refusal.NOT_INITIALISED


def _outcome(
    chips: Sequence[NpuChip], capture: Capture, report: DcmiReport, table: NpuTable, *, usable: bool
) -> ProbeOutcome:
    driver = parse_version(_text(capture, DRIVER_RECORD)) or report.driver_version or table.driver_version
    devices = tuple(
        Device(
            index=number,
            vendor=VENDOR,
            compute_api=ComputeApi.CANN,
            name=chip.name,
            arch=chip.family,
            pool_id=f"{VENDOR}-{number}",
            pci_address=chip.row.pci_address,
            pci_id=chip.pci_id,
            driver_version=driver,
            compute_api_version=_toolkit_version(capture),
            numa_node=chip.numa_node,
            usable=usable and chip.is_healthy,
        )
        for number, chip in enumerate(chips)
    )
    pools = tuple(_pool(device.pool_id, chip.row) for device, chip in zip(devices, chips, strict=True))
    return ProbeOutcome(devices=devices, pools=pools)


def _pool(pool_id: str, row: NpuRow) -> Pool:
    source = row.memory_source or "not told by npu-smi or DCMI"
    total = Amount(size_bytes=row.total_bytes, source=source)
    known = row.total_bytes is not None and row.used_bytes is not None
    free = (row.total_bytes or 0) - (row.used_bytes or 0) if known else None
    return Pool(
        id=pool_id,
        kind=PoolKind.DEDICATED,
        total=total,
        ceiling=total,
        free=Amount(size_bytes=free, source=f"{source}, total less used"),
    )


def _chips(
    merged: Sequence[MergedRow], table: NpuTable, capture: Capture, around: NpuSurroundings
) -> tuple[NpuChip, ...]:
    on_bus = {device.address: device for device in around.pci}
    boards = {row.name: _board(capture, row) for row in first_of_each_name([item.row for item in merged])}
    chips = []
    for item in merged:
        row = _with_usage(item.row, capture)
        card, chip = boards.get(row.name, (_NO_SECTION, _NO_SECTION))
        name = _name(item, card, chip)
        seen = on_bus.get(row.pci_address or "")
        told = item.chip
        chips.append(
            NpuChip(
                row=row,
                name=name,
                name_family=family_of(name, is_dies_layout=table.layout is Layout.DIES),
                pci_id=seen.pci_id if seen else (told.pci_id if told else None) or _pci_id(card),
                numa_node=seen.numa_node if seen else None,
                source=DCMI if told and told.row.health else "npu-smi info",
                compatibility=(told.compatibility if told else None) or card.get("Compatibility"),
                board_id=told.board_id if told and told.board_id is not None else _board_id(card),
                firmware_version=card.get("Firmware Version"),
                product=parse_product(_output(capture, *product_question(row))),
                faults=_faults(row, capture),
                errors=told.errors if told else (),
            )
        )
    return tuple(chips)


def _name(item: MergedRow, card: Mapping[str, str], chip: Mapping[str, str]) -> str:
    """The full name of the SoC from whichever source knows it; else what the table prints."""
    told = [name for name in (item.chip.soc if item.chip else None, soc_name(card, chip)) if name]
    known = [name for name in told if family_of(name) is not None]
    return next(iter((*known, *told)), None) or (normal_name(item.row.name) if item.row.name else "Huawei NPU")


def _with_usage(row: NpuRow, capture: Capture) -> NpuRow:
    """The row with its memory from `-t usages` where nothing better told it."""
    usage = parse_usage(_output(capture, *usage_question(row)), row.chip_id)
    if row.total_bytes is not None or usage is None:
        return row
    # How the percentage is rounded is not documented: one more is the most that can be in use.
    percent = None if usage.used_percent is None else usage.used_percent + (usage.used_percent < _WHOLE_PERCENT)
    return replace(
        row,
        total_bytes=usage.total_bytes,
        used_bytes=None if percent is None else usage.total_bytes * percent // _WHOLE_PERCENT,
        memory_source="npu-smi info -t usages, usage rounded up to a percent",
    )


def _faults(row: NpuRow, capture: Capture) -> tuple[str, ...]:
    health = parse_health(_output(capture, *health_question(row)))
    return tuple(text for text in (health.error_code, health.error) if text is not None)


def _chips_of_kernel(around: NpuSurroundings) -> tuple[NpuChip, ...]:
    """What can be said without npu-smi. In a container /dev holds the devices given to it, the bus all of them."""
    ids = {device.pci_id for device in around.pci}
    only_id = ids.pop() if len(ids) == 1 else None
    if around.device_nodes:
        return tuple(
            NpuChip(row=NpuRow(name=node, health=""), name=f"Huawei NPU /dev/{node}", pci_id=only_id)
            for node in around.device_nodes
        )
    return tuple(
        NpuChip(
            row=NpuRow(name=device.pci_id, health="", pci_address=device.address),
            name=f"Huawei NPU {device.pci_id}",
            pci_id=device.pci_id,
            numa_node=device.numa_node,
        )
        for device in around.pci
    )


def _board(capture: Capture, row: NpuRow) -> tuple[Mapping[str, str], Mapping[str, str]]:
    card, chip = (parse_section(_output(capture, *question)) for question in board_questions(row))
    return card, chip


def _board_id(card: Mapping[str, str]) -> int | None:
    found = re.fullmatch(r"0x([0-9A-Fa-f]+)", card.get("Board ID", ""))
    return int(found[1], 16) if found else None


def _pci_id(card: Mapping[str, str]) -> str | None:
    found = [re.fullmatch(r"0x([0-9A-Fa-f]{4})", card.get(f"PCI {key} ID", "")) for key in ("Vendor", "Device")]
    return ":".join(match[1] for match in found if match).lower() if all(found) else None


def _surroundings(capture: Capture) -> NpuSurroundings:
    cann = _toolkit_version(capture)
    found = [parse_version(_text(capture, path)) for path in nnal_files(capture.entries.get(NNAL, ()))]
    nnal = [version for version in found if version]
    # Several can lie side by side: the one of the toolkit's release is the one that its set_env.sh goes with.
    fitting = [version for version in nnal if same_release(version, cann)]
    return NpuSurroundings(
        pci=npus_on_bus(capture.files),
        device_nodes=capture.entries.get("/dev", ()),
        nodes=parse_nodes(capture.commands, NODES),
        install_record=capture.files.get(INSTALL_RECORD),
        cann_version=cann,
        nnal_version=next(iter((*fitting, *nnal)), None),
        environ=capture.environ,
    )


def _versions(capture: Capture, outcome: ProbeOutcome, chips: Sequence[NpuChip], around: NpuSurroundings) -> Versions:
    boards = (chip.firmware_version for chip in chips if chip.firmware_version)
    return Versions(
        driver=next((device.driver_version for device in outcome.devices), None),
        firmware=next(boards, None) or parse_version(_text(capture, FIRMWARE_RECORD)),
        firmware_ranges=parse_firmware_ranges(_text(capture, DRIVER_RECORD)),
        cann=around.cann_version,
        nnal=around.nnal_version,
    )


def _toolkit_version(capture: Capture) -> str | None:
    path = _toolkit_file(capture)
    return None if path is None else parse_version(_text(capture, path))


def _toolkit_file(capture: Capture) -> str | None:
    paths = (path for path in capture.files if path.endswith(TOOLKIT_FILES))
    return next((path for path in paths if parse_version(_text(capture, path))), None)


def _run(capture: Capture, *arguments: str) -> CommandRun | None:
    return next((run for run in capture.commands.values() if run.argv[1:] == arguments), None)


def _others(capture: Capture) -> tuple[CommandRun, ...]:
    """npu-smi's runs beside the table."""
    return tuple(run for run in capture.commands.values() if run.argv[1:2] == ("info",) and len(run.argv) > 2)  # noqa: PLR2004


def _output(capture: Capture, *arguments: str) -> str:
    run = _run(capture, *arguments)
    return run.stdout if run else ""


def _text(capture: Capture, path: str) -> str:
    read = capture.files.get(path)
    return (read.text or "") if read else ""
