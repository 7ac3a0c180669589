"""System RAM as a pool: what is built in, what this process may take, what is free now, each with its source."""

from __future__ import annotations

import re

from v4deploy.domain.hardware import HOST_POOL_ID, Amount, Pool, PoolKind
from v4deploy.domain.units import KIB
from v4deploy.probes.cgroup import MemoryLimit

MEMINFO = "/proc/meminfo"
_MEMINFO_LINE = re.compile(r"^(\S+):\s+(\d+) kB\s*$", re.MULTILINE)
_VM_STAT_LINE = re.compile(r"^Pages ([a-z ]+):\s+(\d+)\.?\s*$", re.MULTILINE)
_VM_STAT_PAGE = re.compile(r"page size of (\d+) bytes")
# What macOS hands out without swapping: free pages, pages read ahead, and pages not used for a while.
_VM_STAT_AVAILABLE = ("free", "speculative", "inactive")


def parse_meminfo(text: str | None) -> dict[str, int]:
    """/proc/meminfo in bytes; lines that are cut off or carry no unit are left out."""
    return {name: int(value) * KIB for name, value in _MEMINFO_LINE.findall(text or "")}


def parse_vm_stat_available(text: str) -> int | None:
    """Bytes that macOS can hand out now; None where `vm_stat` printed something else."""
    page = _VM_STAT_PAGE.search(text)
    pages = dict(_VM_STAT_LINE.findall(text))
    if page is None or any(name not in pages for name in _VM_STAT_AVAILABLE):
        return None
    return int(page[1]) * sum(int(pages[name]) for name in _VM_STAT_AVAILABLE)


def host_pool(total: Amount, available: Amount, limits: tuple[MemoryLimit, ...]) -> Pool:
    """The pool of system RAM under the tightest limit of any control group.

    A limit above what is built in is none: "unlimited" is spelled as a huge number. Free is never more than the kernel
    says is available. With an unknown total no limit can be judged, so ceiling and free stay unknown as well.
    """
    binding = [limit for limit in limits if total.size_bytes is not None and limit.limit_bytes < total.size_bytes]
    ceiling = min(
        (Amount(size_bytes=limit.limit_bytes, source=limit.source) for limit in binding),
        key=lambda amount: amount.size_bytes or 0,
        default=Amount(size_bytes=total.size_bytes, source=total.source),
    )
    frees = [(limit.free_bytes, f"{limit.source} less what is used") for limit in binding]
    known = [(size, source) for size, source in (*frees, (available.size_bytes, available.source)) if size is not None]
    unknown = next((source for size, source in frees if size is None), None)
    if unknown or total.size_bytes is None or not known:
        free = Amount(size_bytes=None, source=unknown or available.source)
    else:
        size, source = min(known)
        free = Amount(size_bytes=size, source=source)
    return Pool(id=HOST_POOL_ID, kind=PoolKind.HOST, total=total, ceiling=ceiling, free=free)
