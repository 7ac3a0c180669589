"""A hub with the tiny repository, and a pull against it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.faulty_hub import FaultyHub
from tests.support.pull_builders import checkpoint, gguf_repository
from v4deploy.domain.model import Checkpoint
from v4deploy.pull.access import HubAccess
from v4deploy.pull.download import Control
from v4deploy.pull.pull import PullResult, pull_checkpoint
from v4deploy.pull.request import PullRequest
from v4deploy.pull.retry import RetryPolicy


@dataclasses.dataclass(slots=True, kw_only=True)
class Listener:
    """Progress that remembers."""

    waits: list[tuple[str, str, float]] = dataclasses.field(default_factory=list)
    last: dict[str, int] = dataclasses.field(default_factory=dict)

    def advanced(self, path: str, done_bytes: int, size_bytes: int) -> None:
        assert done_bytes <= size_bytes
        self.last[path] = done_bytes

    def checking(self, _path: str, done_bytes: int, size_bytes: int) -> None:
        assert done_bytes <= size_bytes

    def finished(self, path: str, size_bytes: int) -> None:
        self.last[path] = size_bytes

    def waiting(self, path: str, reason: str, wait_seconds: float) -> None:
        self.waits.append((path, reason, wait_seconds))


@dataclasses.dataclass(slots=True, kw_only=True)
class Desk:
    """Everything that a pull in a test needs; pauses are written down instead of slept through."""

    hub: FaultyHub
    weights: Path
    wanted: dict[str, bytes]
    pauses: list[float] = dataclasses.field(default_factory=list)
    listener: Listener = dataclasses.field(default_factory=Listener)

    def control(self, **changes: object) -> Control:
        usual = Control(policy=RetryPolicy(dice=lambda: 1.0), pause=self.pauses.append, block_bytes=64 * 1024)
        return dataclasses.replace(usual, **changes)  # type: ignore[arg-type]

    def request(self, chosen: Checkpoint | None = None, *, max_workers: int = 2) -> PullRequest:
        return PullRequest(checkpoint=chosen or checkpoint(), weights_root=self.weights, max_workers=max_workers)

    def pull(
        self, request: PullRequest | None = None, *, control: Control | None = None, access: HubAccess | None = None
    ) -> PullResult:
        return pull_checkpoint(
            request or self.request(),
            access=access or HubAccess(endpoint=self.hub.endpoint),
            fetched_at="2026-11-22T10:00:00+00:00",
            progress=self.listener,
            control=control or self.control(),
        )

    def assert_right(self, result: PullResult) -> None:
        for path, data in self.wanted.items():
            assert (Path(result.directory) / path).read_bytes() == data
        assert not list(Path(result.directory).rglob("*.part*"))

    def byte_requests(self) -> int:
        return sum(1 for seen in self.hub.faults.seen if seen.at_cdn)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    wanted = gguf_repository(tmp_path / "published")
    with FaultyHub(tmp_path / "published") as hub:
        yield Desk(hub=hub, weights=tmp_path / "weights", wanted=wanted)
