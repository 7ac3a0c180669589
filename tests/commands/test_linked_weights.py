"""Weights that lie elsewhere, as in the hub's own cache, are not in a container that is given their directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support_plans import FLASH_CPU
from v4deploy.commands.render_preflight import linked_weights_findings
from v4deploy.domain.finding import Severity


def linked(tmp_path: Path) -> Path:
    """A directory of links, as the hub's cache has it."""
    snapshot = tmp_path / "snapshots"
    for file in FLASH_CPU.chosen.checkpoint.files:
        blob, name = tmp_path / "blobs" / file.path, snapshot / file.path
        for path in (blob, name):
            path.parent.mkdir(parents=True, exist_ok=True)
        blob.touch()
        name.symlink_to(blob)
    return snapshot


@pytest.mark.parametrize(
    ("target", "is_refused"), [("compose", True), ("kubernetes", True), ("script", False), ("systemd", False)]
)
def test_links_out_of_the_directory_are_refused_where_only_the_directory_is_seen(
    tmp_path: Path, target: str, *, is_refused: bool
) -> None:
    found = linked_weights_findings(FLASH_CPU, linked(tmp_path), target)
    assert [finding.severity for finding in found] == [Severity.FAIL] * is_refused


def test_files_and_directories_that_are_not_there_are_no_links(tmp_path: Path) -> None:
    linked(tmp_path)
    assert linked_weights_findings(FLASH_CPU, tmp_path / "blobs", "compose") == ()
    assert linked_weights_findings(FLASH_CPU, tmp_path / "none", "compose") == ()
