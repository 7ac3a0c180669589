"""What a check of a weights directory found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ProblemKind(StrEnum):
    """BAD_HEADER: the file contradicts itself or its name. INCONSISTENT: files contradict each other. SUSPECT: it looks
    like an interrupted download. EXTRA, STALE (not named by the index beside it) and MIXED (files of several commits)
    do not make weights wrong.
    """

    MISSING = "missing"
    WRONG_SIZE = "wrong-size"
    CORRUPT = "corrupt"
    BAD_HEADER = "bad-header"
    INCONSISTENT = "inconsistent"
    SUSPECT = "suspect"
    UNREADABLE = "unreadable"
    WRONG_REPOSITORY = "wrong-repository"
    EXTRA = "extra"
    STALE = "stale"
    MIXED = "mixed"

    @property
    def is_harmless(self) -> bool:
        return self in {ProblemKind.EXTRA, ProblemKind.STALE, ProblemKind.MIXED}


class Basis(StrEnum):
    """Who says what should be in a directory.

    MANIFEST: the pull that filled it. HUB_CACHE: the hub's own cache, whose files are named by their hashes.
    HUB_DOWNLOAD: what `hf download --local-dir` wrote down. CATALOGUE: files of these names and sizes are pinned there.
    NONE: nobody.
    """

    MANIFEST = "manifest"
    HUB_CACHE = "hub-cache"
    HUB_DOWNLOAD = "hub-download"
    CATALOGUE = "catalogue"
    NONE = "none"


class FileState(StrEnum):
    """PROVEN: every byte was hashed, and the hash is the published one. NOT_PROVEN: nothing wrong was seen, but no hash
    is known, or hashing was not asked for.
    """

    PROVEN = "proven"
    NOT_PROVEN = "not-proven"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileProblem:
    """What is wrong with one file, with a split set under the name that its parts share, or (`.`) with all of it."""

    path: str
    kind: ProblemKind
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedFile:
    """A file that should be there.

    Attributes:
        size_bytes: as found; None where it is missing or cannot be looked at.
        found_hash: SHA-256, or git's blob SHA-1 where hubs keep only that; None when it was not hashed.
    """

    path: str
    size_bytes: int | None
    found_hash: str | None
    state: FileState


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """The result for one directory.

    Attributes:
        repo, revision: None where nobody says.
        checked_files, checked_bytes: files whose every byte was read and hashed, right or wrong.
        problems: by path; empty when all is right.
        repaired: paths that were wrong and were fetched or adopted again.
    """

    directory: str
    basis: Basis
    repo: str | None
    revision: str | None
    files: tuple[CheckedFile, ...]
    checked_files: int
    checked_bytes: int
    problems: tuple[FileProblem, ...]
    elapsed_seconds: float
    repaired: tuple[str, ...] = ()

    @property
    def wrong(self) -> tuple[FileProblem, ...]:
        """The problems that make the weights wrong."""
        return tuple(problem for problem in self.problems if not problem.kind.is_harmless)

    @property
    def is_right(self) -> bool:
        """Whether nothing wrong was seen; files that nobody vouches for do not count as wrong."""
        return not self.wrong

    @property
    def not_proven(self) -> tuple[str, ...]:
        return tuple(file.path for file in self.files if file.state is FileState.NOT_PROVEN)
