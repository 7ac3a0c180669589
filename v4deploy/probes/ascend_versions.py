"""Which versions of driver, firmware, CANN and nnal go together, and what V4 asks of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.versions import is_older, version_numbers

DRIVER_RECORD = "/usr/local/Ascend/driver/version.info"
FIRMWARE_RECORD = "/usr/local/Ascend/firmware/version.info"
_PLACES_OF_A_RELEASE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """The oldest version that a V4 engine is made for. `family` None: every family without a row of its own."""

    family: str | None
    minimum: str
    engine: str
    source: str
    as_of: str


_FAMILIES_WITH_V4 = ("ascend-a2", "ascend-a3", "ascend-950")
_VERSIONING = "vllm-project/vllm-ascend versioning_policy.md and release notes"
_CANN = (
    Requirement(
        family="ascend-950", minimum="9.1.0", engine="vLLM-Ascend 0.23.0", source=_VERSIONING, as_of="2026-08-22"
    ),
    Requirement(family=None, minimum="9.0.0", engine="vLLM-Ascend 0.20.2rc1", source=_VERSIONING, as_of="2026-08-22"),
)
# Below it, vLLM's combined full and piecewise graphs do not work (the same source); the V4 recipes do without them.
_DRIVER_FOR_GRAPHS = "25.5.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """What is installed; None where no file or tool told it.

    `firmware_ranges` are the first and last firmware that the driver's own record names as fitting, both inclusive.
    """

    driver: str | None = None
    firmware: str | None = None
    firmware_ranges: tuple[tuple[str, str], ...] = ()
    cann: str | None = None
    nnal: str | None = None


def parse_firmware_ranges(text: str) -> tuple[tuple[str, str], ...]:
    """`compatible_version_fw=[6.4.0,6.4.99],[7.0.0,8.9.9]` of the driver's version.info."""
    line = re.search(r"^compatible_version_fw=(.*)$", text, re.MULTILINE)
    return tuple(re.findall(r"\[\s*(\d[\d.]*)\s*,\s*(\d[\d.]*)\s*\]", line[1])) if line else ()


def same_release(one: str | None, other: str | None) -> bool:
    """Whether two versions agree in their first three places; False where one is no version."""
    if not (_is_version(one) and _is_version(other)):
        return False
    return version_numbers(one or "")[:_PLACES_OF_A_RELEASE] == version_numbers(other or "")[:_PLACES_OF_A_RELEASE]


def version_findings(versions: Versions, families: Sequence[str | None]) -> Iterator[Finding]:
    """What does not go together. `families` are those of the devices here; what V4 needs is asked for its own only."""
    yield from _firmware(versions)
    if any(family in _FAMILIES_WITH_V4 for family in families):
        yield from _driver(versions)
        yield from _cann(versions, families)
    yield from _nnal(versions)


def _firmware(versions: Versions) -> Iterator[Finding]:
    firmware, ranges = versions.firmware, versions.firmware_ranges
    if not ranges or not _is_version(firmware) or any(_lies_within(firmware or "", *bounds) for bounds in ranges):
        return
    yield Finding(
        id="npu.huawei.firmware-out-of-range",
        severity=Severity.WARN,
        summary=f"driver {versions.driver or 'of unknown version'} does not name firmware {firmware} as fitting",
        evidence=(
            Evidence(source="firmware", value=firmware),
            Evidence(source=f"{DRIVER_RECORD} compatible_version_fw", value=_shown(ranges)),
        ),
        why="such a pair was seen to lose memory sharing between processes, which tensor parallel workers need",
        fix="install driver and firmware of one release",
    )


def _driver(versions: Versions) -> Iterator[Finding]:
    if _is_version(versions.driver) and is_older(versions.driver or "", _DRIVER_FOR_GRAPHS):
        yield Finding(
            id="npu.huawei.driver-old",
            severity=Severity.INFO,
            summary=f"driver {versions.driver} is older than {_DRIVER_FOR_GRAPHS}",
            evidence=(Evidence(source="driver", value=versions.driver), Evidence(source=_VERSIONING)),
            why="vLLM-Ascend's combined full and piecewise graphs need that one; the V4 recipes use other graphs",
            fix=f"install driver and firmware {_DRIVER_FOR_GRAPHS} or newer",
        )


def _cann(versions: Versions, families: Sequence[str | None]) -> Iterator[Finding]:
    if not _is_version(versions.cann):
        return
    rows = {_requirement(family) for family in families if family in _FAMILIES_WITH_V4}
    for row in sorted(rows, key=lambda row: row.minimum):
        if is_older(versions.cann or "", row.minimum):
            yield Finding(
                id="npu.huawei.cann-too-old",
                severity=Severity.WARN,
                summary=f"CANN {versions.cann} is older than {row.minimum}",
                evidence=(
                    Evidence(source="CANN toolkit", value=versions.cann),
                    Evidence(source=f"{row.source}, {row.as_of}", value=f"{row.engine}: CANN {row.minimum}"),
                ),
                why=f"{row.engine}, the first regular release with V4 for these devices, is built for {row.minimum}",
                fix="run vLLM-Ascend in its container image, which brings its CANN, or install toolkit and nnal anew",
            )


def _nnal(versions: Versions) -> Iterator[Finding]:
    if _is_version(versions.cann) and _is_version(versions.nnal) and not same_release(versions.cann, versions.nnal):
        yield Finding(
            id="npu.huawei.nnal-mismatch",
            severity=Severity.WARN,
            summary=f"nnal {versions.nnal} does not belong to CANN {versions.cann}",
            evidence=(
                Evidence(source="CANN toolkit", value=versions.cann),
                Evidence(source="/usr/local/Ascend/nnal/atb", value=versions.nnal),
            ),
            why="vLLM-Ascend, CANN and nnal fit only as a set of one release",
            fix=f"install nnal {versions.cann}",
        )


def _requirement(family: str | None) -> Requirement:
    own = [row for row in _CANN if row.family == family]
    return own[0] if own else next(row for row in _CANN if row.family is None)


def _lies_within(version: str, first: str, last: str) -> bool:
    """Places that a bound does not have are free: 7.2.99.5 is not beyond 7.2.99."""
    found, lowest, highest = (version_numbers(text) for text in (version, first, last))
    return found[: len(lowest)] >= lowest and found[: len(highest)] <= highest


def _is_version(text: str | None) -> bool:
    return text is not None and re.match(r"\d", text) is not None


def _shown(ranges: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"{first} to {last}" for first, last in ranges)
