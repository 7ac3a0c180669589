"""How fast `v4deploy pull` is, beside `hf download` and beside curl: the same files from a hub on loopback.

    make bench-pull
    .venv/bin/python benchmarks/pull.py --gigabytes 20 --files 4 --rounds 3 --directory /mnt/nvme

Each round runs, in turn and each into an empty directory:

- `v4deploy pull`, as a user types it;
- `hf download` of the same files into a directory (it hashes nothing; a bare copy is all that it makes);
- `curl --parallel`, followed by `sync`, which is what the disk takes; and one core that hashes as many bytes with
  OpenSSL's SHA-256. The slower of the two is what a perfect downloader would need: curl and hash side by side.

Before each, memory is filled with clean file content, or one would pay for the memory that another has left unused
(`full_memory.py`), and they take turns in going first. Times are of whole processes, their start included. The hub is a
process of its own that answers with sendfile(2), as fast as it can; `--connection-rate 25 --latency 50` makes it a far
one, which gives each connection 25 MB a second and lets each answer wait for 50 ms. Neither is the real hub: that one
serves `hf download` through its own protocol (xet) with many streams, while on loopback both fetch over plain HTTP.
Ratios above 1 mean that v4deploy is faster. The file is no test: what it prints depends on the machine and its load.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from full_memory import FullMemory

from v4deploy.shapes.hub_content import HubFile
from v4deploy.shapes.hub_server import HubHandler, LoopbackHub
from v4deploy.shapes.profile import tiny_profile

REPO = "bench/V4-Bench-GGUF"
_BIN = Path(sys.executable).parent
_CHUNK = 8 * 1024 * 1024
_PIECE = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A finished process: wall time, processor time of itself, and the most memory that it held."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round's times."""

    pull: Ran
    hf: Ran
    curl: Ran
    sync_seconds: float
    sha_seconds: float

    @property
    def allowed_seconds(self) -> float:
        """What a perfect downloader would need."""
        return max(self.curl.seconds + self.sync_seconds, self.sha_seconds)


