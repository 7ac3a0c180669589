"""Huawei Ascend: npu-smi, the device nodes, the bus and the version files of driver, CANN and nnal."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from v4deploy.domain.finding import Finding
from v4deploy.domain.hardware import Amount, ComputeApi, Device, Pool, PoolKind, ProbeOutcome, Vendor
from v4deploy.probes.ascend_answers import (
    Refusal,
    parse_card_ids,
    parse_mapping,
    parse_section,
    parse_version,
    refusal_of,
)
from v4deploy.probes.ascend_family import NpuChip, family_of, is_npu, normal_name, soc_name
from v4deploy.probes.ascend_findings import (
    INSTALL_RECORD,
    NpuSurroundings,
    chip_findings,
    machine_findings,
    refusal_finding,
)
from v4deploy.probes.ascend_table import Layout, NpuRow, NpuTable, parse_table
from v4deploy.probes.base import Capture
from v4deploy.probes.device_nodes import NodeQuery, collect_nodes, parse_nodes
from v4deploy.probes.pci import PciDevice, collect_pci, parse_pci
from v4deploy.system.base import CommandRun, FileRead, System

VENDOR = Vendor.HUAWEI

_PCI_VENDOR = "0x19e5"
# One answer takes up to a second; a driver that is wedged never gives one.
_TIMEOUT_SECONDS = 8.0
# Images keep the tool off PATH for users other than root.
_PROGRAMS = ("npu-smi", "/usr/local/sbin/npu-smi", "/usr/local/bin/npu-smi")
_NODES = NodeQuery(folders=("/dev",), name="davinci*")
_DEVICE_NODE = re.compile(r"davinci\d+")
_ROOT = "/usr/local/Ascend"
_DRIVER = f"{_ROOT}/driver/version.info"
_NNAL = f"{_ROOT}/nnal/atb"
_TOOLKIT_FILES = ("runtime/version.info", "compiler/version.info")
_TOOLKIT_RECORD = "ascend_toolkit_install.info"
_NO_SECTION: Mapping[str, str] = {}


def collect(system: System) -> Capture:
    """Look at the bus and /dev; ask npu-smi only where one of them, or npu-smi itself, hints at an NPU."""
    files, entries = collect_pci(system, _PCI_VENDOR)
    entries["/dev"] = tuple(name for name in system.list_dir("/dev") or () if _DEVICE_NODE.fullmatch(name))
    program = next((name for name in _PROGRAMS if system.which(name) is not None), None)
    if program is None and not entries["/dev"] and not _npus(files):
        return Capture(files=files, entries=entries)
    commands = {} if program is None else {" ".join(run.argv): run for run in _ask(system, program)}
    commands.update(collect_nodes(system, _NODES))
    entries[_NNAL] = system.list_dir(_NNAL) or ()
    machine = system.facts().machine
    for path in (_DRIVER, INSTALL_RECORD, *_toolkit_files(system.environ, machine), *_nnal_files(entries[_NNAL])):
        files[path] = system.read_text(path)
    return Capture(files=files, commands=commands, entries=entries, environ=dict(system.environ))


def _ask(system: System, program: str) -> Iterator[CommandRun]:
    """The table; for one chip of each name its board; where there is no table, what else lists cards."""

    def ask(*arguments: str) -> CommandRun:
        return system.run((program, "info", *arguments), timeout_seconds=_TIMEOUT_SECONDS)

    info = ask()
    yield info
    if info.failure is not None:
        return
    rows = parse_table(info.stdout).rows
    cards = _first_of_each_name(rows)
    if not rows and refusal_of(info) is Refusal.OTHER:
        listing, mapping = ask("-l"), ask("-m")
        yield from (listing, mapping)
        cards = parse_card_ids(listing.stdout)[:1]
    for number in cards:
        card = ask("-t", "board", "-i", str(number))
        yield card
        if "Chip Name" not in parse_section(card.stdout):
            yield ask("-t", "board", "-i", str(number), "-c", "0")


def parse(capture: Capture) -> ProbeOutcome:
    """Devices, their pools, and what stands in the way. Each die of an A3 card is a device of its own."""
    info = _run(capture, "info")
    around = _surroundings(capture)
    if info is None and not around.present:
        return ProbeOutcome()
    table = parse_table(info.stdout) if info else NpuTable()
    if table.rows:
        chips = _chips(table, capture, around)
        findings = [*machine_findings(table, info, around)]
        return _outcome(chips, capture, table, [*findings, *chip_findings(chips)], usable=True)
    listed = _listed(capture)
    refusal = refusal_finding(info, refusal_of(info) if info else None, around)
    chips = _chips(listed, capture, around) if listed.rows else _chips_of_kernel(around)
    return _outcome(chips, capture, listed, [refusal], usable=bool(listed.rows))


def _outcome(
    chips: Sequence[NpuChip], capture: Capture, table: NpuTable, findings: Sequence[Finding], *, usable: bool
) -> ProbeOutcome:
    driver = parse_version(_text(capture, _DRIVER)) or table.driver_version
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
    pools = tuple(_pool(device.pool_id, chip.row, table) for device, chip in zip(devices, chips, strict=True))
    return ProbeOutcome(devices=devices, pools=pools, findings=tuple(dict.fromkeys(findings)))


def _pool(pool_id: str, row: NpuRow, table: NpuTable) -> Pool:
    column = "Memory-Usage" if table.layout is Layout.DDR else "HBM-Usage"
    source = f"npu-smi info {column}" if row.total_bytes is not None else "npu-smi info: no memory printed"
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


def _chips(table: NpuTable, capture: Capture, around: NpuSurroundings) -> tuple[NpuChip, ...]:
    on_bus = {device.address: device for device in around.pci}
    boards = {
        _name_of(table.rows, number): _board(capture, number)
        for number in (*_first_of_each_name(table.rows), *parse_card_ids(_output(capture, "info", "-l"))[:1])
    }
    chips = []
    for row in table.rows:
        card, chip = boards.get(row.name, (_NO_SECTION, _NO_SECTION))
        name = soc_name(card, chip) or normal_name(row.name)
        seen = on_bus.get(row.pci_address or "")
        pci_id = seen.pci_id if seen else _pci_id(card)
        chips.append(
            NpuChip(
                row=row,
                name=name,
                name_family=family_of(name, is_dies_layout=table.layout is Layout.DIES),
                pci_id=pci_id,
                numa_node=seen.numa_node if seen else None,
                compatibility=card.get("Compatibility"),
            )
        )
    return tuple(chips)


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


def _listed(capture: Capture) -> NpuTable:
    """The chips that `-m` lists, for a table of a form that we do not know."""
    mapped = parse_mapping(_output(capture, "info", "-m"))
    dies = any(chip.has_physical_id for chip in mapped)
    rows = tuple(NpuRow(npu_id=chip.npu_id, chip_id=chip.chip_id, name=chip.name, health="") for chip in mapped)
    return NpuTable(layout=Layout.DIES if dies else None, rows=rows)


def _first_of_each_name(rows: Sequence[NpuRow]) -> tuple[int, ...]:
    """One card for each chip name: cards of one name are of one kind, and each question takes up to a second."""
    first: dict[str, int] = {}
    for row in rows:
        if row.npu_id is not None:
            first.setdefault(row.name, row.npu_id)
    return tuple(first.values())


def _name_of(rows: Sequence[NpuRow], npu_id: int) -> str:
    return next((row.name for row in rows if row.npu_id == npu_id), "")


def _board(capture: Capture, number: int) -> tuple[Mapping[str, str], Mapping[str, str]]:
    card = ("info", "-t", "board", "-i", str(number))
    return parse_section(_output(capture, *card)), parse_section(_output(capture, *card, "-c", "0"))


def _pci_id(card: Mapping[str, str]) -> str | None:
    found = [re.fullmatch(r"0x([0-9A-Fa-f]{4})", card.get(f"PCI {key} ID", "")) for key in ("Vendor", "Device")]
    return ":".join(match[1] for match in found if match).lower() if all(found) else None


def _surroundings(capture: Capture) -> NpuSurroundings:
    nnal = (parse_version(_text(capture, path)) for path in _nnal_files(capture.entries.get(_NNAL, ())))
    return NpuSurroundings(
        pci=_npus(capture.files),
        device_nodes=capture.entries.get("/dev", ()),
        nodes=parse_nodes(capture.commands, _NODES),
        install_record=capture.files.get(INSTALL_RECORD),
        cann_version=_toolkit_version(capture),
        nnal_version=next((version for version in nnal if version), None),
        environ=capture.environ,
    )


def _npus(files: Mapping[str, FileRead]) -> tuple[PciDevice, ...]:
    """NPUs only: a Kunpeng server shows network and display functions of the same vendor."""
    return tuple(device for device in parse_pci(files) if is_npu(device.pci_id))


def _toolkit_files(environ: Mapping[str, str], machine: str) -> tuple[str, ...]:
    named = (environ[name] for name in ("ASCEND_TOOLKIT_HOME", "ASCEND_HOME_PATH") if environ.get(name))
    roots = dict.fromkeys((*named, f"{_ROOT}/cann", f"{_ROOT}/ascend-toolkit/latest"))
    return tuple(f"{root}/{name}" for root in roots for name in (f"{machine}-linux/{_TOOLKIT_RECORD}", *_TOOLKIT_FILES))


def _toolkit_version(capture: Capture) -> str | None:
    paths = [path for path in capture.files if path.endswith((_TOOLKIT_RECORD, *_TOOLKIT_FILES))]
    return next((version for path in paths if (version := parse_version(_text(capture, path)))), None)


def _nnal_files(versions: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{_NNAL}/{version}/version.info" for version in versions)


def _run(capture: Capture, *arguments: str) -> CommandRun | None:
    return next((run for run in capture.commands.values() if run.argv[1:] == arguments), None)


def _output(capture: Capture, *arguments: str) -> str:
    run = _run(capture, *arguments)
    return run.stdout if run else ""


def _text(capture: Capture, path: str) -> str:
    read = capture.files.get(path)
    return (read.text or "") if read else ""
