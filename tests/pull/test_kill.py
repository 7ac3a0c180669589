"""A process that pulls is killed at random moments; the next one goes on, and no byte is ever wrong."""

from __future__ import annotations

import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.faulty_hub import FaultyHub
from tests.support.pull_builders import QUANT, REPO, gguf_repository
from v4deploy.pull import store
from v4deploy.pull.part import JOURNAL_SUFFIX, PART_SUFFIX, resumable_bytes
from v4deploy.pull.proof.report import ProblemKind
from v4deploy.pull.verify import verify_directory

CONNECTIONS = 4
BLOCK_BYTES = 64 * 1024
# Loads everything once and forks for each pull, which takes milliseconds; its threads begin after the fork. What has
# arrived of each file is written where it outlives the process.
_NURSERY = """
import os, struct, sys
from pathlib import Path
import httpx2
from huggingface_hub import HfApi
from v4deploy.pull.access import HubAccess
from v4deploy.pull.download import Control
from v4deploy.pull.pull import pull_checkpoint
from v4deploy.pull.request import PullRequest
from tests.support.pull_builders import checkpoint
endpoint, weights, arrived, connections, block = sys.argv[1:]
class Record:
    def __init__(self): self.file = os.open(arrived, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    def advanced(self, path, done, size): os.pwrite(self.file, struct.pack("<q", done), 8 * (int(path[-19:-14]) - 1))
    def checking(self, path, done, size): pass
    def finished(self, path, size): pass
    def waiting(self, path, reason, seconds): pass
def pull():
    control = Control(
        block_bytes=int(block), shortest_request_bytes=int(block), longest_request_bytes=4 * int(block)
    )
    result = pull_checkpoint(
        PullRequest(checkpoint=checkpoint(), weights_root=Path(weights), max_workers=int(connections)),
        access=HubAccess(endpoint=endpoint), fetched_at="2026-11-22", control=control, progress=Record(),
    )
print("ready", flush=True)
for _ in sys.stdin:
    child = os.fork()
    if not child:
        try:
            pull()
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    print("begun", flush=True)
    if sys.stdin.readline() == "kill\\n":
        os.kill(child, 9)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Nursery:
    """Starts pulls."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert self.line() == "ready"

    def line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def start(self) -> None:
        self._say("pull")
        assert self.line() == "begun"

    def end(self, how: str) -> int:
        """`kill` or `wait`; the exit code. Its parent kills it, so that no other process has its number by then."""
        self._say(how)
        return int(self.line())

    def _say(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()


@contextmanager
def nursery(*arguments: str) -> Iterator[Nursery]:
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", _NURSERY, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
    ) as process:
        yield Nursery(process)
        assert process.stdin is not None
        process.stdin.close()


@pytest.mark.parametrize("kills", [8, pytest.param(50, marks=pytest.mark.slow)])
def test_kills_never_leave_a_wrong_byte_and_cost_a_block_a_connection(tmp_path: Path, kills: int) -> None:
    dice = random.Random(20261122)
    wanted = gguf_repository(tmp_path / "published", body_bytes=1_500_000)
    weights, arrived = tmp_path / "weights", tmp_path / "arrived"
    with FaultyHub(tmp_path / "published") as hub:
        # Slow enough that a kill comes in the middle: 32 KiB every 3 ms, about 10 MB a second on each connection.
        hub.faults.chunk_bytes, hub.faults.chunk_seconds = 32 * 1024, 0.003
        directory = weights / REPO.replace("/", "--") / hub.repositories[REPO].commit
        killed = resumed = 0
        with nursery(hub.endpoint, str(weights), str(arrived), str(CONNECTIONS), str(BLOCK_BYTES)) as pulls:
            while killed < kills:
                kept_before = _kept_bytes(directory)
                asked = len(hub.faults.seen)
                pulls.start()
                _wait_for_bytes(hub, asked)
                time.sleep(dice.uniform(0.0, 0.08))
                code = pulls.end("kill")
                _assert_finished_files_are_right(directory, wanted)
                if code == -signal.SIGKILL:
                    killed += 1
                    resumed += kept_before > 0
                    lost = _arrived_bytes(arrived) - _kept_bytes(directory)
                    assert lost <= CONNECTIONS * BLOCK_BYTES
                    continue
                assert code == 0
                _assert_complete(directory, wanted)
                shutil.rmtree(weights)
                arrived.unlink()
            hub.faults.chunk_seconds = 0.0
            pulls.start()
            assert pulls.end("wait") == 0
        assert resumed >= kills // 8, "hardly any run went on from what another had left"
    _assert_complete(directory, wanted)


def _wait_for_bytes(hub: FaultyHub, asked: int) -> None:
    """Until the new process asks for bytes; not for ever, should it have nothing to ask for."""
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline and not any(seen.at_cdn for seen in hub.faults.seen[asked:]):
        time.sleep(0.001)


def _kept_bytes(directory: Path) -> int:
    manifest = store.read_manifest(directory)
    files = manifest.files if manifest else ()
    return sum(
        file.size_bytes if (directory / file.path).exists() else resumable_bytes(directory / file.path, file)
        for file in files
    )


def _arrived_bytes(record: Path) -> int:
    data = record.read_bytes() if record.exists() else b""
    return sum(value for (value,) in struct.iter_unpack("<q", data))


def _assert_complete(directory: Path, wanted: dict[str, bytes]) -> None:
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
