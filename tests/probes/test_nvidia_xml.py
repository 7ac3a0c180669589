"""`nvidia-smi -q -x`: every kind of answer, and what it adds to the query of fields."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from v4deploy.domain.hardware import AddressingMode
from v4deploy.domain.units import MIB
from v4deploy.probes import nvidia
from v4deploy.probes.nvidia_device import NvidiaDevice, Virtualization
from v4deploy.probes.nvidia_smi import FULL_FIELDS, MINIMAL_FIELDS, parse_smi, query_argv
from v4deploy.probes.nvidia_xml import parse_xml
from v4deploy.system.base import CommandRun, Failure
from v4deploy.system.recorded import RecordedSystem
from v4deploy.system.yaml_files import write_yaml_file

ARGV = ("nvidia-smi", "-q", "-x")
FULL, MINIMAL = query_argv("nvidia-smi", FULL_FIELDS), query_argv("nvidia-smi", MINIMAL_FIELDS)
HEAD = '<?xml version="1.0" ?>\n<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v13.dtd">\n'
NAME = "<product_name>NVIDIA H200</product_name>"
ADDRESS = "<pci><pci_bus_id>00000000:1B:00.0</pci_bus_id><pci_device_id>233510DE</pci_device_id></pci>"
MEMORY = (
    "<fb_memory_usage><total>143771 MiB</total><reserved>700 MiB</reserved><free>143000 MiB</free></fb_memory_usage>"
)


def document(
    *gpus: str, head: str = "<driver_version>580.105.08</driver_version><cuda_version>13.0</cuda_version>"
) -> str:
    return f"{HEAD}<nvidia_smi_log>{head}{''.join(f'<gpu>{gpu}</gpu>' for gpu in gpus)}</nvidia_smi_log>\n"


def run(stdout: str, status: int | None = 0, failure: Failure | None = None, stderr: str = "") -> CommandRun:
    return CommandRun(argv=ARGV, exit_status=status, stdout=stdout, stderr=stderr, failure=failure)


def only_device(*parts: str) -> NvidiaDevice:
    report = parse_xml([run(document("".join((NAME, ADDRESS, *parts))))])
    assert report is not None
    (device,) = report.devices
    return device


def test_a_device_with_all_that_is_read() -> None:
    device = only_device(
        MEMORY,
        "<addressing_mode>None</addressing_mode><mig_mode><current_mig>Disabled</current_mig></mig_mode>",
        "<mig_devices>\n\t\t\tNone\n\t\t</mig_devices><gpu_recovery_action>None</gpu_recovery_action>",
        "<gpu_virtualization_mode><virtualization_mode>Pass-Through</virtualization_mode></gpu_virtualization_mode>",
        "<fabric><state>Completed</state><status>Success</status><health><summary>Healthy</summary></health></fabric>",
        "<ecc_mode><current_ecc>Enabled</current_ecc><pending_ecc>Enabled</pending_ecc></ecc_mode>",
        "<remapped_rows><remapped_row_pending>No</remapped_row_pending></remapped_rows>",
    )
    assert device == NvidiaDevice(
        index=0,
        name="NVIDIA H200",
        pci_address="0000:1b:00.0",
        pci_id="10de:2335",
        total_bytes=143771 * MIB,
        reserved_bytes=700 * MIB,
        free_bytes=143000 * MIB,
        addressing_mode=AddressingMode.NONE,
        fabric_state=3,
        fabric_status=0,
        fabric_health=1,
        recovery_action=0,
        virtualization=Virtualization.PASS_THROUGH,
    )


@pytest.mark.parametrize(
    ("head", "driver", "cuda"),
    [
        ("<driver_version>340.102</driver_version>", "340.102", None),
        ("<driver_version>535.86.05</driver_version><cuda_version>12.2</cuda_version>", "535.86.05", "12.2"),
        (
            (
                "<driver_version>615.23</driver_version><cuda_version>13.4</cuda_version>"
                "<kmd_version>615.23</kmd_version><cuda_umd_version>13.4</cuda_umd_version>"
            ),
            "615.23",
            "13.4",
        ),
        ("<kmd_version>700.10</kmd_version><cuda_umd_version>14.0</cuda_umd_version>", "700.10", "14.0"),
        (
            "<driver_version>610.47 [Deprecated; use kmd_version]</driver_version><cuda_version>N/A</cuda_version>",
            "610.47",
            None,
        ),
        ("", None, None),
    ],
    ids=["340", "535", "615", "names-of-the-future", "noted", "none"],
)
def test_versions_have_had_several_names(head: str, driver: str | None, cuda: str | None) -> None:
    report = parse_xml([run(document(NAME + ADDRESS, head=head))])
    assert report is not None
    assert (report.driver_version, report.cuda_version) == (driver, cuda)


def nested(path: str, text: str) -> str:
    """An element below others: `a/b` and `x` give `<a><b>x</b></a>`."""
    names = path.split("/")
    return "".join(f"<{name}>" for name in names) + text + "".join(f"</{name}>" for name in reversed(names))


@pytest.mark.parametrize(
    ("path", "text", "field", "value"),
    [
        ("gpu_recovery_action", "Drain and Reset", "recovery_action", 4),
        ("gpu_recovery_action", "N/A", "recovery_action", None),
        ("gpu_recovery_action", "Something New", "recovery_action", None),
        ("fabric/state", "Not Started", "fabric_state", 1),
        ("fabric/status", "Insufficient Resources", "fabric_status", 999),
        ("fabric/status", "N/A", "fabric_status", None),
        ("fabric/health/summary", "Limited Capacity", "fabric_health", 3),
        ("remapped_rows/remapped_row_failure", "Yes", "unrepairable", ("a row of its memory could not be remapped",)),
        ("ecc_errors/tpc_repair_pending", "Yes", "repairs_pending", ("repair of a processing cluster",)),
        ("remapped_rows", "N/A", "repairs_pending", ()),
        ("gpu_virtualization_mode/virtualization_mode", "VGPU", "virtualization", Virtualization.VGPU),
        ("vgpu_software_licensed_product/license_status", "Unlicensed (Restricted)", "licensed", False),
        ("vgpu_software_licensed_product/license_status", "Licensed (Expiry: 2026-12-1)", "licensed", True),
        ("addressing_mode", "Requested functionality has been deprecated", "addressing_mode", None),
        ("mig_mode/current_mig", "Enabled", "mig_enabled", True),
    ],
)
def test_a_state(path: str, text: str, field: str, value: object) -> None:
    assert getattr(only_device(nested(path, text)), field) == value


@pytest.mark.parametrize(
    ("current", "pending", "after"), [("Disabled", "Enabled", True), ("Enabled", "Enabled", None), ("N/A", "N/A", None)]
)
def test_a_change_of_ecc(current: str, pending: str, *, after: bool | None) -> None:
    modes = nested("current_ecc", current) + nested("pending_ecc", pending)
    assert only_device(f"<ecc_mode>{modes}</ecc_mode>").ecc_pending is after


@pytest.mark.parametrize("words", ["N/A", "Insufficient Permissions", "Unknown Error", "ERR!", "12 GiB", ""])
def test_memory_that_is_not_told_is_unknown_with_the_reason(words: str) -> None:
    device = only_device(f"<fb_memory_usage><total>{words}</total></fb_memory_usage>")
    assert (device.total_bytes, device.failure) == (None, None)
    assert device.memory_error is not None
    assert words in device.memory_error


def test_a_lost_device_is_one_although_it_still_has_a_name() -> None:
    device = only_device("<fb_memory_usage><total>GPU is lost</total></fb_memory_usage>")
    assert device.failure is not None
    assert device.failure.code == 15


def test_slices_stand_for_their_device() -> None:
    slices = "".join(
        f"<mig_device><gpu_instance_id>{number}</gpu_instance_id><fb_memory_usage><total>{total}</total>"
        "</fb_memory_usage></mig_device>"
        for number, total in ((1, "20096 MiB"), (5, "N/A"))
    )
    gpu = f"{NAME}{ADDRESS}{MEMORY}<mig_mode><current_mig>Enabled</current_mig></mig_mode><mig_devices>{slices}"
    report = parse_xml([run(document(f"{gpu}</mig_devices>"))])
    assert report is not None
    assert [(d.name, d.total_bytes, d.is_slice, d.mig_enabled, d.pci_address) for d in report.devices] == [
        ("NVIDIA H200 MIG slice 1", 20096 * MIB, True, False, "0000:1b:00.0"),
        ("NVIDIA H200 MIG slice 5", None, True, False, "0000:1b:00.0"),
    ]


def test_a_document_that_was_cut_off_gives_what_it_holds_whole() -> None:
    whole = document(NAME + ADDRESS + MEMORY, NAME + MEMORY)
    report = parse_xml([run(whole[: whole.rindex("<free>")])])
    assert report is not None
    assert [device.pci_address for device in report.devices] == ["0000:1b:00.0"]
    assert report.driver_version == "580.105.08"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (run(""), "printed nothing"),
        (run(document()), "nvidia_smi_log"),
        (run("\x00\xff garbage <gpu> &amp", 1), "garbage"),
        (run("Échec de l'initialisation de NVML", 255), "Échec"),
        (run("Failed to initialize NVML: Insufficient Permissions\n", 4), "Insufficient"),
        (run("", None, Failure.TIMED_OUT), "printed nothing"),
        (run("", None, Failure.NO_PERMISSION, "Permission denied"), "Permission denied"),
        (run(f"{HEAD}<nvidia_smi_log>\n\t<gpu>\n\t\t<product_na"), "nvidia_smi_log"),
        (run('<!DOCTYPE x [<!ENTITY a "b">]><nvidia_smi_log><gpu>&a;</gpu></nvidia_smi_log>'), "ENTITY"),
    ],
    ids=["empty", "no-gpu", "garbage", "localised", "refused", "timeout", "denied", "cut-early", "entity"],
)
def test_an_answer_without_devices_says_why(answer: CommandRun, words: str) -> None:
    report = parse_xml([answer])
    assert report is not None
    assert report.devices == ()
    assert report.failure is not None
    assert words in report.failure.message


@given(st.text(alphabet="<>/&gpu_nvidia_smi_logMiB0123 \n", max_size=300))
def test_no_output_makes_the_parser_raise(text: str) -> None:
    parse_xml([run(text)])
    parse_xml([run(document(NAME + ADDRESS) + text)])


def test_the_xml_fills_the_query_and_contradicts_none_of_it() -> None:
    row = "0, NVIDIA H200, 00000000:1B:00.0, 143771, 143000, 580.126.09, 0x233510DE, 700, 9.0, Disabled, None\n"
    query = CommandRun(argv=FULL, exit_status=0, stdout=row)
    told = document(f"{NAME}{ADDRESS}{MEMORY}<gpu_recovery_action>Reset</gpu_recovery_action>", head="")
    report = parse_smi([query, run(told)])
    (device,) = report.devices
    assert report.driver_version == "580.126.09"
    assert (device.compute_capability, device.recovery_action, device.reserved_bytes) == ((9, 0), 1, 700 * MIB)


def test_a_lost_device_of_the_query_stays_lost_beside_the_xml() -> None:
    lost = "Unable to determine the device handle for GPU0000:1B:00.0: Unknown Error\n"
    row = "0, NVIDIA H200, 00000000:06:00.0, 143771, 143000, 580.126.09, 0x233510DE, 700, 9.0, Disabled, None\n"
    query = CommandRun(argv=FULL, exit_status=15, stdout=row + lost)
    report = parse_smi([query, run(document(NAME + ADDRESS + MEMORY))])
    assert [(d.pci_address, d.failure is None) for d in report.devices] == [
        ("0000:06:00.0", True),
        ("0000:1b:00.0", False),
    ]


MISMATCH = "Failed to initialize NVML: Driver/library version mismatch\n"
QUERY, SMALL, BANNER, XML, LINKS, PEERS = FULL[1], MINIMAL[1], "", "-q -x", "topo -m", "topo -p2p r"
ROWS = "".join(f"{n}, A, 00000000:1{n}:00.0, 9, 9, 1.2, 0x233510DE, 7, 9.0, x, x\n" for n in (0, 1))


@pytest.mark.parametrize(
    ("answers", "asked"),
    [
        ({QUERY: {"exit_status": 0, "stdout": ROWS}}, [QUERY, BANNER, XML, LINKS, PEERS]),
        ({QUERY: {"exit_status": 2}}, [QUERY, SMALL, BANNER, XML]),
        ({QUERY: {"failure": "timed-out"}}, [QUERY]),
        ({QUERY: {"exit_status": 2}, SMALL: {"failure": "timed-out"}}, [QUERY, SMALL]),
        ({QUERY: {"exit_status": 0, "stdout": ROWS}, XML: {"failure": "timed-out"}}, [QUERY, BANNER, XML]),
        ({QUERY: {"exit_status": 18, "stdout": MISMATCH}}, [QUERY, SMALL, BANNER]),  # the smaller one is not recorded
    ],
    ids=["two-devices", "old", "hangs", "hangs-later", "hangs-in-xml", "driver-refuses"],
)
def test_what_nvidia_smi_is_asked(tmp_path: Path, answers: dict[str, dict[str, object]], asked: list[str]) -> None:
    write_yaml_file(tmp_path / "facts.yaml", {"machine": {"system": "Linux", "machine": "x86_64"}})
    origin = {"kind": "hand-made", "source": "a test", "as_of": "2026-11-28", "claim": "x"}
    write_yaml_file(tmp_path / "origin.yaml", origin)
    for number, (question, answer) in enumerate(answers.items()):
        argv = [*FULL[:1], question, FULL[2]] if question in {QUERY, SMALL} else ["nvidia-smi", *question.split()]
        write_yaml_file(tmp_path / "commands" / f"{number}.yaml", {"argv": argv, **answer})
    commands = nvidia.collect(RecordedSystem(tmp_path)).commands
    assert [" ".join(run.argv[1:]).removesuffix(f" {FULL[2]}") for run in commands.values()] == asked
