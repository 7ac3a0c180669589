"""The budgets and bans of CONTRIBUTING.md, measured on the source."""

from __future__ import annotations

import ast
import re
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

from v4deploy.domain.finding import group_of

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "v4deploy"
MODULES = sorted(PACKAGE.rglob("*.py"))
_FINDING_ID = re.compile(r"""\bid=f?["']([^"']+)["']""")


def _lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def _functions(path: Path) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            yield node


def test_no_module_is_longer_than_400_lines() -> None:
    assert not {str(path.relative_to(ROOT)): _lines(path) for path in MODULES if _lines(path) > 400}


def test_the_median_module_is_about_150_lines() -> None:
    assert statistics.median(_lines(path) for path in MODULES if _lines(path) > 3) <= 160


def test_functions_fit_a_screen() -> None:
    # Command line functions carry one parameter an option, so they may be longer in `cli/`.
    too_long = {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in MODULES
        for node in _functions(path)
        if (node.end_lineno or 0) - node.lineno + 1 > (70 if "cli" in path.parts else 50)
    }
    assert not too_long


def test_only_probes_know_vendors() -> None:
    allowed = {"probes", "domain", "catalogue"}
    offenders = [
        str(path.relative_to(ROOT))
        for path in MODULES
        if not allowed & set(path.relative_to(PACKAGE).parts)
        and re.search(r"\bVendor\.(NVIDIA|AMD|APPLE|HUAWEI)\b", path.read_text(encoding="utf-8"))
    ]
    assert not offenders


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_finding_has_a_group(path: Path) -> None:
    for found in _FINDING_ID.findall(path.read_text(encoding="utf-8")):
        if "." in found and not found.startswith("{"):
            group_of(found)


def test_nothing_starts_a_shell() -> None:
    offenders = [str(path) for path in MODULES if "shell=True" in path.read_text(encoding="utf-8")]
    assert not offenders


def test_nothing_that_we_write_trusts_remote_code() -> None:
    files = [*ROOT.joinpath("templates").rglob("*"), *MODULES]
    assert not [
        str(path)
        for path in files
        if path.is_file()
        and re.search(r"trust[-_]remote[-_]code['\"]?\s*[:=]?\s*[tT]rue|--trust-remote-code", path.read_text())
    ]
