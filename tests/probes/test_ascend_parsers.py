"""npu-smi in all layouts, its sub-commands and refusals, and the way from its words to a family."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from v4deploy.probes import ascend
from v4deploy.probes.ascend_answers import (
    Refusal,
    parse_listing,
    parse_mapping,
    parse_section,
    parse_version,
    refusal_of,
)
from v4deploy.probes.ascend_family import family_of, normal_name, soc_name
from v4deploy.probes.ascend_table import Layout, parse_table
from v4deploy.probes.base import Capture
from v4deploy.probes.device_nodes import NodeQuery, parse_nodes
from v4deploy.system.base import CommandRun, Failure, FileRead
from v4deploy.system.recorded import RecordedSystem

MIB = 1024**2
RECORDINGS = Path(__file__).parents[1] / "recordings"
INFO = ("npu-smi", "info")

DUO = """\
| npu-smi 25.5.1                                   Version: 25.5.1                                       |
+-------------------------------+-----------------+------------------------------------------------------+
| NPU     Name                  | Health          | Power(W)     Temp(C)           Hugepages-Usage(page) |
| Chip    Device                | Bus-Id          | AICore(%)    Memory-Usage(MB)                        |
+===============================+=================+======================================================+
| 2944    310P3                 | OK              | NA           44                7210  / 7210          |
| 0       0                     | 0000:0B:00.0    | 0            1850 / 44278                            |
+-------------------------------+-----------------+------------------------------------------------------+
| 2944    310P3                 | OK              | NA           43                7210  / 7210          |
| 1       1                     | 0000:0B:00.0    | 0            1650 / 43693                            |
+===============================+=================+======================================================+
"""
A2 = """\
| npu-smi 25.2.0                   Version: 25.2.0                                               |
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip                      | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
| 0     910B3               | OK            | 88.6        51                0    / 0             |
| 0                         | 0000:C1:00.0  | 0           0    / 0          3407 / 65536         |
| 1     910B3               | Warning       | 88.6        51                0    / 0             |
| 0                         | 0000:C2:00.0  | 0           0    / 0          3407 / 65536         |
"""


def info_of(text: str, failure: Failure | None = None) -> Capture:
    run = CommandRun(argv=INFO, exit_status=None if failure else 0, stdout=text, failure=failure)
    return Capture(commands={"npu-smi info": run}, entries={"/dev": ("davinci0",)})


# --- the table -------------------------------------------------------------------------------------------------------


def test_hugepages_are_not_memory_and_one_card_may_hold_two_chips() -> None:
    table = parse_table(DUO)
    assert table.layout is Layout.DDR
    assert [(row.npu_id, row.chip_id) for row in table.rows] == [(2944, 0), (2944, 1)]
    assert [row.total_bytes for row in table.rows] == [44278 * MIB, 43693 * MIB]


@pytest.mark.parametrize(
    ("recording", "layout"),
    [
        ("atlas-200i-310b4-alarm", Layout.DDR),
        ("atlas-800i-a2-910b4-x8", Layout.HBM),
        ("910b2c-wide-table", Layout.HBM),
        ("atlas-a3-two-cards", Layout.DIES),
        ("atlas-350-950pr-in-container", Layout.FLAT),
    ],
)
def test_layouts_are_told_apart_by_their_header(recording: str, layout: Layout) -> None:
    text = RecordedSystem(RECORDINGS / recording).run(INFO, timeout_seconds=1).stdout
    assert parse_table(text).layout is layout


def test_a_table_that_was_cut_off_keeps_its_whole_chips() -> None:
    rows = parse_table(A2[: A2.index("| 0                         | 0000:C2")]).rows
    assert [row.total_bytes for row in rows] == [65536 * MIB, None]
    missing_line = "".join(line for line in A2.splitlines(keepends=True) if "C1:00.0" not in line)
    rows = parse_table(missing_line).rows
    assert [row.total_bytes for row in rows] == [None, 65536 * MIB]


def test_memory_of_zero_is_unknown() -> None:
    (first, _) = parse_table(A2.replace("3407 / 65536", "0    / 0    ", 1)).rows
    assert (first.total_bytes, first.used_bytes) == (None, None)


def test_ids_and_addresses_that_are_not_available() -> None:
    text = A2.replace("| 0     910B3", "| -1    910B3").replace("0000:C1:00.0", "NA          ")
    first = parse_table(text).rows[0]
    assert (first.npu_id, first.pci_address, first.total_bytes) == (None, None, 65536 * MIB)


def test_processes_are_no_chips() -> None:
    processes = "| NPU     Chip | Process id | Process name | Process memory(MB) |\n| 0 OK | OK | python | 7 |\n"
    assert len(parse_table(A2 + processes).rows) == 2


@pytest.mark.parametrize(
    "text", ["", "|", "||||\n||||", "没有权限访问设备", "\0\0", "<html>|0 910B3|OK|</html>", A2[:200]]
)
def test_what_is_no_table_has_no_rows(text: str) -> None:
    assert parse_table(text).rows == ()


@given(st.text(alphabet="|0123456789 /ABOKNPU\n-=+.:", max_size=300) | st.text())
def test_no_output_makes_the_parsers_fail(text: str) -> None:
    for row in parse_table(text).rows:
        assert row.total_bytes is None or row.total_bytes > 0
    parse_mapping(text)
    parse_section(text)
    ascend.parse(info_of(text))


# --- sections and listings -------------------------------------------------------------------------------------------


def test_sections_are_read_with_tabs_and_blanks_and_the_first_of_a_key_wins() -> None:
    text = "\tNPU ID                         : 0\n        Chip Name                      : 910A\n\tClass ID   :\n"
    text += "\tPCIe Bus Info                  : 0000:61:00.0\n\tChip Name                      : mcu\n"
    assert parse_section(text) == {"NPU ID": "0", "Chip Name": "910A", "PCIe Bus Info": "0000:61:00.0"}


def test_card_numbers_are_what_is_printed() -> None:
    listing = "Card Count : 2\n\n NPU ID   : 2944\n Chip Count : 2\n NPU ID : 5678\n"
    assert parse_listing(listing) == ((2944, 2), (5678, None))


A3_MAPPING = """\
    NPU ID                         Chip ID                        Chip Logic ID                  Chip Phy-ID                    Chip Name
    0                              0                              0                              0                              Ascend910
    0                              1                              1                              1                              Ascend910
    0                              2                              -                              -                              Mcu
