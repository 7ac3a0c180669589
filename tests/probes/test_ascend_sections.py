"""npu-smi's `-t` sections, in both ways of printing their keys, and what the probe makes of them."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from v4deploy.domain.hardware import ProbeOutcome
from v4deploy.probes import ascend
from v4deploy.probes.ascend_answers import parse_blocks, parse_health, parse_product, parse_usage
from v4deploy.probes.base import Capture
from v4deploy.system.base import CommandRun, Failure

MIB = 1024**2

USAGES_OF_TWO_DIES = """\
	NPU ID                         : 3
	Chip Count                     : 2

	DDR Capacity(MB)               : 0
	DDR Usage Rate(%)              : 0
	HBM Capacity(MB)               : 65536
	HBM Usage Rate(%)              : 5
	Chip ID                        : 0

	DDR Capacity(MB)               : 0
	DDR Usage Rate(%)              : 0
	HBM Capacity(MB)               : 65536
	HBM Usage Rate(%)              : 90
	Chip ID                        : 1

	Chip Name                      : mcu
	Temperature(C)                 : 40
"""
USAGES_950 = """\
NPU ID                         : 0
DDR Capacity(MB)               : 0
DDR Usage Rate(%)              : 0
HBM Capacity(MB)               : 131072
HBM Usage Rate(%)              : 3
NPU Utilization(%)             : 0
Aicube Usage Rate(%)           : 0
"""
USAGES_DUO = """\
        NPU ID                         : 2944
        Chip Count                     : 2

        DDR Capacity(MB)               : 44278
        DDR Usage Rate(%)              : 4
        Chip ID                        : 0
        DDR Capacity(MB)               : 43693
        DDR Usage Rate(%)              : 3
        Chip ID                        : 1
"""
COMMON_OF_TWO_DIES = """\
	NPU ID                         : 0
	Chip Count                     : 2

	Chip ID                        : 0
	HBM Usage Rate(%)              : 4
	Aicore Count                   : 24
	Chip ID                        : 1
	HBM Usage Rate(%)              : 7
	Aicore Count                   : 24
	Chip Name                      : mcu
	Temperature(C)                 : 40
