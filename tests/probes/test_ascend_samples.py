"""What npu-smi printed on real machines and in its makers' documents, where no recording holds it."""

from __future__ import annotations

import pytest

from v4deploy.probes.ascend_answers import (
    MappedChip,
    Refusal,
    parse_blocks,
    parse_listing,
    parse_mapping,
    parse_product,
    parse_section,
    parse_usage,
    refusal_of,
)
from v4deploy.probes.ascend_family import family_of, soc_name
from v4deploy.probes.ascend_table import Layout, parse_table
from v4deploy.system.base import CommandRun

MIB = 1024**2

HBM_HEAD = """\
| npu-smi {version}                 Version: {version}                                           |
+---------------------------+---------------+----------------------------------------------------+
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip                      | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
"""
FLAT_HEAD = """\
+-------------------------------------------------------------------------------------------------+
| npu-smi {version}                               Version: {version}                            |
+--------+------------------+---------------+-----------------------------------------------------+
| NPU ID | Name             | Health        | Power(W)    Temp(C)           Hugepages-Usage(page) |
|        |                  | Bus-Id        | NPU Util(%) Memory-Usage(MB)  HBM-Usage(MB)         |
+========+==================+===============+=====================================================+
"""
# An idle 910 of the first generation (Ascend/mind-cluster, its guide to collecting logs; the guide masks the name).
IDLE_910 = """\
| 7     xxx                | OK            | 67.0        44                0    / 0             |
| 0                         | 0000:3D:00.0  | 0           2505 / 15567      0    / 32768         |
"""
# A 910B4 alone in a container (the NPU document of modelscope/ms-swift).
FIFTH_910B4 = """\
| 5     910B4               | OK            | 84.8        37                0    / 0             |
| 0                         | 0000:02:00.0  | 0           0    / 0          2922 / 32768         |
"""
# A 910B3 at work (reports to vllm-project/vllm-ascend).
LOADED_910B3 = """\
| 0     910B3               | OK            | 101.5       46                0    / 0             |
| 0                         | 0000:C1:00.0  | 35          0    / 0          59718/ 65536         |
"""
# A 950 of 84 GB (hicann/driver, `querying-basic-information.md`; the document masks the name).
CARD_950 = """\
| 0      | xxx              | OK            | 204.4       56                0     / 0             |
|        |                  | 0000:91:00.0  | 0           0    / 0          4439  / 86016         |
+========+==================+===============+=====================================================+
+---------------------------+---------------+-----------------------------------------------------+
| NPU ID                    | Process id    | Process name             | Process memory(MB)       |
+===========================+===============+=====================================================+
| No running processes found in NPU 0                                                             |
"""


@pytest.mark.parametrize(
    ("text", "layout", "row"),
    [
        (HBM_HEAD.format(version="24.1.rc1") + IDLE_910, Layout.HBM, (7, "0000:3d:00.0", 0, 32768)),
        (HBM_HEAD.format(version="25.5.2") + FIFTH_910B4, Layout.HBM, (5, "0000:02:00.0", 2922, 32768)),
        (HBM_HEAD.format(version="25.0.rc1.b010") + LOADED_910B3, Layout.HBM, (0, "0000:c1:00.0", 59718, 65536)),
        (FLAT_HEAD.format(version="25.7.rc1.6") + CARD_950, Layout.FLAT, (0, "0000:91:00.0", 4439, 86016)),
    ],
    ids=["910-idle", "910b4-npu-5", "910b3-loaded", "950-84gb"],
)
def test_tables(text: str, layout: Layout, row: tuple[int, str, int, int]) -> None:
    table = parse_table(text)
    (found,) = table.rows
    npu_id, address, used, total = row
    assert (table.layout, found.npu_id, found.pci_address) == (layout, npu_id, address)
    assert (found.used_bytes, found.total_bytes) == (used * MIB, total * MIB)


# --- listings --------------------------------------------------------------------------------------------------------


def test_a_950_lists_its_cards_without_counting_chips() -> None:
    text = """\
Total Count                    : 1

NPU ID                         : 0
Product Name                   : A5 PCIe Card
Serial Number                  : IT23HMDA0502FAA
"""
    assert parse_listing(text) == ((0, None),)


def test_a_950_maps_slots_where_an_a3_maps_dies() -> None:
    text = """\
NPU ID          Slot ID          Chip ID          Chip Phy-ID          Chip Name
0               0                0                0                    xxx
"""
    assert parse_mapping(text) == (MappedChip(npu_id=0, chip_id=0, name="xxx", has_physical_id=False),)


# --- sections --------------------------------------------------------------------------------------------------------

