"""The parts that somebody carried here: where each lies, what is missing, and what is not what it should be."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from v4deploy.bundle.index import INDEX_NAME, UNFINISHED_NAME, BundleIndex, PartEntry, PlainFile, from_json
from v4deploy.domain.errors import DownloadError, UsageError
from v4deploy.domain.units import format_gb

_MOST_NAMES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """A bundle whose parts lie in one or several directories.

    Attributes:
        home: the directory with the index, and as many of the folders that lie beside it as any has.
    """

    index: BundleIndex
    home: Path
    directories: tuple[Path, ...]

    def find(self, part: PartEntry) -> Path | None:
        """Where a part lies; None when it is in none of the directories."""
        return next((path for directory in self.directories if (path := directory / part.name).is_file()), None)

    def check_plain_files(self) -> frozenset[str]:
        """Hash the files that lie beside the parts: wheels, launch files, the plan.

        Gives back the folders of them that are not here: a medium may carry the index and parts alone.

        Raises:
            DownloadError: one is not what it was, or missing though its folder is here.
        """
        absent = frozenset(name for name in _folders(self.index) if not (self.home / name).is_dir())
        here = [file for file in self.index.files if file.folder not in absent]
        wrong = [file.path for file in here if not _is_right(self.home / file.path, file)]
        if wrong:
            count = f"{len(wrong)} of {len(self.index.files)}"
            raise DownloadError(
                f"{count} files beside the parts are missing or damaged: {_some(wrong)}",
                hint=f"copy them again to {self.home}, then run the same command",
            )
        return absent


def open_shelf(directories: Sequence[Path]) -> Shelf:
    """Find the one bundle of these directories.

    Raises:
        DownloadError: none of them has an index, or they have indices of different bundles.
        ProfileError: an index is damaged.
        UsageError: one of them is not a directory.
    """
    for directory in directories:
        if not directory.is_dir():
            raise UsageError(f"{directory} is not a directory", hint="name where the parts lie; is the medium mounted?")
    found = [(directory, index) for directory in directories if (index := _index_of(directory)) is not None]
    if not found:
        raise _no_index(directories)
    first, index = found[0]
    for directory, other in found[1:]:
        if other.id != index.id:
            raise DownloadError(
                f"{first} and {directory} hold different bundles: {index.checkpoint} and {other.checkpoint}",
                hint="install them one after the other",
            )
    home, index = max(found, key=lambda pair: sum((pair[0] / name).is_dir() for name in _folders(pair[1])))
    return Shelf(index=index, home=home, directories=tuple(directories))


def _folders(index: BundleIndex) -> set[str]:
    return {file.folder for file in index.files}


def _is_right(path: Path, file: PlainFile) -> bool:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == file.sha256
    except OSError:
        return False


def _index_of(directory: Path) -> BundleIndex | None:
    path = directory / INDEX_NAME
    try:
        return from_json(path.read_text(encoding="utf-8", errors="replace"), name=str(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DownloadError(f"{path} cannot be read: {error.strerror}", hint="check the medium") from error


def _no_index(directories: Sequence[Path]) -> DownloadError:
    where = " and ".join(map(str, directories))
    if any((directory / UNFINISHED_NAME).exists() for directory in directories):
        return DownloadError(
            f"the bundle in {where} was never finished",
            hint="run `v4deploy bundle create` again on the machine that makes it: it goes on; then carry it here",
        )
    return DownloadError(
        f"{where} has no {INDEX_NAME}, so nothing says what the parts are",
        hint="copy it from the directory that `v4deploy bundle create` wrote, or name the directory that holds it",
    )


def missing_parts(shelf: Shelf, missing: Sequence[PartEntry]) -> DownloadError:
    """The error for parts that are still to come; it says when parts of another bundle lie in their place."""
    where = " and ".join(map(str, shelf.directories))
    foreign = _foreign(shelf)
    details = (f"of another bundle: {_some(foreign)}",) if foreign else ()
    missing_bytes = sum(part.size_bytes for part in missing)
    return DownloadError(
        f"{len(missing)} of {len(shelf.index.parts)} parts ({format_gb(missing_bytes)}) are not in {where}: "
        f"{_some([part.name for part in missing])}",
        hint="run the same command with the directory that holds them (several may be named); "
        "what is installed stays and is not read again",
        details=details,
    )


def _foreign(shelf: Shelf) -> list[str]:
    ours = {part.name for part in shelf.index.parts}
    names = []
    for directory in shelf.directories:
        with contextlib.suppress(OSError):
            names += [path.name for path in directory.glob("*.tar.*") if path.name not in ours]
    return sorted(names)


def wrong_size(path: Path, part: PartEntry, found_bytes: int) -> DownloadError:
    """The error for a part that was cut, or that something was appended to."""
    how = "it was cut while it was copied" if found_bytes < part.size_bytes else "something was appended to it"
    return DownloadError(
        f"{path} has {found_bytes} bytes instead of {part.size_bytes}: {how}",
        hint="copy it again, then run the same command: what is installed stays",
    )


def wrong_content(path: Path, part: PartEntry, found_sha256: str, index: BundleIndex) -> DownloadError:
    """The error for a part of the right size with other bytes: swapped, damaged, or foreign."""
    twin = next((other for other in index.parts if other.sha256 == found_sha256), None)
    if twin is not None:
        return DownloadError(
            f"{path} holds another part of this bundle, {twin.name}, under this name",
            hint=f"copy {part.name} again, and {twin.name} if it was exchanged with it; then run the same command",
        )
    return DownloadError(
        f"{path} is not what the index promises: it was damaged on the way, or belongs to another bundle",
        hint="copy it again, then run the same command: what is installed stays",
        details=(f"expected SHA-256 {part.sha256}", f"found SHA-256    {found_sha256}"),
    )


def joined(errors: Iterable[DownloadError]) -> DownloadError:
    """Several errors as one: the first with the others' sentences below."""
    first, *others = errors
    details = (*first.details, *(error.message for error in others))
    return DownloadError(first.message, hint=first.hint, details=details)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more
