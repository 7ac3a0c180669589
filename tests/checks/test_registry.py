"""The table of checks, what can be selected, and that it knows everything which can be found."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support_checks import catalogue, planned, run_all, subject
from v4deploy.checks.probe_findings import PROBE_FINDINGS
from v4deploy.checks.registry import CHECKS, judge, known_ids, listing
from v4deploy.checks.selection import Selection, select
from v4deploy.domain.engine import EngineId
from v4deploy.domain.errors import UsageError
from v4deploy.domain.finding import CheckGroup, Finding, Severity
from v4deploy.engines.common import engine_word
from v4deploy.probes.survey import survey
from v4deploy.system.recorded import RecordedSystem

ROOT = Path(__file__).parents[2]
RECORDINGS = sorted(path.parent for path in (ROOT / "tests" / "recordings").glob("*/expected.yaml"))
LISTED = dict(PROBE_FINDINGS)
PAGE_HEAD = """\
# Checks and findings of `doctor`

All ids that `--only` and `--skip` take, and scripts may rely on. *fast* is looked at in every run, *deep* with `--deep`
only; *probe* comes with the survey of the machine. Tests write this page from the table of checks, as `v4deploy doctor
--list` prints it.
"""
SWAP = Finding(id="host.swap-none", severity=Severity.INFO, summary="there is no swap")
DRIVER = Finding(id="gpu.nvidia.driver-too-old", severity=Severity.WARN, summary="old")


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda path: path.name)
def test_every_finding_of_a_recorded_machine_can_be_selected(recording: Path) -> None:
    system = RecordedSystem(recording)
    found = survey(system, weights_dir="/home/user/.cache/v4deploy/weights", chips=catalogue().chips)
    assert not {finding.id for finding in found.findings} - LISTED.keys(), "add it to checks/probe_findings.py"
    of_checks = run_all(subject(found, system.environ, here=planned("8x h200")), deep=True)
    assert not {finding.id for finding in of_checks} - set(known_ids())


def ids_in_source() -> Iterator[str]:
    """Ids as probes write them; a part that is filled in stands as a pattern."""
    for path in (ROOT / "v4deploy" / "probes").glob("*.py"):
        for id_ in re.findall(r"""\bid=f?"([^"]+\.[^"]+)\"""", path.read_text(encoding="utf-8")):
            yield re.sub(r"\{[^}]*\}", "[a-z0-9.-]+", id_.replace(".", r"\."))


def test_the_list_of_probe_findings_is_that_of_the_probes() -> None:
    patterns = set(ids_in_source())
    assert patterns
    missing = {pattern for pattern in patterns if not any(re.fullmatch(pattern, id_) for id_ in LISTED)}
    assert not missing, "add it to checks/probe_findings.py"
    gone = {id_ for id_ in LISTED if not any(re.fullmatch(pattern, id_) for pattern in patterns)}
    assert not gone, "take it out of checks/probe_findings.py"


def ids_in_tables() -> Iterator[str]:
    """Ids that probes put together from rows of tables, which begin with the last part: `("device-lost", ...)`."""
    for path in (ROOT / "v4deploy" / "probes").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        prefix = re.search(r"""\bid=f"([a-z.]+\.)\{name\}\"""", text)
        tuples = (node.elts for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Tuple))
        texts = [[e.value for e in one if isinstance(e, ast.Constant) and isinstance(e.value, str)] for one in tuples]
        for first, *others in (row for row in texts if row) if prefix else ():
            # A row also has a sentence; other tuples hold words.
            if re.fullmatch(r"[a-z0-9]+(?:-[a-z0-9]+)+", first) and any(" " in other for other in others):
                yield f"{prefix[1] if prefix else ''}{first}"


def test_the_list_of_probe_findings_knows_the_rows_of_tables() -> None:
    found = set(ids_in_tables())
    assert "gpu.nvidia.device-lost" in found
    assert not found - LISTED.keys(), "add it to checks/probe_findings.py"


def page_of_checks() -> str:
    """docs/checks.md as it has to be."""
    lines = [PAGE_HEAD]
    for group in CheckGroup:
        lines += [f"## {group}\n", "| id | when | what | other findings |\n|---|---|---|---|"]
        for line in (line for line in listing() if line.group is group):
            others = ", ".join(f"`{id_}`" for id_ in line.findings if id_ != line.id)
            lines.append(f"| `{line.id}` | {line.needs} | {line.title} | {others} |")
        lines.append("")
    return "\n".join(lines)


