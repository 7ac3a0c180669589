"""Finds what an engine compiles its kernels with: CUDA toolkits, and the torch and compiler beside vLLM.

Nothing is imported: `import torch` takes seconds, and wakes every GPU. torch/version.py tells what it was built for.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from v4deploy.domain.hardware import ComputeApi
from v4deploy.domain.surroundings import Software
from v4deploy.system.base import CommandRun, FileRead, System

NVCC = "nvcc"
_COMMAND_TIMEOUT_SECONDS = 4.0
_USUAL_ROOT = "/usr/local/cuda"
# In the order in which torch looks for a toolkit.
_ROOT_VARIABLES = ("CUDA_HOME", "CUDA_PATH")
_NVCC_VERSION = re.compile(r"\bV(\d+\.\d+(?:\.\d+)*)")
# What of the packages beside vLLM bears on V4's kernels; wheels for one CUDA version carry it in their name.
_WHEELS = {
    "nvidia-cuda-nvcc": re.compile(r"nvidia_cuda_nvcc(?:_cu\d+)?-([^-]+)\.dist-info"),
    "aiter": re.compile(r"(?:amd_)?aiter-([^-]+)\.dist-info"),
    "torch_npu": re.compile(r"torch_npu-([^-]+)\.dist-info"),
}
_TORCH_VALUE = r"^{name}(?::[^=\n]+)? = '([^'\n]+)'$"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolchainCapture:
    """Files by path, `nvcc --version` by the compiler's path, and names in the packages beside vLLM by folder.

    `compilers` are paths of compilers, each with where its links lead; links to one file are one.
    """

    compilers: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, FileRead] = field(default_factory=dict)
    runs: Mapping[str, CommandRun] = field(default_factory=dict)
    packages: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def collect_toolchain(system: System, packages: Mapping[str, tuple[str, ...]]) -> ToolchainCapture:
    """Read versions from files; a compiler is run only where its toolkit has no such file (Debian's /usr/bin/nvcc).

    `packages` holds the entries of the site-packages that vLLM runs with, by folder.
    """
    compilers = _compilers(system)
    files = {path: system.read_text(path) for path in map(_version_file, compilers.values())}
    silent = [path for path, place in compilers.items() if files[_version_file(place)].text is None]
    torches = [f"{folder}/torch/version.py" for folder, names in packages.items() if "torch" in names]
    return ToolchainCapture(
        compilers=compilers,
        files={**files, **{path: system.read_text(path) for path in torches}},
        runs={path: system.run((path, "--version"), timeout_seconds=_COMMAND_TIMEOUT_SECONDS) for path in silent},
        packages=packages,
    )


def parse_toolchain(capture: ToolchainCapture) -> tuple[Software, ...]:
    """Toolkits in the order in which they are chosen, then what lies beside vLLM."""
    toolkits = (
        Software(name="CUDA toolkit", version=_toolkit_version(path, place, capture), path=path)
        for path, place in capture.compilers.items()
    )
    return (*toolkits, *_beside_vllm(capture))


def _beside_vllm(capture: ToolchainCapture) -> Iterator[Software]:
    for folder, names in capture.packages.items():
        read = capture.files.get(f"{folder}/torch/version.py")
        if read is not None:
            yield _torch(folder, read.text or "")
        for entry in names:
            for name, pattern in _WHEELS.items():
                wheel = pattern.fullmatch(entry)
                if wheel:
                    yield Software(name=name, version=wheel[1], path=folder)


def _torch(folder: str, text: str) -> Software:
    """`built_for` None: a build for processors only, or a file of another form."""
    found = {
        name: match[1]
        for name in ("__version__", "cuda", "hip")
        if (match := re.search(_TORCH_VALUE.format(name=name), text, re.MULTILINE))
    }
    built_for = None
    if "cuda" in found:
        built_for = f"{ComputeApi.CUDA} {found['cuda']}"
    elif "hip" in found:
        built_for = f"{ComputeApi.ROCM} {found['hip']}"
    return Software(name="torch", version=found.get("__version__"), built_for=built_for, path=f"{folder}/torch")


def _compilers(system: System) -> dict[str, str]:
    """Compilers in the order in which they are chosen, each with the file that its links lead to."""
    roots = [system.environ.get(name, "") for name in _ROOT_VARIABLES]
    paths = [posixpath.join(root, "bin", NVCC) for root in roots if root.startswith("/")]
    found: dict[str, str] = {}
    for path in (*paths, system.which(NVCC), posixpath.join(_USUAL_ROOT, "bin", NVCC)):
        if path is not None and system.exists(path):
            place = system.disk_usage(path).resolved_path or path
            if place not in found.values():
                found[path] = place
    return found


def _version_file(compiler: str) -> str:
    return posixpath.join(posixpath.dirname(posixpath.dirname(compiler)), "version.json")


def _toolkit_version(path: str, place: str, capture: ToolchainCapture) -> str | None:
    """The compiler's version from the toolkit's file, else as the compiler prints it."""
    read = capture.files.get(_version_file(place))
    try:
        parts = json.loads((read.text if read else None) or "{}")
        version = parts.get("cuda_nvcc", parts.get("cuda", {})).get("version")
    except (ValueError, AttributeError):
        version = None
    if isinstance(version, str):
        return version
    run = capture.runs.get(path)
    match = _NVCC_VERSION.search(run.stdout) if run else None
    return match[1] if match else None
