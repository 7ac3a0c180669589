"""Findings about how Ascend devices belong together: links, boards, dies of a card, and sources that disagree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.probes.ascend_dcmi import SOURCE as DCMI
from v4deploy.probes.ascend_dcmi import DcmiReport
from v4deploy.probes.ascend_family import NpuChip
from v4deploy.probes.ascend_merge import Disagreement
from v4deploy.probes.ascend_topology import SOURCE as TOPOLOGY
from v4deploy.probes.ascend_topology import NpuPath, fast_groups
from v4deploy.system.base import CommandRun, Failure

_NPU_SMI = "npu-smi info"
# `dcmi_product_judge.h` of hicann/driver, 2026-07-21: Atlas 800I A2 280T-64G in the version without HCCS.
_BOARD_WITHOUT_HCCS = 0x37
_FAMILY_OF_THAT_BOARD = "ascend-a2"
_FAMILY_WITH_TWO_DIES = "ascend-a3"
_DIES_OF_A_CARD = 2
_MATCHING_TOOL = "use the npu-smi of the installed driver; in a container mount both from the host"


def link_findings(chips: Sequence[NpuChip], paths: Mapping[tuple[int, int], NpuPath]) -> Iterator[Finding]:
    """Whether the devices reach one another without PCIe."""
    boards = [chip for chip in chips if chip.board_id == _BOARD_WITHOUT_HCCS and chip.family == _FAMILY_OF_THAT_BOARD]
    groups = fast_groups(paths)
    none_is_fast = bool(paths) and not any(path.is_fast for path in paths.values())
    if len(boards) > 1 or none_is_fast:
        evidence = [Evidence(source="board id", value=f"{_BOARD_WITHOUT_HCCS:#x} (280T-64G)")] if boards else []
        evidence += [Evidence(source=TOPOLOGY, value=_words(paths))] if paths else []
        yield Finding(
            id="npu.huawei.no-fast-link",
            severity=Severity.WARN,
            summary="no HCCS or UB link joins these NPUs",
            evidence=tuple(evidence),
            why="tensor parallel workers exchange results over PCIe after every layer, and wait for it",
            fix="prefer data parallel layouts, whose ranks exchange less",
        )
    elif len(groups) > 1:
        shown = "; ".join(",".join(map(str, group)) for group in groups)
        yield Finding(
            id="npu.huawei.link-groups",
            severity=Severity.INFO,
            summary=f"fast links join these NPUs in {len(groups)} groups only: {shown}",
            evidence=(Evidence(source=TOPOLOGY, value=_words(paths)),),
            why="between the groups traffic goes over PCIe: tensor parallelism is quick within a group",
            fix="choose a tensor parallel size no larger than a group",
        )


def die_findings(chips: Sequence[NpuChip]) -> Iterator[Finding]:
    """Cards of which only one of the two dies is listed."""
    dies = Counter(
        chip.row.npu_id for chip in chips if chip.family == _FAMILY_WITH_TWO_DIES and chip.row.npu_id is not None
    )
    alone = [card for card, count in dies.items() if count < _DIES_OF_A_CARD]
    if alone:
        yield Finding(
            id="npu.huawei.die-missing",
            severity=Severity.WARN,
            summary=f"of A3 card {', '.join(map(str, alone))} only one of two dies is listed",
            evidence=tuple(Evidence(source=f"card {card}", value="1 die") for card in alone),
            why="the other die was not given to this container, or is lost; recipes count both",
            fix="give containers whole cards: /dev/davinci nodes go in pairs; `npu-smi info` on the host shows all",
        )


def source_findings(
    report: DcmiReport, disagreements: Sequence[Disagreement], info: CommandRun | None, *, table_is_empty: bool
) -> Iterator[Finding]:
    """Where DCMI and npu-smi say different things of a machine that at least one of them describes."""
    if disagreements:
        yield _disagreement(disagreements)
    if report.chips and table_is_empty and info is not None and info.failure is not Failure.NOT_FOUND:
        yield _npu_smi_failed(report, info)
    if report.failure is not None:
        yield Finding(
            id="npu.huawei.dcmi-failed",
            severity=Severity.WARN,
            summary="npu-smi lists the NPUs, but DCMI does not",
            evidence=(Evidence(source=DCMI, error=report.failure.message),),
            why="device plugins and monitors that ask DCMI will not find them",
            fix="use the libdcmi.so of the installed driver; in a container mount it from the host",
        )
    if report.errors:
        yield Finding(
            id="npu.huawei.card-silent",
            severity=Severity.WARN,
            summary="a card is listed that does not tell its chips",
            evidence=tuple(Evidence(source=DCMI, error=error) for error in report.errors),
            why="where npu-smi does not list them either, its devices are missing from the plan",
            fix="`dmesg | grep -i -e davinci -e drv` tells why",
        )


def _disagreement(found: Sequence[Disagreement]) -> Finding:
    return Finding(
        id="npu.huawei.sources-disagree",
        severity=Severity.WARN,
        summary="DCMI and npu-smi disagree about " + ", ".join(dict.fromkeys(item.where for item in found)),
        evidence=tuple(
            Evidence(source=f"{source} {item.where}", value=value)
            for item in found
            for source, value in ((DCMI, item.dcmi), (_NPU_SMI, item.npu_smi))
        ),
        why="DCMI's answer was used: npu-smi itself is built on it, and may be of another release than the driver",
        fix=_MATCHING_TOOL,
    )


def _npu_smi_failed(report: DcmiReport, info: CommandRun) -> Finding:
    return Finding(
        id="npu.huawei.npu-smi-failed",
        severity=Severity.WARN,
        summary="DCMI lists the NPUs, but npu-smi does not",
        evidence=(
            Evidence(source=DCMI, value=f"{len(report.chips)} devices"),
            Evidence(source=_NPU_SMI, error=words_of(info)),
        ),
        why="tools that look for NPUs with npu-smi, as builds of vLLM-Ascend do, will not find them",
        fix=_MATCHING_TOOL,
    )


def hung_findings(runs: Sequence[CommandRun]) -> Iterator[Finding]:
    """Questions that npu-smi did not answer in time, beside others that it did."""
    for run in runs:
        if run.failure is Failure.TIMED_OUT:
            yield Finding(
                id="npu.huawei.question-timed-out",
                severity=Severity.WARN,
                summary=f"`{' '.join(run.argv)}` gave no answer in time",
                evidence=(Evidence(source=" ".join(run.argv), error=words_of(run)),),
                why="what it and later questions would have told is unknown",
                fix="look for errors in `dmesg`",
            )


def words_of(run: CommandRun) -> str:
    """What a run without a result said."""
    if run.failure is Failure.TIMED_OUT:
        return "gave no answer in time"
    words = " ".join(f"{run.stdout} {run.stderr}".split())[:200]
    return words or f"printed nothing and ended with status {run.exit_status}"


def _words(paths: Mapping[tuple[int, int], NpuPath]) -> str:
    counts = Counter(paths.values())
    return ", ".join(f"{path} for {counts[path]} pairs" for path in NpuPath if path in counts)
