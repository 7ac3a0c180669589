"""Weights on their way from parts to their place: written beside it, journalled part by part, named when checked."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Collection
from pathlib import Path
from typing import Any

from v4deploy.bundle.index import BundleIndex, MemberEntry
from v4deploy.bundle.layout import parts_of
from v4deploy.pull.hashing import hash_file, new_digest
from v4deploy.pull.manifest import FilePlan
from v4deploy.pull.part import settled, sync_directory, write_atomically
from v4deploy.pull.store import STAGING_FOLDER

_JOURNAL_NAME = "journal.json"


class StagedFile:
    """One weight file, filled in any order.

    While its bytes come in order they are hashed as they pass; else the whole file is read once it is complete.
    """

    def __init__(self, path: Path, file: FilePlan) -> None:
        """Open what an earlier run began, or an empty file.

        Raises:
            OSError: it cannot be made.
        """
        self.path = path
        self.file = file
        self._digest = new_digest(file)
        self._hashed_bytes = 0
        self._stream = path.open("r+b" if path.exists() else "x+b", buffering=0)

    def write(self, data: memoryview, offset_bytes: int) -> None:
        """Write at a place; bytes that a wrong part brought are written over later.

        Raises:
            OSError: the disk is full or broken.
        """
        if offset_bytes == self._hashed_bytes:
            self._digest.update(data)
            self._hashed_bytes += len(data)
        self._stream.seek(offset_bytes)
        view = data
        while view:
            view = view[self._stream.write(view) :]

    def distrust(self) -> None:
        """Forget what was hashed: a part turned out to be wrong after its bytes had passed."""
        self._hashed_bytes = -1

    def sync(self) -> None:
        os.fsync(self._stream.fileno())

    def close(self) -> None:
        self._stream.close()

    def content_hash(self) -> str:
        """The hash of the complete file."""
        if self._hashed_bytes == self.file.size_bytes:
            return self._digest.hexdigest()
        return hash_file(self.path, self.file, stop=threading.Event()).hexdigest()


class Staging:
    """The directory beside the weights in which one bundle's files grow, and which parts are safely in them."""

    def __init__(self, target: Path, index: BundleIndex) -> None:
        """Take up what an earlier run left.

        Raises:
            OSError: the directory cannot be made.
        """
        self._target = target
        self._index = index
        self._folder = target / STAGING_FOLDER / index.id[:16]
        self._folder.mkdir(parents=True, exist_ok=True)
        self._numbers = {member.path: number for number, member in enumerate(index.members)}
        self.parts = self._read_journal()

    def _read_journal(self) -> set[int]:
        """Parts whose bytes are all here. A file that is gone or shorter than they reach takes its parts with it."""
        try:
            journal: Any = json.loads((self._folder / _JOURNAL_NAME).read_text(encoding="utf-8"))
            parts = {part for part in journal["parts"] if isinstance(part, int)}
        except (OSError, ValueError, KeyError, TypeError):
            return set()
        for member in self._index.members:
            held = parts & set(self._parts_of(member))
            if held and self._reach_bytes(member, max(held)) > self._size_bytes(member):
                parts -= held
        return parts

    def _reach_bytes(self, member: MemberEntry, part: int) -> int:
        """Up to where a part fills a member."""
        end = self._index.ranges[part][1]
        return min(member.size_bytes, end - member.offset_bytes)

    def _size_bytes(self, member: MemberEntry) -> int:
        place = self._target / member.path
        for path in (self.path_of(member), place):
            if path.exists():
                return path.stat().st_size
        return 0

    def path_of(self, member: MemberEntry) -> Path:
        """Where a member grows: a flat name, as only a complete file has a place in the tree."""
        return self._folder / f"{self._numbers[member.path]:05d}"

    def held_bytes(self) -> int:
        """Disk space that the growing files take already."""
        return sum(path.stat().st_blocks * 512 for path in self._folder.iterdir() if path.name != _JOURNAL_NAME)

    def is_filled(self, member: MemberEntry) -> bool:
        """Whether all parts with bytes of a member are in."""
        return set(self._parts_of(member)) <= self.parts

    def _parts_of(self, member: MemberEntry) -> range:
        return parts_of(member.offset_bytes, member.size_bytes, self._index.part_size_bytes)

    def add_part(self, number: int) -> None:
        """Vouch for a part; its bytes have to be on the disk by now."""
        self.parts.add(number)
        self._write_journal()

    def drop_parts_of(self, member: MemberEntry) -> None:
        """Vouch no longer for what fills a member, as it came out wrong."""
        self.path_of(member).unlink(missing_ok=True)
        self.parts -= set(self._parts_of(member))
        self._write_journal()

    def place(self, member: MemberEntry, file: FilePlan) -> FilePlan:
        """Give a checked file its name; its entry with the time by which it is known from now on."""
        destination = self._target / member.path
        destination.parent.mkdir(parents=True, exist_ok=True)
        self.path_of(member).replace(destination)
        sync_directory(destination.parent)
        return settled(file, destination)

    def clear(self, done: Collection[str]) -> None:
        """Remove the staging of every bundle, once all members are in place."""
        if set(done) >= set(self._numbers):
            shutil.rmtree(self._target / STAGING_FOLDER, ignore_errors=True)

    def _write_journal(self) -> None:
        text = json.dumps({"bundle": self._index.id, "parts": sorted(self.parts)})
        write_atomically(self._folder / _JOURNAL_NAME, text)