# An Atlas 300I Duo, of which NPU 2944 is a card of two chips.
BOARD_DUO = """\
	NPU ID                         : 2944
	Product Name                   : IT21PD2G10
	Software Version               : 25.5.1
	Firmware Version               : 7.8.0.6.201
	Board ID                       : 0xb1
	PCI Device ID                  : 0xD500
	Chip Count                     : 2
"""
PRODUCT_DUO = """\
	NPU ID                         : 2944
	Chip Count                     : 2

	Product Type                   : Atlas 300I Duo
	Chip ID                        : 0
	Product Type                   : Atlas 300I Duo
	Chip ID                        : 1
"""
# Ascend/mind-cluster, its test data and its documents differ in the capacity only.
USAGES_910 = """\
	NPU ID                         : 0
	Chip Count                     : 1

	DDR Capacity(MB)               : 13553
	DDR Usage Rate(%)              : 6
	DDR Hugepages Total(page)      : 0
	DDR Hugepages Usage Rate(%)    : 0
	HBM Capacity(MB)               : 31129
	HBM Usage Rate(%)              : 0
	Aicore Usage Rate(%)           : 0
	Aicpu Usage Rate(%)            : 0
	Ctrlcpu Usage Rate(%)          : 0
	DDR Bandwidth Usage Rate(%)    : 0
	HBM Bandwidth Usage Rate(%)    : 0
	Chip ID                        : 0
"""
# hicann/driver, documents of the 950; the same on a real card but for the temperature.
MEMORY_950 = """\
        NPU ID                         : 0
        DDR Capacity(MB)               : 0
        DDR Clock Speed(MHz)           : 0
        HBM Capacity(MB)               : 131072
        HBM Clock Speed(MHz)           : 3200
        HBM Temperature(C)             : 63
        HBM Manufacturer ID            : 0x5A
"""
COMMON_910 = """\
        NPU ID                         : 0
        Chip Count                     : 1
        Chip ID                        : 0
        Memory Usage Rate(%)           : 6
        HBM Usage Rate(%)              : 0
        Aicore Usage Rate(%)           : 0
        Aicore Freq(MHZ)               : 900
        Aicore curFreq(MHZ)            : 900
        Aicore Count                   : 30
        Temperature(C)                 : 41
        NPU Real-time Power(W)         : 71.7
"""
COMMON_950 = """\
NPU ID                         : 0
Memory Usage Rate(%)           : 0
HBM Usage Rate(%)              : 3
Aicore Usage Rate(%)           : 0
Aicore Freq(MHZ)               : 1650
Aicore curFreq(MHZ)            : 100
Aicore Count                   : 32
Temperature(C)                 : 65
NPU Real-time Power(W)         : 298.6
"""


def test_a_board_of_two_chips_names_none_at_card_level() -> None:
    card = parse_section(BOARD_DUO)
    assert (card["Firmware Version"], card["PCI Device ID"], soc_name(card, {})) == ("7.8.0.6.201", "0xD500", None)
    assert parse_product(PRODUCT_DUO) == "Atlas 300I Duo"
    assert [block["Product Type"] for block in parse_blocks(PRODUCT_DUO) if "Product Type" in block] == [
        "Atlas 300I Duo"
    ] * 2


@pytest.mark.parametrize("capacity", [31129, 32768])
def test_a_910_of_the_first_generation_has_ddr_beside_its_hbm(capacity: int) -> None:
    usage = parse_usage(USAGES_910.replace("31129", str(capacity)), 0)
    assert usage is not None
    assert (usage.total_bytes, usage.used_percent) == (capacity * MIB, 0)


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        (MEMORY_950, "HBM Clock Speed(MHz)", "3200"),
        (COMMON_910, "NPU Real-time Power(W)", "71.7"),
        (COMMON_950, "Aicore Count", "32"),
    ],
)
def test_sections_that_are_not_asked_for_are_of_the_same_form(text: str, key: str, value: str) -> None:
    (block,) = parse_blocks(text)
    assert (block[key], block["NPU ID"]) == (value, "0")


# --- other answers ---------------------------------------------------------------------------------------------------


def test_a_bare_910b_is_of_the_first_generation() -> None:
    assert family_of("Ascend910B") == "ascend-910"


def test_the_watch_is_no_table() -> None:
    head = "NpuID(Idx)  Pwr(W)  Temp(C)  AI Core(%)  AI Cpu(%)  Ctrl Cpu(%)  Memory(%)  Memory BW(%)  NPU Util(%)\n"
    assert (
        parse_table(f"{head}0           195.6   56       0           0          40           3          0\n").rows == ()
    )


@pytest.mark.parametrize(
    ("text", "status", "refusal"),
    [
        ("There is no NPU chip on this card.\n", 0, Refusal.NO_CARD),
        ("Command or option is not found.\nUsage: npu-smi info ...\n", 211, Refusal.OTHER),
        ("Error parameter of -t\n", 1, Refusal.OTHER),
        ("This device does not support querying spod-info.\n", 0, Refusal.OTHER),
    ],
)
def test_refusals(text: str, status: int, refusal: Refusal) -> None:
    run = CommandRun(argv=("npu-smi", "info"), exit_status=status, stdout=text)
    assert refusal_of(run) is refusal
    assert (parse_table(text).rows, parse_mapping(text), parse_listing(text)) == ((), (), ())
