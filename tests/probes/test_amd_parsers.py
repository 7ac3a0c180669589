"""AMD's sources: KFD, DRM, amd-smi and rocm-smi, as they are and as they should not be."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from v4deploy.domain.hardware import PoolKind
from v4deploy.probes import amd
from v4deploy.probes.amd_device import AmdDevice, bdf, gfx_target
from v4deploy.probes.amd_kernel import DRM, KFD_NODES
from v4deploy.probes.amd_pools import HostShare, place_devices
from v4deploy.probes.amd_tools import AMD_SMI, ROCM_SMI, first_json, parse_tools
from v4deploy.probes.base import Capture
from v4deploy.system.base import CommandRun, Failure, FileRead
from v4deploy.system.recorded import RecordedSystem

GIB = 1024**3
MIB = 1024**2
RECORDINGS = Path(__file__).parents[1] / "recordings"
NODE = f"{KFD_NODES}/1/properties"
MI300X = f"simd_count 1216\ngfx_target_version 90402\nvendor_id 4098\ndevice_id {0x74A1}\nlocation_id 1280\ndomain 0\n"


def capture_of(files: dict[str, str | Failure], nodes: Sequence[str] = ("1",), **more: Any) -> Capture:
    reads = {
        path: FileRead(path=path, text=None, failure=value)
        if isinstance(value, Failure)
        else FileRead(path=path, text=value)
        for path, value in files.items()
    }
    present = {"/dev": ("/dev/kfd",), "/dev/dri": ("renderD128",), f"{KFD_NODES}/1/mem_banks": ("0",)}
    return Capture(files=reads, entries={KFD_NODES: tuple(nodes), **present}, **more)


def smi(stdout: str, argv: tuple[str, ...] = AMD_SMI) -> CommandRun:
    return CommandRun(argv=argv, exit_status=0, stdout=stdout)


@pytest.mark.parametrize(
    ("version", "name"),
    [
        (90402, "gfx942"),
        (90010, "gfx90a"),
        (90500, "gfx950"),
        (100306, "gfx1036"),
        (110501, "gfx1151"),
        (110700, "gfx1170"),
        (120001, "gfx1201"),
        (120500, "gfx1250"),
        (0, None),
    ],
)
def test_a_target_is_written_as_compilers_do(version: int, name: str | None) -> None:
    assert gfx_target(version) == name


def test_a_location_is_an_address() -> None:
    assert bdf(0, 33792) == "0000:84:00.0"
    assert bdf(1, (0x05 << 8) | 7) == "0001:05:00.7"


def test_nodes_are_taken_in_the_order_of_their_numbers() -> None:
    banks = {f"{KFD_NODES}/{n}/mem_banks/0/properties": f"heap_type 1\nsize_in_bytes {n}000\n" for n in (2, 10)}
    nodes = {f"{KFD_NODES}/{n}/properties": MI300X.replace("1280", str(n << 8)) for n in (2, 10)}
    outcome = amd.parse(capture_of({**nodes, **banks}, nodes=("10", "2")))
    assert [device.pci_address for device in outcome.devices] == ["0000:02:00.0", "0000:0a:00.0"]


@pytest.mark.parametrize(
    "text", ["", "simd_count", "simd_count 1216\ngfx_target_ver", "simd_count viele\n", "\0\0\0", "<html>"]
)
def test_a_broken_node_is_no_device(text: str) -> None:
    assert amd.parse(capture_of({NODE: text})).devices == ()


def test_a_node_without_any_memory_figure_is_a_device_of_unknown_size() -> None:
    outcome = amd.parse(capture_of({NODE: MI300X}))
    assert [device.arch for device in outcome.devices] == ["gfx942"]
    assert outcome.pools[0].total.size_bytes is None
    assert [finding.id for finding in outcome.findings] == ["gpu.amd.memory-unknown"]


@pytest.mark.parametrize("failure", list(Failure))
def test_unreadable_attributes_leave_the_bank_of_kfd(failure: Failure) -> None:
    bank = {f"{KFD_NODES}/1/mem_banks/0/properties": f"heap_type 1\nsize_in_bytes {192 * GIB}\n"}
    attributes: dict[str, str | Failure] = {
        f"{DRM}/renderD128/device/uevent": "DRIVER=amdgpu\nPCI_SLOT_NAME=0000:05:00.0\n",
        f"{DRM}/renderD128/device/mem_info_vram_total": failure,
        f"{DRM}/renderD128/device/board_info": failure,
    }
    outcome = amd.parse(capture_of({NODE: MI300X + "drm_render_minor 128\n", **bank, **attributes}))
    assert outcome.pools[0].total.size_bytes == 192 * GIB
    assert outcome.pools[0].free.size_bytes is None


@pytest.mark.parametrize("failure", list(Failure))
def test_an_unreadable_node_is_no_device(failure: Failure) -> None:
    outcome = amd.parse(capture_of({NODE: failure}))
    assert outcome.devices == ()
    refused = failure is Failure.NO_PERMISSION
    assert [finding.id for finding in outcome.findings] == (["gpu.amd.node-refused"] if refused else [])


@pytest.mark.parametrize("limit", ["", "0\n", "viele\n", "-1\n", "\0", *Failure])
def test_a_page_limit_that_is_none_leaves_what_drm_tells(limit: str | Failure) -> None:
    attributes: dict[str, str | Failure] = {
        f"{DRM}/renderD128/device/uevent": "DRIVER=amdgpu\nPCI_SLOT_NAME=0000:05:00.0\n",
        f"{DRM}/renderD128/device/mem_info_vram_total": f"{GIB}\n",
        f"{DRM}/renderD128/device/mem_info_gtt_total": f"{60 * GIB}\n",
        "/sys/module/ttm/parameters/pages_limit": limit,
    }
    node = MI300X.replace("90402", "110501").replace(str(0x74A1), str(0x1586))
    outcome = amd.parse(capture_of({NODE: node, **attributes}, host_memory_bytes=120 * GIB))
    assert outcome.pools[0].total.size_bytes == 61 * GIB


@pytest.mark.parametrize("text", ["", "\n", "unbekannt", "\0"])
def test_a_rocm_version_is_as_written_or_none(text: str) -> None:
    (device,) = amd.parse(capture_of({NODE: MI300X, "/opt/rocm/.info/version": text})).devices
    assert device.compute_api_version == (text.strip() or None)


def test_a_size_of_zero_is_unknown() -> None:
    attributes: dict[str, str | Failure] = {
        f"{DRM}/renderD128/device/uevent": "DRIVER=amdgpu\nPCI_SLOT_NAME=0000:05:00.0\n",
        f"{DRM}/renderD128/device/mem_info_vram_total": "0\n",
    }
    outcome = amd.parse(capture_of({NODE: MI300X, **attributes}))
    assert outcome.pools[0].total.size_bytes is None


def test_an_old_kernel_without_board_info_does_not_make_a_card_integrated() -> None:
    device = AmdDevice(source="sysfs", gfx="gfx1100", pci_id="1002:744c", has_board_info=False)
    assert not device.is_integrated
    assert AmdDevice(source="sysfs", gfx="gfx1151", has_board_info=False).is_integrated


def test_an_environment_that_hides_devices_is_told() -> None:
    environ = {"HIP_VISIBLE_DEVICES": "0", "HSA_OVERRIDE_GFX_VERSION": "11.0.0"}
    found = {finding.id for finding in amd.parse(capture_of({NODE: MI300X}, environ=environ)).findings}
    assert {"config.rocm-visible-devices", "config.hsa-override-gfx-version"} <= found


# --- tools -----------------------------------------------------------------------------------------------------------

STATIC = {
    "gpu": 0,
    "asic": {
        "market_name": "AMD Instinct MI350X",
        "vendor_id": "0x1002",
        "device_id": "0x75a0",
        "num_compute_units": 128,
        "target_graphics_version": "gfx950",
    },
    "bus": {"bdf": "0000:05:00.0"},
    "board": {"product_name": "AMD Instinct MI350 OAM"},
    "driver": {"name": "amdgpu", "version": "6.18.3"},
    "vram": {"type": "HBM3E", "size": {"value": 294896, "unit": "MB"}},
    "partition": {"accelerator_partition": "SPX", "memory_partition": "NPS1"},
}


@pytest.mark.parametrize("top", [[STATIC], {"gpu_data": [STATIC]}], ids=["list", "gpu_data"])
def test_both_shapes_of_amd_smi_say_the_same(top: Any) -> None:
    (device,) = parse_tools([smi(json.dumps(top))])
    assert (device.name, device.gfx, device.pci_id) == ("AMD Instinct MI350 OAM", "gfx950", "1002:75a0")
    assert device.pci_address == "0000:05:00.0"
    assert device.driver_version == "6.18.3"
    assert device.vram_total_bytes == 294896 * MIB


@pytest.mark.parametrize(
    ("vram", "size_bytes"),
    [
        ({"size": {"value": 196592, "unit": "MB"}}, 196592 * MIB),
        ({"size": {"value": 206141652992, "unit": "B"}}, 196592 * MIB),
        ({"size": 196592}, 196592 * MIB),
        ({"vram_size": {"value": "196592", "unit": "MB"}}, 196592 * MIB),
        ({"size": "N/A"}, None),
        ({"size": {"value": "N/A", "unit": "MB"}}, None),
        ({"size": {"value": 5, "unit": "furlongs"}}, None),
        ({"size": 0}, None),
        ({"size": True}, None),
        ("N/A", None),
        (None, None),
    ],
)
def test_every_spelling_of_a_memory_size(vram: Any, size_bytes: int | None) -> None:
    (device,) = parse_tools([smi(json.dumps([{**STATIC, "vram": vram}]))])
    assert device.vram_total_bytes == size_bytes


def test_sections_that_are_not_available_hide_nothing_else() -> None:
    entry = {"gpu": 0, "asic": "N/A", "board": "N/A", "bus": {"bdf": "0000:05:00.0"}, "vram": STATIC["vram"]}
    (device,) = parse_tools([smi(json.dumps([entry]))])
    assert device.name is None
    assert device.vram_total_bytes == 294896 * MIB


def test_warnings_in_brackets_before_the_json_are_skipped() -> None:
    noise = "[WARN] driver is older than the library\nAMD GPU device(s) is/are in a low-power state.\n"
    assert first_json(f'{noise}\n{{"card0": {{"a": 1}}}}\n') == {"card0": {"a": 1}}


def test_old_and_new_keys_of_rocm_smi() -> None:
    old = {"card0": {"Card series": "AMD Radeon VII", "VRAM Total Memory (B)": "17163091968"}}
    new = {"card0": {"Device Name": "MI210", "Device ID": "0x740f", "VRAM Total Memory (B)": "68702699520"}}
    cards = {"card10": old["card0"], "card2": new["card0"], "system": {"Driver version": "6.12"}}
    devices = parse_tools([smi(json.dumps(cards), ROCM_SMI)])
    assert [device.name for device in devices] == ["MI210", "AMD Radeon VII"]
    assert devices[0].pci_id == "1002:740f"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '[{"gpu": 0, "asic": {',
        "null",
        "3",
        '{"gpu_data": "N/A"}',
        '[1, "x", null]',
        "无法打开设备",
        "\0",
    ],
)
@pytest.mark.parametrize("argv", [AMD_SMI, ROCM_SMI], ids=["amd-smi", "rocm-smi"])
def test_output_that_is_no_listing_gives_no_device(text: str, argv: tuple[str, ...]) -> None:
    assert parse_tools([smi(text, argv)]) == ()


@pytest.mark.parametrize("failure", list(Failure))
@pytest.mark.parametrize("argv", [AMD_SMI, ROCM_SMI], ids=["amd-smi", "rocm-smi"])
def test_a_tool_that_failed_lists_only_what_it_printed_before(argv: tuple[str, ...], failure: Failure) -> None:
    half = json.dumps([STATIC, STATIC])[:-40]
    run = CommandRun(argv=argv, exit_status=None, stdout=half, failure=failure)
    assert parse_tools([run]) == ()
    assert amd.parse(Capture(commands={" ".join(argv): run})).devices == ()


@given(st.text())
def test_no_tool_output_makes_the_parser_fail(text: str) -> None:
    parse_tools([smi(text), smi(text, ROCM_SMI)])


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*STATIC, "gpu_data"]), inner),
    )
)
def test_no_json_makes_the_parser_fail(data: Any) -> None:
    parse_tools([smi(json.dumps(data)), smi(json.dumps(data), ROCM_SMI)])


# --- pools -----------------------------------------------------------------------------------------------------------


def partitions(count: int, mode: str, nps: str, socket: str = "0000:05:00") -> list[AmdDevice]:
    return [
        AmdDevice(
            source="sysfs",
            gfx="gfx942",
            pci_id="1002:74a1",
            pci_address=f"{socket}.{number}",
            compute_partition=mode,
            memory_partition=nps,
            has_board_info=True,
            vram_total_bytes=192 * GIB,
            vram_used_bytes=GIB,
            bank_bytes=192 * GIB // count,
        )
        for number in range(count)
    ]


@given(
    sockets=st.integers(1, 8),
    mode=st.sampled_from([("SPX", 1), ("DPX", 2), ("QPX", 4), ("CPX", 8)]),
    nps=st.sampled_from(["NPS1", "NPS2", "NPS4", "N/A", "", "NPS0"]),
    seen=st.integers(1, 8),
)
def test_pools_never_hold_more_than_the_sockets(sockets: int, mode: tuple[str, int], nps: str, seen: int) -> None:
    devices = [
        device
        for socket in range(sockets)
        for device in partitions(mode[1], mode[0], nps, f"0000:{socket:02x}:00")[:seen]
    ]
    ids, pools = place_devices(devices, HostShare())
    assert set(ids) == {pool.id for pool in pools}
    assert sum(pool.total.size_bytes or 0 for pool in pools) <= sockets * 192 * GIB


def test_a_container_that_sees_one_partition_of_nps4_gets_a_quarter() -> None:
    _, (pool,) = place_devices(partitions(8, "CPX", "NPS4")[:1], HostShare())
    assert pool.total.size_bytes == 48 * GIB
    assert pool.kind is PoolKind.SLICE


def test_partitions_without_a_figure_for_the_socket_are_not_added_up() -> None:
    devices = [AmdDevice(source="KFD", pci_address=f"0000:05:00.{n}", bank_bytes=24 * GIB) for n in range(8)]
    _, (pool,) = place_devices(devices, HostShare())
    assert pool.total.size_bytes == 24 * GIB


@given(
    reserved=st.integers(1, 96 * GIB),
    mapped=st.integers(1, 128 * GIB),
    limit=st.none() | st.integers(1, 128 * GIB),
    memory=st.integers(1, 128 * GIB),
    free_share=st.floats(0, 1),
)
def test_an_integrated_gpu_never_gets_more_than_is_there(
    reserved: int, mapped: int, limit: int | None, memory: int, free_share: float
) -> None:
    device = AmdDevice(
        source="sysfs", gfx="gfx1151", vram_total_bytes=reserved, vram_used_bytes=0, gtt_total_bytes=mapped
    )
    share = HostShare(memory_bytes=memory, free_bytes=int(memory * free_share), page_limit_bytes=limit)
    _, (pool,) = place_devices([device], share)
    total, ceiling, free = (amount.size_bytes for amount in (pool.total, pool.ceiling, pool.free))
    assert total == reserved + min(mapped, limit or mapped)
    assert ceiling is not None
    assert free is not None
    assert free <= ceiling <= min(total, reserved + memory)


# --- what is started -------------------------------------------------------------------------------------------------


class CountingSystem(RecordedSystem):
    """Notes what is started."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.started: list[str] = []

    def run(self, argv: Sequence[str], *, timeout_seconds: float) -> CommandRun:
        self.started.append(argv[0])
        return super().run(argv, timeout_seconds=timeout_seconds)

    def which(self, program: str) -> str | None:
        return f"/usr/bin/{program}"


