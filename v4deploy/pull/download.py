"""Fetches one file: resumed, hashed while it streams, tried again where that may help, renamed when it is right."""

from __future__ import annotations

import errno
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from v4deploy.domain.errors import DownloadError
from v4deploy.pull import failures
from v4deploy.pull.hashing import StoppedError, hash_file
from v4deploy.pull.manifest import FilePlan
from v4deploy.pull.part import JOURNAL_EVERY_BYTES, Part, settled
from v4deploy.pull.retry import RetryPolicy, TransferError, retry_after_seconds
from v4deploy.pull.transport import Answer, Transport

CHUNK_BYTES = 256 * 1024
# Public CDNs serve at most 50 GB in one response (huggingface_hub 2.4, constants.MAX_HTTP_DOWNLOAD_SIZE), V4 has
# single files of 366 GB; a bound well below also renews the signed address long before it expires.
LONGEST_REQUEST_BYTES = 8 * 1024**3
# A try that brought less than this does not count as progress: a server that cuts after a few bytes must not keep us
# busy for ever.
_PROGRESS_BYTES = 64 * 1024
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_TRANSIENT = {408, 425, 429}
_FULL = {errno.ENOSPC, errno.EDQUOT}


class Progress(Protocol):
    """Hears how a pull goes, from several threads at once; must return quickly and not raise."""

    def advanced(self, path: str, done_bytes: int, size_bytes: int) -> None:
        """`done_bytes` of the file are on disk; falls back to 0 when a file has to start again."""
        ...

    def waiting(self, path: str, reason: str, wait_seconds: float) -> None:
        """A try for a file (or for the `file list`) failed; the next one comes after this pause."""
        ...


