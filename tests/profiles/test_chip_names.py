from __future__ import annotations

import pytest

from v4deploy.catalogue.wire_hardware import hardware_of
from v4deploy.catalogue.yaml_source import read_yaml
from v4deploy.domain.chip import Chip
from v4deploy.domain.chips import find_chip, find_chips, match_chip
from v4deploy.domain.errors import UsageError
from v4deploy.domain.hardware import ComputeApi, Device, Vendor
from v4deploy.domain.units import GIB, MIB
from v4deploy.resources import data_dir

CHIPS = tuple(
    chip
    for path in sorted((data_dir("profiles") / "hardware").glob("*.yaml"))
    for chip in hardware_of(read_yaml(path)).chips
)
API = {
    Vendor.NVIDIA: ComputeApi.CUDA,
    Vendor.AMD: ComputeApi.ROCM,
    Vendor.APPLE: ComputeApi.METAL,
    Vendor.HUAWEI: ComputeApi.CANN,
}


def device(vendor: Vendor, name: str, *, pci_id: str | None = None, gpu_cores: int | None = None) -> Device:
    return Device(
        index=0,
        vendor=vendor,
        compute_api=API[vendor],
        name=name,
        arch=None,
        pool_id="host",
        pci_id=pci_id,
        gpu_cores=gpu_cores,
    )


