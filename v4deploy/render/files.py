"""Files of an output directory: reading them, and replacing several of them together."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from v4deploy.domain.errors import UsageError

_OUTPUT_HINT = "choose another directory: `--output DIRECTORY`"
_EXECUTABLE = 0o111


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """A file to be. `content` None means that it is to be gone."""

    path: Path
    content: bytes | None
    mode: int = 0o644


def target_path(directory: Path, path: str) -> Path:
    """The file to write. A link that leads elsewhere would let a rendered file replace one that is not ours.

    Raises:
        UsageError: it leads out of the directory, or something that is no file is there.
    """
    target = directory / path
    if not target.parent.resolve().is_relative_to(directory.resolve()):
        raise UsageError(
            f"{target} leads out of {directory}", hint="choose a directory without links: `--output DIRECTORY`"
        )
    if target.exists() and not target.is_file():
        raise UsageError(f"{target} is there and is not a file", hint="remove it, or choose another `--output`")
    return target


def read_file(path: Path) -> bytes | None:
    """What is in a file; None where there is none.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", hint="choose another `--output`") from error


def is_executable(mode: int) -> bool:
    """Whether anybody may run a file of this mode: all that git keeps of it."""
    return bool(mode & _EXECUTABLE)


def require_writable(directory: Path) -> None:
    """See that files can be made there, before the first one is.

    Raises:
        UsageError: they cannot.
    """
    present = directory
    while not present.exists() and present != present.parent:
        present = present.parent
    if not present.is_dir():
        raise UsageError(f"cannot write to {directory}: {present} is not a directory", hint=_OUTPUT_HINT)
    if not os.access(present, os.W_OK | os.X_OK):
        raise UsageError(f"cannot write to {directory}: you may not write to {present}", hint=_OUTPUT_HINT)


def replace_all(writes: Sequence[Write], *, staging: Path, undo: Sequence[Write] = ()) -> None:
    """Put all files in place, or none: each is written to `staging` first, and what was moved is moved back.

    `staging` is on the same file system, and ours alone: what a killed run left there is removed.

    Raises:
        UsageError: the first that could not be written. `undo` has been put back where anything had changed.
    """
    is_moving = False
    try:
        staged = _stage_all(writes, staging)
        is_moving = True
        for write in writes:
            _move(write, staged)
    except BaseException as error:
        if is_moving and undo:
            replace_all(undo, staging=staging)
        if isinstance(error, OSError):
            place = error.filename2 or error.filename
            raise UsageError(f"cannot write {place}: {error.strerror}", hint=_OUTPUT_HINT) from error
        raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def remove_empty(directory: Path) -> None:
    """Remove a directory that holds nothing any more."""
    with contextlib.suppress(OSError):
        directory.rmdir()


def _stage_all(writes: Sequence[Write], staging: Path) -> dict[Path, Path]:
    """Where the new content of each file lies, by the file's own path."""
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    staged = {}
    for number, write in enumerate(writes):
        if write.content is not None:
            staged[write.path] = staging / str(number)
            try:
                _write(staged[write.path], write.content, write.mode)
            except OSError as error:
                # A full disk names no file, and the staged one means nothing to anybody.
                raise OSError(error.errno, error.strerror, str(write.path)) from error
    return staged


def _write(path: Path, content: bytes, mode: int) -> None:
    with path.open("xb") as stream:
        # Before the content, which may be for its owner only.
        path.chmod(mode)
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _move(write: Write, staged: Mapping[Path, Path]) -> None:
    if write.content is None:
        write.path.unlink(missing_ok=True)
        return
    write.path.parent.mkdir(parents=True, exist_ok=True)
    staged[write.path].replace(write.path)
