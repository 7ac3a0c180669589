"""Apple silicon: system_profiler, sysctl, and what Metal recommends, asked directly or through llama.cpp."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.hardware import HOST_POOL_ID, Amount, ComputeApi, Device, Pool, PoolKind, ProbeOutcome, Vendor
from v4deploy.domain.units import MIB
from v4deploy.probes.answers import value_of
from v4deploy.probes.base import Capture
from v4deploy.probes.cpu import parse_sysctl, sysctl_number
from v4deploy.system.base import CommandRun, Failure, LibraryAnswer, System

VENDOR = Vendor.APPLE

# `mini` leaves serial numbers out (Dr-Noob/cpufetch#183).
PROFILER = ("system_profiler", "-json", "SPHardwareDataType", "SPDisplaysDataType", "-detailLevel", "mini")
SYSCTL = ("sysctl", "hw.memsize", "machdep.cpu.brand_string", "iogpu.wired_limit_mb")
LIST_DEVICES = ("llama-server", "--list-devices")
_TIMEOUT_SECONDS = 8.0
_COMPATIBLE = "/proc/device-tree/compatible"
_CHIP = re.compile(r"Apple M(\d+)\b")
# `  MTL0: Apple M3 Ultra (228065 MiB, 228064 MiB free)`, on either stream.
_METAL_DEVICE = re.compile(r"^\s*(?:MTL|Metal)\d*: .*\((\d+) MiB, \d+ MiB free\)", re.MULTILINE)
_WIRED_LIMIT = "iogpu.wired_limit_mb"


def collect(system: System) -> Capture:
    """On macOS ask Metal, and llama-server where Metal does not answer; on Linux only look which board this is."""
    kind = system.facts().system
    if kind == "Darwin":
        metal = system.library("metal", timeout_seconds=_TIMEOUT_SECONDS)
        asks_llama = _recommended_bytes(metal) is None and system.which(LIST_DEVICES[0]) is not None
        argvs = [PROFILER, SYSCTL, *([LIST_DEVICES] if asks_llama else [])]
        runs = [system.run(argv, timeout_seconds=_TIMEOUT_SECONDS) for argv in argvs]
        return Capture(commands={" ".join(run.argv): run for run in runs}, libraries={"metal": metal})
    if kind == "Linux":
        return Capture(files={_COMPATIBLE: system.read_text(_COMPATIBLE)})
    return Capture()


def parse(capture: Capture) -> ProbeOutcome:
    """One device on the host's memory; on macOS without Apple silicon, and on Linux, a finding instead."""
    if not capture.commands:
        return ProbeOutcome(findings=tuple(_linux_findings(capture)))
    profile = _profile(_run(capture, PROFILER))
    sysctl = parse_sysctl(_run(capture, SYSCTL).stdout)
    name = _text(_first(profile, "SPHardwareDataType").get("chip_type")) or sysctl.get("machdep.cpu.brand_string")
    chip = _CHIP.match(name or "")
    if name is None or chip is None:
        return ProbeOutcome(findings=(_no_chip(name, capture), *_hang_findings(capture)))
    memory = sysctl_number(sysctl, "hw.memsize") or capture.host_memory_bytes
    ceiling = _ceiling(capture, sysctl)
    device = Device(
        index=0,
        vendor=VENDOR,
        compute_api=ComputeApi.METAL,
        name=name,
        arch=f"apple-m{chip[1]}",
        pool_id=HOST_POOL_ID,
        gpu_cores=_gpu_cores(profile),
    )
    pool = Pool(
        id=HOST_POOL_ID,
        kind=PoolKind.UNIFIED,
        total=Amount(size_bytes=memory, source="sysctl hw.memsize"),
        ceiling=ceiling,
        free=Amount(size_bytes=capture.host_free_bytes, source="vm_stat"),
    )
    return ProbeOutcome(
        devices=(device,), pools=(pool,), findings=(*_findings(capture, device), *_hang_findings(capture))
    )


def _ceiling(capture: Capture, sysctl: Mapping[str, str]) -> Amount:
    """What Metal recommends at most. It follows the wired limit in both directions, so Metal's own word comes first.

    Unknown where neither tells: the default depends on the memory size and on the version of macOS.
    """
    recommended = _recommended_bytes(capture.libraries.get("metal"))
    if recommended is not None:
        return Amount(size_bytes=recommended, source="Metal's recommended working set")
    listing = _run(capture, LIST_DEVICES)
    told = _METAL_DEVICE.search(f"{listing.stdout}\n{listing.stderr}")
    if told is not None:
        return Amount(size_bytes=int(told[1]) * MIB, source="Metal, by llama-server --list-devices")
    limit = sysctl_number(sysctl, _WIRED_LIMIT)
    if limit:
        return Amount(size_bytes=limit * MIB, source=f"sysctl {_WIRED_LIMIT}")
    state = "is 0, which means the default" if limit == 0 else "was not told"
    return Amount(size_bytes=None, source=f"sysctl {_WIRED_LIMIT} {state}, and Metal did not answer")