@pytest.mark.parametrize(
    ("typed", "chip_id"),
    [
        ("h200", "h200"),
        ("H200", "h200"),
        (" NVIDIA H200 ", "h200"),
        ("rtx 4090", "rtx-4090"),
        ("RTX-4090", "rtx-4090"),
        ("rtx4090", "rtx-4090"),
        ("4090", "rtx-4090"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("geforce rtx 4090", "rtx-4090"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("dgx spark", "gb10"),
        ("a100-80gb", "a100-80gb"),
        ("m3 ultra", "m3-ultra"),
        ("Apple M3 Ultra", "m3-ultra"),
        ("910B3", "ascend-910b3"),
        ("Ascend 910B3", "ascend-910b3"),
        ("a3", "ascend-a3"),
        ("910c", "ascend-a3"),
        ("strix_halo", "strix-halo"),
        ("7900 xtx", "rx-7900-xtx"),
        ("AMD Instinct MI300X", "mi300x"),
    ],
)
def test_people_may_type_a_chip_in_many_ways(typed: str, chip_id: str) -> None:
    assert find_chip(typed, CHIPS).id == chip_id


@pytest.mark.parametrize("chip", CHIPS, ids=lambda chip: chip.id)
def test_every_id_finds_its_own_chip(chip: Chip) -> None:
    assert find_chip(chip.id, CHIPS) is chip


@pytest.mark.parametrize("typed", ["GB20", "h20x", "90", "rtx", "nvidia", "", "-", "apple"])
def test_a_part_of_a_name_is_no_name(typed: str) -> None:
    assert find_chips(typed, CHIPS) == ()


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UsageError, match="no chip is called `rtx 4900`") as caught:
        find_chip("rtx 4900", CHIPS)
    assert "rtx-4090" in (caught.value.hint or "")


@pytest.mark.parametrize("typed", ["a100", "910b", "m4-max", "rtx 3060", "gh200"])
def test_a_name_of_several_versions_lists_them(typed: str) -> None:
    with pytest.raises(UsageError, match="several versions") as caught:
        find_chip(typed, CHIPS)
    assert len(caught.value.details) > 1


def test_a_bare_910b_means_the_a2_family_to_people_and_a_first_generation_chip_to_drivers() -> None:
    assert {chip.arch for chip in find_chips("910b", CHIPS)} == {"ascend-a2"}
    found = match_chip(device(Vendor.HUAWEI, "910B"), 32768 * MIB, CHIPS)
    assert found is not None
    assert found.arch == "ascend-910"


@pytest.mark.parametrize(
    ("vendor", "name", "memory_mib", "expected"),
    [
        (Vendor.NVIDIA, "NVIDIA H100 80GB HBM3", 81559, "h100"),
        (Vendor.NVIDIA, "NVIDIA GB200", 189471, "gb200"),
        (Vendor.NVIDIA, "NVIDIA GB10", None, "gb10"),
        (Vendor.NVIDIA, "NVIDIA GB20", 189471, None),
        (Vendor.NVIDIA, "NVIDIA H100", 81559, None),
        (Vendor.NVIDIA, "NVIDIA GeForce RTX 4090", 49140, "rtx-4090"),
        (Vendor.NVIDIA, "NVIDIA GeForce RTX 3060", 8192, "rtx-3060-8gb"),
        (Vendor.NVIDIA, "NVIDIA GeForce RTX 3060", 12288, "rtx-3060-12gb"),
        (Vendor.NVIDIA, "NVIDIA GeForce RTX 3060", None, None),
        (Vendor.NVIDIA, "Orin (nvgpu)", 62_800, "jetson-agx-orin"),
        (Vendor.HUAWEI, "Ascend910B3", 65536, "ascend-910b3"),
        (Vendor.HUAWEI, "910B4-1", 65536, "ascend-910b4-1"),
        (Vendor.HUAWEI, "Ascend910", 65536, "ascend-a3"),
        (Vendor.HUAWEI, "Ascend910_9392", 65536, "ascend-a3"),
        (Vendor.HUAWEI, "Ascend950PR_9579", 131072, "ascend-950pr"),
        (Vendor.HUAWEI, "Ascend950DT_9582", 98304, "ascend-950dt"),
        (Vendor.HUAWEI, "Ascend910X", 65536, None),
        (Vendor.AMD, "NVIDIA H200", 143771, None),
        (Vendor.AMD, "AMD Radeon Graphics", 24560, None),
    ],
)
def test_a_device_is_known_by_its_exact_name(
    vendor: Vendor, name: str, memory_mib: int | None, expected: str | None
) -> None:
    found = match_chip(device(vendor, name), None if memory_mib is None else memory_mib * MIB, CHIPS)
    assert (found.id if found else None) == expected


@pytest.mark.parametrize(
    ("pci_id", "name", "memory_mib", "expected"),
    [
        ("1002:744c", "AMD Radeon Graphics", 24560, "rx-7900-xtx"),
        ("1002:744C", "AMD Radeon Graphics", 20464, "rx-7900-xt"),
        ("1002:744c", "N/A", 16368, "rx-7900-gre"),
        ("1002:744c", "N/A", None, None),
        ("1002:74a1", "N/A", None, "mi300x"),
        ("1002:ffff", "AMD Radeon RX 7900 XTX", 24560, "rx-7900-xtx"),
    ],
)
def test_a_pci_id_decides_before_the_name(pci_id: str, name: str, memory_mib: int | None, expected: str | None) -> None:
    total = None if memory_mib is None else memory_mib * MIB
    found = match_chip(device(Vendor.AMD, name, pci_id=pci_id), total, CHIPS)
    assert (found.id if found else None) == expected


@pytest.mark.parametrize(
    ("name", "cores", "memory_gib", "expected"),
    [
        ("Apple M3 Max", 30, 96, "m3-max-30-core"),
        ("Apple M3 Max", 40, 128, "m3-max-40-core"),
        ("Apple M3 Max", None, 128, "m3-max-40-core"),
        ("Apple M3 Max", None, None, None),
        ("Apple M3 Ultra", 60, 256, "m3-ultra"),
        ("Apple M3 Ultra", 80, 512, "m3-ultra"),
        ("Apple M9", 80, 512, None),
    ],
)
def test_binned_parts_are_told_apart_by_gpu_cores(
    name: str, cores: int | None, memory_gib: int | None, expected: str | None
) -> None:
    total = None if memory_gib is None else memory_gib * GIB
    found = match_chip(device(Vendor.APPLE, name, gpu_cores=cores), total, CHIPS)
    assert (found.id if found else None) == expected
