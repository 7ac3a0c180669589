"""The offline proof that weights are right: every byte hashed against what was published, and the headers read."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

from v4deploy.domain.model import Checkpoint
from v4deploy.pull import store
from v4deploy.pull.headers.reader import HeaderError
from v4deploy.pull.headers.safetensors import read_index
from v4deploy.pull.headers.sets import index_problems, indexed_paths, split_set_problems
from v4deploy.pull.manifest import split_problems
from v4deploy.pull.part import LEFTOVER_SUFFIXES
from v4deploy.pull.proof.check import Checked, Checker
from v4deploy.pull.proof.claims import INDEX_SUFFIX, Claim, Claims, claims_of, snapshot_directory
from v4deploy.pull.proof.report import Basis, FileProblem, ProblemKind, VerifyReport
from v4deploy.pull.workers import run_all

# V4.1-Flash has an index of 7.5 MB, V4-Pro one of 12 MB; anything far above is none.
_MOST_INDEX_BYTES = 100_000_000


def verify_directory(  # noqa: PLR0913 - each is a choice of the caller
    directory: Path,
    *,
    max_workers: int,
    quick: bool = False,
    catalogue: Sequence[Checkpoint] = (),
    architectures: Collection[str] = (),
    on_begin: Callable[[int], None] = lambda _total_bytes: None,
    on_bytes: Callable[[str, int, int], None] = lambda _path, _done, _size: None,
) -> VerifyReport:
    """Check all files that should be in a directory, without a network.

    `on_begin` hears how many bytes will be hashed; `on_bytes` path, bytes hashed so far and size, from several threads
    at once. `quick` reads sizes and headers only. `catalogue` vouches for files where nothing in the directory does.

    Raises:
        DownloadError: nothing says which files belong there and none is a weight file.
        UsageError: there is no such directory, or it is a cached repository with several snapshots.
        ProfileError: the manifest is broken.
        KeyboardInterrupt: after all threads have ended.
    """
    began = time.monotonic()
    directory = snapshot_directory(directory)
    claims = claims_of(directory, catalogue)
    stop = threading.Event()
    checker = Checker(directory, quick=quick, architectures=architectures, stop=stop, on_bytes=on_bytes)
    checked: dict[str, Checked] = {}

    def note(claim: Claim, future: Future[Checked]) -> None:
        checked[claim.path] = future.result()

    # The largest first: one 95 GB file begun last would leave the other cores idle.
    sizes = {claim.path: _size(directory / claim.path) for claim in claims.files}
    by_size = sorted(claims.files, key=lambda claim: -sizes[claim.path])
    on_begin(0 if quick else sum(sizes[claim.path] for claim in claims.files if claim.hashes))
    run_all(checker.check, by_size, on_result=note, max_workers=max_workers, on_stop=stop.set)
    return _report(directory, claims, checked, elapsed_seconds=round(time.monotonic() - began, 3))


def _report(directory: Path, claims: Claims, checked: Mapping[str, Checked], *, elapsed_seconds: float) -> VerifyReport:
    problems = [
        *(result.problem for result in checked.values() if result.problem is not None),
        *_between_files(directory, claims, checked),
        *(_extra_files(directory, claims) if claims.basis is Basis.MANIFEST else ()),
    ]
    hashed = [result.file for result in checked.values() if result.file.found_hash is not None]
    return VerifyReport(
        directory=str(directory),
        basis=claims.basis,
        repo=claims.repo,
        revision=claims.revision,
        files=tuple(sorted((result.file for result in checked.values()), key=lambda file: file.path)),
        checked_files=len(hashed),
        checked_bytes=sum(file.size_bytes or 0 for file in hashed),
        problems=tuple(sorted(problems, key=lambda problem: problem.path)),
        elapsed_seconds=elapsed_seconds,
    )


def _size(path: Path) -> int:
    """For the order and the sum of the work; what cannot be looked at is no work, and reported where it is checked."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _between_files(directory: Path, claims: Claims, checked: Mapping[str, Checked]) -> Iterator[FileProblem]:
    """What is wrong although each file is right: parts missing or of two uploads, and files that contradict others."""
    for paths in claims.sets:
        for problem in split_problems(paths):
            name, _, summary = problem.partition(": ")
            yield FileProblem(path=name, kind=ProblemKind.MISSING, summary=summary)
    headers = {path: result.truth.gguf for path, result in checked.items() if result.truth.gguf is not None}
    for path, summary in split_set_problems(headers):
        yield FileProblem(path=path, kind=ProblemKind.INCONSISTENT, summary=summary)
    for claim in claims.files:
        if claim.path.endswith(INDEX_SUFFIX) and checked[claim.path].problem is None:
            yield from _index_problems(directory, claim.path, claims, checked)
    if len(claims.commits) > 1:
        summary = f"holds files of {len(claims.commits)} commits: {', '.join(sorted(claims.commits))}"
        yield FileProblem(path=".", kind=ProblemKind.MIXED, summary=summary)


def _index_problems(
    directory: Path, index_path: str, claims: Claims, checked: Mapping[str, Checked]
) -> Iterator[FileProblem]:
    try:
        with (directory / index_path).open("rb") as stream:
            weight_map = read_index(stream.read(_MOST_INDEX_BYTES))
    except (HeaderError, OSError) as error:
        yield FileProblem(path=index_path, kind=ProblemKind.BAD_HEADER, summary=str(error))
        return
    held = {path: result.truth.tensors for path, result in checked.items() if result.truth.tensors is not None}
    for name, summary in index_problems(index_path, weight_map, held):
        yield FileProblem(path=name, kind=ProblemKind.INCONSISTENT, summary=summary)
    named = indexed_paths(index_path, weight_map)
    for name in sorted(named - {claim.path for claim in claims.files}):
        yield FileProblem(path=name, kind=ProblemKind.MISSING, summary=f"is not there; {index_path} names it")
    folder = index_path.rpartition("/")[0]
    for name in sorted(held):
        if name not in named and name.rpartition("/")[0] == folder:
            yield FileProblem(path=name, kind=ProblemKind.STALE, summary=f"is not named by {index_path}")


def _extra_files(directory: Path, claims: Claims) -> list[FileProblem]:
    """Files that no manifest entry explains: engines that glob a directory for weights pick them up."""
    known = {file.path for file in claims.files}
    known |= {file.path + suffix for file in claims.files for suffix in LEFTOVER_SUFFIXES}
    found = (path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())
    return [
        FileProblem(path=path, kind=ProblemKind.EXTRA, summary="does not belong to what was pulled")
        for path in found
        if path not in known and path not in store.OWN_FILES and not path.startswith(f"{store.STAGING_FOLDER}/")
    ]