def main() -> None:
    """Run all rounds and print the table and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=4.0, help="in all (default 4)")
    parser.add_argument("--files", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connection-rate", type=float, default=0.0, help="MB a second, of each (default: no limit)")
    parser.add_argument("--latency", type=float, default=0.0, help="milliseconds before each answer (default 0)")
    parser.add_argument("--directory", type=Path, default=None, help="the disk to write to (default: TMPDIR)")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="v4deploy-bench-", dir=chosen.directory) as scratch:
        base = Path(scratch)
        files = publish(base / "published", chosen.files, int(chosen.gigabytes * 1e9))
        with hub(base / "published", chosen.connection_rate, chosen.latency) as endpoint:
            rate = (
                f"{chosen.connection_rate} MB/s a connection" if chosen.connection_rate else "connections without limit"
            )
            print(
                f"{chosen.files} files, {chosen.gigabytes} GB, into {base}, {os.cpu_count()} cores, "
                f"load {os.getloadavg()[0]:.1f}; {rate}, {chosen.latency} ms",
                flush=True,
            )
            memory = FullMemory(base / "memory")
            rounds = [run_round(base, endpoint, files, memory, number) for number in range(chosen.rounds)]
    report(rounds, sum(size for _, size, _ in files))


def publish(root: Path, count: int, total_bytes: int) -> list[tuple[str, int, str]]:
    """Files of noise under the names of a split GGUF; path, size, SHA-256 of each."""
    files = []
    noise = random.Random(20261128).randbytes(_CHUNK)  # noqa: S311 - weights of a benchmark
    for number in range(1, count + 1):
        path = f"tiny/V4-Bench-{number:05d}-of-{count:05d}.gguf"
        size, digest = total_bytes // count, hashlib.sha256()
        (root / REPO / path).parent.mkdir(parents=True, exist_ok=True)
        with (root / REPO / path).open("wb") as stream:
            for start in range(0, size, _CHUNK):
                # Other bytes at each place, or a part at the wrong offset would have the right hash.
                data = (start + number).to_bytes(8, "little") + noise[8 : size - start]
                digest.update(data)
                stream.write(data)
        files.append((path, size, digest.hexdigest()))
    return files


@contextmanager
def hub(root: Path, connection_rate: float, latency: float) -> Iterator[str]:
    """The hub, in a process of its own so that it does not share our interpreter."""
    with subprocess.Popen(
        [sys.executable, __file__, "--serve", str(root), str(connection_rate), str(latency)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        yield server.stdout.readline().strip()
        server.stdin.close()


class FarHub(LoopbackHub):
    """One far away: each answer takes a while to begin, and each connection has a rate of its own."""

    def __init__(self, root: Path, *, bytes_per_second: float, latency_seconds: float) -> None:
        super().__init__(root)
        self._bytes_per_second = bytes_per_second
        self._latency_seconds = latency_seconds

    def send_file(self, handler: HubHandler, file: HubFile, headers: tuple[tuple[str, str], ...]) -> None:
        time.sleep(self._latency_seconds)
        if self._bytes_per_second:
            handler.send_span = partial(self._paced, handler)  # type: ignore[method-assign]
        super().send_file(handler, file, headers)

    def _paced(self, handler: HubHandler, source: Path, first: int, end: int) -> None:
        begun = time.monotonic()
        with source.open("rb") as stream:
            for start in range(first, end, _PIECE):
                handler.connection.sendfile(stream, start, min(_PIECE, end - start))
                due = begun + (min(start + _PIECE, end) - first) / self._bytes_per_second
                time.sleep(max(0.0, due - time.monotonic()))


def serve(root: Path, connection_rate: float, latency: float) -> None:
    """Serve until stdin ends."""
    with FarHub(root, bytes_per_second=connection_rate * 1e6, latency_seconds=latency / 1e3) as running:
        print(running.endpoint, flush=True)
        sys.stdin.read()


def run_round(
    base: Path, endpoint: str, files: Sequence[tuple[str, int, str]], memory: FullMemory, first: int
) -> Round:
    """The three ways, one after the other, beginning with another one each time."""
    ways: deque[Callable[[], dict[str, Any]]] = deque(
        (
            lambda: {"pull": _pull(base / "pull", endpoint, files)},
            lambda: {"hf": _hf(base / "hf", endpoint)},
            lambda: _curl(base / "curl", endpoint, files),
        )
    )
    ways.rotate(-first)
    ran: dict[str, Any] = {"sha_seconds": _sha(sum(size for _, size, _ in files))}
    free_bytes = []
    for way in ways:
        os.sync()
        free_bytes.append(memory.fill())
        ran |= way()
    done = Round(**ran)
    print(
        f"  pull {done.pull.seconds:6.2f} s   hf {done.hf.seconds:6.2f} s   "
        f"curl {done.curl.seconds:6.2f} + sync {done.sync_seconds:5.2f} s   sha {done.sha_seconds:6.2f} s   "
        f"memory free before: {max(free_bytes) / 1e9:.1f} GB",
        flush=True,
    )
    return done


def _pull(place: Path, endpoint: str, files: Sequence[tuple[str, int, str]]) -> Ran:
    overlay = place / "overlay" / "profiles" / "models" / "v4-bench.yaml"
    overlay.parent.mkdir(parents=True)
    profile = tiny_profile(model="v4-bench", release="v4-bench-random", repository=REPO, files=files)
    overlay.write_text(yaml.safe_dump(profile), encoding="utf-8")
    environ = {
        "V4DEPLOY_OVERLAY": str(place / "overlay"),
        "V4DEPLOY_WEIGHTS_DIR": str(place / "weights"),
        "HF_HOME": str(place / "home"),
        "HF_ENDPOINT": endpoint,
    }
    ran = _run([str(_BIN / "v4deploy"), "pull", "v4-bench", "--repo", REPO], environ)
    assert sum(path.stat().st_size for path in (place / "weights").rglob("*.gguf")) == sum(size for _, size, _ in files)
    shutil.rmtree(place)
    return ran


def _hf(place: Path, endpoint: str) -> Ran:
    environ = {"HF_HOME": str(place / "home"), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_TELEMETRY": "1"}
    ran = _run([str(_BIN / "hf"), "download", REPO, "--local-dir", str(place / "files"), "--quiet"], environ)
    assert list((place / "files").rglob("*.gguf")), "hf brought nothing"
    shutil.rmtree(place)
    return ran


def _curl(place: Path, endpoint: str, files: Sequence[tuple[str, int, str]]) -> dict[str, Any]:
    place.mkdir(parents=True)
    argv = ["curl", "--silent", "--fail", "--location", "--parallel"]
    for path, _, _ in files:
        argv += ["--output", str(place / Path(path).name), f"{endpoint}/{REPO}/resolve/main/{path}"]
    ran = _run(argv, {})
    begun = time.perf_counter()
    for file in place.iterdir():
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    sync_seconds = time.perf_counter() - begun
    shutil.rmtree(place)
    return {"curl": ran, "sync_seconds": sync_seconds}


def _sha(total_bytes: int) -> float:
    data, digest = bytes(1024 * 1024), hashlib.sha256()
    begun = time.perf_counter()
    for _ in range(total_bytes // len(data)):
        digest.update(data)
    return time.perf_counter() - begun


def _run(argv: Sequence[str], environ: Mapping[str, str]) -> Ran:
    """Run a command to its end.

    Raises:
        SystemExit: it failed.
    """
    begun = time.perf_counter()
    process = subprocess.Popen(argv, env={**os.environ, **environ}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    talk = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.returncode:
        sys.exit(f"{argv[0]} ended with {process.returncode}:\n{talk.decode()}")
    return Ran(seconds=seconds, cpu_seconds=usage.ru_utime + usage.ru_stime, peak_bytes=usage.ru_maxrss * 1024)


def report(rounds: Sequence[Round], total_bytes: int) -> None:
    """Medians over the rounds, and the ratios of each round's own times, so that load hits both sides."""

    def line(name: str, seconds: float, ran: Ran | None = None) -> None:
        more = f"   cpu {ran.cpu_seconds:5.2f} s   peak {ran.peak_bytes / 1e6:5.0f} MB" if ran else ""
        print(f"{name:<28}{seconds:7.2f} s {total_bytes / seconds / 1e6:8.0f} MB/s{more}")

    def middle(values: Iterator[float]) -> float:
        return statistics.median(values)

    print()
    line("v4deploy pull", middle(one.pull.seconds for one in rounds), rounds[-1].pull)
    line("hf download", middle(one.hf.seconds for one in rounds), rounds[-1].hf)
    line("curl --parallel", middle(one.curl.seconds for one in rounds), rounds[-1].curl)
    line("curl and sync", middle(one.curl.seconds + one.sync_seconds for one in rounds))
    line("one core of SHA-256", middle(one.sha_seconds for one in rounds))
    to_hf = middle(one.hf.seconds / one.pull.seconds for one in rounds)
    to_allowed = middle(one.allowed_seconds / one.pull.seconds for one in rounds)
    peak = max(one.pull.peak_bytes for one in rounds) / 1e6
    print(f"\nto hf download               {to_hf:5.2f}   (wanted: 1.5 or more)")
    print(f"to curl and one hashing core {to_allowed:5.2f}   (wanted: 0.85 or more)")
    print(f"peak memory                  {peak:5.0f} MB (wanted: below 200)")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(Path(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))
    else:
        main()
