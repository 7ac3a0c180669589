"""Asks an Ascend machine: the bus and /dev first, then DCMI and npu-smi, then version files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from v4deploy.probes.ascend_answers import Refusal, parse_listing, parse_mapping, parse_section, refusal_of
from v4deploy.probes.ascend_dcmi import parse_dcmi
from v4deploy.probes.ascend_family import family_of, is_npu, normal_name, soc_name
from v4deploy.probes.ascend_findings import INSTALL_RECORD
from v4deploy.probes.ascend_merge import MergedRow, merge
from v4deploy.probes.ascend_table import Layout, NpuRow, NpuTable, parse_table
from v4deploy.probes.ascend_versions import DRIVER_RECORD, FIRMWARE_RECORD
from v4deploy.probes.base import Capture
from v4deploy.probes.device_nodes import NodeQuery, collect_nodes
from v4deploy.probes.pci import PciDevice, collect_pci, parse_pci
from v4deploy.system.base import CommandRun, Failure, FileRead, LibraryAnswer, System

NODES = NodeQuery(folders=("/dev",), name="davinci*")
NNAL = "/usr/local/Ascend/nnal/atb"
TOOLKIT_FILES = ("ascend_toolkit_install.info", "runtime/version.info", "compiler/version.info")
TOPOLOGY = ("info", "-t", "topo")

_PCI_VENDOR = "0x19e5"
# One answer takes up to a second; a driver that is wedged never gives one.
_TIMEOUT_SECONDS = 8.0
# Images keep the tool off PATH for users other than root.
_PROGRAMS = ("npu-smi", "/usr/local/sbin/npu-smi", "/usr/local/bin/npu-smi")
_DEVICE_NODE = re.compile(r"davinci\d+")


def collect(system: System) -> Capture:
    """Look at the bus and /dev; ask DCMI and npu-smi only where one of them, or npu-smi itself, hints at an NPU."""
    files, entries = collect_pci(system, _PCI_VENDOR)
    entries["/dev"] = tuple(name for name in system.list_dir("/dev") or () if _DEVICE_NODE.fullmatch(name))
    program = next((name for name in _PROGRAMS if system.which(name) is not None), None)
    if program is None and not entries["/dev"] and not npus_on_bus(files):
        return Capture(files=files, entries=entries)
    dcmi = system.library("dcmi", timeout_seconds=_TIMEOUT_SECONDS)
    commands = {} if program is None else _ask_npu_smi(system, program, dcmi)
    commands.update(collect_nodes(system, NODES))
    entries[NNAL] = system.list_dir(NNAL) or ()
    machine = system.facts().machine
    own = (DRIVER_RECORD, FIRMWARE_RECORD, INSTALL_RECORD)
    for path in (*own, *_toolkit_files(system.environ, machine), *nnal_files(entries[NNAL])):
        files[path] = system.read_text(path)
    return Capture(
        files=files, commands=commands, libraries={"dcmi": dcmi}, entries=entries, environ=dict(system.environ)
    )


def npus_on_bus(files: Mapping[str, FileRead]) -> tuple[PciDevice, ...]:
    """NPUs only: a Kunpeng server shows network and display functions of the same vendor."""
    return tuple(device for device in parse_pci(files) if is_npu(device.pci_id))


def nnal_files(versions: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{NNAL}/{version}/version.info" for version in versions)


def board_questions(row: NpuRow) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What to ask about a row's card, and about the card's first chip."""
    card = ("info", "-t", "board", "-i", str(row.npu_id))
    return card, (*card, "-c", "0")


def health_question(row: NpuRow) -> tuple[str, ...]:
    """The 950 takes no chip number and prints none."""
    chip = () if row.chip_id is None else ("-c", str(row.chip_id))
    return ("info", "-t", "health", "-i", str(row.npu_id), *chip)


def usage_question(row: NpuRow) -> tuple[str, ...]:
    return ("info", "-t", "usages", "-i", str(row.npu_id))


def product_question(row: NpuRow) -> tuple[str, ...]:
    return ("info", "-t", "product", "-i", str(row.npu_id))


