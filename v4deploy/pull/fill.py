"""Brings the files of one directory in place: adopted where this machine has them, else fetched, and written down."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from v4deploy.domain.errors import DownloadError
from v4deploy.domain.finding import Finding
from v4deploy.domain.model import FileRole, Hub
from v4deploy.domain.units import format_gb
from v4deploy.pull import failures, store, target
from v4deploy.pull.access import HubAccess, file_url
from v4deploy.pull.adopt.adopt import Adopted, Adopter
from v4deploy.pull.adopt.beginnings import adopt_beginnings
from v4deploy.pull.adopt.parts import adopt_parts
from v4deploy.pull.adopt.places import Finds, Places
from v4deploy.pull.download import Control, Job, OneFileError, Progress, Source, disk_error
from v4deploy.pull.filetransfer import Outcome
from v4deploy.pull.hashing import StoppedError
from v4deploy.pull.lock import Watch, locked
from v4deploy.pull.manifest import MANIFEST_NAME, FilePlan, Manifest
from v4deploy.pull.part import resumable_bytes, settled
from v4deploy.pull.request import CONNECTIONS, SPARE_BYTES
from v4deploy.pull.transfer import transfer_files
from v4deploy.pull.transport import Transport
from v4deploy.pull.workers import run_all

_NOT_OURS_TO_WRITE = {errno.EROFS, errno.EACCES, errno.EPERM}


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The files that a directory shall hold, at a commit.

    Attributes:
        checkpoint, roles: under which the manifest remembers them.
        max_workers: connections at once, over all files.
        places: where files are looked for before they are fetched.
        distrusted: paths whose present content is known to be wrong, whatever its size.
    """

    directory: Path
    repo: str
    hub: Hub
    revision: str
    checkpoint: str
    roles: tuple[FileRole, ...]
    files: tuple[FilePlan, ...]
    max_workers: int = CONNECTIONS
    places: Places = field(default_factory=Places)
    distrusted: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """All files of an order, in place and right.

    Attributes:
        fetched_bytes: came over the network.
        adopted: were elsewhere on this machine.
        findings: what looked like a wanted file and was none.
    """

    files: tuple[FilePlan, ...]
    fetched_bytes: int
    adopted: tuple[Adopted, ...] = ()
    findings: tuple[Finding, ...] = ()


def fill_directory(order: Order, *, access: HubAccess, fetched_at: str, progress: Progress, control: Control) -> Filled:
    """Bring all files of an order in place, alone in its directory.

    Raises:
        DownloadError: not all of them could be had, or another process is at work there.
        ProfileError: the manifest of an earlier pull is broken.
        KeyboardInterrupt: after all threads have ended and their parts are journalled.
    """
    fill = _Fill(order, access, control, progress)
    try:
        order.directory.mkdir(parents=True, exist_ok=True)
        with locked(order.directory, since=fetched_at, watch=Watch(tell=_teller(progress))):
            files = fill.run(fetched_at)
    except OSError as error:
        # Nobody has to write where nothing is missing: weights that many machines share are often mounted read-only.
        complete = fill.complete() if error.errno in _NOT_OURS_TO_WRITE else None
        if complete is None:
            raise disk_error(error, order.directory / MANIFEST_NAME) from error
        files = complete
    finally:
        fill.close()
    return Filled(
        files=files, fetched_bytes=fill.fetched_bytes, adopted=tuple(fill.adopted), findings=tuple(fill.findings)
    )


def _teller(progress: Progress) -> Callable[[str, float], None]:
    def tell(reason: str, wait_seconds: float) -> None:
        progress.waiting("directory", reason, wait_seconds)

    return tell


