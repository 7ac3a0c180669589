"""The page of faults against the tests that it names."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "pull-faults.md"
_NAMED = re.compile(r"`(test_\w+\.py)::(test_\w+)`")


def test_each_fault_names_tests_that_exist_and_what_the_user_sees() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    faults = [row.strip("| ").split(" | ") for row in rows if not row.startswith("| fault")]
    assert len(faults) > 40
    for fault, _, seen, shown_by in faults:
        assert re.match(r"(0|2|5|130)\b", seen), f"{fault}: no exit code"
        named = _NAMED.findall(shown_by)
        assert named, f"{fault}: no test"
        for file, test in named:
            assert f"def {test}(" in (HERE / file).read_text(encoding="utf-8"), f"{file}::{test}"
