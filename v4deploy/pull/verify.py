"""The offline proof that weights are right: every byte hashed against the manifest, and the headers read."""

from __future__ import annotations

import mmap
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from v4deploy.domain.errors import DownloadError
from v4deploy.pull import store
from v4deploy.pull.hashing import StoppedError, hash_file
from v4deploy.pull.headers import HeaderError, read_gguf_header, safetensors_problem
from v4deploy.pull.manifest import MANIFEST_NAME, FilePlan, Manifest, split_name, split_problems
from v4deploy.pull.part import LEFTOVER_SUFFIXES, part_path
from v4deploy.pull.workers import run_all


class ProblemKind(StrEnum):
    MISSING = "missing"
    WRONG_SIZE = "wrong-size"
    CORRUPT = "corrupt"
    BAD_HEADER = "bad-header"
    UNREADABLE = "unreadable"
    EXTRA = "extra"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileProblem:
    """What is wrong with one file, or with a split set under the name that its parts share."""

    path: str
    kind: ProblemKind
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """The result for one directory.

    Attributes:
        checked_files, checked_bytes: files whose every byte was read and hashed, right or wrong.
        problems: by path; empty when all is right.
    """

    directory: str
    repo: str
    revision: str
    files: int
    checked_files: int
    checked_bytes: int
    problems: tuple[FileProblem, ...]

    @property
    def is_right(self) -> bool:
        """Extra files do not make the weights wrong."""
        return all(problem.kind is ProblemKind.EXTRA for problem in self.problems)


def verify_directory(
    directory: Path,
    *,
    max_workers: int,
    on_bytes: Callable[[str, int, int], None] = lambda _path, _done, _size: None,
) -> VerifyReport:
    """Check all files of a target directory against its manifest, without a network.

    `on_bytes` hears path, bytes hashed so far and size, from several threads at once.

    Raises:
        DownloadError: there is no manifest, so nothing says what should be here.
        ProfileError: the manifest is broken.
        KeyboardInterrupt: after all threads have ended.
    """
    manifest = store.read_manifest(directory)
    if manifest is None:
        raise DownloadError(
            f"{directory} has no {MANIFEST_NAME}: nothing says which files belong here",
            hint="name a directory that `v4deploy pull` has filled, or pull again",
        )
    stop = threading.Event()
    problems: list[FileProblem] = [*_extra_files(directory, manifest), *_broken_sets(manifest)]
    hashed: list[FilePlan] = []

    def check(file: FilePlan) -> FileProblem | None:
        return _check(directory, file, stop, on_bytes)

    def note(file: FilePlan, future: Future[FileProblem | None]) -> None:
        problem = future.result()
        if problem is None or problem.kind in {ProblemKind.CORRUPT, ProblemKind.BAD_HEADER}:
            hashed.append(file)
        if problem is not None:
            problems.append(problem)

    # The largest first: one 95 GB file begun last would leave the other cores idle.
    by_size = sorted(manifest.files, key=lambda file: -file.size_bytes)
    run_all(check, by_size, on_result=note, max_workers=max_workers, on_stop=stop.set)
    return VerifyReport(
        directory=str(directory),
        repo=manifest.repo,
        revision=manifest.revision,
        files=len(manifest.files),
        checked_files=len(hashed),
        checked_bytes=sum(file.size_bytes for file in hashed),
        problems=tuple(sorted(problems, key=lambda problem: problem.path)),
    )


def _check(
    directory: Path, file: FilePlan, stop: threading.Event, on_bytes: Callable[[str, int, int], None]
) -> FileProblem | None:
    path = directory / file.path
    if stop.is_set():
        raise StoppedError
    try:
        size_bytes = path.stat().st_size
        if size_bytes != file.size_bytes:
            return _problem(file, ProblemKind.WRONG_SIZE, f"has {size_bytes} bytes instead of {file.size_bytes}")
        digest = hash_file(path, file, stop=stop, on_bytes=lambda done: on_bytes(file.path, done, file.size_bytes))
        found = digest.hexdigest()
        if found != file.expected_hash:
            return _problem(file, ProblemKind.CORRUPT, f"has hash {found} instead of {file.expected_hash}")
        wrong = _header_problem(path, file)
    except FileNotFoundError:
        partly = " (partly downloaded: pull again to go on)" if part_path(path).exists() else ""
        return _problem(file, ProblemKind.MISSING, f"is not there{partly}")
    except OSError as error:
        return _problem(file, ProblemKind.UNREADABLE, f"cannot be read: {error.strerror or error}")
    return _problem(file, ProblemKind.BAD_HEADER, wrong) if wrong else None


def _problem(file: FilePlan, kind: ProblemKind, summary: str) -> FileProblem:
    return FileProblem(path=file.path, kind=kind, summary=summary)


def _header_problem(path: Path, file: FilePlan) -> str | None:
    """A right hash proves that we have what was published, not that it was published whole and under its name."""
    if path.suffix not in {".gguf", ".safetensors"}:
        return None
    if not file.size_bytes:
        return "is empty"
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if path.suffix == ".safetensors":
            return safetensors_problem(data)
        try:
            header = read_gguf_header(data)
        except HeaderError as error:
            return str(error)
    part = split_name(file.path)
    named = (part.count, part.number - 1) if part else (1, 0)
    found = (header.split_count or 1, header.split_number or 0)
    if found != named:
        return f"says it is part {found[1] + 1} of {found[0]}, its name says part {named[1] + 1} of {named[0]}"
    return None


def _broken_sets(manifest: Manifest) -> list[FileProblem]:
    return [
        FileProblem(path=problem.partition(":")[0], kind=ProblemKind.MISSING, summary=problem.partition(": ")[2])
        for selection in manifest.selections
        for problem in split_problems(selection.paths)
    ]


def _extra_files(directory: Path, manifest: Manifest) -> list[FileProblem]:
    """Files that no manifest entry explains: engines that glob a directory for weights pick them up."""
    known = {file.path for file in manifest.files}
    known |= {file.path + suffix for file in manifest.files for suffix in LEFTOVER_SUFFIXES}
    found = (path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())
    return [
        FileProblem(path=path, kind=ProblemKind.EXTRA, summary="does not belong to what was pulled")
        for path in found
        if path not in known and path not in store.OWN_FILES
    ]