class OneFileError(DownloadError):
    """This file cannot be had, but others of the same pull may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """How to behave.

    Attributes:
        stop: set to end all work at the next chunk.
        pause: waits; by default until the time is over or `stop` is set.
    """

    stop: threading.Event = field(default_factory=threading.Event)
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    pause: Callable[[float], None] | None = None
    journal_every_bytes: int = JOURNAL_EVERY_BYTES
    longest_request_bytes: int = LONGEST_REQUEST_BYTES

    def wait(self, wait_seconds: float) -> None:
        if self.pause is None:
            self.stop.wait(wait_seconds)
        else:
            self.pause(wait_seconds)

    def check(self) -> None:
        if self.stop.is_set():
            raise StoppedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One file, where it comes from and where it goes."""

    file: FilePlan
    repo: str
    host: str
    url: str
    destination: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A file that is in place and right. `fetched_bytes` came over the network, 0 where it was there already."""

    file: FilePlan
    fetched_bytes: int


def fetch_file(job: Job, *, transport: Transport, control: Control, progress: Progress) -> Fetched:
    """Put a file in place: adopt what lies there if its hash is right, else go on from its part, else fetch it.

    Raises:
        DownloadError: it cannot be had now; its part stays for the next run.
        StoppedError: `control.stop` was set; likewise.
    """
    with _disk_errors_explained(job.destination):
        if _is_in_place(job, control):
            return Fetched(file=settled(job.file, job.destination), fetched_bytes=0)
        job.destination.parent.mkdir(parents=True, exist_ok=True)
        part = Part(job.destination, job.file, stop=control.stop, journal_every_bytes=control.journal_every_bytes)
        with closing(part):
            return _Fetch(job, part, transport, control, progress).run()


def _is_in_place(job: Job, control: Control) -> bool:
    """A file of the right size from an earlier run that was cut off before it was written down: hashing is cheaper."""
    try:
        if job.destination.stat().st_size != job.file.size_bytes:
            return False
    except FileNotFoundError:
        return False
    digest = hash_file(job.destination, job.file, stop=control.stop)
    return digest.hexdigest() == job.file.expected_hash


class _Fetch:
    """One file's download: the loop over requests, and the rule when to give up."""

    def __init__(self, job: Job, part: Part, transport: Transport, control: Control, progress: Progress) -> None:
        self._job = job
        self._file = job.file
        self._part = part
        self._transport = transport
        self._control = control
        self._progress = progress

    def run(self) -> Fetched:
        # Twice: once in a while a byte turns on the way; a second wrong hash is no accident.
        found: set[str] = set()
        for _ in range(2):
            self._fill()
            content_hash = self._part.content_hash()
            if content_hash == self._file.expected_hash:
                return Fetched(file=self._part.finish(), fetched_bytes=self._part.fetched_bytes)
            found.add(content_hash)
            self._part.restart()
            self._report()
        raise OneFileError(
            f"{self._file.path} from {self._job.host} is not what the listing promises: expected hash "
            f"{self._file.expected_hash}, found {' and then '.join(sorted(found))}",
            hint="a proxy or mirror changes the bytes: unset HF_ENDPOINT or name another mirror, then pull again",
        )

    def _fill(self) -> None:
        failed_attempts = 0
        best = self._part.offset
        while self._part.offset < self._file.size_bytes:
            self._control.check()
            try:
                self._request()
            except TransferError as fault:
                self._control.check()
                if self._part.offset >= best + _PROGRESS_BYTES:
                    failed_attempts = 0
                best = max(best, self._part.offset)
                failed_attempts += 1
                wait_seconds = self._control.policy.wait_seconds(failed_attempts, fault.retry_after_seconds)
                if wait_seconds is None:
                    raise self._given_up(fault) from fault
                self._progress.waiting(self._file.path, fault.reason, wait_seconds)
                self._control.wait(wait_seconds)

    def _request(self) -> None:
        """One request, its body appended."""
        first = self._part.offset
        end = min(self._file.size_bytes, first + self._control.longest_request_bytes)
        with self._transport.get(self._job.url, first_byte=first, last_byte=end - 1) as answer:
            self._judge(answer)
            if answer.status == 206:  # noqa: PLR2004 - HTTP: partial content
                _check_range(answer, first, self._file.size_bytes)
            else:
                end = self._take_whole(answer)
            self._append(answer, end)

    def _take_whole(self, answer: Answer) -> int:
        """A server that ignores Range sends the file from its beginning: appending that would ruin the file."""
        length = answer.headers.get("Content-Length")
        if length is not None and length != str(self._file.size_bytes):
            raise TransferError(f"the server offers {length} bytes instead of {self._file.size_bytes}")
        if self._part.offset:
            self._part.restart()
            self._report()
        return self._file.size_bytes

    def _append(self, answer: Answer, end: int) -> None:
        while self._part.offset < end:
            self._control.check()
            chunk = answer.read(min(CHUNK_BYTES, end - self._part.offset))
            if not chunk:
                raise TransferError(f"the connection closed at byte {self._part.offset} of {self._file.size_bytes}")
            self._part.append(chunk)
            self._report()

    def _judge(self, answer: Answer) -> None:
        """Let only 200 and 206 with the right content pass."""
        if answer.status in {200, 206}:
            self._check_content(answer)
            return
        transient = answer.status in _TRANSIENT or answer.status >= 500  # noqa: PLR2004 - HTTP: server errors
        # Outside the hub a refusal means that the signed address has expired; the next try gets a new one.
        if transient or not answer.from_hub or answer.status == 416:  # noqa: PLR2004 - HTTP: range not satisfiable
            raise TransferError(
                f"HTTP {answer.status}" + ("" if answer.from_hub else " from the storage server"),
                status=answer.status,
                retry_after_seconds=retry_after_seconds(answer.headers),
            )
        error = failures.refused(
            answer.status, repo=self._job.repo, what=self._file.path, access=self._transport.access
        )
        if answer.status == 404:  # noqa: PLR2004
            raise OneFileError(error.message, hint=error.hint)
        raise error

    def _check_content(self, answer: Answer) -> None:
        encoding = answer.headers.get("Content-Encoding", "identity")
        if encoding != "identity":
            raise TransferError(f"the server sends the file as {encoding}, though asked not to")
        declared, expected = answer.declared_sha256, self._file.sha256
        if declared is not None and expected is not None and declared != expected:
            raise OneFileError(
                f"{self._job.host} offers another file as {self._file.path}: its SHA-256 is {declared}, "
                f"the listing says {expected}",
                hint="this mirror is out of step: unset HF_ENDPOINT or name another mirror, then pull again",
            )

    def _report(self) -> None:
        self._progress.advanced(self._file.path, self._part.offset, self._file.size_bytes)

    def _given_up(self, fault: TransferError) -> DownloadError:
        if fault.status == 429:  # noqa: PLR2004 - HTTP: too many requests
            return failures.too_many_requests(self._transport.access, fault.retry_after_seconds)
        tries = self._control.policy.attempts
        return DownloadError(
            f"{self._file.path} could not be fetched from {self._job.host} in {tries} tries: {fault.reason}",
            hint=f"check the network; then {failures.GO_ON}",
        )


def _check_range(answer: Answer, first: int, size_bytes: int) -> None:
    text = answer.headers.get("Content-Range", "")
    match = _CONTENT_RANGE.fullmatch(text)
    if match is None or int(match[1]) != first or match[3] not in {"*", str(size_bytes)}:
        raise TransferError(f"asked for bytes from {first} of {size_bytes}, the server sends `{text}`")


@contextmanager
def _disk_errors_explained(destination: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise disk_error(error, destination) from error


def disk_error(error: OSError, path: Path) -> DownloadError:
    """The words for a disk that is full, read-only or broken."""
    if error.errno in _FULL:
        return DownloadError(
            f"the disk of {path.parent} is full",
            hint="free space there, or set V4DEPLOY_WEIGHTS_DIR to a larger disk and move the directory; "
            f"then {failures.GO_ON}",
        )
    if error.errno == errno.EFBIG:
        return DownloadError(
            f"the file system of {path.parent} cannot hold a file as large as {path.name}",
            hint="set V4DEPLOY_WEIGHTS_DIR to a directory on ext4, XFS, APFS or ZFS and pull again",
        )
    return DownloadError(
        f"cannot write {path}: {error.strerror or error}",
        hint=f"repair it, or set V4DEPLOY_WEIGHTS_DIR to a directory that you may write to; then {failures.GO_ON}",
    )
