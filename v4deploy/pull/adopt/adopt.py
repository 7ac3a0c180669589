"""Adopts wanted files from what the machine has, and says from where, or why not."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.pull.adopt.places import Candidate, Finds, Origin
from v4deploy.pull.adopt.take import Method, SourceError, take
from v4deploy.pull.manifest import FilePlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """A file that was taken over, or the `size_bytes` of it that had arrived. `source` is where it lies, or lay."""

    path: str
    size_bytes: int
    source: str
    origin: Origin
    method: Method


class Adopter:
    """Takes files over, from several threads at once.

    Attributes:
        findings: candidates that were not what they seemed.
    """

    def __init__(self, finds: Finds, stop: threading.Event) -> None:
        self.findings: list[Finding] = []
        self._finds = finds
        self._stop = stop
        # Shards of one layer type have the same size: a directory of renamed ones is hashed once, not once a shard.
        self._hashes: dict[tuple[Path, bool], str] = {}
        self._guessing = threading.Lock()

    def adopt(self, file: FilePlan, destination: Path, *, on_bytes: Callable[[int], None]) -> Adopted | None:
        """Bring a file in place; None when no candidate has its content.

        Raises:
            StoppedError: `stop` was set.
            OSError: the destination cannot be written.
        """
        for candidate in self._finds.candidates(file, destination):
            if not candidate.is_guess:
                adopted = self._try(candidate, file, destination, on_bytes)
            else:
                with self._guessing:
                    adopted = self._try(candidate, file, destination, on_bytes)
            if adopted is not None:
                return adopted
        return None

    def _try(
        self, candidate: Candidate, file: FilePlan, destination: Path, on_bytes: Callable[[int], None]
    ) -> Adopted | None:
        key = (candidate.path, file.sha256 is not None)
        if self._hashes.get(key, file.expected_hash) != file.expected_hash:
            return None
        try:
            method = take(candidate.path, destination, file, stop=self._stop, on_bytes=on_bytes)
        except SourceError as error:
            if error.found is not None:
                self._hashes[key] = error.found
            if not candidate.is_guess:
                self.findings.append(_not_adopted(candidate, file, str(error)))
            return None
        return Adopted(
            path=file.path,
            size_bytes=file.size_bytes,
            source=str(candidate.path),
            origin=candidate.origin,
            method=method,
        )


def _not_adopted(candidate: Candidate, file: FilePlan, reason: str) -> Finding:
    return Finding(
        id="storage.adopt.bad-source",
        severity=Severity.WARN,
        summary=f"{candidate.path} was not adopted as {file.path}: it {reason}",
        evidence=(Evidence(source=str(candidate.path), value=reason),),
        why="whatever else uses that file gets wrong weights"
        if candidate.origin is not Origin.GIVEN
        else "it has the name and size of the wanted file, but another content",
        fix=_FIXES[candidate.origin],
    )


_FIXES = {
    Origin.EARLIER_PULL: "v4deploy verify --repair on its directory",
    Origin.HUB_CACHE: "remove it with `hf cache rm`, or let `hf cache verify` look at it",
    Origin.GIVEN: None,
}
