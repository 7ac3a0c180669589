from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from v4deploy.catalogue.wire_hardware import hardware_of
from v4deploy.catalogue.yaml_source import read_yaml
from v4deploy.documents import from_json, to_json
from v4deploy.domain.chip import Chip
from v4deploy.domain.errors import UsageError
from v4deploy.domain.finding import group_of
from v4deploy.domain.hardware import HOST_POOL_ID, HOST_SCHEMA, Host, HostOrigin, OperatingSystem, PoolKind
from v4deploy.domain.units import GIB, MIB
from v4deploy.planning.hypothetical import parse_hardware
from v4deploy.resources import data_dir

CHIPS = tuple(
    chip
    for path in sorted((data_dir("profiles") / "hardware").glob("*.yaml"))
    for chip in hardware_of(read_yaml(path)).chips
)
DEDICATED = [chip for chip in CHIPS if chip.pool_kind is PoolKind.DEDICATED and len(chip.memory_bytes) == 1]


def read(text: str) -> Host:
    return parse_hardware(text, CHIPS)


def finding_ids(host: Host) -> list[str]:
    return [finding.id for finding in host.findings]


@pytest.mark.parametrize(
    ("text", "chips", "host_gib"),
    [
        ("8x h200", ["h200"] * 8, None),
        ("8xH200", ["h200"] * 8, None),
        ("8 × h200", ["h200"] * 8, None),  # noqa: RUF001 - what people paste
        ("2x rtx-4090 + 192GB", ["rtx-4090"] * 2, 192),
        ("rtx 4090 + 128 GB", ["rtx-4090"], 128),
        ("rtx 4090+128g", ["rtx-4090"], 128),
        ("128GiB + rtx 4090", ["rtx-4090"], 128),
        ("rtx 4090 24GB + 1TB", ["rtx-4090"], 1024),
        ("8x ascend-910b3", ["ascend-910b3"] * 8, None),
        ("8x a3", ["ascend-a3"] * 16, None),
        ("4x mi250x", ["mi250x"] * 8, None),
        ("4x 950dt", ["ascend-950dt"] * 4, None),
        ("2x h100 + 2x rtx-4090 + 1TB", ["h100"] * 2 + ["rtx-4090"] * 2, 1024),
        ("a100 80GB", ["a100-80gb"], None),
        ("8x a100 40GB", ["a100-40gb"] * 8, None),
        ("950pr 128GB", ["ascend-950pr"], None),
        ("8x b200 192GB", ["b200"] * 8, None),
        ("gh200 96GB + 480GB", ["gh200-96gb"], 480),
        ("cpu 256GB", [], 256),
        ("cpu + 256GB", [], 256),
        ("256 gb", [], 256),
        ("0.5TB", [], 512),
        ("cpu", [], None),
    ],
)
def test_cards_and_host_memory(text: str, chips: list[str], host_gib: int | None) -> None:
    host = read(text)
    assert [device.chip for device in host.devices] == chips
    assert [device.index for device in host.devices] == list(range(len(chips)))
    assert len(host.pools) == len(chips) + 1
    assert len({pool.id for pool in host.pools}) == len(host.pools)
    assert host.memory.total.size_bytes == (None if host_gib is None else host_gib * GIB)
    assert host.memory.free.size_bytes == host.memory.total.size_bytes
    assert ("host.memory-not-given" in finding_ids(host)) is (host_gib is None)
    assert (host.origin, host.os) == (HostOrigin.HYPOTHETICAL, OperatingSystem.LINUX)


@pytest.mark.parametrize(
    ("text", "chip", "kind", "total_bytes", "ceiling_bytes"),
    [
        ("m3-ultra 256GB", "m3-ultra", PoolKind.UNIFIED, 256 * GIB, 228065 * MIB),
        ("Apple M3 Ultra 512 GB", "m3-ultra", PoolKind.UNIFIED, 512 * GIB, 475136 * MIB),
        ("m4-max 128GB", "m4-max-40-core", PoolKind.UNIFIED, 128 * GIB, 110100 * MIB),
        ("m3-max 96GB", "m3-max-30-core", PoolKind.UNIFIED, 96 * GIB, 72 * GIB),
        ("strix-halo 128GB", "strix-halo", PoolKind.CARVE_OUT_GTT, 128 * GIB, 122880 * MIB),
        ("strix-halo 96GB", "strix-halo", PoolKind.CARVE_OUT_GTT, 96 * GIB, 88 * GIB),
        ("gb10", "gb10", PoolKind.UNIFIED, 124610 * MIB, 124610 * MIB),
        ("dgx-spark 128GB", "gb10", PoolKind.UNIFIED, 124610 * MIB, 124610 * MIB),
        ("n1x 64GB", "n1x", PoolKind.UNIFIED, 64 * GIB, 64 * GIB),
        ("n1x + 64GB", "n1x", PoolKind.UNIFIED, 64 * GIB, 64 * GIB),
        ("n1x", "n1x", PoolKind.UNIFIED, None, None),
    ],
)
def test_chips_that_share_the_hosts_memory_point_at_its_pool(
    text: str, chip: str, kind: PoolKind, total_bytes: int | None, ceiling_bytes: int | None
) -> None:
    host = read(text)
    assert [(device.chip, device.pool_id) for device in host.devices] == [(chip, HOST_POOL_ID)]
    assert len(host.pools) == 1
    assert (host.memory.kind, host.memory.total.size_bytes) == (kind, total_bytes)
    assert host.memory.ceiling.size_bytes == ceiling_bytes
    assert host.memory.free.size_bytes == ceiling_bytes


