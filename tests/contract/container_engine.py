"""Podman, as Debian packs it, run as root without being installed: laid over /usr in a mount namespace of its own.

Its API stands in for Docker's, so `docker compose` starts containers with it. What it cannot do where this was written
(no systemd, no right to raise limits, cgroups of two versions) the tests leave out by name.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

from tests.contract.serving_programs import llama_server
from tests.contract.vllm_environment import cache_dir

IMAGE = "ghcr.io/ggml-org/llama.cpp:server-b11434"
"""The name that launch files have for it; here it is made from our own build, and nothing is fetched."""

_PACKAGES = (
    "podman", "conmon", "crun", "netavark", "aardvark-dns", "catatonit", "iptables", "nftables",
    "golang-github-containers-common", "golang-github-containers-image", "libgpgme11", "libassuan0", "libgpg-error0",
    "libsubid4", "libyajl2", "libnftables1", "libnftnl11", "libip6tc2", "libnfnetlink0", "libnetfilter-conntrack3",
)  # fmt: skip
_CONFIGURATION = """
[containers]
cgroups = "disabled"
default_ulimits = ["nofile=1024:4096", "nproc=4096:8192"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "crun"
[network]
network_backend = "netavark"
"""
# crun takes no machine whose cgroups are of both versions; with its own view of version 2 alone it asks for none.
_ENTER = """
mount -t overlay overlay -o "lowerdir=$1/usr:/usr" /usr
if mountpoint -q /sys/fs/cgroup; then umount -R /sys/fs/cgroup; fi
mount -t cgroup2 none /sys/fs/cgroup
shift
exec "$@"
"""
_WAIT_SECONDS = 30


@dataclass(frozen=True, kw_only=True)
class Containers:
    """A running Podman: its API's socket, and the process whose mounts it sees."""

    socket: Path
    pid: int
    environ: dict[str, str]

    def podman(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of Podman's where it sees its own files."""
        return subprocess.run(
            ("nsenter", "--target", str(self.pid), "--mount", "podman", *words),
            env=self.environ, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip


@contextmanager
def containers(scratch: Path) -> Iterator[Containers]:
    """Podman with the image of llama-server in it; all containers are removed at the end."""
    packages = _unpacked()
    home, socket = scratch / "home", scratch / "podman.sock"
    (home / ".config" / "containers").mkdir(parents=True)
    (home / ".config" / "containers" / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    (scratch / "containers.conf").write_text(_CONFIGURATION)
    (scratch / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{scratch}/store"\nrunroot = "{scratch}/run"\n'
    )
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "CONTAINERS_CONF": str(scratch / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(scratch / "storage.conf"),
    }
    inside = ("bash", "-ec", _ENTER, "enter", str(packages))
    service = ("podman", "system", "service", "--time=0", f"unix://{socket}")
    with (scratch / "service.log").open("wb") as log:
        process = subprocess.Popen(
            ("unshare", "--mount", "--propagation", "private", *inside, *service), env=environ, stdout=log, stderr=log
        )
    running = Containers(socket=socket, pid=process.pid, environ=environ)
    try:
        _wait_for(socket, process, scratch / "service.log")
        _make_image(running, scratch)
        yield running
    finally:
        running.podman("rm", "--all", "--force")
        process.terminate()
        process.wait()


def _unpacked() -> Path:
    if os.geteuid() != 0 or not all(shutil.which(name) for name in ("unshare", "nsenter", "apt-get", "dpkg")):
        pytest.skip("not root on a Debian: no container was started")
    home = cache_dir() / "podman-here"
    complete = home / ".complete"
    with FileLock(f"{home}.lock"):
        if not complete.exists():
            shutil.rmtree(home, ignore_errors=True)
            (home / "archives").mkdir(parents=True)
            download = ("apt-get", "-o", "APT::Sandbox::User=", "--quiet", "download", *_PACKAGES)
            done = subprocess.run(download, cwd=home / "archives", capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"Podman cannot be fetched, no container was started: {done.stderr[-300:]}")
            for archive in (home / "archives").glob("*.deb"):
                subprocess.run(("dpkg", "-x", archive, home / "root"), check=True)
            for name in ("iptables", "ip6tables"):
                (home / "root" / "usr" / "sbin" / name).unlink(missing_ok=True)
                (home / "root" / "usr" / "sbin" / name).symlink_to("xtables-nft-multi")
            complete.touch()
    return home / "root"


def _wait_for(socket: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _WAIT_SECONDS
    while not socket.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.skip(f"Podman does not run here, no container was started: {log.read_text()[-500:]}")
        time.sleep(0.05)


def _make_image(running: Containers, scratch: Path) -> None:
    """The program with the libraries that it needs, and curl for the health check, as in the image of that name."""
    root, program = scratch / "image", llama_server()
    (root / "app").mkdir(parents=True)
    (root / "tmp").mkdir()
    curl = shutil.which("curl")
    assert curl is not None, "curl is among this machine's tools"
    libraries: set[str] = set()
    for path in (program, Path(curl)):
        shutil.copy2(path, root / "app" / path.name)
        words = subprocess.run(("ldd", path), capture_output=True, text=True, check=True).stdout.split()
        libraries |= {word for word in words if word.startswith("/")}
    for library in libraries:
        inner = library.removeprefix(str(program.parent))
        target = root / "app" / inner.lstrip("/") if inner != library else root / library.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(library, target)
    archive = scratch / "image.tar"
    subprocess.run(("tar", "-C", root, "-cf", archive, "."), check=True)
    settings = ('ENTRYPOINT ["/app/llama-server"]', "ENV PATH=/app:/usr/bin:/bin", "ENV LD_LIBRARY_PATH=/app")
    changes = [word for setting in settings for word in ("--change", setting)]
    done = running.podman("import", *changes, str(archive), IMAGE)
    assert done.returncode == 0, done.stderr
    found = json.loads(running.podman("image", "inspect", IMAGE).stdout)
    assert found[0]["Config"]["Entrypoint"] == ["/app/llama-server"]
