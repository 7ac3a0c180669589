"""What the kernel allows: `ulimit`, virtual memory settings, huge pages, swap, the CPU's frequency governor."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.surroundings import Limits, Overcommit, Unlimited
from v4deploy.domain.units import GIB, format_gib
from v4deploy.probes.memory import MEMINFO, parse_meminfo
from v4deploy.system.base import FileRead

SELF_LIMITS = "/proc/self/limits"
_MEMORY_MAPS = "/proc/sys/vm/max_map_count"
_OVERCOMMIT = "/proc/sys/vm/overcommit_memory"
_HUGE_PAGES = "/sys/kernel/mm/transparent_hugepage/enabled"
_FREQUENCY = "/sys/devices/system/cpu/cpu0/cpufreq"
_GOVERNOR, _FREQUENCY_DRIVER = f"{_FREQUENCY}/scaling_governor", f"{_FREQUENCY}/scaling_driver"
LIMIT_FILES = (SELF_LIMITS, _MEMORY_MAPS, _OVERCOMMIT, _HUGE_PAGES, _GOVERNOR, _FREQUENCY_DRIVER)

_OVERCOMMIT_MODES = {"0": Overcommit.HEURISTIC, "1": Overcommit.ALWAYS, "2": Overcommit.NEVER}
# DEFAULT_MAX_MAP_COUNT of include/linux/mm.h (read 2026-11-22): whoever set less did so on purpose or by mistake.
_DEFAULT_MEMORY_MAPS = 65530
# INR_OPEN_MAX of include/uapi/linux/fs.h (read 2026-11-22), the kernel's own hard limit; service managers set more.
_DEFAULT_OPEN_FILES = 4096
# With these drivers `powersave` still raises the frequency under load; with others it holds the lowest.
_DRIVERS_THAT_SCALE_IN_POWERSAVE = frozenset({"intel_pstate", "amd-pstate-epp"})


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitView:
    """The limits, and what decides how much they matter here."""

    limits: Limits
    container: str | None
    frequency_driver: str | None
    rdma: bool


def parse_limits(files: Mapping[str, FileRead]) -> Limits:
    """Everything that could be read; each field on its own, so that one missing file hides nothing else."""
    table = _text(files, SELF_LIMITS)
    meminfo = parse_meminfo(_text(files, MEMINFO))
    memory_maps = _text(files, _MEMORY_MAPS).strip()
    chosen = re.search(r"\[(\w+)\]", _text(files, _HUGE_PAGES))
    return Limits(
        locked_memory_bytes=_resource(table, "Max locked memory"),
        open_files=_resource(table, "Max open files"),
        open_files_most=_resource(table, "Max open files", hard=True),
        address_space_bytes=_resource(table, "Max address space"),
        file_size_bytes=_resource(table, "Max file size"),
        memory_maps=int(memory_maps) if memory_maps.isdecimal() else None,
        overcommit=_OVERCOMMIT_MODES.get(_text(files, _OVERCOMMIT).strip()),
        huge_pages_bytes=meminfo.get("Hugetlb"),
        transparent_huge_pages=chosen[1] if chosen else None,
        swap_total_bytes=meminfo.get("SwapTotal"),
        swap_free_bytes=meminfo.get("SwapFree"),
        cpu_governor=_text(files, _GOVERNOR).strip() or None,
    )


def limit_findings(files: Mapping[str, FileRead], *, container: str | None, rdma: bool) -> tuple[Finding, ...]:
    """What of the limits stands in the way. `rdma`: whether there is an RDMA port that works."""
    view = LimitView(
        limits=parse_limits(files),
        container=container,
        frequency_driver=_text(files, _FREQUENCY_DRIVER).strip() or None,
        rdma=rdma,
    )
    return tuple(finding for check in _CHECKS for finding in check(view))


def _resource(table: str, name: str, *, hard: bool = False) -> int | Unlimited | None:
    """A row of /proc/self/limits; None where it is missing or cut off."""
    match = re.search(rf"^{name}\s+(\d+|unlimited)\s+(\d+|unlimited)\s", table, re.MULTILINE)
    if match is None:
        return None
    value = match[2 if hard else 1]
    return Unlimited.UNLIMITED if value == "unlimited" else int(value)


def _text(files: Mapping[str, FileRead], path: str) -> str:
    read = files.get(path)
    return (read.text or "") if read else ""


def _locked_memory(view: LimitView) -> Iterator[Finding]:
    size_bytes = view.limits.locked_memory_bytes
    if isinstance(size_bytes, int):
        yield Finding(
            id="host.memlock-limited",
            severity=Severity.WARN if view.rdma else Severity.INFO,
            summary=f"at most {format_gib(size_bytes)} of memory can be locked",
            evidence=(Evidence(source=f"{SELF_LIMITS} Max locked memory", value=str(size_bytes)),),
            why="locking weights in RAM and registering memory for RDMA fail beyond it",
            fix="`ulimit -l unlimited`, LimitMEMLOCK=infinity in a unit, or `--ulimit memlock=-1` for a container",
        )


def _address_space(view: LimitView) -> Iterator[Finding]:
    size_bytes = view.limits.address_space_bytes
    if isinstance(size_bytes, int):
        yield Finding(
            id="host.address-space-limited",
            severity=Severity.WARN,
            summary=f"a process may have {format_gib(size_bytes)} of address space",
            evidence=(Evidence(source=f"{SELF_LIMITS} Max address space", value=str(size_bytes)),),
            why="weights are mapped into it as a whole, and device drivers reserve many times their memory there",
            fix="`ulimit -v unlimited`, or LimitAS=infinity in a unit",
        )


def _file_size(view: LimitView) -> Iterator[Finding]:
    size_bytes = view.limits.file_size_bytes
    if isinstance(size_bytes, int):
        yield Finding(
            id="storage.file-size-limited",
            severity=Severity.WARN,
            summary=f"no file may grow beyond {format_gib(size_bytes)}",
            evidence=(Evidence(source=f"{SELF_LIMITS} Max file size", value=str(size_bytes)),),
            why="shards of V4 have up to tens of gigabytes, and a download that reaches the limit is killed",
            fix="`ulimit -f unlimited`, or LimitFSIZE=infinity in a unit",
        )


def _open_files(view: LimitView) -> Iterator[Finding]:
    most = view.limits.open_files_most
    if isinstance(most, int) and most < _DEFAULT_OPEN_FILES:
        yield Finding(
            id="host.open-files-limited",
            severity=Severity.INFO,
            summary=f"a process may have only {most} open files",
            evidence=(Evidence(source=f"{SELF_LIMITS} Max open files, hard limit", value=str(most)),),
            why="a server needs one for each connection, beside those for shards and devices",
            fix="LimitNOFILE=65535 in a unit, `--ulimit nofile=65535` for a container, or limits.conf",
        )


def _virtual_memory(view: LimitView) -> Iterator[Finding]:
    maps = view.limits.memory_maps
    if maps is not None and maps < _DEFAULT_MEMORY_MAPS:
        yield Finding(
            id="host.memory-maps-limited",
            severity=Severity.INFO,
            summary=f"a process may have {maps} memory mappings, less than the kernel's default",
            evidence=(Evidence(source=_MEMORY_MAPS, value=str(maps)),),
            why="beyond it an engine ends with an error about memory although memory is free",
            fix=f"`sysctl -w vm.max_map_count={_DEFAULT_MEMORY_MAPS}` or more",
        )
    if view.limits.overcommit is Overcommit.NEVER:
        yield Finding(
            id="host.overcommit-never",
            severity=Severity.WARN,
            summary="the kernel promises no more memory than there is",
            evidence=(Evidence(source=_OVERCOMMIT, value="2"),),
            why="engines and device drivers reserve far more than they use, which fails under this setting",
            fix="`sysctl -w vm.overcommit_memory=0`",
        )


def _reserved_memory(view: LimitView) -> Iterator[Finding]:
    reserved = view.limits.huge_pages_bytes
    if reserved is not None and reserved >= GIB:
        yield Finding(
            id="host.huge-pages-reserved",
            severity=Severity.INFO,
            summary=f"{format_gib(reserved)} of RAM are set aside for huge pages",
            evidence=(Evidence(source=f"{MEMINFO} Hugetlb", value=str(reserved)),),
            why="engines cannot load weights there",
            fix="`sysctl -w vm.nr_hugepages=0`, if nothing else on this machine needs them",
        )
    # In a container this is the host's swap, which the container may not use.
    if view.limits.swap_total_bytes == 0 and view.container is None:
        yield Finding(
            id="host.swap-none",
            severity=Severity.INFO,
            summary="there is no swap",
            evidence=(Evidence(source=f"{MEMINFO} SwapTotal", value="0"),),
            why="when memory runs out while weights load, the kernel kills a process at once",
        )


def _governor(view: LimitView) -> Iterator[Finding]:
    driver = view.frequency_driver
    if view.limits.cpu_governor == "powersave" and driver and driver not in _DRIVERS_THAT_SCALE_IN_POWERSAVE:
        yield Finding(
            id="host.cpu.powersave",
            severity=Severity.INFO,
            summary="the processor is held at its lowest frequency",
            evidence=(Evidence(source=_GOVERNOR, value=f"powersave, by the driver {driver}"),),
            why="experts in host RAM are computed by the processor",
            fix="`cpupower frequency-set -g performance`",
        )


_CHECKS: tuple[Callable[[LimitView], Iterator[Finding]], ...] = (
    _locked_memory,
    _address_space,
    _file_size,
    _open_files,
    _virtual_memory,
    _reserved_memory,
    _governor,
)