def test_a_ceiling_without_a_measurement_is_called_assumed() -> None:
    assert "accelerator.ceiling-assumed" in finding_ids(read("m2-ultra 192GB"))
    assert "accelerator.ceiling-assumed" in finding_ids(read("strix-halo 128GB"))
    assert "accelerator.ceiling-assumed" not in finding_ids(read("m3-ultra 256GB"))


def test_a_data_sheets_size_is_called_nominal() -> None:
    host = read("2x rtx-a5000 + 64GB")
    assert finding_ids(host) == ["accelerator.memory-nominal"]
    assert "nominal" in host.pools[1].total.source
    assert finding_ids(read("2x h200 + 64GB")) == []


def test_a_card_may_stand_beside_an_apu_but_not_in_a_mac() -> None:
    host = read("strix-halo 128GB + rtx-3090")
    assert [device.pool_id for device in host.devices] == [HOST_POOL_ID, "nvidia-1"]
    with pytest.raises(UsageError, match="drives no other cards"):
        read("m3-ultra 256GB + rtx-3090")


def test_the_operating_system_and_processor_follow_the_chip_where_it_decides_them() -> None:
    assert (read("m3-ultra 96GB").os, read("m3-ultra 96GB").cpu.architecture) == (OperatingSystem.MACOS, "arm64")
    assert read("gb10").cpu.architecture == "aarch64"
    assert read("8x h200").cpu.architecture == "unknown"


def test_the_hint_for_missing_memory_can_be_typed() -> None:
    for text in ("8x h200", "n1x", "cpu"):
        fix = next(finding.fix for finding in read(text).findings if finding.id == "host.memory-not-given")
        assert fix is not None
        assert read(fix.split('"')[1]).memory.total.size_bytes is not None


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "names no hardware", "8x h200"),
        ("8x", "names no hardware", "8x h200"),
        ("h100 +", "names no hardware", "8x h200"),
        ("h300", "no chip is called `h300`", "h200"),
        ("GB20x", "no chip is called `GB20x`", "gb200"),
        ("nvidia", "no chip is called", "choose one of"),
        ("-3x h100", "no chip is called", "h100"),
        ("2x cpu 64GB", "no chip is called", ""),
        ("rtx 4090 + 192", "`192` has no unit", "`192GB`"),
        ("h100 96GB", "no h100 was made with 96.0 GiB", "79.6 GiB"),
        ("950pr 112GB", "no 950pr was made with 112.0 GiB", "84.0 GiB or 128.0 GiB"),
        ("m3-ultra", "m3-ultra was sold with 96.0 GiB or 256.0 GiB or 512.0 GiB", '"m3-ultra 512GB"'),
        ("strix-halo", "strix-halo was sold with", '"strix-halo 128GB"'),
        ("a100", "`a100` was made in several versions", "a100-40gb"),
        ("8x 910b 64GB", "`910b` was made in several versions", "ascend-910b3"),
        ("0x h100", "`0x h100` is no card", "count from 1"),
        ("1000000000x h100", "more than one machine holds", "256"),
        ("2x gb10", "a machine with memory of its own", '"gb10"'),
        ("gb10 + m3-ultra 256GB", "a machine with memory of its own", '"gb10"'),
        ("gb10 + 64GB", "no memory beside the 121.7 GiB", "second size"),
        ("cpu 0GB", "`cpu 0GB` is no memory", "64GB"),
        ("rtx-4090 + 0.0TB", "`0.0TB` is no memory", "64GB"),
        ("9" * 5000 + "x h100", "no chip is called", ""),
        ("cpu " + "9" * 400 + "TB", "no chip is called", ""),
        ("cpu 64GB + 64GB", "names the host's memory 2 times", "once"),
    ],
)
def test_what_makes_no_machine_is_refused(text: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(text)
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")


@given(chip=st.sampled_from(DEDICATED), cards=st.integers(1, 16), host_gib=st.none() | st.integers(1, 4096))
def test_every_card_brings_its_own_pool(chip: Chip, cards: int, host_gib: int | None) -> None:
    host = read(f"{cards}x {chip.id}" + ("" if host_gib is None else f" + {host_gib}GB"))
    devices = cards * chip.devices_per_card
    pools = [pool for pool in host.pools if pool.id != HOST_POOL_ID]
    assert len(host.devices) == len(pools) == devices
    assert sum(pool.total.size_bytes or 0 for pool in pools) == devices * chip.memory_bytes[0]
    assert {device.pool_id for device in host.devices} == {pool.id for pool in pools}


@given(st.text(alphabet="0123456789 x+gbtGBTh.-h200cpum3ultra", max_size=30) | st.text(max_size=20))
def test_any_text_is_a_machine_or_a_usage_error_with_a_hint(text: str) -> None:
    try:
        pools, hint = len(read(text).pools), None
    except UsageError as error:
        pools, hint = 0, error.hint
    assert pools or hint


def test_a_hypothetical_host_is_a_document() -> None:
    for text in ("8x a3 + 2TB", "m2-ultra 192GB", "strix-halo 64GB", "2x rtx-a5000"):
        host = read(text)
        assert from_json(Host, HOST_SCHEMA, to_json(HOST_SCHEMA, host), name="host") == host
        assert all(group_of(finding.id) for finding in host.findings)
