"""Reads what the kernel says about the processor. Flags, not names, decide: virtual machines carry made-up names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from v4deploy.domain.hardware import CoreKind

CPUINFO = "/proc/cpuinfo"
_LEVEL_NAME = re.compile(r"hw\.perflevel(\d{1,2})\.name")
_TOPOLOGY = "/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list"


def parse_cpu_blocks(text: str | None) -> tuple[dict[str, str], ...]:
    """/proc/cpuinfo as one mapping for each logical CPU."""
    blocks = []
    for part in re.split(r"\n\s*\n", text or ""):
        pairs = [line.partition(":") for line in part.splitlines()]
        block = {key.strip(): value.strip() for key, colon, value in pairs if colon}
        if "processor" in block:
            blocks.append(block)
    return tuple(blocks)


def cpu_model(blocks: tuple[dict[str, str], ...]) -> str | None:
    """The name; None on most ARM machines, whose cpuinfo has none."""
    return blocks[0].get("model name") if blocks else None


def cpu_features(blocks: tuple[dict[str, str], ...]) -> tuple[str, ...]:
    """Flags that all CPUs have, sorted: a program may be moved to any of them."""
    flags = [set(block.get("flags", block.get("Features", "")).split()) for block in blocks]
    return tuple(sorted(set.intersection(*flags))) if flags else ()


def topology_files(blocks: tuple[dict[str, str], ...]) -> tuple[str, ...]:
    """The files that tell cores from threads where cpuinfo does not (ARM)."""
    if any("core id" in block for block in blocks):
        return ()
    return tuple(_TOPOLOGY.format(number=block["processor"]) for block in blocks)


def physical_cores(blocks: tuple[dict[str, str], ...], siblings: Mapping[str, str | None]) -> int | None:
    """Cores, not threads. `siblings` holds the topology files' texts; None where neither source tells."""
    cores = {(block.get("physical id", "0"), block["core id"]) for block in blocks if "core id" in block}
    if cores:
        return len(cores)
    lists = {text.strip() for text in siblings.values() if text and text.strip()}
    return len(lists) or None


def parse_sysctl(text: str) -> dict[str, str]:
    """Output of macOS' `sysctl`: `hw.memsize: 137438953472`. A line that was cut off is none: half a number is one."""
    pairs = [line.partition(":") for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return {key.strip(): value.strip() for key, colon, value in pairs if colon}


def sysctl_number(values: Mapping[str, str], key: str) -> int | None:
    """A number from `parse_sysctl`; None where the key is missing or holds something else."""
    value = values.get(key, "")
    return int(value) if value.isdecimal() else None


def sysctl_features(values: Mapping[str, str]) -> tuple[str, ...]:
    """Names below `hw.optional` that are switched on, sorted."""
    prefix = "hw.optional."
    return tuple(sorted(key[len(prefix) :] for key, value in values.items() if key.startswith(prefix) and value == "1"))


def sysctl_core_kinds(values: Mapping[str, str]) -> tuple[CoreKind, ...]:
    """MacOS' performance levels, the fastest first; empty where there is one only, or one of them cannot be read.

    system_profiler's `proc 18:6:0:12` has another number of fields since M5 (vladkens/macmon#49), so it is not read.
    """
    numbers = sorted(int(match[1]) for key in values if (match := _LEVEL_NAME.fullmatch(key)))
    kinds = [
        CoreKind(name=values[f"hw.perflevel{number}.name"], physical_cores=cores)
        for number in numbers
        if (cores := sysctl_number(values, f"hw.perflevel{number}.physicalcpu"))
    ]
    return tuple(kinds) if len(kinds) == sysctl_number(values, "hw.nperflevels") and len(kinds) > 1 else ()
