"""AMD's runtime: HIP's answers and rocminfo's text, and when they are asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from v4deploy.probes import amd
from v4deploy.probes.amd_device import AmdDevice, fill_gaps
from v4deploy.probes.amd_pools import HostShare, place_devices
from v4deploy.probes.amd_runtime import parse_hip, parse_rocminfo
from v4deploy.system.base import CommandRun, Failure, LibraryAnswer
from v4deploy.system.recorded import RecordedSystem

GIB = 1024**3
RECORDINGS = Path(__file__).parents[1] / "recordings"
# Shortened from a published `rocminfo --support` of a laptop with a Radeon 680M beside an RX 7900 GRE under WSL, its
# first agent a processor with a name that looks like a GPU's.
ROCMINFO = """\
ROCk module is loaded
=====================
HSA System Attributes
=====================
Runtime Version:         1.1

==========
HSA Agents
==========
*******
Agent 1
*******
  Name:                    AMD Ryzen 7 6800H with Radeon Graphics
  Uuid:                    CPU-XX
  Marketing Name:          AMD Ryzen 7 6800H with Radeon Graphics
  Vendor Name:             CPU
  Device Type:             CPU
  Chip ID:                 0(0x0)
  BDFID:                   0
  Pool Info:
    Pool 1
      Segment:                 GLOBAL; FLAGS: COARSE GRAINED
      Size:                    28500000(0x1b2dfa0) KB
  ISA Info:
*******
Agent 2
*******
  Name:                    gfx1100
  Uuid:                    GPU-XX
  Marketing Name:          AMD Radeon RX 7900 GRE
  Vendor Name:             AMD
  Device Type:             GPU
  Chip ID:                 29772(0x744c)
  BDFID:                   768
  Memory Properties:
  Pool Info:
    Pool 1
      Segment:                 GLOBAL; FLAGS: COARSE GRAINED
      Size:                    16691368(0xfeb0a8) KB
    Pool 2
      Segment:                 GLOBAL; FLAGS: EXTENDED FINE GRAINED
      Size:                    16691368(0xfeb0a8) KB
    Pool 3
      Segment:                 GROUP
      Size:                    64(0x40) KB
  ISA Info:
    ISA 1
      Name:                    amdgcn-amd-amdhsa--gfx1100
*******
Agent 3
*******
  Name:                    gfx1035
  Uuid:                    GPU-XX
  Marketing Name:          AMD Radeon Graphics
  Vendor Name:             AMD
  Device Type:             GPU
  Chip ID:                 5761(0x1681)
  BDFID:                   13312
  Memory Properties:       APU
  Pool Info:
    Pool 1
      Segment:                 GLOBAL; FLAGS: COARSE GRAINED
      Size:                    14250000(0xd96ad0) KB
  ISA Info:
    ISA 1
      Name:                    amdgcn-amd-amdhsa--gfx1035
    ISA 2
      Name:                    amdgcn-amd-amdhsa--gfx10-3-generic