def first_of_each_name(rows: Sequence[NpuRow]) -> tuple[NpuRow, ...]:
    """One row for each chip name: cards of one name are of one kind, and each question takes up to a second."""
    first: dict[str, NpuRow] = {}
    for row in rows:
        if row.npu_id is not None:
            first.setdefault(row.name, row)
    return tuple(first.values())


def listed_table(mapping: str, listing: str) -> NpuTable:
    """The chips that `-m` lists, else those that `-l` counts, for a table of a form that we do not know."""
    mapped = parse_mapping(mapping)
    if not mapped:
        chips = [
            (card, chip) for card, count in parse_listing(listing) for chip in range(1 if count is None else count)
        ]
        return NpuTable(rows=tuple(NpuRow(npu_id=card, chip_id=chip, name="", health="") for card, chip in chips))
    dies = any(chip.has_physical_id for chip in mapped)
    rows = tuple(NpuRow(npu_id=chip.npu_id, chip_id=chip.chip_id, name=chip.name, health="") for chip in mapped)
    return NpuTable(layout=Layout.DIES if dies else None, rows=rows)


class _Questions:
    """npu-smi's answers by command line. After one that timed out nothing more is asked: the driver hangs."""

    def __init__(self, system: System, program: str) -> None:
        self.runs: dict[str, CommandRun] = {}
        self._system = system
        self._program = program
        self._hangs = False

    def ask(self, *arguments: str) -> str:
        """What it printed; nothing where it could not be asked."""
        command = " ".join((self._program, *arguments))
        if command not in self.runs and not self._hangs:
            run = self._system.run((self._program, *arguments), timeout_seconds=_TIMEOUT_SECONDS)
            self.runs[command] = run
            self._hangs = run.failure is Failure.TIMED_OUT
        return self.runs[command].stdout if command in self.runs else ""


def _ask_npu_smi(system: System, program: str, dcmi: LibraryAnswer) -> dict[str, CommandRun]:
    """The table, and what neither it nor DCMI tells."""
    questions = _Questions(system, program)
    questions.ask("info")
    info = questions.runs[f"{program} info"]
    if info.failure is not None:
        return questions.runs
    table = parse_table(info.stdout)
    if not table.rows and refusal_of(info) is not Refusal.OTHER:
        return questions.runs
    chips = parse_dcmi(dcmi).chips
    if not table.rows and not chips:
        listing = questions.ask("info", "-l")
        table = listed_table(questions.ask("info", "-m"), listing)
    merged, _ = merge(chips, table.rows)
    _ask_about_devices(questions, merged, table.layout)
    return questions.runs


def _ask_about_devices(questions: _Questions, merged: Sequence[MergedRow], layout: Layout | None) -> None:
    rows = [item.row for item in merged]
    told = {item.row.name for item in merged if item.chip is not None and item.chip.soc is not None}
    for row in first_of_each_name(rows):
        card_question, chip_question = board_questions(row)
        card = parse_section(questions.ask(*card_question))
        needs_chip = "Chip Name" not in card and row.name not in told
        chip = parse_section(questions.ask(*chip_question)) if needs_chip else {}
        name = soc_name(card, chip) or normal_name(row.name)
        if row.name not in told and family_of(name, is_dies_layout=layout is Layout.DIES) is None:
            questions.ask(*product_question(row))
    for row in rows:
        if row.npu_id is not None and row.total_bytes is None:
            questions.ask(*usage_question(row))
        if row.npu_id is not None and row.health.lower() not in {"ok", ""}:
            questions.ask(*health_question(row))
    if len(rows) > 1 and layout is not Layout.DDR:
        questions.ask(*TOPOLOGY)


def _toolkit_files(environ: Mapping[str, str], machine: str) -> tuple[str, ...]:
    named = (environ[name] for name in ("ASCEND_TOOLKIT_HOME", "ASCEND_HOME_PATH") if environ.get(name))
    roots = dict.fromkeys((*named, "/usr/local/Ascend/cann", "/usr/local/Ascend/ascend-toolkit/latest"))
    record, *versions = TOOLKIT_FILES
    return tuple(f"{root}/{name}" for root in roots for name in (f"{machine}-linux/{record}", *versions))