"""  # noqa: E501 - as printed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        "NPU ID",
        "\tNPU ID                         : \n",
        "\tNPU ID                         : viele\n",
        "\tNPU-Nummer                     : 0\n",
        "设备 ID                         : 0\n",
        "dcmi module initialize failed. ret is -8005",
        "\0\x01: : :\n:::",
        A3_MAPPING[:80],
    ],
)
def test_listings_that_are_none(text: str) -> None:
    assert (parse_listing(text), parse_mapping(text)) == ((), ())


def test_listings_that_break_off_keep_their_whole_rows() -> None:
    assert [chip.chip_id for chip in parse_mapping(A3_MAPPING[: A3_MAPPING.index("Mcu") - 40])] == [0, 1]
    assert parse_listing("NPU ID : 0\nChip Count : 2\nNPU ID : 1\nChip Cou") == ((0, 2), (1, None))


@given(st.text() | st.lists(st.sampled_from(A3_MAPPING.split()), max_size=30).map("  ".join))
def test_no_text_makes_the_listings_fail(text: str) -> None:
    parse_listing(text)
    parse_mapping(text)
    parse_version(text)


def test_controllers_are_not_chips() -> None:
    chips = parse_mapping(A3_MAPPING)
    assert [(chip.npu_id, chip.chip_id, chip.name) for chip in chips] == [(0, 0, "Ascend910"), (0, 1, "Ascend910")]
    assert all(chip.has_physical_id for chip in chips)


def test_a_listing_with_blanks_in_names_and_with_tabs() -> None:
    text = "\tNPU ID    Chip ID    Chip Logic ID    Chip Name\n\t0\t0\t0\tAscend 910A\n"
    assert [(chip.name, chip.has_physical_id) for chip in parse_mapping(text)] == [("Ascend 910A", False)]


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("Version=25.5.2\nascendhal_version=7.35.23\n", "25.5.2"),
        ("package_name=Ascend-cann-toolkit\nversion=9.1.0\ninnerversion=V100\n", "9.1.0"),
        ("Ascend-cann-atb Version : 9.1.0.B150\n", "9.1.0.B150"),
        ("innerversion=V100R001\n", None),
        ("", None),
        (None, None),
    ],
)
def test_versions(text: str | None, version: str | None) -> None:
    assert parse_version(text) == version


# --- families --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("910B3", "ascend-a2"),
        ("Ascend 910B4-1", "ascend-a2"),
        ("910B2C", "ascend-a2"),
        ("A2G3", "ascend-a2"),
        ("AlanA2G3", "ascend-a2"),
        ("910B", "ascend-910"),
        ("910A", "ascend-910"),
        ("910ProB", "ascend-910"),
        ("910PremiumA", "ascend-910"),
        ("Ascend910_9392", "ascend-a3"),
        ("Ascend910", None),
        ("310P3", "ascend-310p"),
        ("I2", "ascend-310p"),
        ("310B4", "ascend-310b"),
        ("Ascend950PR_9579", "ascend-950"),
        ("Ascend950DT", "ascend-950"),
        ("xxx", None),
        ("Ascend920", None),
    ],
)
def test_families(name: str, family: str | None) -> None:
    assert family_of(normal_name(name)) == family


def test_a_bare_910_with_physical_ids_is_an_a3_die() -> None:
    assert family_of("Ascend910", is_dies_layout=True) == "ascend-a3"
    assert family_of("Ascend910B", is_dies_layout=True) == "ascend-910"


@pytest.mark.parametrize(
    ("card", "chip", "name"),
    [
        ({"Chip Name": "Ascend950PR", "NPU Name": "9579"}, {}, "Ascend950PR_9579"),
        ({}, {"Chip Type": "Ascend", "Chip Name": "910B3"}, "Ascend910B3"),
        ({}, {"Chip Name": "Ascend910", "NPU Name": "9392"}, "Ascend910_9392"),
        ({}, {"Chip Type": "Ascend", "Chip Name": "Ascend910", "NPU Name": "9362"}, "Ascend910_9362"),
        ({}, {"Chip Type": "Ascend", "Chip Name": "910B3", "NPU Name": "0"}, "Ascend910B3"),
        ({}, {"Chip Type": "Ascend", "Chip Name": "910B3", "NPU Name": "NA"}, "Ascend910B3"),
        ({}, {"Chip Type": "Alan", "Chip Name": "A2G3"}, "Ascend910B3"),
        ({}, {"Chip Type": "Ascend", "Chip Name": "Ascend950PR", "NPU Name": ""}, "Ascend950PR"),
        ({"Chip Name": "NA"}, {}, None),
        ({}, {}, None),
    ],
)
def test_the_soc_by_its_board_sections(card: dict[str, str], chip: dict[str, str], name: str | None) -> None:
    assert soc_name(card, chip) == name


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "status", "refusal"),
    [
        ("dcmi module initialize failed. ret is -8005\n", 187, Refusal.NOT_INITIALISED),
        (
            "DrvMngGetConsoleLogLevel failed. (ret=4)\ndcmi module initialize failed. ret is -8009",
            1,
            Refusal.NOT_INITIALISED,
        ),
        ("dcmi model initialized failed, because the device is used. ret is -8020", 172, Refusal.IN_USE),
        ("npu get board type failed. ret is -8008", 1, Refusal.BOARD_UNKNOWN),
        ("There is no NPU card on this server.", 0, Refusal.NO_CARD),
        ("This command cannot be executed on a VM.", 1, Refusal.VIRTUAL_MACHINE),
        ("", 0, Refusal.OTHER),
        ("设备不可用", 255, Refusal.OTHER),
    ],
)
def test_refusals_are_told_by_their_text_not_their_status(text: str, status: int, refusal: Refusal) -> None:
    assert refusal_of(CommandRun(argv=INFO, exit_status=status, stdout=text)) is refusal


def test_a_linker_error_means_missing_libraries() -> None:
    words = "npu-smi: error while loading shared libraries: libdrvdsmi_host.so: cannot open shared object file"
    run = CommandRun(argv=INFO, exit_status=127, stderr=words)
    assert refusal_of(run) is Refusal.LIBRARIES_MISSING


@pytest.mark.parametrize(
    ("failure", "finding"),
    [
        (Failure.TIMED_OUT, "npu.huawei.driver-not-answering"),
        (Failure.NO_PERMISSION, "npu.huawei.unreadable"),
        (Failure.UNREADABLE, "npu.huawei.unreadable"),
        (Failure.NOT_FOUND, "npu.huawei.tool-missing"),
    ],
)
def test_a_command_that_did_not_end_well_still_lists_the_device(failure: Failure, finding: str) -> None:
    outcome = ascend.parse(info_of("", failure=failure))
    assert [device.usable for device in outcome.devices] == [False]
    assert [found.id for found in outcome.findings] == [finding]


# --- findings about devices ------------------------------------------------------------------------------------------


def test_a_warning_of_one_device_leaves_the_other_alone() -> None:
    outcome = ascend.parse(info_of(A2))
    assert [device.usable for device in outcome.devices] == [True, True]
    unhealthy = [finding for finding in outcome.findings if finding.id == "npu.huawei.unhealthy"]
    assert len(unhealthy) == 1
    assert "0000:c2:00.0" in unhealthy[0].summary


def test_a_critical_device_is_not_usable() -> None:
    outcome = ascend.parse(info_of(A2.replace("Warning ", "Critical")))
    assert [device.usable for device in outcome.devices] == [True, False]


def test_a_half_installed_driver_is_told_although_the_table_is_fine() -> None:
    text = A2 + "[WARNING]The driver package may not be completely installed, which may cause function abnormal.\n"
    assert "npu.huawei.driver-incomplete" in {finding.id for finding in ascend.parse(info_of(text)).findings}


def test_name_and_bus_that_disagree_are_told() -> None:
    capture = info_of(A2)
    folder = "/sys/bus/pci/devices/0000:c1:00.0"
    values = {"vendor": "0x19e5", "device": "0xd801", "class": "0x120000"}
    files = {f"{folder}/{name}": FileRead(path=f"{folder}/{name}", text=text) for name, text in values.items()}
    outcome = ascend.parse(Capture(files=files, commands=capture.commands, entries=capture.entries))
    assert outcome.devices[0].arch == "ascend-a2"
    assert "npu.huawei.family-contradiction" in {finding.id for finding in outcome.findings}


def test_firmware_that_does_not_fit_the_driver_is_told() -> None:
    card = ("npu-smi", "info", "-t", "board", "-i", "0")
    run = CommandRun(argv=card, exit_status=0, stdout="\tNPU ID : 0\n\tCompatibility                  : NOT OK\n")
    capture = info_of(A2)
    outcome = ascend.parse(Capture(commands={**capture.commands, "card": run}, entries=capture.entries))
    assert "npu.huawei.firmware-mismatch" in {finding.id for finding in outcome.findings}


# --- what is started -------------------------------------------------------------------------------------------------


class CountingSystem(RecordedSystem):
    """Notes what is started."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.started: list[tuple[str, ...]] = []

    def run(self, argv: Sequence[str], *, timeout_seconds: float) -> CommandRun:
        self.started.append(tuple(argv))
        return super().run(argv, timeout_seconds=timeout_seconds)