*** Done ***
"""


def rocminfo(stdout: str, **more: Any) -> CommandRun:
    return CommandRun(argv=("rocminfo",), **{"exit_status": 0, "stdout": stdout, **more})


def hip(*devices: dict[str, Any], **more: Any) -> LibraryAnswer:
    data = {"init": {"value": True}, "device_count": {"value": len(devices)}, "devices": list(devices), **more}
    return LibraryAnswer(library="hip", data=data)


CARD = {
    "index": 0,
    "handle": {"value": True},
    "name": {"value": "AMD Radeon RX 9070 XT"},
    "memory": {"value": {"total": 16 * GIB}},
    "target": {"value": "gfx1201"},
    "integrated": {"value": 0},
    "pci": {"value": {"address": "0000:03:00.0"}},
}


def test_each_gpu_of_rocminfo_counts_once_and_its_processor_not_at_all() -> None:
    card, integrated = parse_rocminfo(rocminfo(ROCMINFO)).devices
    assert (card.name, card.gfx, card.pci_id, card.pci_address) == (
        "AMD Radeon RX 7900 GRE",
        "gfx1100",
        "1002:744c",
        "0000:03:00.0",
    )
    assert (card.vram_total_bytes, card.shared_total_bytes) == (16691368 * 1024, None)
    assert (integrated.gfx, integrated.pci_address, integrated.is_integrated) == ("gfx1035", "0000:34:00.0", True)
    assert (integrated.vram_total_bytes, integrated.shared_total_bytes) == (None, 14250000 * 1024)


def test_an_old_rocminfo_without_indents_or_memory_properties() -> None:
    text = "\n".join(line.strip() for line in ROCMINFO.splitlines() if "Memory Properties" not in line)
    card, integrated = parse_rocminfo(rocminfo(text)).devices
    assert (card.integrated, card.is_integrated, integrated.is_integrated) == (None, False, True)


@pytest.mark.parametrize("address", ["", "  BDFID:                   0\n", "  BDFID:                   viele\n"])
def test_a_gpu_behind_windows_has_no_address(address: str) -> None:
    card, _ = parse_rocminfo(rocminfo(ROCMINFO.replace("  BDFID:                   768\n", address))).devices
    assert card.pci_address is None


def test_a_listing_that_breaks_off_keeps_what_it_told() -> None:
    (card,) = parse_rocminfo(rocminfo(ROCMINFO[: ROCMINFO.index("Size:                    16691368")])).devices
    assert (card.gfx, card.vram_total_bytes, card.memory_error) == (
        "gfx1100",
        None,
        "rocminfo: no coarse grained pool",
    )


@pytest.mark.parametrize(
    ("run", "error"),
    [
        (rocminfo("", exit_status=1), "status 1"),
        (rocminfo("", exit_status=None, failure=Failure.TIMED_OUT), "gave no answer in time"),
        (rocminfo("", exit_status=None, failure=Failure.NO_PERMISSION), "no-permission"),
        (
            rocminfo("ROCk module is loaded\nUnable to open /dev/kfd read-write: Permission denied\n", exit_status=1),
            "ROCk module is loaded Unable to open /dev/kfd read-write: Permission denied",
        ),
        (
            rocminfo("WSL environment detected.\n", stderr="hsa_init Failed, possibly no supported GPU devices\n"),
            "hsa_init Failed, possibly no supported GPU devices WSL environment detected.",
        ),
        (rocminfo("ROCk-Modul ist NICHT geladen\n", exit_status=1), "ROCk-Modul ist NICHT geladen"),
        (rocminfo("\0\0"), "\0\0"),
        (rocminfo(ROCMINFO[: ROCMINFO.index("*******\nAgent 2")]), "lists no GPU"),
    ],
)
def test_a_rocminfo_without_devices_says_why(run: CommandRun, error: str) -> None:
    report = parse_rocminfo(run)
    assert (report.devices, report.error) == ((), error)


@given(st.text())
def test_no_text_makes_the_rocminfo_parser_fail(text: str) -> None:
    assert parse_rocminfo(rocminfo(text)).devices == ()


@given(st.lists(st.sampled_from(ROCMINFO.splitlines(keepends=True)), max_size=60))
def test_no_order_of_lines_makes_the_rocminfo_parser_fail(lines: list[str]) -> None:
    parse_rocminfo(rocminfo("".join(lines)))


# --- HIP -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (LibraryAnswer(library="hip", data=None, error="gave no answer in 10 s"), "gave no answer in 10 s"),
        (LibraryAnswer(library="hip", data={}), "HIP: no answer"),
        (hip(init={"error": "hipErrorNoDevice", "code": 100}), "HIP: hipErrorNoDevice"),
        (hip(device_count={"error": "hipErrorInvalidDevice", "code": 101}), "HIP: hipErrorInvalidDevice"),
        (hip(), "HIP: lists no device"),
        (hip({"index": 0, "handle": {"error": "hipErrorInvalidDevice", "code": 101}}), "HIP: lists no device"),
        (hip(devices="N/A"), "HIP: lists no device"),
        (hip(devices=[1, None, "x"]), "HIP: lists no device"),
    ],
)
def test_a_hip_without_devices_says_why(answer: LibraryAnswer, error: str) -> None:
    report = parse_hip(answer)
    assert (report.devices, report.error) == ((), error)


@pytest.mark.parametrize(
    ("field", "answer"),
    [
        ("memory", {"error": "hipErrorUnknown", "code": 999}),
        ("memory", {"value": {"total": 0}}),
        ("memory", {"value": "N/A"}),
        ("target", {"value": "unknown"}),
        ("pci", {"value": {"address": ""}}),
        ("integrated", {"value": "no"}),
        ("name", {"value": 7}),
    ],
)
def test_a_field_that_fails_costs_no_other(field: str, answer: dict[str, Any]) -> None:
    (device,) = parse_hip(hip({**CARD, field: answer})).devices
    kept = {
        "memory": device.vram_total_bytes,
        "target": device.gfx,
        "pci": device.pci_address,
        "integrated": device.integrated,
        "name": device.name,
    }
    assert {name for name, value in kept.items() if value is None} == {field}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from([*CARD, "init", "devices", "device_count", "value", "error"]), inner)
        ),
    )
)
def test_no_answer_makes_the_hip_parser_fail(data: Any) -> None:
    parse_hip(LibraryAnswer(library="hip", data=data if isinstance(data, dict) else {"devices": data}))


def test_two_gpus_behind_windows_do_not_become_one() -> None:
    nowhere = {**CARD, "pci": {"value": {"address": "0000:00:00.0"}}}
    devices = parse_hip(hip(nowhere, nowhere)).devices
    assert [device.pci_address for device in devices] == [None, None]
    assert len(place_devices(devices, HostShare())[1]) == 2


def test_hip_tells_mi300a_from_mi300x() -> None:
    entry = {**CARD, "target": {"value": "gfx942:sramecc+:xnack-"}, "memory": {"value": {"total": 96 * GIB}}}
    apu, card = parse_hip(hip({**entry, "integrated": {"value": 1}}, entry)).devices
    assert (apu.has_shared_hbm, card.has_shared_hbm) == (True, False)


def test_what_the_kernel_tells_is_not_replaced() -> None:
    known = AmdDevice(source="sysfs", pci_address="0000:03:00.0", vram_total_bytes=GIB)
    silent = AmdDevice(source="KFD", gfx="gfx1201", pci_address="0000:04:00.0", memory_error="hidden")
    told = AmdDevice(source="HIP", pci_address="0000:04:00.0", gfx="gfx1200", vram_total_bytes=2 * GIB, is_open=True)
    other = AmdDevice(source="HIP", pci_address="0000:03:00.0", vram_total_bytes=3 * GIB)
    first, second = fill_gaps([known, silent], [told, other])
    assert first == known
    assert (second.gfx, second.vram_total_bytes, second.source, second.is_open) == ("gfx1201", 2 * GIB, "HIP", True)


def test_a_device_that_no_source_knows_stays_of_unknown_size() -> None:
    silent = [AmdDevice(source="KFD", pci_address=f"0000:0{n}:00.0") for n in (3, 4)]
    assert fill_gaps(silent, [AmdDevice(source="HIP", pci_address="0000:05:00.0", vram_total_bytes=GIB)]) == tuple(
        silent
    )


def test_an_integrated_gpu_that_only_the_runtime_tells_of_lives_on_the_hosts_memory() -> None:
    device = AmdDevice(source="HIP", gfx="gfx1151", integrated=True, shared_total_bytes=120 * GIB, is_open=True)
    _, (pool,) = place_devices([device], HostShare(memory_bytes=125 * GIB, free_bytes=89 * GIB))
    assert [amount.size_bytes for amount in (pool.total, pool.ceiling, pool.free)] == [120 * GIB, 120 * GIB, 89 * GIB]


# --- what is asked ---------------------------------------------------------------------------------------------------


class AskedSystem(RecordedSystem):
    """Notes what is started; a tool that `hangs` gives no answer."""

    def __init__(self, directory: Path, hangs: str = "") -> None:
        super().__init__(directory)
        self.asked: list[str] = []
        self.hangs = hangs

    def run(self, argv: Sequence[str], *, timeout_seconds: float) -> CommandRun:
        self.asked.append(argv[0])
        if argv[0] == self.hangs:
            return CommandRun(argv=tuple(argv), exit_status=None, failure=Failure.TIMED_OUT)
        return super().run(argv, timeout_seconds=timeout_seconds)

    def which(self, program: str) -> str | None:
        return f"/usr/bin/{program}" if program in {"amd-smi", "rocm-smi", "rocminfo"} else None

    def library(self, library: str, *, timeout_seconds: float) -> LibraryAnswer:
        self.asked.append(library)
        if library == self.hangs:
            return LibraryAnswer(library=library, data=None, error="gave no answer in 10 s")
        return super().library(library, timeout_seconds=timeout_seconds)


@pytest.mark.parametrize(
    ("recording", "hangs", "asked"),
    [
        ("mi300x-x8", "", ["find"]),
        ("rx-9070-xt-in-container-hip-answers", "", ["find", "amd-smi", "rocm-smi", "hip"]),
        ("rx-9070-xt-in-container-hip-answers", "amd-smi", ["find", "amd-smi"]),
        ("rx-9070-xt-in-container-hip-answers", "hip", ["find", "amd-smi", "rocm-smi", "hip"]),
        ("radeon-680m-only-rocminfo-answers", "", ["find", "amd-smi", "rocm-smi", "hip", "rocminfo"]),
        ("wsl2-r9700", "", ["find", "hip"]),
        ("wsl2-with-rocm", "", ["find", "hip", "rocminfo"]),
        ("hgx-h100-x8", "", []),
    ],
)
def test_no_source_is_asked_for_what_a_former_one_told(recording: str, hangs: str, asked: list[str]) -> None:
    system = AskedSystem(RECORDINGS / recording, hangs)
    amd.collect(system)
    assert system.asked == asked


@pytest.mark.parametrize(
    ("hangs", "named"),
    [
        ("amd-smi", "amd-smi static"),
        ("rocm-smi", "rocm-smi --showproductname"),
        ("hip", "HIP"),
        ("rocminfo", "rocminfo"),
    ],
)
def test_what_hangs_is_named(hangs: str, named: str) -> None:
    system = AskedSystem(RECORDINGS / "radeon-680m-only-rocminfo-answers", hangs)
    outcome = amd.parse(amd.collect(system))
    (finding,) = (found for found in outcome.findings if found.id == "gpu.amd.tool-hangs")
    assert finding.summary.startswith(named)
    assert [(evidence.error or "")[:14] for evidence in finding.evidence] == ["gave no answer"]
    assert system.asked[-1] == hangs
