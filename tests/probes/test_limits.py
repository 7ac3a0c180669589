"""Limits of the kernel: each read on its own, each told only where it binds."""

from __future__ import annotations

import pytest

from v4deploy.domain.finding import Severity
from v4deploy.domain.surroundings import Limits, Overcommit, Unlimited
from v4deploy.probes.limits import limit_findings, parse_limits
from v4deploy.system.base import Failure, FileRead

SELF = "/proc/self/limits"
HEAD = "Limit                     Soft Limit           Hard Limit           Units     \n"
FREQUENCY = "/sys/devices/system/cpu/cpu0/cpufreq"


def reads(texts: dict[str, str]) -> dict[str, FileRead]:
    return {path: FileRead(path=path, text=text) for path, text in texts.items()}


def row(name: str, soft: str, hard: str = "unlimited") -> str:
    return f"{HEAD}{name:<26}{soft:<21}{hard:<21}bytes     \n"


def ids(texts: dict[str, str], *, container: str | None = None, rdma: bool = False) -> list[str]:
    return [finding.id for finding in limit_findings(reads(texts), container=container, rdma=rdma)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (row("Max locked memory", "8388608"), 8388608),
        (row("Max locked memory", "0"), 0),
        (row("Max locked memory", "unlimited"), Unlimited.UNLIMITED),
        (row("Max locked memory", "8388608")[:95], None),
        (row("Max locked memory", "-1"), None),
        (HEAD, None),
        ("", None),
        ("\x00garbage\n", None),
    ],
)
def test_a_row_of_the_limits(text: str, value: int | Unlimited | None) -> None:
    assert parse_limits(reads({SELF: text})).locked_memory_bytes == value


def test_soft_and_hard_limits_are_told_apart() -> None:
    limits = parse_limits(reads({SELF: row("Max open files", "1024", "524288")}))
    assert (limits.open_files, limits.open_files_most) == (1024, 524288)


@pytest.mark.parametrize("failure", [Failure.NOT_FOUND, Failure.NO_PERMISSION, Failure.UNREADABLE, Failure.TIMED_OUT])
def test_what_cannot_be_read_is_unknown_and_no_finding(failure: Failure) -> None:
    paths = (SELF, "/proc/meminfo", "/proc/sys/vm/overcommit_memory", f"{FREQUENCY}/scaling_governor")
    files = {path: FileRead(path=path, text=None, failure=failure) for path in paths}
    assert parse_limits(files) == Limits()
    assert limit_findings(files, container=None, rdma=True) == ()


@pytest.mark.parametrize(
    ("text", "mode"),
    [("0\n", Overcommit.HEURISTIC), ("1\n", Overcommit.ALWAYS), ("2\n", Overcommit.NEVER), ("3\n", None), ("", None)],
)
def test_overcommit(text: str, mode: Overcommit | None) -> None:
    assert parse_limits(reads({"/proc/sys/vm/overcommit_memory": text})).overcommit is mode
    found = ids({"/proc/sys/vm/overcommit_memory": text})
    assert found == (["host.overcommit-never"] if mode is Overcommit.NEVER else [])


@pytest.mark.parametrize(("text", "mode"), [("always [madvise] never\n", "madvise"), ("always madvise", None)])
def test_transparent_huge_pages(text: str, mode: str | None) -> None:
    assert parse_limits(reads({"/sys/kernel/mm/transparent_hugepage/enabled": text})).transparent_huge_pages == mode


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ({SELF: row("Max locked memory", "unlimited")}, []),
        ({SELF: row("Max locked memory", "65536")}, ["host.memlock-limited"]),
        ({SELF: row("Max address space", "1000000")}, ["host.address-space-limited"]),
        ({SELF: row("Max file size", "4294967296")}, ["storage.file-size-limited"]),
        # A soft limit that a program may raise by itself is none.
        ({SELF: row("Max open files", "1024", "524288")}, []),
        ({SELF: row("Max open files", "1024", "1024")}, ["host.open-files-limited"]),
        ({"/proc/sys/vm/max_map_count": "65530\n"}, []),
        ({"/proc/sys/vm/max_map_count": "65529\n"}, ["host.memory-maps-limited"]),
        ({"/proc/sys/vm/max_map_count": "many\n"}, []),
        ({"/proc/meminfo": "Hugetlb: 1048575 kB\n"}, []),
        ({"/proc/meminfo": "Hugetlb: 1048576 kB\n"}, ["host.huge-pages-reserved"]),
        ({"/proc/meminfo": "SwapTotal: 0 kB\n"}, ["host.swap-none"]),
        ({"/proc/meminfo": "SwapTotal: 4 kB\n"}, []),
    ],
)
def test_a_limit_is_told_where_it_binds(texts: dict[str, str], expected: list[str]) -> None:
    assert ids(texts) == expected


def test_swap_of_the_machine_says_nothing_in_a_container() -> None:
    assert ids({"/proc/meminfo": "SwapTotal: 0 kB\n"}, container="docker") == []


def test_locked_memory_matters_more_beside_rdma() -> None:
    files = reads({SELF: row("Max locked memory", "65536")})
    severities = [limit_findings(files, container=None, rdma=rdma)[0].severity for rdma in (False, True)]
    assert severities == [Severity.INFO, Severity.WARN]


@pytest.mark.parametrize(
    ("governor", "driver", "told"),
    [
        ("powersave\n", "acpi-cpufreq\n", True),
        ("powersave\n", "intel_pstate\n", False),
        ("powersave\n", "amd-pstate-epp\n", False),
        ("performance\n", "acpi-cpufreq\n", False),
        ("powersave\n", "", False),
    ],
)
def test_powersave_holds_only_some_drivers_down(governor: str, driver: str, told: bool) -> None:  # noqa: FBT001
    texts = {f"{FREQUENCY}/scaling_governor": governor, f"{FREQUENCY}/scaling_driver": driver}
    assert ids(texts) == (["host.cpu.powersave"] if told else [])
