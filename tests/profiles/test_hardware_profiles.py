from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from v4deploy.catalogue.wire_hardware import hardware_of
from v4deploy.catalogue.yaml_source import parse_yaml, read_yaml
from v4deploy.domain.chip import Chip, NumberFormat
from v4deploy.domain.errors import ProfileError
from v4deploy.domain.hardware import PoolKind, Vendor
from v4deploy.domain.units import GIB, MIB
from v4deploy.resources import data_dir

FILES = sorted((data_dir("profiles") / "hardware").glob("*.yaml"))
CHIPS = tuple(chip for path in FILES for chip in hardware_of(read_yaml(path)).chips)
BY_ID = {chip.id: chip for chip in CHIPS}

MINIMAL = """\
vendor: nvidia
compute_api: cuda
pool: dedicated
source: a data sheet
as_of: 2026-11-22
confidence: B
formats_by_arch: {sm_90: [fp8]}
chips:
  - {id: h200, name: NVIDIA H200, arch: sm_90, memory_mib: [143771], bandwidth_gb_s: 4800}
"""


def read(text: str) -> tuple[Chip, ...]:
    return hardware_of(parse_yaml(text, Path("test.yaml"))).chips


def test_every_vendor_has_chips() -> None:
    assert {chip.vendor for chip in CHIPS} == set(Vendor)


def test_ids_are_unique_and_typable() -> None:
    counts = Counter(chip.id for chip in CHIPS)
    assert [name for name, count in counts.items() if count > 1] == []
    assert [chip.id for chip in CHIPS if not chip.id.replace("-", "").isalnum() or chip.id != chip.id.lower()] == []


def test_no_alias_hides_behind_an_id() -> None:
    assert [alias for chip in CHIPS for alias in chip.aliases if alias in BY_ID] == []


def test_a_shared_alias_stays_within_a_vendor_and_an_architecture() -> None:
    groups: dict[str, set[tuple[str, str]]] = {}
    for chip in CHIPS:
        for alias in chip.aliases:
            groups.setdefault(alias, set()).add((chip.vendor.value, chip.arch))
    assert {alias: kinds for alias, kinds in groups.items() if len(kinds) > 1} == {}


@pytest.mark.parametrize("chip", CHIPS, ids=lambda chip: chip.id)
def test_a_chip_says_where_it_is_known_from_and_has_plausible_numbers(chip: Chip) -> None:
    assert chip.source.source
    assert chip.source.as_of >= "2026-01-01"
    assert chip.source.confidence in {"A", "B", "C", "D"}
    assert all(4 * GIB <= size <= 1024 * GIB for size in chip.memory_bytes)
    bandwidth = chip.bandwidth_bytes_per_second
    assert bandwidth is None or 50e9 <= bandwidth <= 25e12
    assert all(len(pci_id) == 9 and pci_id[4] == ":" and pci_id == pci_id.lower() for pci_id in chip.pci_ids)


def test_only_chips_that_share_the_hosts_memory_lack_sizes() -> None:
    without = {chip.pool_kind for chip in CHIPS if not chip.memory_bytes}
    assert without <= {PoolKind.UNIFIED, PoolKind.CARVE_OUT_GTT}


def test_ceilings_leave_something_to_the_system() -> None:
    for chip in CHIPS:
        for row in chip.memory_ceilings:
            assert row.memory_bytes in chip.memory_bytes
            assert row.ceiling_bytes < row.memory_bytes


@pytest.mark.parametrize(
    ("chip_id", "arch", "memory_mib", "gb_per_second"),
    [
        ("h100", "sm_90", 81559, 3350),
        ("h200", "sm_90", 143771, 4800),
        ("b200", "sm_100", 183359, 8000),
        ("rtx-4090", "sm_89", 24564, 1008),
        ("rtx-5070", "sm_120", 12227, 672),
        ("mi300x", "gfx942", 196592, 5300),
        ("mi355x", "gfx950", 294896, 8000),
        ("ascend-910b3", "ascend-a2", 65536, 1600),
        ("ascend-950dt", "ascend-950", 98304, 4000),
    ],
)
def test_known_figures(chip_id: str, arch: str, memory_mib: int, gb_per_second: int) -> None:
    chip = BY_ID[chip_id]
    assert (chip.arch, chip.memory_bytes) == (arch, (memory_mib * MIB,))
    assert chip.bandwidth_bytes_per_second == gb_per_second * 10**9
    assert not chip.memory_is_nominal


