"""`v4deploy verify` against `sha256sum` and `openssl dgst` on the same files and cores: time, CPU time, memory.

Run it with `make bench-verify`. What it prints is one run on this machine; other load moves the wall times, the CPU
times less.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from v4deploy.domain.model import FileRole, Hub
from v4deploy.pull import store
from v4deploy.pull.manifest import FilePlan, Manifest

MIB = 1024 * 1024
TARGET_RATIO = 0.9
MOST_MEMORY_BYTES = 200 * 10**6


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One child process: its wall time, its CPU time with that of its own children, and its largest memory."""

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int


def make_files(directory: Path, *, count: int, size_bytes: int) -> tuple[Path, ...]:
    """Safetensors files of noise that compresses to nothing, and the manifest that a pull would have written."""
    files = []
    entries = []
    for number in range(1, count + 1):
        path = directory / f"model-{number:05d}-of-{count:05d}.safetensors"
        offsets = {"dtype": "U8", "shape": [size_bytes], "data_offsets": [0, size_bytes]}
        header = json.dumps({f"layers.{number}.weight": offsets}).encode()
        digest = hashlib.sha256()
        with path.open("wb") as stream:
            # One piece at a time: a child's largest memory begins with what its parent had.
            for data in chain(
                (struct.pack("<Q", len(header)) + header,), (os.urandom(MIB) for _ in range(size_bytes // MIB))
            ):
                stream.write(data)
                digest.update(data)
        entries.append(
            FilePlan(path=path.name, size_bytes=path.stat().st_size, role=FileRole.MAIN, sha256=digest.hexdigest())
        )
        files.append(path)
    empty = Manifest(
        repo="bench/verify",
        hub=Hub.HUGGINGFACE,
        revision="0" * 40,
        endpoint_host="127.0.0.1",
        fetched_at="2026-11-28T00:00:00+00:00",
        files=(),
        selections=(),
    )
    store.write_manifest(directory, empty.with_selection("bench", (FileRole.MAIN,), entries))
    return tuple(files)


def run(command: Sequence[str]) -> Run:
    """Run a command to its end.

    Raises:
        RuntimeError: it failed.
    """
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as child:
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    wall_seconds = time.monotonic() - began
    if child.returncode:
        raise RuntimeError(f"{command[0]} ended with {child.returncode}")
    # ru_maxrss: kilobytes on Linux, bytes on macOS (getrusage(2)).
    unit = 1 if sys.platform == "darwin" else 1024
    return Run(
        wall_seconds=wall_seconds,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_bytes=usage.ru_maxrss * unit,
    )


def forget(files: Sequence[Path]) -> None:
    """Ask the kernel to drop the files from its cache, so that the next reader waits for the disk."""
    for path in files:
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def commands(directory: Path, files: Sequence[Path], jobs: int) -> dict[str, tuple[str, ...]]:
    """What is compared, each with `jobs` files at once."""
    names = tuple(map(str, files))
    parallel = "printf '%s\\0' \"$@\" | xargs -0 -n 1 -P {} {}"
    found = {
        name: ("sh", "-c", parallel.format(jobs, command), "sh", *names)
        for name, command in (("sha256sum", "sha256sum"), ("openssl dgst", "openssl dgst -sha256"))
        if shutil.which(command.split()[0])
    }
    verify = (sys.executable, "-m", "v4deploy", "verify", str(directory), "--jobs", str(jobs), "--quiet")
    return found | {"v4deploy verify": verify}


def measure(directory: Path, files: Sequence[Path], jobs: int, *, rounds: int, cold: bool) -> dict[str, list[Run]]:
    """All commands in turn, round after round, so that what else the machine does hits each of them."""
    runs: dict[str, list[Run]] = {}
    for _ in range(rounds):
        for name, command in commands(directory, files, jobs).items():
            if cold:
                forget(files)
            runs.setdefault(name, []).append(run(command))
    return runs


def show(title: str, runs: dict[str, list[Run]], total_bytes: int) -> None:
    """A table of each command's best round, and the ratios."""
    print(f"\n{title}")
    best = {
        name: Run(
            wall_seconds=min(run.wall_seconds for run in several),
            cpu_seconds=min(run.cpu_seconds for run in several),
            peak_bytes=max(run.peak_bytes for run in several),
        )
        for name, several in runs.items()
    }
    print(f"  {'':<18}{'wall':>9}{'rate':>12}{'CPU':>9}{'peak memory':>14}")
    for name, one in best.items():
        rate = total_bytes / one.wall_seconds / 1e9
        print(
            f"  {name:<18}{one.wall_seconds:>7.2f} s{rate:>7.2f} GB/s{one.cpu_seconds:>7.2f} s"
            f"{one.peak_bytes / 1e6:>11.0f} MB"
        )
    ours = best.pop("v4deploy verify")
    for name, one in best.items():
        wall, cpu = one.wall_seconds / ours.wall_seconds, one.cpu_seconds / ours.cpu_seconds
        print(f"  ratio to {name}: {wall:.2f} by wall time, {cpu:.2f} by CPU time (target {TARGET_RATIO})")
    verdict = "within" if ours.peak_bytes < MOST_MEMORY_BYTES else "ABOVE"
    print(f"  memory: {verdict} {MOST_MEMORY_BYTES / 1e6:.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=4)
    parser.add_argument("--mib", type=int, default=1024, help="size of each file")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="files at once, for each")
    parser.add_argument("--directory", type=Path, help="where to put the files; default: the temporary directory")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.directory, prefix="v4deploy-bench-") as name:
        files = make_files(Path(name), count=chosen.files, size_bytes=chosen.mib * MIB)
        total_bytes = sum(path.stat().st_size for path in files)
        print(
            f"{chosen.files} files, {total_bytes / 1e9:.1f} GB, {chosen.jobs} at once, best of {chosen.rounds} rounds; "
            f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
        )
        for title, cold in (("from memory (page cache)", False), ("from disk (page cache dropped)", True)):
            runs = measure(Path(name), files, chosen.jobs, rounds=chosen.rounds, cold=cold)
            show(title, runs, total_bytes)


if __name__ == "__main__":
    main()
