"""What a download writes down beside its file: which blocks are there, and what their bytes add up to.

A line whenever bytes of a block have arrived; the last one for a block counts. Nothing in it is believed: a later run
reads every byte again for the file's hash, and what no longer adds up is fetched again. So a journal may be ahead of
what a power cut left of the file, and no line has to wait for the disk.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from v4deploy.pull.manifest import FilePlan

_LINE = re.compile(r"(\d{1,9}) (\d{1,12}) ([0-9a-f]{8})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """The first bytes of a block (mostly all of them), and their spot check."""

    filled_bytes: int
    checksum: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """What an earlier run left. `blocks`: by number, from 0."""

    block_bytes: int
    blocks: Mapping[int, Beginning]


def header(file: FilePlan, block_bytes: int) -> str:
    """The first line: for which content the journal is."""
    head = {"hash": file.expected_hash, "size_bytes": file.size_bytes, "block_bytes": block_bytes}
    return json.dumps(head) + "\n"


def line(index: int, beginning: Beginning) -> str:
    """The line of a block; a later one for the same block counts."""
    return f"{index} {beginning.filled_bytes} {beginning.checksum:08x}\n"


def text(file: FilePlan, journal: Journal) -> str:
    """A whole journal."""
    return header(file, journal.block_bytes) + "".join(line(*pair) for pair in sorted(journal.blocks.items()))


def parse(content: str, file: FilePlan, on_disk_bytes: int) -> Journal | None:
    """What a journal says about this file, as far as the part file reaches; None when it is about another content.

    Lines that a crash tore are passed over.
    """
    head, *lines = content.split("\n")
    block_bytes = _block_bytes(head, file)
    if block_bytes is None:
        return None
    blocks: dict[int, Beginning] = {}
    for match in filter(None, map(_LINE.fullmatch, lines)):
        index, filled_bytes = int(match[1]), int(match[2])
        start = index * block_bytes
        end = min(start + block_bytes, file.size_bytes)
        if 0 < filled_bytes <= end - start and start + filled_bytes <= on_disk_bytes:
            blocks[index] = Beginning(filled_bytes=filled_bytes, checksum=int(match[3], 16))
        else:
            blocks.pop(index, None)
    return Journal(block_bytes=block_bytes, blocks=blocks)


def _block_bytes(head: str, file: FilePlan) -> int | None:
    try:
        found: Any = json.loads(head)
    except ValueError:
        return None
    if not isinstance(found, dict) or (found.get("hash"), found.get("size_bytes")) != (
        file.expected_hash,
        file.size_bytes,
    ):
        return None
    block_bytes = found.get("block_bytes")
    return block_bytes if isinstance(block_bytes, int) and block_bytes > 0 else None
