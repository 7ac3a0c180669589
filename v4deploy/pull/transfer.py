"""Many files over a few connections: who opens which file, and which connection fetches what of it."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence

from v4deploy.pull.blocks import Span
from v4deploy.pull.download import Control, Job, Progress
from v4deploy.pull.filetransfer import FileTransfer, Outcome
from v4deploy.pull.hashing import StoppedError

# Files that grow at the same time: each is hashed on a core of its own, and more would scatter the writes.
_FILES_AT_ONCE = 4
# Files that have arrived and are still being hashed or written out, while others grow already.
_FILES_BEHIND = 4
# One system call for so much keeps the interpreter out of the way; eight of these are all the memory that it takes.
_BUFFER_BYTES = 1024 * 1024
_FLUSH_BYTES = 64 * 1024 * 1024
_FLUSH_SECONDS = 0.25
_WAIT_SECONDS = 0.5


def transfer_files(
    jobs: Sequence[Job],
    *,
    control: Control,
    progress: Progress,
    connections: int,
    on_outcome: Callable[[Job, Outcome], None],
) -> None:
    """Bring files in place, with so many connections at once over all of them.

    `on_outcome` hears, in the calling thread, how each file ended. It may set `control.stop` to end the rest.

    Raises:
        KeyboardInterrupt: after all threads have ended and their files are journalled.
    """
    pool = _Pool(jobs, control, progress, connections)
    pool.start()
    try:
        for _ in jobs:
            on_outcome(*pool.outcomes.get())
    except BaseException:
        control.stop.set()
        raise
    finally:
        if control.stop.is_set():
            pool.abort()
        pool.join()


class _Pool:
    """The threads of one pull: connections, one more for each open file, and one that writes out."""

    def __init__(self, jobs: Sequence[Job], control: Control, progress: Progress, connections: int) -> None:
        self.outcomes: queue.SimpleQueue[tuple[Job, Outcome]] = queue.SimpleQueue()
        self._jobs = jobs
        self._control = control
        self._progress = progress
        self._connections = connections
        self._pending = deque(jobs)
        self._open: list[FileTransfer] = []
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._over = threading.Event()
        self._file_threads: list[threading.Thread] = []
        self._threads = [threading.Thread(target=self._connection, daemon=True) for _ in range(connections)]
        self._flusher = threading.Thread(target=self._flush, daemon=True)

    def start(self) -> None:
        for thread in (*self._threads, self._flusher):
            thread.start()

    def abort(self) -> None:
        """Wake all threads that wait for a server; `stop` is set."""
        for transport in {source.transport for job in self._jobs for source in job.sources}:
            transport.abort()
        with self._lock:
            self._work.notify_all()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()
        self._over.set()
        for thread in (*self._file_threads, self._flusher):
            thread.join()

    def _connection(self) -> None:
        buffer = memoryview(bytearray(self._buffer_bytes()))
        while (claim := self._next_claim()) is not None:
            file, span = claim
            file.fetch(span, buffer)

    def _buffer_bytes(self) -> int:
        """Small where the rate is limited, so that bytes come evenly instead of in bursts."""
        throttle = self._control.throttle
        if throttle is None:
            return _BUFFER_BYTES
        return min(_BUFFER_BYTES, max(4096, throttle.bytes_per_second // (10 * self._connections)))

    def _next_claim(self) -> tuple[FileTransfer, Span] | None:
        """What to fetch next; None when there is nothing left to do."""
        with self._lock:
            while True:
                if self._control.stop.is_set():
                    self._drop_pending()
                if not self._pending and not self._open:
                    self._work.notify_all()
                    return None
                while self._may_open():
                    self._open_next()
                for file in sorted(self._open, key=lambda file: file.spans):
                    span = file.claim(self._connections)
                    if span is not None:
                        return file, span
                self._work.wait(_WAIT_SECONDS)

    def _drop_pending(self) -> None:
        while self._pending:
            self.outcomes.put((self._pending.popleft(), StoppedError()))

    def _may_open(self) -> bool:
        most = min(_FILES_AT_ONCE, self._connections)
        growing = sum(1 for file in self._open if file.wants_bytes)
        return bool(self._pending) and growing < most and len(self._open) < most + _FILES_BEHIND

    def _open_next(self) -> None:
        file = FileTransfer(
            self._pending.popleft(),
            self._lock,
            control=self._control,
            progress=self._progress,
            on_work=self._work.notify_all,
        )
        self._open.append(file)
        thread = threading.Thread(target=self._run_file, args=(file,), daemon=True)
        self._file_threads.append(thread)
        thread.start()

    def _run_file(self, file: FileTransfer) -> None:
        outcome = file.run()
        with self._lock:
            self._open.remove(file)
            self._work.notify_all()
        self.outcomes.put((file.job, outcome))

    def _flush(self) -> None:
        """Write out as it comes: what is left for the end, and what a power cut costs, stay small."""
        while not self._over.wait(_FLUSH_SECONDS):
            with self._lock:
                growing = tuple(self._open)
            for file in growing:
                file.flush(_FLUSH_BYTES)
