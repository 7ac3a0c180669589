"""Unfinished downloads of earlier pulls go on at another revision, when the wanted file is the same there."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from v4deploy.domain.errors import DownloadError
from v4deploy.pull.adopt.adopt import Adopted
from v4deploy.pull.adopt.places import Origin, pulled_entries
from v4deploy.pull.adopt.take import Method
from v4deploy.pull.lock import locked
from v4deploy.pull.manifest import FilePlan
from v4deploy.pull.part import move_part, resumable_bytes


def adopt_parts(files: Sequence[FilePlan], directory: Path, weights_root: Path, *, since: str) -> tuple[Adopted, ...]:
    """Move what other directories have of these files into `directory`, where it is more than what is here.

    The journal moves along, so that the download goes on from the last byte that it vouches for; whoever goes back to
    the other revision finds the finished file here and adopts it.
    """
    wanted = {file.expected_hash: file for file in files}
    moved: dict[str, Adopted] = {}
    for other, entry in pulled_entries(weights_root) if weights_root.is_dir() else ():
        file = wanted.get(entry.expected_hash)
        old = other / entry.path
        if file is None or other == directory or not resumable_bytes(old, file):
            continue
        # A pull that is running there keeps its parts; a directory that may not be written to keeps them as well.
        with contextlib.suppress(DownloadError, OSError), locked(other, since=since):
            kept_bytes = resumable_bytes(old, file)
            if kept_bytes > resumable_bytes(directory / file.path, file):
                move_part(old, directory / file.path)
                moved[file.path] = Adopted(
                    path=file.path,
                    size_bytes=kept_bytes,
                    source=str(old),
                    origin=Origin.EARLIER_PULL,
                    method=Method.MOVE,
                )
    return tuple(moved.values())
