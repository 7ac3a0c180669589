"""Macs: system_profiler, sysctl, llama-server, and the catalogue's ceilings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from v4deploy.catalogue.wire_hardware import hardware_of
from v4deploy.catalogue.yaml_source import read_yaml
from v4deploy.domain.chip import Chip, MemoryCeiling
from v4deploy.domain.chips import apply_chip_ceiling, match_chip
from v4deploy.domain.hardware import HOST_POOL_ID, Amount, ComputeApi, Pool, PoolKind, ProbeOutcome, Vendor
from v4deploy.domain.source import Source
from v4deploy.probes import apple
from v4deploy.probes.base import Capture
from v4deploy.system.base import CommandRun, Failure, FileRead, LibraryAnswer
from v4deploy.system.recorded import RecordedSystem

GIB = 1024**3
MIB = 1024**2
ROOT = Path(__file__).parents[2]
RECORDINGS = ROOT / "tests" / "recordings"
SYSCTL = "hw.memsize: 137438953472\nmachdep.cpu.brand_string: Apple M3 Max\niogpu.wired_limit_mb: 0\n"


def profile(chip: str = "Apple M3 Max", cores: Any = "40") -> str:
    return json.dumps(
        {
            "SPHardwareDataType": [{"chip_type": chip, "number_processors": "proc 16:12:4"}],
            "SPDisplaysDataType": [{"_name": chip, "sppci_cores": cores}],
        }
    )


def parsed(
    profiler: str = "", sysctl: str = "", listing: str | None = None, listing_on_stderr: str = ""
) -> ProbeOutcome:
    runs = [
        CommandRun(argv=apple.PROFILER, exit_status=0, stdout=profiler),
        CommandRun(argv=apple.SYSCTL, exit_status=0, stdout=sysctl),
    ]
    if listing is not None:
        runs.append(
            CommandRun(argv=apple.LIST_DEVICES, exit_status=0, stdout=listing, stderr=listing_on_stderr),
        )
    return apple.parse(
        Capture(commands={" ".join(run.argv): run for run in runs}, host_memory_bytes=128 * GIB, host_free_bytes=GIB)
    )


def asked_of_metal(data: dict[str, Any] | None, error: str = "its reader ended with status -6") -> ProbeOutcome:
    """A Mac whose wired limit is 92000 MiB, and what Metal said."""
    runs = [
        CommandRun(argv=apple.PROFILER, exit_status=0, stdout=profile()),
        CommandRun(argv=apple.SYSCTL, exit_status=0, stdout=SYSCTL.replace("limit_mb: 0", "limit_mb: 92000")),
    ]
    metal = LibraryAnswer(library="metal", data=data, error=error if data is None else None)
    return apple.parse(Capture(commands={" ".join(run.argv): run for run in runs}, libraries={"metal": metal}))


def ceiling(outcome: ProbeOutcome) -> int | None:
    (pool,) = outcome.pools
    return pool.ceiling.size_bytes


@pytest.mark.parametrize(
    ("name", "arch"),
    [
        ("Apple M1", "apple-m1"),
        ("Apple M2 Ultra", "apple-m2"),
        ("Apple M5 Max", "apple-m5"),
        ("Apple M10", "apple-m10"),
    ],
)
def test_the_architecture_is_the_generation(name: str, arch: str) -> None:
    (device,) = parsed(profile(name), SYSCTL).devices
    assert (device.name, device.arch, device.pool_id) == (name, arch, HOST_POOL_ID)


def test_a_wired_limit_of_zero_is_not_a_ceiling_of_zero() -> None:
    assert ceiling(parsed(profile(), SYSCTL)) is None


def test_a_wired_limit_is_the_ceiling() -> None:
    assert ceiling(parsed(profile(), SYSCTL.replace("limit_mb: 0", "limit_mb: 92000"))) == 92000 * MIB


@pytest.mark.parametrize("prefix", ["MTL0", "Metal"])
def test_metal_is_believed_before_the_wired_limit(prefix: str) -> None:
    listing = f"Available devices:\n  {prefix}: Apple M1 Max (26000 MiB, 25999 MiB free)\n"
    limited = SYSCTL.replace("limit_mb: 0", "limit_mb: 92000")
    assert ceiling(parsed(profile(), limited, listing)) == 26000 * MIB
    assert ceiling(parsed(profile(), limited, "", listing)) == 26000 * MIB


def test_a_llama_server_without_metal_tells_no_ceiling() -> None:
    listing = "Available devices:\n  BLAS: Accelerate (0 MiB, 0 MiB free)\n  (none)\n"
    assert ceiling(parsed(profile(), SYSCTL, listing)) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"SPHardwareDataType": []}', "Kein Zugriff", "\0"])
def test_without_system_profiler_the_chip_comes_from_sysctl(text: str) -> None:
    outcome = parsed(text, SYSCTL)
    (device,) = outcome.devices
    assert (device.name, device.gpu_cores) == ("Apple M3 Max", None)
    assert [finding.id for finding in outcome.findings] == ["gpu.apple.cores-unknown"]


@pytest.mark.parametrize("cores", ["", "many", "-1", 0, None, [40]])
def test_core_counts_that_are_none(cores: Any) -> None:
    (device,) = parsed(profile(cores=cores), SYSCTL).devices
    assert device.gpu_cores is None


def test_a_core_count_may_be_a_number() -> None:
    (device,) = parsed(profile(cores=40), SYSCTL).devices
    assert device.gpu_cores == 40


@pytest.mark.parametrize("failure", list(Failure))
def test_a_mac_that_tells_nothing_is_a_finding(failure: Failure) -> None:
    runs = [CommandRun(argv=argv, exit_status=None, failure=failure) for argv in (apple.PROFILER, apple.SYSCTL)]
    outcome = apple.parse(Capture(commands={" ".join(run.argv): run for run in runs}))
    assert outcome.devices == ()
    hung = ["gpu.apple.tool-hangs"] * 2 if failure is Failure.TIMED_OUT else []
    assert [finding.id for finding in outcome.findings] == ["gpu.apple.unreadable", *hung]
    assert str(failure) in {evidence.error for evidence in outcome.findings[0].evidence}


def test_a_mac_with_an_intel_processor_has_no_device() -> None:
    outcome = parsed("{}", "machdep.cpu.brand_string: Intel(R) Core(TM) i9-9980HK CPU @ 2.40GHz\n")
    assert outcome.devices == ()
    assert [finding.id for finding in outcome.findings] == ["gpu.apple.no-apple-silicon"]


@given(st.text(), st.text(), st.text())
def test_no_output_makes_the_parser_fail(profiler: str, sysctl: str, listing: str) -> None:
    parsed(profiler, sysctl, listing)


@pytest.mark.parametrize("failure", list(Failure))
def test_a_llama_server_that_fails_tells_no_ceiling(failure: Failure) -> None:
    runs = [
        CommandRun(argv=apple.PROFILER, exit_status=0, stdout=profile()),
        CommandRun(argv=apple.SYSCTL, exit_status=0, stdout=SYSCTL),
        CommandRun(argv=apple.LIST_DEVICES, exit_status=None, failure=failure),
    ]
    outcome = apple.parse(Capture(commands={" ".join(run.argv): run for run in runs}))
    assert ceiling(outcome) is None
    hung = [finding.summary for finding in outcome.findings]
    assert hung == (["llama-server --list-devices gives no answer"] if failure is Failure.TIMED_OUT else [])


def test_a_metal_that_hangs_is_named_and_hides_nothing() -> None:
    outcome = asked_of_metal(None, error="gave no answer in 8 s")
    assert ceiling(outcome) == 92000 * MIB
    assert [finding.summary for finding in outcome.findings] == ["Metal gives no answer"]


@pytest.mark.parametrize(
    "sysctl",
    [SYSCTL[:20], "hw.memsize: 137 GB\n", "sysctl: unbekannte OID 'hw.memsize'\n", "hw.memsize: -5\n", "\0: 1\n"],
)
def test_a_sysctl_without_the_memory_leaves_the_hosts_figure(sysctl: str) -> None:
    (pool,) = parsed(profile(), sysctl).pools
    assert pool.total.size_bytes == 128 * GIB


@pytest.mark.parametrize("text", [None, "", "\0", "apple", "Apfel,j313\0", "compatible = "])
@pytest.mark.parametrize("failure", [None, *Failure])
def test_a_device_tree_that_tells_nothing_is_no_mac(text: str | None, failure: Failure | None) -> None:
    read = FileRead(path=apple._COMPATIBLE, text=text, failure=failure)
    assert apple.parse(Capture(files={read.path: read})) == ProbeOutcome()


def test_other_linux_machines_are_no_macs() -> None:
    read = FileRead(path=apple._COMPATIBLE, text="raspberrypi,5-model-b\0brcm,bcm2712\0")
    assert apple.parse(Capture(files={read.path: read})) == ProbeOutcome()


def test_on_linux_only_one_file_is_read() -> None:
    capture = apple.collect(RecordedSystem(RECORDINGS / "hgx-h100-x8"))
    assert capture.commands == {}
    assert list(capture.files) == [apple._COMPATIBLE]


@pytest.mark.parametrize(("cores", "gb_per_second"), [(32, 410), (40, 546)])
def test_a_binned_chip_has_its_own_bandwidth(cores: int, gb_per_second: int) -> None:
    (device,) = parsed(profile("Apple M4 Max", cores), SYSCTL).devices
    chips = hardware_of(read_yaml(ROOT / "profiles" / "hardware" / "apple.yaml")).chips
    chip = match_chip(device, 128 * GIB, chips)
    assert chip is not None
    assert chip.bandwidth_bytes_per_second == gb_per_second * 10**9


def test_metal_asked_directly_comes_before_everything_else() -> None:
    assert ceiling(asked_of_metal({"recommended_bytes": {"value": 26000 * MIB}})) == 26000 * MIB


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        {"device": {"error": "Metal gives no device", "code": None}},
        {"recommended_bytes": {"value": 0}},
        {"recommended_bytes": {"value": "26000"}},
        {"recommended_bytes": {"error": "AttributeError", "code": None}},
        {"recommended_bytes": 26000},
    ],
)
def test_a_metal_without_an_answer_leaves_the_wired_limit(data: dict[str, Any] | None) -> None:
    assert ceiling(asked_of_metal(data)) == 92000 * MIB


class Mac(RecordedSystem):
    """Notes what is started, and has a llama-server."""

    started: tuple[str, ...] = ()

    def which(self, program: str) -> str | None:
        return f"/usr/local/bin/{program}"

    def run(self, argv: Sequence[str], *, timeout_seconds: float) -> CommandRun:
        self.started = (*self.started, argv[0])
        return super().run(argv, timeout_seconds=timeout_seconds)


@pytest.mark.parametrize(
    ("recording", "started"),
    [
        ("mac-m1-max-32gb-metal-below-default", ("system_profiler", "sysctl")),
        ("macbook-pro-m5-max-128gb", ("system_profiler", "sysctl", "llama-server")),
    ],
)
def test_llama_server_is_asked_only_where_metal_did_not_answer(recording: str, started: tuple[str, ...]) -> None:
    system = Mac(RECORDINGS / recording)
    apple.collect(system)
    assert system.started == started


# --- the catalogue's ceilings ----------------------------------------------------------------------------------------


def mac_chip(fraction: float | None) -> Chip:
    return Chip(
        id="m3-ultra",
        name="Apple M3 Ultra",
        vendor=Vendor.APPLE,
        compute_api=ComputeApi.METAL,
        arch="apple-m3",
        pool_kind=PoolKind.UNIFIED,
        memory_bytes=(96 * GIB, 256 * GIB),
        bandwidth_bytes_per_second=None,
        formats=(),
        memory_ceilings=(MemoryCeiling(memory_bytes=256 * GIB, ceiling_bytes=228065 * MIB),),
        default_ceiling_fraction=fraction,
        source=Source(source="test", as_of="2026-11-22"),
    )


def host_pool(total: int | None, ceiling_bytes: int | None = None) -> Pool:
    return Pool(
        id=HOST_POOL_ID,
        kind=PoolKind.UNIFIED,
        total=Amount(size_bytes=total, source="sysctl"),
        ceiling=Amount(size_bytes=ceiling_bytes, source="the machine"),
        free=Amount(size_bytes=GIB, source="vm_stat"),
    )


def test_an_open_ceiling_is_the_measured_one() -> None:
    found = apply_chip_ceiling(host_pool(256 * GIB), mac_chip(0.75)).ceiling
    assert found == Amount(size_bytes=228065 * MIB, source="profiles/hardware/apple.yaml")


def test_a_size_that_nobody_measured_is_assumed_and_says_so() -> None:
    found = apply_chip_ceiling(host_pool(96 * GIB), mac_chip(0.75)).ceiling
    assert found.size_bytes == 72 * GIB
    assert "75% assumed" in found.source


@pytest.mark.parametrize(
    ("pool", "fraction"),
    [(host_pool(256 * GIB, 100 * GIB), 0.75), (host_pool(None), 0.75), (host_pool(96 * GIB), None)],
    ids=["told by the machine", "size unknown", "nothing known"],
)
def test_a_ceiling_is_left_alone(pool: Pool, fraction: float | None) -> None:
    assert apply_chip_ceiling(pool, mac_chip(fraction)) == pool
