"""A child process that pulls is killed at random moments; the next one goes on, and no byte is ever wrong."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.support.faulty_hub import FaultyHub
from tests.support.pull_builders import QUANT, REPO, gguf_repository
from v4deploy.pull.part import JOURNAL_SUFFIX, PART_SUFFIX
from v4deploy.pull.proof.report import ProblemKind
from v4deploy.pull.verify import verify_directory

_CHILD = """
import sys
from pathlib import Path
from v4deploy.pull.access import HubAccess
from v4deploy.pull.download import Control
from v4deploy.pull.pull import pull_checkpoint
from v4deploy.pull.request import PullRequest
from tests.support.pull_builders import checkpoint
result = pull_checkpoint(
    PullRequest(checkpoint=checkpoint(), weights_root=Path(sys.argv[2]), max_workers=2),
    access=HubAccess(endpoint=sys.argv[1]), fetched_at="2026-11-22", control=Control(block_bytes=65536),
)
print(result.fetched_bytes)
"""
_KILLS = 6


def _start(endpoint: str, weights: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _CHILD, endpoint, str(weights)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )


def test_kill_nine_at_random_moments_never_leaves_a_wrong_byte(tmp_path: Path) -> None:
    dice = random.Random(20261122)
    wanted = gguf_repository(tmp_path / "published", body_bytes=1_500_000)
    total = sum(map(len, wanted.values()))
    weights = tmp_path / "weights"
    with FaultyHub(tmp_path / "published") as hub:
        # Slow enough that a kill comes in the middle: 32 KiB every 3 ms, about 10 MB a second on each connection.
        hub.faults.chunk_bytes, hub.faults.chunk_seconds = 32 * 1024, 0.003
        directory = weights / REPO.replace("/", "--") / hub.repositories[REPO].commit
        in_the_middle = 0
        for _ in range(_KILLS):
            asked = sum(1 for seen in hub.faults.seen if seen.at_cdn)
            with _start(hub.endpoint, weights) as child:
                while sum(1 for seen in hub.faults.seen if seen.at_cdn) == asked and child.poll() is None:
                    time.sleep(0.002)
                time.sleep(dice.uniform(0.0, 0.08))
                child.send_signal(signal.SIGKILL)
            in_the_middle += child.returncode == -signal.SIGKILL
            _assert_finished_files_are_right(directory, wanted)
        assert in_the_middle >= 1
        hub.faults.chunk_seconds = 0.0
        with _start(hub.endpoint, weights) as last:
            output = last.communicate()[0]
        assert last.returncode == 0
        assert int(output) < total, "nothing of the killed runs was used"
    _assert_finished_files_are_right(directory, wanted)
    assert {path.relative_to(directory).as_posix() for path in (directory / QUANT).iterdir()} == set(wanted)
    assert verify_directory(directory, max_workers=2).problems == ()


def _assert_finished_files_are_right(directory: Path, wanted: dict[str, bytes]) -> None:
    for path, data in wanted.items():
        destination = directory / path
        if destination.exists():
            assert destination.read_bytes() == data
    if (directory / "v4deploy-manifest.json").exists():
        kinds = {problem.kind for problem in verify_directory(directory, max_workers=2).problems}
        assert kinds <= {ProblemKind.MISSING}
    assert all(path.name.endswith((".gguf", PART_SUFFIX, JOURNAL_SUFFIX, ".new")) for path in directory.rglob("V4-*"))
