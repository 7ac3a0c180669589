"""Rendered files, their lock and a plan, held against each other."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path

from v4deploy.domain.artefact import sha256_of
from v4deploy.render.files import is_executable, read_file, target_path
from v4deploy.render.lock import Lock, PinnedWeight, Pins, RenderedSet


class Disagreement(StrEnum):
    """What is wrong with a file. MODE: it may be run, or no longer. OUTDATED: it, or a pin, would be another now.
    UNLOCKED: the lock knows no such files.
    """

    MISSING = "missing"
    EDITED = "edited"
    MODE = "mode"
    OUTDATED = "outdated"
    UNLOCKED = "unlocked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """Where files, lock and plan disagree. `name` is a file's path or a pin (`llama.cpp/script: image`)."""

    name: str
    kind: Disagreement
    locked: str | None = None
    found: str | None = None


def file_mismatches(lock: Lock, directory: Path) -> tuple[Mismatch, ...]:
    """Files of the lock that are not as it says."""
    found = []
    for file in (file for one in lock.sets for file in one.files):
        path = target_path(directory, file.path)
        content = read_file(path)
        if content is None:
            found.append(Mismatch(name=file.path, kind=Disagreement.MISSING, locked=file.sha256))
        elif (digest := sha256_of(content)) != file.sha256:
            found.append(Mismatch(name=file.path, kind=Disagreement.EDITED, locked=file.sha256, found=digest))
        elif is_executable(path.stat().st_mode) != file.executable:
            found.append(Mismatch(name=file.path, kind=Disagreement.MODE))
    return tuple(found)


def plan_mismatches(lock: Lock, sets: Sequence[RenderedSet]) -> tuple[Mismatch, ...]:
    """Files and pins of the lock that a plan would now be written with otherwise."""
    found = []
    for new in (one.locked() for one in sets):
        word = f"{new.engine}/{new.target}"
        old = lock.find(*new.key)
        if old is None:
            found.append(Mismatch(name=f"{word} for {new.release}", kind=Disagreement.UNLOCKED))
            continue
        before = {file.path: file.sha256 for file in old.files}
        after = {file.path: file.sha256 for file in new.files}
        found += [
            Mismatch(name=path, kind=Disagreement.OUTDATED, locked=before.get(path), found=after.get(path))
            for path in sorted(before.keys() | after.keys())
            if before.get(path) != after.get(path)
        ]
        found += _pin_mismatches(word, old.pins, new.pins)
    return tuple(found)


def _pin_mismatches(word: str, old: Pins | None, new: Pins | None) -> list[Mismatch]:
    if old is None or new is None:
        return []
    found = []
    for field in fields(Pins):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if before != after:
            locked, now = difference(before, after)
            found.append(Mismatch(name=f"{word}: {field.name}", kind=Disagreement.OUTDATED, locked=locked, found=now))
    return found


def difference(before: object, after: object) -> tuple[str, str]:
    """Two pins in words: of long command lines only where they differ, each place with the word before it."""
    if not isinstance(before, tuple) or not isinstance(after, tuple):
        return str(before), str(after)
    was, now = [_word(one) for one in before], [_word(one) for one in after]
    matched = difflib.SequenceMatcher(None, was, now, autojunk=False).get_opcodes()
    places = [(a, b, c, d) for kind, a, b, c, d in matched if kind != "equal"]
    locked = (" ".join(was[max(a - 1, 0) : b]) for a, b, _, _ in places)
    found = (" ".join(now[max(c - 1, 0) : d]) for _, _, c, d in places)
    return " … ".join(locked), " … ".join(found)


def _word(one: object) -> str:
    if isinstance(one, PinnedWeight):
        return f"{one.path} ({one.sha256 or 'no hash'}, {one.size_bytes} bytes)"
    return " ".join(one) if isinstance(one, tuple) else str(one)