def test_the_page_of_checks_is_current() -> None:
    page = ROOT / "docs" / "checks.md"
    if os.environ.get("V4DEPLOY_UPDATE_GOLDEN"):
        page.write_text(page_of_checks(), encoding="utf-8")
    assert page.read_text(encoding="utf-8") == page_of_checks(), "write it anew: V4DEPLOY_UPDATE_GOLDEN=1 pytest ..."


def ids_of_engines() -> set[str]:
    """Ids of what `render` and `serve` say of a plan, as they stand in the engines' modules."""
    found: set[str] = set()
    for path in (ROOT / "v4deploy" / "engines").glob("*.py"):
        for text in re.findall(r'\bid=f?"(engine\.[^"]+)"', path.read_text(encoding="utf-8")):
            own, _, word = text.rpartition(".")
            found |= {f"engine.{engine_word(engine)}.{word}" for engine in EngineId} if "{" in own else {text}
    return found


@pytest.mark.parametrize("page", ["doctor.md", "launch-failures.md"])
def test_pages_name_no_finding_that_does_not_exist(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    words = {word.split("=")[0] for word in re.findall(r"`([a-z0-9]+(?:[.-][a-z0-9]+)+)`", text)}
    groups = {str(group) for group in CheckGroup} | {"gpu", "npu"}
    named = {word for word in words if word.split(".")[0] in groups and "." in word}
    assert named
    known = {*known_ids(), *ids_of_engines()}
    assert not {word for word in named if not any(id_ == word or id_.startswith(f"{word}.") for id_ in known)}


def test_no_id_stands_twice() -> None:
    ids = [check.id for check in CHECKS] + [id_ for check in CHECKS for id_ in check.others] + list(LISTED)
    assert len(ids) == len(set(ids))


def test_every_group_has_something_and_the_listing_goes_by_groups() -> None:
    groups = [line.group for line in listing()]
    assert set(groups) == set(CheckGroup)
    assert groups == sorted(groups, key=list(CheckGroup).index)


@pytest.mark.parametrize(
    ("only", "skip", "finding", "shown"),
    [
        ((), (), SWAP, True),
        (("host",), (), SWAP, True),
        (("host.swap-none",), (), SWAP, True),
        (("accelerator",), (), SWAP, False),
        (("accelerator",), (), DRIVER, True),
        (("gpu",), (), DRIVER, True),
        (("gpu.nvidia",), (), DRIVER, True),
        (("gpu.amd",), (), DRIVER, False),
        (("gpu",), ("gpu.nvidia.driver-too-old",), DRIVER, False),
        ((), ("host",), SWAP, False),
        ((), ("host",), DRIVER, True),
    ],
)
def test_names_stand_for_all_below_them(
    only: tuple[str, ...],
    skip: tuple[str, ...],
    finding: Finding,
    shown: bool,  # noqa: FBT001
) -> None:
    assert select(only, skip, known_ids()).shows(finding) is shown


def test_a_part_of_a_word_is_no_prefix() -> None:
    with pytest.raises(UsageError, match=r"no check is called `gpu\.nvid`"):
        select(("gpu.nvid",), (), known_ids())


def test_a_misspelt_name_gets_the_nearest_ones() -> None:
    with pytest.raises(UsageError) as raised:
        select((), ("config.token-readabel",), known_ids())
    assert "`config.token-readable`" in (raised.value.hint or "")


def test_a_check_is_selected_by_its_own_name_and_by_those_of_its_findings() -> None:
    given = subject(environ={"HF_ENDPOINT": "http://mirror.example"})
    for name in ("network.endpoint", "network.endpoint-unencrypted"):
        judged = judge(given, Selection(only=(name,)), deep=False, clock=lambda: 0.0)
        assert [finding.id for finding in judged.findings] == ["network.endpoint-unencrypted"]


def test_what_is_skipped_by_name_leaves_no_trace() -> None:
    names = tuple(group.value for group in CheckGroup)
    assert judge(subject(), Selection(skip=names), deep=True, clock=lambda: 0.0).findings == ()


def test_time_is_told_by_group() -> None:
    ticks = iter(range(1000))
    judged = judge(subject(), Selection(only=("config",)), deep=False, clock=lambda: float(next(ticks)))
    configured = sum(check.group is CheckGroup.CONFIG for check in CHECKS)
    assert judged.group_seconds == ((CheckGroup.CONFIG, float(configured)),)
