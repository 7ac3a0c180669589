from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from v4deploy.domain.hardware import Amount
from v4deploy.domain.units import GIB, KIB
from v4deploy.probes.cgroup import MemoryLimit, cpu_limit, groups_of, memory_limits
from v4deploy.probes.memory import host_pool, parse_meminfo, parse_vm_stat_available
from v4deploy.probes.mounts import mount_of, parse_mountinfo
from v4deploy.system.base import Failure, FileRead

V2 = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"


def files(**texts: str) -> dict[str, FileRead]:
    return {path: FileRead(path=path, text=text) for path, text in texts.items()}


def paths(cgroup: str, mountinfo: str) -> list[tuple[str, str]]:
    return [(group.path, group.controller) for group in groups_of(cgroup, parse_mountinfo(mountinfo))]


def test_every_ancestor_of_a_version_2_group_is_read() -> None:
    assert paths("0::/a.slice/b.service\n", V2) == [
        ("/sys/fs/cgroup/a.slice/b.service", ""),
        ("/sys/fs/cgroup/a.slice", ""),
        ("/sys/fs/cgroup", ""),
    ]


def test_version_1_groups_are_found_below_their_own_mounts() -> None:
    mountinfo = (
        "31 30 0:27 / /cg/mem rw - cgroup cgroup rw,memory\n32 30 0:28 / /cg/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
    )
    assert paths("4:memory:/job\n2:cpu,cpuacct:/\n1:name=systemd:/x\n0::/\n", mountinfo) == [
        ("/cg/mem/job", "memory"),
        ("/cg/mem", "memory"),
        ("/cg/cpu", "cpu"),
        ("/sys/fs/cgroup", ""),
    ]


def test_the_part_of_the_path_that_is_the_mounts_root_is_taken_off() -> None:
    mountinfo = "31 30 0:27 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
    assert paths("4:memory:/docker/abc/job\n", mountinfo)[0] == ("/sys/fs/cgroup/memory/job", "memory")
    assert paths("4:memory:/docker/other\n", mountinfo) == [("/sys/fs/cgroup/memory", "memory")]


def test_a_path_out_of_the_namespace_stays_at_the_mount_point() -> None:
    assert paths("0::/../../kubepods/x\n", V2) == [("/sys/fs/cgroup", "")]


def test_without_mountinfo_the_usual_places_are_read() -> None:
    assert paths("4:memory:/\n0::/\n", "") == [("/sys/fs/cgroup/memory", "memory"), ("/sys/fs/cgroup", "")]


@pytest.mark.parametrize("text", ["", "\n", "garbage", "0:", "0::", "::::", "x:memory:relative"])
def test_a_broken_cgroup_file_names_no_groups(text: str) -> None:
    assert groups_of(text, ()) == ()
    assert groups_of(None, ()) == ()


def limits_of(**texts: str) -> tuple[MemoryLimit, ...]:
    return memory_limits(groups_of("0::/\n", ()), files(**{f"/sys/fs/cgroup/{k}": v for k, v in texts.items()}))


def test_page_cache_that_is_given_back_counts_as_free() -> None:
    limits = limits_of(
        **{"memory.max": "1000\n", "memory.current": "900\n", "memory.stat": "anon 100\ninactive_file 600\n"}
    )
    assert [(limit.limit_bytes, limit.free_bytes) for limit in limits] == [(1000, 700)]


def test_the_soft_limit_is_a_limit() -> None:
    limits = limits_of(**{"memory.max": "1000", "memory.high": "800", "memory.current": "900"})
    assert [(limit.limit_bytes, limit.free_bytes) for limit in limits] == [(1000, 100), (800, 0)]


@pytest.mark.parametrize("text", ["max\n", "-1\n", "", "garbage", "12 34"])
def test_no_limit_is_spelled_in_several_ways(text: str) -> None:
    assert limits_of(**{"memory.max": text, "memory.current": "5"}) == ()


def test_a_limit_whose_use_cannot_be_read_leaves_free_unknown() -> None:
    limits = limits_of(**{"memory.max": "1000"})
    pool = host_pool(Amount(size_bytes=4000, source="total"), Amount(size_bytes=3000, source="free"), limits)
    assert (pool.ceiling.size_bytes, pool.free.size_bytes) == (1000, None)


@pytest.mark.parametrize("unlimited", [9223372036854771712, 9223372036854710272, 2**64 - 4096])
def test_a_limit_above_what_is_built_in_is_none(unlimited: int) -> None:
    limit = MemoryLimit(source="x", limit_bytes=unlimited, free_bytes=unlimited)
    pool = host_pool(Amount(size_bytes=4000, source="total"), Amount(size_bytes=3000, source="free"), (limit,))
    assert (pool.ceiling.size_bytes, pool.free.size_bytes) == (4000, 3000)


