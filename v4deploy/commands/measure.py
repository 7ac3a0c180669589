"""What `doctor --deep` measures, and the token file's mode: the edges of its checks."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from v4deploy.checks.subject import DiskReading, HubAnswer, TokenFile
from v4deploy.domain.errors import DownloadError
from v4deploy.domain.model import Checkpoint, FileRole, Hub
from v4deploy.domain.units import GIB, MIB
from v4deploy.pull.access import HubAccess, file_url

MOST_BYTES = GIB
# Long enough for any disk to show its speed; a share that hangs must not hang us.
_MOST_SECONDS = 5.0
_BLOCK_BYTES = 8 * MIB
# Below this a read ends before a disk array has got going.
_LEAST_FILE_BYTES = 32 * MIB
_SUFFIXES = {".gguf", ".safetensors"}
_HUB_SECONDS = 10.0
_F_NOCACHE = 48
"""macOS' fcntl command that reads past the cache; Python has no name for it."""


def read_speed(directory: Path, *, clock: Callable[[], float] = time.perf_counter) -> DiskReading:
    """Read the start of the largest weight file below a directory, past the page cache."""
    path = largest_weight_file(directory)
    if path is None:
        return DiskReading(path=None, error=f"no weight file of {_LEAST_FILE_BYTES // MIB} MiB or more lies there")
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        return DiskReading(path=str(path), error=error.strerror)
    try:
        if not _past_the_cache(descriptor):
            return DiskReading(path=str(path), error="this system cannot be told to read past its page cache")
        begun = clock()
        read_bytes = 0
        while read_bytes < MOST_BYTES and clock() - begun < _MOST_SECONDS:
            block = os.read(descriptor, _BLOCK_BYTES)
            if not block:
                break
            read_bytes += len(block)
        seconds = clock() - begun
        # What was read only to be timed must not push out what others need.
        _past_the_cache(descriptor)
    except OSError as error:
        return DiskReading(path=str(path), error=error.strerror)
    finally:
        os.close(descriptor)
    return DiskReading(path=str(path), read_bytes=read_bytes, seconds=seconds)


def largest_weight_file(directory: Path) -> Path | None:
    """The largest finished weight file below a directory; None where there is none worth reading."""
    found: list[tuple[int, Path]] = []
    for folder, _, names in os.walk(directory):
        for name in names:
            path = Path(folder, name)
            if path.suffix in _SUFFIXES:
                with contextlib.suppress(OSError):
                    found.append((path.stat().st_size, path))
    size, largest = max(found, default=(0, directory))
    return largest if size >= _LEAST_FILE_BYTES else None


def _past_the_cache(descriptor: int) -> bool:
    """Drop what the page cache holds of a file, so that a read comes from the disk. False where that cannot be done."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        return True
    with contextlib.suppress(ImportError, OSError):
        import fcntl

        fcntl.fcntl(descriptor, _F_NOCACHE, 1)
        return True
    return False


def ask_hub(
    access: HubAccess, checkpoints: tuple[Checkpoint, ...], *, clock: Callable[[], float] = time.perf_counter
) -> HubAnswer:
    """Ask for the first byte of a weight file without a token: it goes the way of a download, through proxy and CDN."""
    from v4deploy.pull.retry import TransferError
    from v4deploy.pull.transport import Transport

    checkpoint, path = _a_file(checkpoints)
    what = f"{checkpoint.repo}/{path}" if checkpoint else "no file of this release is known by name"
    if checkpoint is None:
        return HubAnswer(host=access.host, what=what, error="nothing to ask for")
    url = file_url(access, checkpoint.repo, checkpoint.revision or "main", path)
    transport = Transport(HubAccess(endpoint=access.endpoint), stall_seconds=_HUB_SECONDS)
    begun = clock()
    try:
        with contextlib.closing(transport), transport.get(url, first_byte=0, last_byte=0) as answer:
            return HubAnswer(
                host=access.host,
                what=what,
                status=answer.status,
                from_cdn=not answer.from_hub,
                seconds=clock() - begun,
            )
    except TransferError as error:
        return HubAnswer(host=access.host, what=what, error=error.reason)
    except DownloadError as error:
        return HubAnswer(host=access.host, what=what, error=error.message, fix=error.hint)


def _a_file(checkpoints: tuple[Checkpoint, ...]) -> tuple[Checkpoint | None, str]:
    """A file at the hub whose name is known; weights before configuration, since those come from a CDN."""
    here = [checkpoint for checkpoint in checkpoints if checkpoint.hub is Hub.HUGGINGFACE]
    for role in (FileRole.MAIN, FileRole.CONFIG):
        for checkpoint in here:
            for file in checkpoint.files:
                if file.role is role and not set(file.path) & set("*?["):
                    return checkpoint, file.path
    return None, ""


def token_file(environ: Mapping[str, str]) -> TokenFile | None:
    """The file with the hub's token that `pull` would read; None where there is none."""
    cache = Path(environ.get("XDG_CACHE_HOME") or Path(environ.get("HOME") or "/nonexistent") / ".cache")
    path = Path(environ.get("HF_TOKEN_PATH") or Path(environ.get("HF_HOME") or cache / "huggingface") / "token")
    try:
        return TokenFile(path=str(path), mode=stat.S_IMODE(path.stat().st_mode))
    except OSError:
        return None