class _Fill:
    """The work in a directory that is ours: the manifest grows as files finish, in this thread only."""

    def __init__(self, order: Order, access: HubAccess, control: Control, progress: Progress) -> None:
        self.fetched_bytes = 0
        self.adopted: list[Adopted] = []
        self.findings: list[Finding] = []
        self._order = order
        self._directory = order.directory
        self._access = access
        self._control = control
        self._progress = progress
        self._transports = tuple(Transport(one) for one in access.with_mirrors())
        self._manifest = self._empty_manifest()
        self._errors: list[DownloadError] = []

    def run(self, fetched_at: str) -> tuple[FilePlan, ...]:
        """Bring all files in place; their entries."""
        # Read only now that the directory is ours: another pull may have added its files meanwhile.
        before = store.read_manifest(self._directory) or self._empty_manifest()
        self._manifest = self._ordered(
            dataclasses.replace(before, endpoint_host=self._access.host, fetched_at=fetched_at)
        )
        complete, incomplete = self._sorted_out()
        if incomplete:
            self._adopt(incomplete, fetched_at)
            complete, incomplete = self._sorted_out()
        self._check_network_and_space(incomplete)
        self.findings.extend(target.check(target.look_at(self._directory), self._directory, incomplete))
        store.write_manifest(self._directory, self._manifest)
        for file in incomplete:
            self._progress.advanced(file.path, resumable_bytes(self._directory / file.path, file), file.size_bytes)
        for file in complete:
            self._progress.finished(file.path, file.size_bytes)
        transfer_files(
            [self._job(file) for file in incomplete],
            control=self._control,
            progress=self._progress,
            connections=self._order.max_workers,
            on_outcome=self._note,
        )
        complete, incomplete = self._sorted_out()
        if self._errors or incomplete:
            raise self._failure(complete)
        return complete

    def complete(self) -> tuple[FilePlan, ...] | None:
        """The entries of all files where an earlier pull has left them right and written that down; else None."""
        before = store.read_manifest(self._directory)
        if before is None or set(self._ordered(before).selections) != set(before.selections):
            return None
        self._manifest = self._ordered(before)
        complete, incomplete = self._sorted_out()
        if incomplete:
            return None
        for file in complete:
            self._progress.finished(file.path, file.size_bytes)
        return complete

    def close(self) -> None:
        """Close the connections to the hub."""
        for transport in self._transports:
            transport.close()

    def _empty_manifest(self) -> Manifest:
        return Manifest(
            repo=self._order.repo,
            hub=self._order.hub,
            revision=self._order.revision,
            endpoint_host=self._access.host,
            fetched_at="",
            files=(),
            selections=(),
        )

    def _ordered(self, before: Manifest) -> Manifest:
        """The manifest with what this order adds, and without proof of what it distrusts."""
        order = self._order
        return before.with_selection(order.checkpoint, order.roles, order.files).without_proof(order.distrusted)

    def _sorted_out(self) -> tuple[tuple[FilePlan, ...], tuple[FilePlan, ...]]:
        """The wanted files that are complete, and those that are not."""
        paths = {file.path for file in self._order.files}
        files = [file for file in self._manifest.files if file.path in paths]
        complete = tuple(file for file in files if store.is_untouched(self._directory, file))
        return complete, tuple(file for file in files if file not in complete)

    def _adopt(self, incomplete: Sequence[FilePlan], now: str) -> None:
        """Before the space is checked: what is linked or cloned needs none."""
        places, stop = self._order.places, self._control.stop
        absent = [file for file in incomplete if not self._may_be_in_place(file)]
        if not absent:
            return
        adopter = Adopter(Finds(places, absent), stop)

        def adopt(file: FilePlan) -> Adopted | None:
            def on_bytes(done_bytes: int) -> None:
                self._progress.advanced(file.path, done_bytes, file.size_bytes)

            return adopter.adopt(file, self._directory / file.path, on_bytes=on_bytes)

        run_all(adopt, absent, on_result=self._note_adopted, max_workers=self._order.max_workers, on_stop=self._stop)
        self.findings.extend(adopter.findings)
        taken = {adopted.path for adopted in self.adopted}
        rest = [file for file in absent if file.path not in taken]
        if places.weights_root is not None:
            self.adopted.extend(adopt_parts(rest, self._directory, places.weights_root, since=now))
        self.adopted.extend(adopt_beginnings(rest, self._directory, places, block_bytes=self._control.block_bytes))

    def _may_be_in_place(self, file: FilePlan) -> bool:
        """Whether a run that was cut off may have finished this file: it will be hashed where it lies."""
        if file.path in self._order.distrusted:
            return False
        path = self._directory / file.path
        return path.is_file() and path.stat().st_size == file.size_bytes

    def _note_adopted(self, file: FilePlan, future: Future[Adopted | None]) -> None:
        with contextlib.suppress(StoppedError):
            adopted = future.result()
            if adopted is not None:
                self.adopted.append(adopted)
                self._finished(settled(file, self._directory / file.path))

    def _finished(self, file: FilePlan) -> None:
        self._manifest = self._manifest.with_file(file)
        store.write_manifest(self._directory, self._manifest)
        self._progress.finished(file.path, file.size_bytes)

    def _check_network_and_space(self, incomplete: Sequence[FilePlan]) -> None:
        needed = [file.size_bytes - self._kept_bytes(file) for file in incomplete]
        if self._access.offline and any(needed):
            raise failures.offline(f"{sum(1 for size in needed if size)} of {len(incomplete)} files")
        free = store.free_bytes(self._directory)
        if free is None or sum(needed) + SPARE_BYTES <= free or not any(needed):
            return
        raise DownloadError(
            f"{self._directory} has {format_gb(free)} free; {format_gb(sum(needed))} are still to come, and "
            f"{format_gb(SPARE_BYTES)} have to stay free: {format_gb(sum(needed) + SPARE_BYTES - free)} are missing",
            hint="free space there, or set V4DEPLOY_WEIGHTS_DIR to a larger disk; nothing was fetched",
        )

    def _kept_bytes(self, file: FilePlan) -> int:
        """What is known to be wrong stays until its replacement is complete, so both need room."""
        if file.path in self._order.distrusted:
            return resumable_bytes(self._directory / file.path, file)
        return store.kept_bytes(self._directory, file)

    def _job(self, file: FilePlan) -> Job:
        manifest = self._manifest
        return Job(
            file=file,
            repo=manifest.repo,
            sources=tuple(
                Source(
                    transport=transport,
                    url=file_url(transport.access, manifest.repo, manifest.revision, file.path),
                )
                for transport in self._transports
            ),
            destination=self._directory / file.path,
            is_distrusted=file.path in self._order.distrusted,
        )

    def _note(self, _job: Job, outcome: Outcome) -> None:
        """Write down a finished file at once; go on after trouble with one file, end after trouble with all."""
        match outcome:
            case StoppedError():
                return
            case DownloadError():
                self._errors.append(outcome)
                if not isinstance(outcome, OneFileError):
                    self._stop()
            case BaseException():
                raise outcome
            case _:
                self.fetched_bytes += outcome.fetched_bytes
                self._finished(outcome.file)

    def _stop(self) -> None:
        self._control.stop.set()
        for transport in self._transports:
            transport.abort()

    def _failure(self, complete: Sequence[FilePlan]) -> DownloadError:
        errors = self._errors or [DownloadError("the pull was stopped", hint=failures.GO_ON)]
        first, *others = errors
        complete_bytes = sum(file.size_bytes for file in complete)
        safe = (
            f"complete and checked: {len(complete)} of {len(self._order.files)} files, "
            f"{format_gb(complete_bytes)}, in {self._directory}"
        )
        more = dict.fromkeys(error.message for error in others if error.message != first.message)
        details = (*first.details, *more, safe)
        return DownloadError(first.message, hint=first.hint, details=details)
