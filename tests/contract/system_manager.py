"""A systemd of its own, booted in a root that is thrown away: nothing of this machine changes.

Its root is an overlay whose upper layer is memory, in a mount namespace of its own; its processes, network and host
name are its own too (systemd-nspawn). So it may clean its `/tmp` and write into its `/etc`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from filelock import FileLock

from tests.contract.vllm_environment import cache_dir

ROOT = Path(__file__).parents[2]
PLACE = "/srv/v4deploy"
"""Where the booted system sees the scratch directory."""

_ENTER = """
scratch=$1; nspawn=$2; shift 2
if mountpoint -q /sys/fs/cgroup; then umount -R /sys/fs/cgroup; fi
mount -t cgroup2 none /sys/fs/cgroup
mount -t tmpfs none "$scratch"
mkdir "$scratch/upper" "$scratch/work" "$scratch/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$scratch/upper,workdir=$scratch/work" "$scratch/root"
exec "$nspawn" --directory="$scratch/root" --private-network --register=no --keep-unit --console=pipe \\
  --machine=v4deploy-contract --resolv-conf=off --timezone=off --link-journal=no "$@"
"""
_BOOT_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class SystemManager:
    """A booted system; `pid` is its first process as it is seen here."""

    pid: int

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command in it, as root."""
        inside = ("nsenter", "--target", str(self.pid), "--all", f"--wd={self._root}")
        environ = {"PATH": "/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin", "HOME": "/root", "PYTHONPATH": str(ROOT)}
        return subprocess.run((*inside, *words), env=environ, capture_output=True, text=True, check=False, timeout=120)

    def v4deploy(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "v4deploy", *words)

    @property
    def _root(self) -> str:
        return f"/proc/{self.pid}/root/"


@contextmanager
def booted(scratch: Path, shown: Path) -> Iterator[SystemManager]:
    """Boot it; it sees `shown` at PLACE and this project, both read-only."""
    nspawn = _nspawn()
    own = {str(ROOT), sys.prefix, str(Path(sys.executable).resolve().parents[1])}
    binds = [f"--bind-ro={path}" for path in sorted(own)]
    boot = (*binds, f"--bind-ro={shown}:{PLACE}", "--boot", "systemd.unit=multi-user.target")
    enter = ("unshare", "--mount", "--propagation", "private", "bash", "-ec", _ENTER, "enter", str(scratch))
    log = scratch.with_suffix(".log")
    with log.open("wb") as talk:
        process = subprocess.Popen((*enter, str(nspawn), *boot), stdin=subprocess.DEVNULL, stdout=talk, stderr=talk)
    try:
        yield _when_running(process, log)
    finally:
        for inner in psutil.Process(process.pid).children(recursive=True):
            inner.kill()
        process.kill()
        process.wait()


def _nspawn() -> Path:
    tools = ("unshare", "nsenter", "apt-get", "dpkg", "systemctl")
    if os.geteuid() != 0 or not all(shutil.which(name) for name in tools):
        pytest.skip("not root on a Debian with systemd: no unit was started")
    home = cache_dir() / "nspawn-here"
    program = home / "usr" / "bin" / "systemd-nspawn"
    with FileLock(f"{home}.lock"):
        if not program.exists():
            home.mkdir(exist_ok=True)
            download = ("apt-get", "-o", "APT::Sandbox::User=", "--quiet", "download", "systemd-container")
            done = subprocess.run(download, cwd=home, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"systemd-nspawn cannot be fetched, no unit was started: {done.stderr[-300:]}")
            (archive,) = home.glob("*.deb")
            subprocess.run(("dpkg", "-x", archive, home), check=True)
    return program


def _when_running(process: subprocess.Popen[bytes], log: Path) -> SystemManager:
    deadline = time.monotonic() + _BOOT_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if (pid := _first_process(process.pid)) is not None:
            manager = SystemManager(pid=pid)
            if manager.run("systemctl", "is-system-running", "--wait").stdout.strip() in {"running", "degraded"}:
                return manager
        time.sleep(0.1)
    pytest.skip(f"systemd does not boot in a namespace here, no unit was started: {log.read_text()[-500:]}")


def _first_process(of: int) -> int | None:
    """The process that is number 1 in its own namespace."""
    for process in psutil.Process(of).children(recursive=True):
        rows = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        numbers = next(row.split()[1:] for row in rows if row.startswith("NSpid:"))
        if len(numbers) > 1 and numbers[-1] == "1" and process.name() == "systemd":
            return process.pid
    return None