def test_measured_ceilings_of_unified_machines() -> None:
    ceilings = {row.memory_bytes: row.ceiling_bytes for row in BY_ID["m3-ultra"].memory_ceilings}
    assert ceilings == {256 * GIB: 228065 * MIB, 512 * GIB: 475136 * MIB}
    assert BY_ID["m4-max-40-core"].memory_ceilings[0].ceiling_bytes == 110100 * MIB


def test_fp4_and_fp8_start_where_the_vendors_say() -> None:
    fp4 = {NumberFormat.MXFP4, NumberFormat.NVFP4}
    assert not fp4 & set(BY_ID["h200"].formats)
    assert NumberFormat.FP8 in BY_ID["rtx-4090"].formats
    assert NumberFormat.FP8 not in BY_ID["rtx-3090"].formats
    assert NumberFormat.FP8 not in BY_ID["ascend-a3"].formats
    assert NumberFormat.MXFP4 in BY_ID["ascend-950dt"].formats


def test_an_entry_inherits_the_files_defaults_and_may_override_them() -> None:
    extra = (
        "id: gh200, name: GH200, arch: sm_90, pool: coherent, nominal_gib: [96], bandwidth_gb_s: null, confidence: D"
    )
    plain, special = read(f"{MINIMAL}  - {{{extra}}}\n")
    assert (plain.pool_kind, plain.source.confidence, plain.formats) == (
        PoolKind.DEDICATED,
        "B",
        (NumberFormat.FP8,),
    )
    assert (special.pool_kind, special.source.confidence) == (PoolKind.COHERENT, "D")
    assert special.memory_bytes == (96 * GIB,)
    assert special.memory_is_nominal
    assert special.bandwidth_bytes_per_second is None


@pytest.mark.parametrize(
    ("wrong", "right", "message"),
    [
        ("arch: sm_90,", "arch: sm_91,", "test.yaml:9: chips.0.arch: `sm_91` is not listed"),
        ("memory_mib:", "memory_mb:", "test.yaml:9: chips.0.memory_mb: unknown key"),
        ("4800}", "4800, nominal_gib: [141]}", "test.yaml:9: chips.0: `h200` gives its memory under two keys"),
        ("4800}", "4800}\n  - {id: h200, name: a, arch: sm_90, bandwidth_gb_s: 1}", "test.yaml:10: chips.1.id: `h200`"),
        ("[fp8]", "[fp7]", "test.yaml:7: formats_by_arch.sm_90.0"),
        ("[143771]", '["143771"]', "test.yaml:9: chips.0.memory_mib.0"),
    ],
)
def test_a_mistake_is_shown_with_file_line_and_key(wrong: str, right: str, message: str) -> None:
    with pytest.raises(ProfileError) as caught:
        read(MINIMAL.replace(wrong, right))
    assert caught.value.message.startswith(message)


CONTAINERS = "containers: {cdi_kind: example.com/gpu, source: a plugin, as_of: 2026-11-22}\n"


def test_names_for_containers_come_with_the_compute_api_of_the_file() -> None:
    found = hardware_of(parse_yaml(MINIMAL + CONTAINERS, Path("test.yaml"))).containers
    assert found is not None
    assert (found.compute_api, found.cdi_kind, found.cluster_resource) == ("cuda", "example.com/gpu", None)
    assert hardware_of(parse_yaml(MINIMAL, Path("test.yaml"))).containers is None


def test_names_for_containers_need_a_source() -> None:
    with pytest.raises(ProfileError, match=r"test.yaml:\d+: containers.source: this key is required"):
        hardware_of(parse_yaml(MINIMAL + CONTAINERS.replace("source: a plugin, ", ""), Path("test.yaml")))
