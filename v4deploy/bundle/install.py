"""Puts the weights of a bundle in place: every part checked as it is read, every file before it gets its name."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from v4deploy.bundle.index import MemberEntry, PartEntry
from v4deploy.bundle.layout import parts_of
from v4deploy.bundle.shelf import Shelf, joined, missing_parts, wrong_content, wrong_size
from v4deploy.bundle.staging import StagedFile, Staging
from v4deploy.domain.errors import DownloadError
from v4deploy.domain.units import format_gb
from v4deploy.pull import store
from v4deploy.pull.download import disk_error
from v4deploy.pull.hashing import READ_BYTES, hash_file
from v4deploy.pull.lock import locked
from v4deploy.pull.manifest import MANIFEST_NAME, FilePlan
from v4deploy.pull.part import settled
from v4deploy.pull.request import SPARE_BYTES
from v4deploy.pull.selection import first_main_path

OnBytes = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """Weights that are complete in their directory, every byte checked.

    Attributes:
        model_path: what an engine is pointed at, relative to `directory`; None for formats opened by their directory.
        installed_bytes: came out of the parts in this run; what was there already is not part of it.
    """

    checkpoint: str
    repo: str
    revision: str
    directory: str
    model_path: str | None
    files: tuple[FilePlan, ...]
    total_bytes: int
    installed_bytes: int


def install(shelf: Shelf, weights_root: Path, *, now: str, on_bytes: OnBytes = lambda *_: None) -> Installed:
    """Install what is not there yet. Called again after any interruption, or with further parts, it goes on.

    `now` is an ISO 8601 time; `on_bytes` hears part, bytes read and bytes to read of this run.

    Raises:
        DownloadError: a part is missing or wrong, or the disk is too small; what is installed stays.
        ProfileError: the manifest of an earlier pull is broken.
    """
    manifest = shelf.index.manifest
    target = store.target_directory(weights_root, manifest.repo, manifest.revision)
    try:
        target.mkdir(parents=True, exist_ok=True)
        with locked(target, since=now):
            return _Install(shelf, target, on_bytes).run()
    except OSError as error:
        raise disk_error(error, target / MANIFEST_NAME) from error


class _Install:
    def __init__(self, shelf: Shelf, target: Path, on_bytes: OnBytes) -> None:
        index = shelf.index
        self._shelf = shelf
        self._index = index
        self._target = target
        self._on_bytes = on_bytes
        self._files = {file.path: file for file in index.manifest.files}
        before = store.read_manifest(target)
        selection = index.manifest.selection(index.checkpoint)
        roles = selection.roles if selection else ()
        self._manifest = (before or replace(index.manifest, files=(), selections=())).with_selection(
            index.checkpoint, roles, index.manifest.files
        )
        self._staging = Staging(target, index)
        self._done: set[str] = set()
        self._open: dict[str, StagedFile] = {}
        self._errors: list[DownloadError] = []
        self._read_bytes = 0
        self._installed_bytes = 0

    def run(self) -> Installed:
        for member in self._index.members:
            self._adopt(member)
        store.write_manifest(self._target, self._manifest)
        self._check_space()
        # What the last run filled and did not get round to naming.
        self._place_filled()
        wanted = [number for number in self._needed() if number not in self._staging.parts]
        missing = [number for number in wanted if self._shelf.find(self._index.parts[number]) is None]
        present = [number for number in wanted if number not in missing]
        try:
            for number in present:
                self._take(number, sum(self._index.parts[one].size_bytes for one in present))
                self._place_filled()
        finally:
            for staged in self._open.values():
                staged.close()
        if missing:
            self._errors.append(missing_parts(self._shelf, [self._index.parts[number] for number in missing]))
        if self._errors:
            raise self._failure()
        self._staging.clear(self._done)
        return self._result()

    def _adopt(self, member: MemberEntry) -> None:
        """Take a file that is there already: known by its time, or read and found right."""
        known = self._manifest.file(member.path)
        if known is not None and store.is_untouched(self._target, known):
            self._done.add(member.path)
            return
        file, path = self._files[member.path], self._target / member.path
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size != file.size_bytes:
                return
            if hash_file(path, file, stop=threading.Event()).hexdigest() == file.expected_hash:
                self._settle(member, settled(file, path))

    def _settle(self, member: MemberEntry, file: FilePlan) -> None:
        self._manifest = self._manifest.with_file(file)
        store.write_manifest(self._target, self._manifest)
        self._done.add(member.path)

    def _waiting(self) -> Iterator[MemberEntry]:
        return (member for member in self._index.members if member.path not in self._done)

    def _needed(self) -> list[int]:
        """Parts with bytes of files that are not in place."""
        size = self._index.part_size_bytes
        return sorted(
            {number for one in self._waiting() for number in parts_of(one.offset_bytes, one.size_bytes, size)}
        )

    def _check_space(self) -> None:
        free = store.free_bytes(self._target)
        needed = sum(member.size_bytes for member in self._waiting()) - self._staging.held_bytes()
        if free is None or needed <= 0 or needed + SPARE_BYTES <= free:
            return
        raise DownloadError(
            f"{self._target} has {format_gb(free)} free; {format_gb(needed)} are still to come, and "
            f"{format_gb(SPARE_BYTES)} have to stay free: {format_gb(needed + SPARE_BYTES - free)} are missing",
            hint="free space there, or set V4DEPLOY_WEIGHTS_DIR to a larger disk; nothing was installed",
        )

    def _take(self, number: int, total_bytes: int) -> None:
        """Read one part into the files it belongs to; it counts only when its hash is right."""
        part = self._index.parts[number]
        path = self._shelf.find(part)
        touched = [self._staged(member) for member, _, _ in self._spans(number)]
        try:
            found = self._copy(number, path, part, total_bytes) if path else None
        except OSError as error:
            if path is None or error.filename != str(path):
                raise
            problem = DownloadError(
                f"{path} cannot be read: {error.strerror}", hint="copy it again, or check the medium"
            )
            self._refuse(touched, problem)
            return
        if found is not None:
            self._refuse(touched, found)
            return
        for staged in touched:
            staged.sync()
        self._staging.add_part(number)

    def _refuse(self, touched: list[StagedFile], error: DownloadError) -> None:
        for staged in touched:
            staged.distrust()
        self._errors.append(error)

    def _copy(self, number: int, path: Path, part: PartEntry, total_bytes: int) -> DownloadError | None:
        """Copy a part's bytes to their places; what is wrong with it, None for nothing."""
        size_bytes = path.stat().st_size
        if size_bytes != part.size_bytes:
            return wrong_size(path, part, size_bytes)
        digest = hashlib.sha256()
        buffer = memoryview(bytearray(READ_BYTES))
        spans = self._spans(number)
        at = 0
        with path.open("rb", buffering=0) as stream:
            while count := _read(stream.readinto, buffer, path):
                digest.update(buffer[:count])
                for member, first, end in spans:
                    low, high = max(first, at), min(end, at + count)
                    if low < high:
                        start = self._index.ranges[number][0] + low - member.offset_bytes
                        self._staged(member).write(buffer[low - at : high - at], start)
                at += count
                self._on_bytes(part.name, self._read_bytes + at, total_bytes)
        self._read_bytes += at
        if at != part.size_bytes:
            return wrong_size(path, part, at)
        found = digest.hexdigest()
        return None if found == part.sha256 else wrong_content(path, part, found, self._index)

    def _spans(self, number: int) -> list[tuple[MemberEntry, int, int]]:
        """Which stretches of a part belong to files that are not in place; bounds count from the part's beginning."""
        first, end = self._index.ranges[number]
        spans = []
        for member in self._waiting():
            low = max(first, member.offset_bytes)
            high = min(end, member.offset_bytes + member.size_bytes)
            if low < high:
                spans.append((member, low - first, high - first))
        return spans

    def _staged(self, member: MemberEntry) -> StagedFile:
        if member.path not in self._open:
            self._open[member.path] = StagedFile(self._staging.path_of(member), self._files[member.path])
        return self._open[member.path]

    def _place_filled(self) -> None:
        """Check the files whose parts are all in, and give them their names."""
        for member in tuple(self._waiting()):
            if not self._staging.is_filled(member):
                continue
            staged = self._staged(member)
            staged.close()
            found = staged.content_hash()
            del self._open[member.path]
            if found == staged.file.expected_hash:
                self._installed_bytes += member.size_bytes
                self._settle(member, self._staging.place(member, staged.file))
            else:
                self._staging.drop_parts_of(member)
                self._errors.append(_came_out_wrong(self._target / member.path, found, staged.file.expected_hash))

    def _failure(self) -> DownloadError:
        error = joined(self._errors)
        done = f"complete and checked: {len(self._done)} of {len(self._index.members)} files, in {self._target}"
        return DownloadError(error.message, hint=error.hint, details=(*error.details, done))

    def _result(self) -> Installed:
        paths = set(self._files)
        files = tuple(file for file in self._manifest.files if file.path in paths)
        return Installed(
            checkpoint=self._index.checkpoint,
            repo=self._manifest.repo,
            revision=self._manifest.revision,
            directory=str(self._target),
            model_path=first_main_path(files),
            files=files,
            total_bytes=sum(file.size_bytes for file in files),
            installed_bytes=self._installed_bytes,
        )


def _read(readinto: Callable[[memoryview], int | None], buffer: memoryview, path: Path) -> int:
    """Read errors with the name of the part: those of the weights' disk must not look like the medium's."""
    try:
        return readinto(buffer) or 0
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _came_out_wrong(path: Path, found: str, expected: str) -> DownloadError:
    return DownloadError(
        f"{path} came out wrong though its parts were right: this disk or its memory is not to be trusted",
        hint="check the disk, then run the same command again: the file is written anew",
        details=(f"expected hash {expected}", f"found hash    {found}"),
    )
