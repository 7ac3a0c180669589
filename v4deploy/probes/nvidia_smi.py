"""Understands nvidia-smi, for machines where NVML cannot be loaded. Its output changes from driver to driver.

Drivers from 610 on print `KMD Version` and `CUDA UMD Version` where older ones print `Driver Version` and
`CUDA Version`. A field that a driver does not know fails the whole query, hence a full and a minimal set.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from v4deploy.domain.hardware import AddressingMode
from v4deploy.domain.units import MIB
from v4deploy.probes.nvidia_device import NOT_SUPPORTED, DriverFailure, NvidiaDevice, NvidiaReport
from v4deploy.probes.nvidia_xml import parse_xml, with_xml
from v4deploy.probes.pci import normal_address
from v4deploy.system.base import CommandRun, Failure

SOURCE = "nvidia-smi"
MINIMAL_FIELDS = ("index", "name", "pci.bus_id", "memory.total", "memory.free", "driver_version")
FULL_FIELDS = (
    *MINIMAL_FIELDS,
    "pci.device_id",
    "memory.reserved",
    "compute_cap",
    "mig.mode.current",
    "addressing_mode",
)
_QUERY = "--query-gpu="
_FORMAT = "--format=csv,noheader,nounits"
_CUDA = re.compile(r"\bCUDA(?: UMD)? Version\s*:\s*(\d+\.\d+)")
_DRIVER = re.compile(r"\b(?:Driver|KMD) Version\s*:\s*(\d+(?:\.\d+)+)")
_LOST = re.compile(r"Unable to determine the device handle for (?:gpu|GPU)\s*([0-9A-Fa-f:.]+?):? ")
# Where the exit status is not NVML's number, the text still tells.
_MESSAGES = (
    ("version mismatch", 18),
    ("Insufficient Permissions", 4),
    ("couldn't communicate with the NVIDIA driver", 9),
    ("Driver Not Loaded", 9),
    ("No devices were found", 6),
    ("Failed to initialize NVML: Unknown Error", 999),
)


def query_argv(program: str, fields: Iterable[str]) -> tuple[str, ...]:
    return (program, f"{_QUERY}{','.join(fields)}", _FORMAT)


def parse_smi(runs: Sequence[CommandRun]) -> NvidiaReport:
    """The devices from the best of the runs: the full query, else the minimal one, with what `-q -x` adds or, where no
    query answered, by itself; versions also from the banner.
    """
    queries = [run for run in runs if len(run.argv) > 1 and run.argv[1].startswith(_QUERY)]
    banner = "\n".join(run.stdout for run in runs if len(run.argv) == 1)
    report = NvidiaReport(source=SOURCE, failure=DriverFailure(code=None, message="was not run", source=SOURCE))
    for run in queries:
        fields = run.argv[1].partition("=")[2].split(",")
        answer = _parse_query(run, fields)
        # A refusal with a number says more than that the other query was not run or failed in another way.
        if answer.failure is None or report.failure is None or report.failure.code is None:
            report = answer
        if report.failure is None:
            break
    cuda, driver = _CUDA.search(banner), _DRIVER.search(banner)
    report = NvidiaReport(
        source=SOURCE,
        driver_version=report.driver_version or (driver[1] if driver else None),
        cuda_version=cuda[1] if cuda else None,
        devices=report.devices,
        failure=report.failure,
    )
    return with_xml(report, parse_xml(runs))


def _parse_query(run: CommandRun, fields: list[str]) -> NvidiaReport:
    rows = []
    lost = []
    for line in f"{run.stdout}\n{run.stderr}".splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        found = _LOST.search(f"{line} ")
        if found:
            lost.append((found[1], line.strip()))
        elif len(cells) == len(fields) and cells[0].isdecimal():
            rows.append(dict(zip(fields, cells, strict=True)))
    if not rows:
        return NvidiaReport(source=SOURCE, failure=_failure(run))
    numbers = {int(row["index"]) for row in rows}
    gaps = [number for number in range(len(rows) + len(lost)) if number not in numbers]
    missing = [
        NvidiaDevice(
            index=index,
            pci_address=normal_address(address),
            failure=DriverFailure(code=15, message=message, source=SOURCE),
        )
        for index, (address, message) in zip(gaps, lost, strict=False)
    ]
    devices = sorted([*(_device(row) for row in rows), *missing], key=lambda device: device.index)
    return NvidiaReport(source=SOURCE, driver_version=_known(rows[0], "driver_version"), devices=tuple(devices))


def _device(row: Mapping[str, str]) -> NvidiaDevice:
    total = _mebibytes(row, "memory.total")
    capability = re.fullmatch(r"(\d+)\.(\d+)", _known(row, "compute_cap") or "")
    mode = (_known(row, "addressing_mode") or "").lower()
    return NvidiaDevice(
        index=int(row["index"]),
        name=_known(row, "name"),
        pci_address=normal_address(_known(row, "pci.bus_id")),
        pci_id=_pci_id(_known(row, "pci.device_id")),
        total_bytes=total,
        reserved_bytes=_mebibytes(row, "memory.reserved"),
        free_bytes=_mebibytes(row, "memory.free"),
        memory_error=f"{SOURCE} memory.total: {row['memory.total']}" if total is None else None,
        compute_capability=(int(capability[1]), int(capability[2])) if capability else None,
        addressing_mode=AddressingMode(mode) if mode in list(AddressingMode) else None,
        mig_enabled=_known(row, "mig.mode.current") == "Enabled",
    )


def _known(row: Mapping[str, str], field: str) -> str | None:
    value = row.get(field, "")
    return None if value in NOT_SUPPORTED else value


def _mebibytes(row: Mapping[str, str], field: str) -> int | None:
    value = _known(row, field)
    return int(value) * MIB if value is not None and value.isdecimal() else None


def _pci_id(text: str | None) -> str | None:
    match = re.fullmatch(r"0x([0-9A-Fa-f]{4})([0-9A-Fa-f]{4})", text or "")
    return f"{match[2]}:{match[1]}".lower() if match else None


def _failure(run: CommandRun) -> DriverFailure:
    text = f"{run.stdout}\n{run.stderr}".strip()
    code = next((number for words, number in _MESSAGES if words in text), run.exit_status or None)
    if run.failure is not None:
        taken = f"{run.duration_seconds:.0f} s" if run.duration_seconds else "time"
        words = {Failure.TIMED_OUT: f"gave no answer in {taken}", Failure.NOT_FOUND: "is not installed"}
        return DriverFailure(code=None, message=words.get(run.failure, str(run.failure)), source=SOURCE)
    lost = _LOST.search(f"{text} ")
    message = " ".join(text.split()) or f"printed nothing and ended with status {run.exit_status}"
    return DriverFailure(code=15 if lost else code, message=message[:300], source=SOURCE)
