"""Reported misdetections are shown by recordings that cite them, or by tests; docs/misdetections.md tells which."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from v4deploy.documents import from_data
from v4deploy.system.recorded import RecordedSystem
from v4deploy.system.yaml_files import read_yaml_file

ROOT = Path(__file__).parents[2]
RECORDINGS = ROOT / "tests" / "recordings"
ROWS = ROOT / "tests" / "misdetections.yaml"
PAGE = ROOT / "docs" / "misdetections.md"
_PAGE_HEAD = """\
# Reported misdetections

Hardware that detection tools got wrong, as their users reported it; what v4deploy says of such a machine; and the
recording below `tests/recordings/` or the test that asserts it. A recording is rarely the reporter's own machine: its
`origin.yaml` says what was captured and what was made up after the report. Tests write this page from
`tests/misdetections.yaml`, and fail where it is not current.
"""
_HEADINGS = {"nvidia": "NVIDIA", "amd": "AMD", "apple": "Apple", "others": "Other and mixed graphics", "host": "Host"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One entry of misdetections.yaml, which describes the fields. A test in `shown_by` has `::` in it."""

    issues: tuple[str, ...]
    hardware: str
    wrong: str
    here: str
    shown_by: tuple[str, ...]
    missing: str | None = None

    @property
    def recordings(self) -> tuple[str, ...]:
        return tuple(name for name in self.shown_by if "::" not in name)

    @property
    def tests(self) -> tuple[str, ...]:
        return tuple(name for name in self.shown_by if "::" in name)


@cache
def rows_by_part() -> dict[str, tuple[Row, ...]]:
    return from_data(dict[str, tuple[Row, ...]], read_yaml_file(ROWS), name=str(ROWS))


def all_rows() -> Iterator[Row]:
    return (row for rows in rows_by_part().values() for row in rows)


@cache
def cited_by_recording() -> dict[str, tuple[str, ...]]:
    return {path.parent.name: RecordedSystem(path.parent).origin.issues for path in RECORDINGS.glob("*/origin.yaml")}


def page() -> str:
    """docs/misdetections.md as it has to be."""
    return "\n".join([_PAGE_HEAD, *(line for part in rows_by_part() for line in _table(part))])


def _table(part: str) -> Iterator[str]:
    yield f"## {_HEADINGS[part]}\n"
    yield "| reported | hardware | what was wrong | here | shown by |\n|---|---|---|---|---|"
    for row in rows_by_part()[part]:
        shown = "<br>".join(f"`{name.rpartition('::')[2]}`" for name in row.shown_by) or f"nothing: {row.missing}"
        yield f"| {'<br>'.join(row.issues)} | {row.hardware} | {row.wrong} | {row.here} | {shown} |"
    yield ""


def test_every_row_is_shown_by_something_or_says_why_not() -> None:
    assert sum(1 for _ in all_rows()) >= 60
    assert not [row for row in all_rows() if bool(row.shown_by) == bool(row.missing)]


def test_recordings_and_rows_cite_the_same_issues() -> None:
    cited = cited_by_recording()
    for row in all_rows():
        assert all(set(cited[name]) & set(row.issues) for name in row.recordings), row
        by_recordings = {issue for name in row.recordings for issue in cited[name]}
        assert row.tests or row.missing or set(row.issues) <= by_recordings, row
    rows_of = {(name, issue) for row in all_rows() for name in row.recordings for issue in row.issues}
    unknown = {(name, issue) for name, issues in cited.items() for issue in issues} - rows_of
    assert not unknown, "an issue in an origin.yaml needs a row that names the recording"


def test_tests_that_show_a_row_exist() -> None:
    for name in {name for row in all_rows() for name in row.tests}:
        path, _, function = name.partition("::")
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        assert function in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, name


def test_the_page_is_current() -> None:
    if os.environ.get("V4DEPLOY_UPDATE_GOLDEN"):
        PAGE.write_text(page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page(), "write it anew: V4DEPLOY_UPDATE_GOLDEN=1 pytest ..."