"""
BAD_TEXTS = (
    "",
    "\n\n",
    "NPU ID",
    "\tHBM Capacity(MB)               : ",
    "\tHBM Capacity(MB)               : NA\n",
    "\tHBM 容量(MB)                   : 65536\n",
    "This device does not support querying usages.",
    'Failed to query "usages" info.',
    "This command must input card id.",
    "dcmi module initialize failed. ret is -8005",
    "\0\x01: : :\n:::",
    "没有权限",
)


# --- blocks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [USAGES_OF_TWO_DIES, COMMON_OF_TWO_DIES])
def test_chip_numbers_stand_before_or_after_the_values_and_controllers_are_left_out(text: str) -> None:
    blocks = [block for block in parse_blocks(text) if "Chip ID" in block]
    assert [block["Chip ID"] for block in blocks] == ["0", "1"]
    assert len({block["HBM Usage Rate(%)"] for block in blocks}) == 2
    assert not any("Temperature(C)" in block for block in parse_blocks(text))


# --- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "chip", "total", "percent"),
    [
        (USAGES_OF_TWO_DIES, 0, 65536, 5),
        (USAGES_OF_TWO_DIES, 1, 65536, 90),
        (USAGES_950, None, 131072, 3),
        (USAGES_950, 0, 131072, 3),
        (USAGES_DUO, 1, 43693, 3),
        (USAGES_950.replace("HBM Usage Rate(%)              : 3", "HBM Usage Rate(%)  : NA"), None, 131072, None),
    ],
)
def test_usage_of_a_chip(text: str, chip: int | None, total: int, percent: int | None) -> None:
    usage = parse_usage(text, chip)
    assert usage is not None
    assert (usage.total_bytes, usage.used_percent) == (total * MIB, percent)


@pytest.mark.parametrize("text", BAD_TEXTS)
def test_no_usage_in_what_is_none(text: str) -> None:
    assert parse_usage(text, 0) is None


def test_another_chip_and_no_capacity_are_not_taken_for_this_chip() -> None:
    assert parse_usage(USAGES_OF_TWO_DIES, 2) is None
    assert parse_usage(USAGES_OF_TWO_DIES, None) is None
    assert parse_usage(USAGES_950.replace("131072", "0"), None) is None
    first_only = USAGES_OF_TWO_DIES[: USAGES_OF_TWO_DIES.index("Chip ID")]
    assert parse_usage(first_only + "\tDDR Capacity(MB) : 0\n", 1) is None


@given(st.text() | st.text(alphabet="HBM Capacity()%:0123456789\n\tDRNPUsgeRat"), st.none() | st.integers(0, 3))
def test_no_text_makes_the_section_parsers_fail(text: str, chip: int | None) -> None:
    usage = parse_usage(text, chip)
    assert usage is None or usage.total_bytes > 0
    parse_health(text)
    parse_product(text)


# --- health and product ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "status", "code", "error"),
    [
        ("\tHealth Status : OK\n\tError Code : NA\n\tError Information : NA\n", "OK", None, None),
        ("NPU ID : 0\nHealth                         : OK\nError Code : NA\n", "OK", None, None),
        (
            "\tHealth Status : Alarm\n\tError Code : 80E01801\n\tError Information : node type=SOC, sensor type=x\n",
            "Alarm",
            "80E01801",
            "node type=SOC, sensor type=x",
        ),
        *((text, None, None, None) for text in BAD_TEXTS),
    ],
)
def test_health(text: str, status: str | None, code: str | None, error: str | None) -> None:
    health = parse_health(text)
    assert (health.status, health.error_code, health.error) == (status, code, error)


def test_product() -> None:
    duo = "NPU ID : 2944\nChip Count : 2\n\nProduct Type                   : Atlas 300I Duo\nChip ID : 0\n"
    assert parse_product(duo) == "Atlas 300I Duo"
    assert [parse_product(text) for text in (*BAD_TEXTS, "Product Type : NA\n")] == [None] * (len(BAD_TEXTS) + 1)


# --- what the probe makes of them ------------------------------------------------------------------------------------

TABLE = """\
| npu-smi 25.5.2                   Version: 25.5.2                                               |
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip  Phy-ID              | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
| 3     Ascend910           | OK            | 88.6        51                0    / 0             |
| 0     6                   | 0000:C1:00.0  | 0           0    / 0          0    / 0             |
| 3     Ascend910           | Alarm         | -           51                0    / 0             |
| 1     7                   | 0000:C2:00.0  | 0           0    / 0          3407 / 65536         |
"""


def outcome_of(answers: Mapping[str, str | Failure], table: str = TABLE) -> ProbeOutcome:
    """What the probe says of a machine whose npu-smi gave these answers."""
    runs = {}
    for arguments, answer in {"": table, **answers}.items():
        argv = ("npu-smi", "info", *arguments.split())
        failure = answer if isinstance(answer, Failure) else None
        text = "" if isinstance(answer, Failure) else answer
        runs[" ".join(argv)] = CommandRun(argv=argv, exit_status=None if failure else 0, stdout=text, failure=failure)
    return ascend.parse(Capture(commands=runs, entries={"/dev": ("davinci6", "davinci7")}))


def test_usage_fills_memory_that_the_table_lacks_and_never_overstates_what_is_free() -> None:
    outcome = outcome_of({"-t usages -i 3": USAGES_OF_TWO_DIES})
    assert [pool.total.size_bytes for pool in outcome.pools] == [65536 * MIB, 65536 * MIB]
    assert [pool.free.size_bytes for pool in outcome.pools] == [65536 * MIB * 94 // 100 + 1, (65536 - 3407) * MIB]
    assert "usages" in outcome.pools[0].total.source
    assert "usages" not in outcome.pools[1].total.source
    assert "npu.huawei.memory-unknown" not in {finding.id for finding in outcome.findings}


@pytest.mark.parametrize("answer", [*BAD_TEXTS, Failure.TIMED_OUT, Failure.NO_PERMISSION])
def test_usage_that_was_refused_leaves_memory_unknown(answer: str | Failure) -> None:
    outcome = outcome_of({"-t usages -i 3": answer})
    assert outcome.pools[0].total.size_bytes is None
    assert "npu.huawei.memory-unknown" in {finding.id for finding in outcome.findings}


def test_the_fault_behind_an_alarm_is_quoted() -> None:
    text = "\tHealth Status : Alarm\n\tError Code : 80E01801\n\tError Information : sensor type=Temperature\n"
    outcome = outcome_of({"-t health -i 3 -c 1": text})
    (finding,) = (finding for finding in outcome.findings if finding.id == "npu.huawei.unhealthy")
    assert [item.value for item in finding.evidence] == ["Alarm", "80E01801", "sensor type=Temperature"]


def test_the_product_is_quoted_where_the_family_is_not_known() -> None:
    table = TABLE.replace("Ascend910", "Ascend777").replace("Phy-ID", "      ")
    outcome = outcome_of({"-t product -i 3": "\tProduct Type : Atlas 9999 A9\n"}, table)
    (finding,) = {finding for finding in outcome.findings if finding.id == "npu.huawei.family-unknown"}
    assert "Atlas 9999 A9" in {item.value for item in finding.evidence}


def test_a_question_that_hangs_is_named() -> None:
    outcome = outcome_of({"-t topo": Failure.TIMED_OUT})
    (finding,) = (finding for finding in outcome.findings if finding.id == "npu.huawei.question-timed-out")
    assert "npu-smi info -t topo" in finding.summary
    assert len(outcome.devices) == 2


@pytest.mark.parametrize("text", BAD_TEXTS)
def test_sections_that_are_none_change_nothing(text: str) -> None:
    sections = ("board -i 3", "board -i 3 -c 0", "health -i 3 -c 1", "product -i 3", "topo")
    outcome = outcome_of({f"-t {section}": text for section in sections})
    assert [(d.name, d.arch) for d in outcome.devices] == [("Ascend910", "ascend-a3")] * 2
    assert outcome.links == ()
