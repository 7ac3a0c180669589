"""One file on its way: connections fill it at several places, its own thread hashes it from the front and ends it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from typing import TypeAlias

from v4deploy.domain.errors import DownloadError
from v4deploy.pull import answers
from v4deploy.pull.blocks import Appetite, Span
from v4deploy.pull.download import Control, Fetched, Job, OneFileError, Progress, Source, disk_error
from v4deploy.pull.follow import Follower, Watch
from v4deploy.pull.hashing import StoppedError, hash_file
from v4deploy.pull.part import Part, settled
from v4deploy.pull.rate import Pulse
from v4deploy.pull.retry import UNREACHABLE_ATTEMPTS, TransferError
from v4deploy.pull.transport import Answer

Outcome: TypeAlias = Fetched | BaseException
# A try that brought less than this does not count as progress: a server that cuts after a few bytes must not keep us
# busy for ever.
_PROGRESS_BYTES = 64 * 1024
# A thread that waits for another looks up this often, should it have been forgotten.
_WAIT_SECONDS = 0.5
# A slow line shows its progress, and loses nothing that has come, at this interval.
_WRITE_SECONDS = 0.5


class _RangeIgnoredError(Exception):
    """The server sends the file from its beginning, while other connections are at work on it."""


class FileTransfer:
    """The state of one file, under the lock that all files of a pull share."""

    def __init__(
        self, job: Job, lock: threading.Lock, *, control: Control, progress: Progress, on_work: Callable[[], None]
    ) -> None:
        """`on_work` is called, under the lock, when connections may find something to do, or nothing any more."""
        self.job = job
        self.fetched_bytes = 0
        self._control = control
        self._progress = progress
        self._lock = lock
        self._on_work = on_work
        self._moved = threading.Condition(lock)
        self._flushing = threading.Lock()
        self._part: Part | None = None
        self._flushed_bytes = 0
        self._error: BaseException | None = None
        # What could not be reached for another file comes last for this one.
        self._sources = tuple(sorted(job.sources, key=lambda source: source.transport.is_unreachable))
        self._source_number = 0
        self._source_errors: list[DownloadError] = []
        self._is_sequential = False
        self._is_paused = False
        self._is_closed = False
        self._failed_attempts = 0
        self._best_bytes = 0

    # What the connections do.

    @property
    def spans(self) -> int:
        """Connections at work on it; the caller holds the lock."""
        return self._part.blocks.spans if self._part else 0

    @property
    def wants_bytes(self) -> bool:
        """Whether it will still give connections something to do, as far as can be told; likewise."""
        return not self._is_closed and self._error is None and (self._part is None or not self._part.blocks.is_complete)

    def claim(self, sharers: int) -> Span | None:
        """Something to fetch; None where there is nothing at the moment; likewise."""
        if self._part is None or self._error is not None or self._is_paused or self._is_closed:
            return None
        if self._is_sequential:
            return self._part.blocks.claim_whole()
        control = self._control
        appetite = Appetite(
            most_bytes=control.longest_request_bytes, least_bytes=control.shortest_request_bytes, sharers=sharers
        )
        return self._part.blocks.claim(appetite)

    def fetch(self, span: Span, buffer: memoryview) -> None:
        """Fetch a claimed span, or as much of it as comes; trouble ends up in this file's outcome."""
        part, source = self._part, self._sources[self._source_number]
        assert part is not None, "only an open file gives claims"
        claimed = [span]
        fault: TransferError | None = None
        try:
            self._request(part, source, claimed, buffer)
        except TransferError as error:
            fault = error
        except _RangeIgnoredError:
            self._is_sequential = True
        except DownloadError as error:
            with self._lock:
                self._source_failed(source, error)
        except OSError as error:
            self.fail(disk_error(error, self.job.destination))
        except BaseException as error:  # noqa: BLE001 - whatever ends a thread is told by the one that waits for it
            self.fail(error)
        with self._lock:
            wait_seconds = self._after(fault, source) if fault else None
            part.blocks.release(claimed[0])
            self._wake()
        if fault is not None and wait_seconds is not None:
            self._pause(fault.reason, wait_seconds)

    def _pause(self, reason: str, wait_seconds: float) -> None:
        try:
            self._progress.waiting(self.job.file.path, reason, wait_seconds)
            self._control.wait(wait_seconds)
        except BaseException as error:  # noqa: BLE001 - as above
            self.fail(error)
        with self._lock:
            self._is_paused = False
            self._wake()

    def fail(self, error: BaseException) -> None:
        """End this file with an error; the first one counts."""
        with self._lock:
            self._end_with(error)
            self._wake()

    def _end_with(self, error: BaseException) -> None:
        """The caller holds the lock."""
        self._error = self._error or error
        # What is no trouble of this file alone ends the pull here and now: no other may begin on a full disk.
        if not isinstance(self._error, OneFileError):
            self._control.stop.set()

    def flush(self, least_bytes: int) -> None:
        """Bring what has arrived to the disk, if it is so much since the last time."""
        with self._flushing:
            part = self._part
            arrived_bytes = part.blocks.arrived_bytes if part else 0
            if part is None or arrived_bytes - self._flushed_bytes < least_bytes:
                return
            self._flushed_bytes = arrived_bytes
            try:
                part.flush()
            except OSError as error:
                self.fail(disk_error(error, self.job.destination))

    def _wake(self) -> None:
        self._moved.notify_all()
        self._on_work()

    def _after(self, fault: TransferError, source: Source) -> float | None:
        """The pause that a failed try costs; None where another connection has seen to it, or none helps any more."""
        self._control_check()
        if self._is_paused or self._error or source is not self._sources[self._source_number]:
            return None
        assert self._part is not None, "a fault comes from a connection at work"
        arrived_bytes = self._part.blocks.arrived_bytes
        if arrived_bytes >= self._best_bytes + _PROGRESS_BYTES:
            self._failed_attempts = 0
        self._best_bytes = max(self._best_bytes, arrived_bytes)
        self._failed_attempts += 1
        wait_seconds = self._control.policy.wait_seconds(self._failed_attempts, fault.retry_after_seconds)
        if wait_seconds is None or self._is_hopeless(fault, source):
            source.transport.is_unreachable = fault.is_unreachable
            self._source_failed(source, answers.given_up(fault, self.job, source, self._failed_attempts))
            return None
        self._is_paused = True
        return wait_seconds

    def _is_hopeless(self, fault: TransferError, source: Source) -> bool:
        """Whether a host that cannot be reached has had its tries, while another source waits."""
        if not fault.is_unreachable or self._source_number + 1 == len(self._sources):
            return False
        return source.transport.is_unreachable or self._failed_attempts >= UNREACHABLE_ATTEMPTS

    def _control_check(self) -> None:
        """When all are told to stop, the faults of connections that were cut are no news."""
        if self._control.stop.is_set() and self._error is None:
            self._error = StoppedError()

    def _source_failed(self, source: Source, error: DownloadError) -> None:
        """Go on with the next mirror; without one this file has failed. The caller holds the lock."""
        if source is not self._sources[self._source_number]:
            return
        self._source_errors.append(error)
        if self._source_number + 1 == len(self._sources):
            first, *others = self._source_errors
            details = (*first.details, *(other.message for other in others))
            self._end_with(type(first)(first.message, hint=first.hint, details=details))
            return
        self._source_number += 1
        self._failed_attempts = 0
        self._is_sequential = False
        next_host = self._sources[self._source_number].host
        path = self.job.file.path
        said = error.message.removeprefix(f"{path} ")
        self._progress.waiting(path, f"{said}; going on from {next_host}", 0.0)

    def _request(self, part: Part, source: Source, claimed: list[Span], buffer: memoryview) -> None:
        span = claimed[0]
        self._control.check()
        with source.transport.get(source.url, first_byte=span.first_byte, last_byte=span.end_byte - 1) as answer:
            is_span = answers.check(answer, self.job, source, span)
            if not is_span and (span.first_byte, span.end_byte) != (0, self.job.file.size_bytes):
                with self._lock:
                    wider = part.blocks.widen(span)
                if wider is None:
                    raise _RangeIgnoredError
                claimed[0] = span = wider
            self._receive(part, span, answer, buffer)

    def _receive(self, part: Part, span: Span, answer: Answer, buffer: memoryview) -> None:
        pulse = Pulse(window_seconds=self._control.slow_seconds, least_bytes=self._control.slow_bytes)
        position = span.first_byte
        while position < span.end_byte:
            self._control.check()
            most = min(len(buffer), part.blocks.end(part.blocks.index(position)) - position)
            count, fault = self._read(answer, buffer[:most], pulse)
            self._take(part, position, buffer[:count])
            position += count
            if fault is not None:
                raise fault
            if not count:
                raise TransferError(f"the connection closed at byte {position} of {self.job.file.size_bytes}")
            if self._control.throttle is not None:
                self._control.stop.wait(self._control.throttle.delay_seconds(count))

    def _read(self, answer: Answer, buffer: memoryview, pulse: Pulse) -> tuple[int, TransferError | None]:
        """Fill the buffer, or what comes of it in half a second; with it, the fault that ended it early."""
        clock = self._control.clock
        begun = before = clock()
        count = 0
        while count < len(buffer) and before - begun < _WRITE_SECONDS:
            try:
                read = answer.read_into(buffer[count:])
                now = clock()
                pulse.beat(read, now - before)
            except TransferError as fault:
                return count, fault
            before = now
            if not read:
                break
            count += read
        return count, None

    def _take(self, part: Part, position: int, data: memoryview) -> None:
        """Write what is new of some bytes; with a server that ignores ranges some have been there before."""
        index = part.blocks.index(position)
        with self._lock:
            self.fetched_bytes += len(data)
            known = part.blocks.arrived_end(index) - position
        if not 0 <= known < len(data):
            return
        part.write(position + known, data[known:])
        with self._lock:
            part.blocks.arrived(index, len(data) - known)
            arrived_bytes = part.blocks.arrived_bytes
            self._moved.notify()
        self._progress.advanced(self.job.file.path, arrived_bytes, self.job.file.size_bytes)

    # What the file's own thread does.

    def run(self) -> Outcome:
        """Bring the file in place; the outcome, whatever it is."""
        try:
            return self._run()
        except OSError as error:
            return self._ended(disk_error(error, self.job.destination))
        except BaseException as error:  # noqa: BLE001 - told by the thread that waits
            return self._ended(error)
        finally:
            with self._lock:
                self._wake()

    def _ended(self, error: BaseException) -> BaseException:
        """What ended the file: the first error of all, which may be one that stopped this thread too."""
        with self._lock:
            self._end_with(error)
            assert self._error is not None, "just set"
            return self._error

    def _run(self) -> Fetched:
        job, control = self.job, self._control
        if not job.is_distrusted and self._is_in_place():
            return Fetched(file=settled(job.file, job.destination), fetched_bytes=0)
        job.destination.parent.mkdir(parents=True, exist_ok=True)
        part = Part(job.destination, job.file, block_bytes=control.block_bytes)
        with closing(part):
            with self._lock:
                self._part, self._best_bytes = part, part.blocks.arrived_bytes
                self._wake()
            try:
                self._fill_until_right(part)
            finally:
                self._withdraw(part)
            return Fetched(file=part.finish(), fetched_bytes=self.fetched_bytes)

    def _is_in_place(self) -> bool:
        """A file of the right size from an earlier run that was cut off before it was written down."""
        job, stop = self.job, self._control.stop
        try:
            if job.destination.stat().st_size != job.file.size_bytes:
                return False
        except FileNotFoundError:
            return False
        return hash_file(job.destination, job.file, stop=stop).hexdigest() == job.file.expected_hash

    def _fill_until_right(self, part: Part) -> None:
        # Once in a while a byte turns on the way; a wrong hash from each source, and one more, is no accident.
        job, found = self.job, list[tuple[Source, str]]()
        while True:
            content_hash = Follower(job.file, part, self._watch(part)).content_hash()
            if content_hash == job.file.expected_hash:
                return
            with self._lock:
                found.append((self._sources[self._source_number], content_hash))
                if len(found) > len(self._sources):
                    # Before the part is emptied, or connections would begin on it again.
                    self._end_with(answers.wrong_content(job, found))
                self._settle(part)
                part.restart()
                self._flushed_bytes = self._best_bytes = 0
                self._source_number = (self._source_number + 1) % len(self._sources)
                self._wake()
                if self._error is not None:
                    raise self._error
                host = self._sources[self._source_number].host
            self._progress.advanced(job.file.path, 0, job.file.size_bytes)
            said = f"arrived whole, but with hash {content_hash} instead of {job.file.expected_hash}"
            self._progress.waiting(job.file.path, f"{said}; fetching it again from {host}", 0.0)

    def _settle(self, part: Part) -> None:
        """Wait until no connection is at work on the file; under the lock."""
        while part.blocks.spans:
            self._moved.wait(_WAIT_SECONDS)

    def _withdraw(self, part: Part) -> None:
        """Take the file from the connections, before it gets its name or is closed."""
        with self._lock:
            self._is_closed = True
            self._settle(part)
        with self._flushing:
            self._part = None

    def _watch(self, part: Part) -> Watch:
        def wait_beyond(offset: int) -> int:
            with self._lock:
                while (front := part.blocks.front()) <= offset:
                    self._control_check()
                    if self._error is not None:
                        raise self._error
                    self._moved.wait(_WAIT_SECONDS)
                return front

        def discard(index: int) -> None:
            with self._lock:
                part.blocks.discard(index)
                arrived_bytes = part.blocks.arrived_bytes
                self._wake()
            self._progress.advanced(self.job.file.path, arrived_bytes, self.job.file.size_bytes)

        def checked(done_bytes: int) -> None:
            self._control.check()
            if part.blocks.is_complete:
                self._progress.checking(self.job.file.path, done_bytes, self.job.file.size_bytes)

        return Watch(wait_beyond=wait_beyond, discard=discard, checked=checked)