def _recommended_bytes(metal: LibraryAnswer | None) -> int | None:
    """None where Metal was not asked or gave nothing; 0 is no answer either."""
    data = metal.data if metal is not None else None
    return value_of(data or {}, "recommended_bytes", int) or None


def _findings(capture: Capture, device: Device) -> Iterator[Finding]:
    profiler = _run(capture, PROFILER)
    if device.gpu_cores is None:
        yield Finding(
            id="gpu.apple.cores-unknown",
            severity=Severity.INFO,
            summary=f"how many GPU cores this {device.name} has could not be read",
            evidence=(Evidence(source=" ".join(PROFILER), error=_failure_words(profiler)),),
            why="binned chips of the same name have a lower memory bandwidth, so speed estimates may be missing",
        )


def _hang_findings(capture: Capture) -> Iterator[Finding]:
    metal = capture.libraries.get("metal")
    hung = [" ".join(run.argv) for run in capture.commands.values() if run.failure is Failure.TIMED_OUT]
    if metal is not None and (metal.error or "").startswith("gave no answer"):
        hung.insert(0, "Metal")
    for name in hung:
        yield Finding(
            id="gpu.apple.tool-hangs",
            severity=Severity.WARN,
            summary=f"{name} gives no answer",
            evidence=(Evidence(source=name, error=f"ended after {_TIMEOUT_SECONDS:g} s without an answer"),),
            why="what it would have told is unknown; engines that ask the GPU may hang as well",
            fix="run it yourself, and restart the Mac if it hangs there too",
        )


def _no_chip(name: str | None, capture: Capture) -> Finding:
    if name is None:
        return Finding(
            id="gpu.apple.unreadable",
            severity=Severity.WARN,
            summary="which chip this Mac has could not be read",
            evidence=tuple(
                Evidence(source=" ".join(argv), error=_failure_words(_run(capture, argv)))
                for argv in (PROFILER, SYSCTL)
            ),
            why="without it the GPU is not in the plan",
            fix='plan with `--hardware`, naming chip and memory, for example `--hardware "m3-ultra 256GB"`',
        )
    return Finding(
        id="gpu.apple.no-apple-silicon",
        severity=Severity.WARN,
        summary="this Mac has no Apple silicon, and no engine runs V4 on its GPU",
        evidence=(Evidence(source="machdep.cpu.brand_string", value=name),),
    )


def _linux_findings(capture: Capture) -> Iterator[Finding]:
    read = capture.files.get(_COMPATIBLE)
    names = ((read.text or "") if read else "").split("\0")
    board = next((name for name in names if name.startswith("apple,")), None)
    if board is not None:
        yield Finding(
            id="gpu.apple.no-metal-on-linux",
            severity=Severity.WARN,
            summary="this is a Mac under Linux, where its GPU has no Metal",
            evidence=(Evidence(source=_COMPATIBLE, value=board),),
            why="no engine that v4deploy drives uses the GPU there; V4 would run on the CPU alone",
            fix="start macOS on this machine",
        )


def _profile(run: CommandRun) -> Mapping[str, Any]:
    try:
        data = json.loads(run.stdout)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def _first(profile: Mapping[str, Any], section: str) -> Mapping[str, Any]:
    entries = profile.get(section)
    found = entries[0] if isinstance(entries, list) and entries else None
    return found if isinstance(found, dict) else {}


def _gpu_cores(profile: Mapping[str, Any]) -> int | None:
    """Cores of Apple's GPU; a display section may also list others."""
    entries = profile.get("SPDisplaysDataType")
    for entry in entries if isinstance(entries, list) else ():
        cores = str(entry.get("sppci_cores", "")) if isinstance(entry, dict) else ""
        if cores.isdecimal() and int(cores) > 0:
            return int(cores)
    return None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _run(capture: Capture, argv: tuple[str, ...]) -> CommandRun:
    return capture.commands.get(" ".join(argv), CommandRun(argv=argv, exit_status=None))


def _failure_words(run: CommandRun) -> str:
    if run.failure is not None:
        return str(run.failure)
    words = " ".join(f"{run.stderr} {run.stdout}".split())[:120]
    return words or f"status {run.exit_status}, no output"
