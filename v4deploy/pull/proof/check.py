"""Checks one file against what is claimed of it: there, of the right size, every byte hashed, its header true."""

from __future__ import annotations

import dataclasses
import stat
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from v4deploy.pull.hashing import StoppedError, hash_file
from v4deploy.pull.manifest import FilePlan
from v4deploy.pull.part import part_path
from v4deploy.pull.proof import truth
from v4deploy.pull.proof.claims import WEIGHT_SUFFIXES, Claim
from v4deploy.pull.proof.report import CheckedFile, FileProblem, FileState, ProblemKind
from v4deploy.pull.proof.truth import Truth

_SHA256_DIGITS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One file's result; `truth` has its header, for the comparison with the other files."""

    file: CheckedFile
    truth: Truth = dataclasses.field(default_factory=Truth)
    problem: FileProblem | None = None


class Checker:
    """Checks files of one directory, from several threads at once.

    Attributes:
        quick: sizes and headers only.
        architectures: what main GGUF files that no hash proves may be of; empty: anything.
    """

    def __init__(
        self,
        directory: Path,
        *,
        quick: bool,
        architectures: Collection[str],
        stop: threading.Event,
        on_bytes: Callable[[str, int, int], None],
    ) -> None:
        self._directory = directory
        self._quick = quick
        self._architectures = architectures
        self._stop = stop
        self._on_bytes = on_bytes

    def check(self, claim: Claim) -> Checked:
        """The result for one file; trouble with reading it is a result too.

        Raises:
            StoppedError: `stop` was set.
        """
        if self._stop.is_set():
            raise StoppedError
        path = self._directory / claim.path
        try:
            return self._check(claim, path)
        except FileNotFoundError:
            partly = " (partly downloaded: pull again to go on)" if part_path(path).exists() else ""
            return _wrong(claim, ProblemKind.MISSING, f"is not there{partly}")
        except OSError as error:
            return _wrong(claim, ProblemKind.UNREADABLE, f"cannot be read: {error.strerror or error}")

    def _check(self, claim: Claim, path: Path) -> Checked:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            # Opening a pipe would wait for whoever writes to it.
            return _wrong(claim, ProblemKind.UNREADABLE, "is no regular file")
        size_bytes = status.st_size
        if claim.size_bytes not in {None, size_bytes}:
            summary = f"has {size_bytes} bytes instead of {claim.size_bytes}"
            return _wrong(claim, ProblemKind.WRONG_SIZE, _explained(summary, path), size_bytes)
        found_hash = self._hash(claim, path, size_bytes) if claim.hashes and not self._quick else None
        if found_hash is not None and found_hash not in claim.hashes:
            summary = f"has hash {found_hash} instead of {' or '.join(claim.hashes)}"
            return _wrong(claim, ProblemKind.CORRUPT, _explained(summary, path), size_bytes, found_hash)
        return self._judged(claim, path, size_bytes, found_hash)

    def _hash(self, claim: Claim, path: Path, size_bytes: int) -> str:
        """The hash, of the kind that is claimed."""
        expected = claim.hashes[0]
        is_sha256 = len(expected) == _SHA256_DIGITS
        file = FilePlan(
            path=claim.path,
            size_bytes=size_bytes,
            role=claim.role,
            sha256=expected if is_sha256 else None,
            git_sha1=None if is_sha256 else expected,
        )
        on_bytes = self._on_bytes
        digest = hash_file(path, file, stop=self._stop, on_bytes=lambda done: on_bytes(claim.path, done, size_bytes))
        return digest.hexdigest()

    def _judged(self, claim: Claim, path: Path, size_bytes: int, found_hash: str | None) -> Checked:
        """A right hash proves that we have what was published, not that it was published whole and under its name."""
        seen = truth.header_truth(path, claim.path)
        if seen.problem is not None:
            summary = seen.problem if found_hash else _explained(seen.problem, path)
            return _wrong(claim, ProblemKind.BAD_HEADER, summary, size_bytes, found_hash)
        if found_hash is None and seen.gguf is not None:
            other = truth.architecture_problem(seen.gguf, claim.role, self._architectures)
            if other is not None:
                return _wrong(claim, ProblemKind.WRONG_REPOSITORY, other, size_bytes)
        if found_hash is None and claim.path.endswith(WEIGHT_SUFFIXES):
            trace = truth.unfinished_trace(path)
            if trace is not None:
                return _wrong(claim, ProblemKind.SUSPECT, trace, size_bytes)
        state = FileState.PROVEN if found_hash else FileState.NOT_PROVEN
        return Checked(
            file=CheckedFile(path=claim.path, size_bytes=size_bytes, found_hash=found_hash, state=state), truth=seen
        )


def _explained(summary: str, path: Path) -> str:
    instead = truth.what_it_is_instead(path)
    return f"{summary}; it is {instead}" if instead else summary


def _wrong(
    claim: Claim, kind: ProblemKind, summary: str, size_bytes: int | None = None, found_hash: str | None = None
) -> Checked:
    return Checked(
        file=CheckedFile(path=claim.path, size_bytes=size_bytes, found_hash=found_hash, state=FileState.WRONG),
        problem=FileProblem(path=claim.path, kind=kind, summary=summary),
    )