def test_no_tool_is_started_without_a_sign_of_amd() -> None:
    system = CountingSystem(RECORDINGS / "hgx-h100-x8")
    assert amd.parse(amd.collect(system)).findings == ()
    assert system.started == []


def test_no_vendor_tool_is_started_where_the_kernel_tells_everything() -> None:
    system = CountingSystem(RECORDINGS / "mi300x-x8")
    assert len(amd.parse(amd.collect(system)).devices) == 8
    assert system.started == ["find"]


def test_a_tool_that_hangs_is_the_last_one_asked() -> None:
    class Hanging(CountingSystem):
        def run(self, argv: Sequence[str], *, timeout_seconds: float) -> CommandRun:
            super().run(argv, timeout_seconds=timeout_seconds)
            return CommandRun(argv=tuple(argv), exit_status=None, failure=Failure.TIMED_OUT)

    system = Hanging(RECORDINGS / "mi355x-driver-not-loaded")
    outcome = amd.parse(amd.collect(system))
    assert system.started == ["find", "amd-smi"]
    assert {finding.id for finding in outcome.findings} == {"gpu.amd.driver-missing", "gpu.amd.tool-hangs"}
    assert any(evidence.error == "gave no answer in time" for found in outcome.findings for evidence in found.evidence)


@pytest.mark.parametrize(
    ("pci_class", "driver", "finding"),
    [
        ("0x038000", None, "fail gpu.amd.driver-missing"),
        ("0x120000", "amdgpu", "fail gpu.amd.driver-missing"),
        ("0x030000", None, "warn gpu.amd.driver-missing"),
        ("0x120000", "vfio-pci", "info gpu.amd.held-by-other-driver"),
        ("0x040300", None, None),
    ],
)
def test_a_device_on_the_bus_that_nobody_describes(pci_class: str, driver: str | None, finding: str | None) -> None:
    folder = "/sys/bus/pci/devices/0000:43:00.0"
    values = {
        "vendor": "0x1002",
        "device": "0x740f",
        "class": pci_class,
        "uevent": f"DRIVER={driver}" if driver else "",
    }
    outcome = amd.parse(capture_of({f"{folder}/{name}": text for name, text in values.items()}, nodes=()))
    assert [f"{found.severity} {found.id}" for found in outcome.findings] == ([finding] if finding else [])


def test_a_capture_of_nothing_is_no_device() -> None:
    outcome = amd.parse(Capture())
    assert (outcome.devices, outcome.pools, outcome.findings) == ((), (), ())