def test_nothing_is_started_without_a_sign_of_huawei() -> None:
    system = CountingSystem(RECORDINGS / "hgx-h100-x8")
    assert ascend.parse(ascend.collect(system)).findings == ()
    assert system.started == []


def test_other_devices_of_huawei_are_no_npus(tmp_path: Path) -> None:
    (tmp_path / "origin.yaml").write_text("kind: hand-made\nsource: test\nas_of: '2026-11-22'\nclaim: Kunpeng\n")
    folder = "/sys/bus/pci/devices/0000:07:00.0"
    (tmp_path / "facts.yaml").write_text(
        "machine: {system: Linux, machine: aarch64}\nfiles:\n"
        f'  "{folder}/vendor": "0x19e5"\n  "{folder}/device": "0x1711"\n  "{folder}/class": "0x030000"\n'
    )
    system = CountingSystem(tmp_path)
    outcome = ascend.parse(ascend.collect(system))
    assert (outcome.devices, outcome.findings, system.started) == ((), (), [])


def test_eight_equal_cards_cost_four_questions() -> None:
    system = CountingSystem(RECORDINGS / "atlas-800i-a2-910b4-x8")
    ascend.collect(system)
    assert [argv[2:] for argv in system.started if argv[0] == "npu-smi"] == [
        (),
        ("-t", "board", "-i", "0"),
        ("-t", "board", "-i", "0", "-c", "0"),
        ("-t", "topo"),
    ]