def test_an_unknown_total_makes_nothing_known() -> None:
    limit = MemoryLimit(source="x", limit_bytes=1000, free_bytes=1000)
    pool = host_pool(Amount(size_bytes=None, source="total"), Amount(size_bytes=500, source="free"), (limit,))
    assert (pool.total.size_bytes, pool.ceiling.size_bytes, pool.free.size_bytes) == (None, None, None)


@given(
    total=st.integers(1, 2**45),
    available=st.integers(0, 2**45),
    limits=st.lists(st.tuples(st.integers(0, 2**63), st.integers(0, 2**63)), max_size=5),
)
def test_the_pool_is_the_least_of_all_limits(total: int, available: int, limits: list[tuple[int, int]]) -> None:
    given_limits = tuple(
        MemoryLimit(source=str(number), limit_bytes=limit, free_bytes=max(0, limit - used))
        for number, (limit, used) in enumerate(limits)
    )
    pool = host_pool(Amount(size_bytes=total, source="t"), Amount(size_bytes=available, source="a"), given_limits)
    assert pool.ceiling.size_bytes == min([total, *(limit.limit_bytes for limit in given_limits)])
    assert pool.free.size_bytes is not None
    assert pool.free.size_bytes <= available
    assert all(pool.free.size_bytes <= (one.free_bytes or 0) for one in given_limits if one.limit_bytes < total)


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("200000 100000\n", 2.0),
        ("150000 100000", 1.5),
        ("max 100000", None),
        ("200000", None),
        ("x y", None),
        ("", None),
    ],
)
def test_cpu_quota(text: str, cpus: float | None) -> None:
    assert cpu_limit(groups_of("0::/\n", ()), files(**{"/sys/fs/cgroup/cpu.max": text})) == cpus


def test_cpu_quota_of_version_1() -> None:
    groups = groups_of("2:cpu,cpuacct:/a\n", ())
    texts = files(
        **{
            "/sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "-1",
            "/sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000",
            "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000",
            "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
        }
    )
    assert cpu_limit(groups, texts) == 3.0
    denied = {path: FileRead(path=path, text=None, failure=Failure.NO_PERMISSION) for path in texts}
    assert cpu_limit(groups, denied) is None


def test_meminfo_without_unit_or_cut_off_is_left_out() -> None:
    text = "MemTotal:       24683656 kB\nHugePages_Total:       4\nMemAvailable:   243458"
    assert parse_meminfo(text) == {"MemTotal": 24683656 * KIB}
    assert parse_meminfo("") == parse_meminfo(None) == {}


def test_vm_stat() -> None:
    text = "Mach Virtual Memory Statistics: (page size of 16384 bytes)\nPages free: 10.\nPages inactive: 20.\n"
    assert parse_vm_stat_available(text) is None
    assert parse_vm_stat_available(text + "Pages speculative: 5.\n") == 35 * 16384
    assert parse_vm_stat_available("") is None


def test_the_file_system_of_a_path_is_the_longest_mount_in_front_of_it() -> None:
    mounts = parse_mountinfo(
        "1 0 8:1 / / rw - ext4 /dev/sda rw\n2 1 8:2 / /data rw shared:1 master:2 - xfs /dev/sdb rw\n"
        "3 1 0:5 / /mnt/with\\040blank rw - 9p C:\\134 rw\n4 2 0:6 / /data rw - nfs4 host:/x rw\nbroken line\n"
    )
    assert [
        (mount.mount_point, mount.filesystem)
        for path in ("/", "/database", "/data/x", "/mnt/with blank/y")
        if (mount := mount_of(path, mounts))
    ] == [("/", "ext4"), ("/", "ext4"), ("/data", "nfs4"), ("/mnt/with blank", "9p")]
    assert mount_of("/x", ()) is None
    assert parse_mountinfo(None) == ()


def test_sizes_are_those_of_a_pod_on_a_big_host() -> None:
    limits = limits_of(
        **{
            "memory.max": str(90 * GIB),
            "memory.current": str(89 * GIB),
            "memory.stat": f"inactive_file {80 * GIB}\n",
        }
    )
    pool = host_pool(Amount(size_bytes=1007 * GIB, source="t"), Amount(size_bytes=900 * GIB, source="a"), limits)
    assert (pool.ceiling.size_bytes, pool.free.size_bytes) == (90 * GIB, 81 * GIB)
    assert pool.ceiling.source == "/sys/fs/cgroup/memory.max"
