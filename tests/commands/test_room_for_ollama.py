"""Whether an import into Ollama finds room, before the weights are here."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support_checks import catalogue
from tests.support_plans import FLASH_OLLAMA
from v4deploy.commands.serve_ollama import require_room
from v4deploy.commands.workspace import Workspace
from v4deploy.domain.engine import EngineId, LaunchOptions
from v4deploy.domain.errors import LaunchError
from v4deploy.domain.finding import Finding
from v4deploy.domain.units import GB
from v4deploy.system.base import DiskUsage
from v4deploy.system.live import LiveSystem

STORE, WEIGHTS = "/store", "/weights"


class Disks(LiveSystem):
    """A machine that knows its disks only; free bytes by path."""

    free: dict[str, int | None]

    def disk_usage(self, path: str) -> DiskUsage:
        free_bytes = self.free[path]
        return DiskUsage(path=path, total_bytes=1000 * GB if free_bytes else None, free_bytes=free_bytes)


def room(store_bytes: int | None, weights_bytes: int | None, version: str = "0.33.0") -> tuple[Finding, ...]:
    environ = {"OLLAMA_MODELS": STORE, "V4DEPLOY_WEIGHTS_DIR": WEIGHTS, "XDG_STATE_HOME": "/nowhere"}
    system = Disks(environ)
    system.free = {STORE: store_bytes, WEIGHTS: weights_bytes}
    workspace = Workspace(environ=environ, system=system, catalogue=catalogue())
    plan = replace(FLASH_OLLAMA, engine_version=version)
    options = LaunchOptions(weights_dir="/nowhere")
    return require_room(workspace, plan, options, workspace.catalogue.engine(EngineId.OLLAMA))


@pytest.mark.parametrize(
    ("store_gb", "weights_gb", "version", "takes"),
    [
        (300, 300, "0.33.0", "465.3 GB"),  # the files, their copies and the merged file on one disk
        (300, 200, "0.33.0", "310.2 GB"),
        (300, 300, "0.35.0", "310.2 GB"),
        (150, 200, "0.35.0", "155.1 GB"),
    ],
)
def test_too_little_room_is_told_with_what_it_takes(store_gb: int, weights_gb: int, version: str, takes: str) -> None:
    with pytest.raises(LaunchError, match=f"takes {takes}"):
        room(store_gb * GB, weights_gb * GB, version)


def test_enough_room_is_not_told() -> None:
    assert not room(470 * GB, 470 * GB)
    assert not room(320 * GB, 160 * GB)
    assert not room(160 * GB, 200 * GB, "0.35.0")


def test_unknown_room_is_a_warning() -> None:
    assert [finding.id for finding in room(None, None)] == ["storage.import-room-unknown"]