def test_a_driver_that_refuses_is_asked_once() -> None:
    system = CountingSystem(RECORDINGS / "ascend-minus-8005-after-driver-upgrade")
    ascend.collect(system)
    assert [argv for argv in system.started if argv[0] == "npu-smi"] == [INFO]


# --- device nodes ----------------------------------------------------------------------------------------------------

QUERY = NodeQuery(folders=("/dev",), name="davinci*")


def test_nodes_that_could_not_be_asked_for_are_unknown_not_absent() -> None:
    missing = CommandRun(argv=QUERY.argv, exit_status=None, failure=Failure.NOT_FOUND)
    assert parse_nodes({}, QUERY) is None
    assert parse_nodes({" ".join(QUERY.argv): missing}, QUERY) is None


def test_lines_that_are_no_node_are_left_out() -> None:
    text = "open /dev/davinci0 660 1000 1000 HwHiAiUser\nshut /dev/davinci1 600 0 0 root\nshut /dev/dav\n\nxxx\n"
    run = CommandRun(argv=QUERY.argv, exit_status=1, stdout=text)
    nodes = parse_nodes({" ".join(QUERY.argv): run}, QUERY) or ()
    assert [(node.path, node.is_open, node.group) for node in nodes] == [
        ("/dev/davinci0", True, "HwHiAiUser"),
        ("/dev/davinci1", False, "root"),
    ]
