"""CUDA toolkits, and torch and compiler beside vLLM, found without importing or starting anything heavy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from v4deploy.domain.surroundings import Software
from v4deploy.probes.engines import collect_engines
from v4deploy.probes.toolchain import collect_toolchain, parse_toolchain
from v4deploy.system.live import LiveSystem
from v4deploy.system.recorded import RecordedSystem
from v4deploy.system.yaml_files import write_yaml_file

CUDA_13 = '{"cuda": {"name": "CUDA SDK", "version": "13.0.20250917"}, "cuda_nvcc": {"version": "13.0.88"}}'
PRINTED = (
    "nvcc: NVIDIA (R) Cuda compiler driver\nCuda compilation tools, release 12.0, V12.0.140\nBuild cuda_12.0.r12.0\n"
)
TORCH = (
    "from typing import Optional\n\n__version__ = '2.12.1+cu130'\ndebug = False\ncuda: Optional[str] = '13.0'\n"
    "git_version = '72694'\nhip: Optional[str] = None\nrocm: Optional[str] = None\n"
)
PACKAGES = "/opt/vllm/lib/python3.12/site-packages"


def software(folder: Path, packages: dict[str, tuple[str, ...]] | None = None, **facts: Any) -> tuple[Software, ...]:
    commands = facts.pop("commands", {})
    write_yaml_file(folder / "facts.yaml", {"machine": {"system": "Linux", "machine": "x86_64"}, **facts})
    origin = {"kind": "hand-made", "source": "a test", "as_of": "2026-11-28", "claim": "x"}
    write_yaml_file(folder / "origin.yaml", origin)
    for name, answer in commands.items():
        write_yaml_file(folder / "commands" / f"{name}.yaml", answer)
    return parse_toolchain(collect_toolchain(RecordedSystem(folder), packages or {}))


def toolkit(root: str, version: str | None = CUDA_13) -> dict[str, Any]:
    files = {} if version is None else {f"{root}/version.json": version}
    return {"present": [f"{root}/bin/nvcc"], "files": files}


def test_a_toolkit_tells_its_version_in_a_file(tmp_path: Path) -> None:
    found = software(tmp_path, **toolkit("/usr/local/cuda"))
    assert found == (Software(name="CUDA toolkit", version="13.0.88", path="/usr/local/cuda/bin/nvcc"),)


def test_the_toolkit_of_the_variable_comes_first(tmp_path: Path) -> None:
    facts: dict[str, Any] = {
        "environ": {"CUDA_HOME": "/opt/cuda-12.8"},
        "present": ["/opt/cuda-12.8/bin/nvcc", "/usr/local/cuda/bin/nvcc"],
        "files": {
            "/opt/cuda-12.8/version.json": '{"cuda": {"version": "12.8.1"}}',
            "/usr/local/cuda/version.json": CUDA_13,
        },
    }
    assert [one.version for one in software(tmp_path, **facts)] == ["12.8.1", "13.0.88"]


def test_links_to_one_toolkit_are_one(tmp_path: Path) -> None:
    facts = toolkit("/usr/local/cuda") | {
        "environ": {"CUDA_HOME": "/usr/local/cuda-13.0"},
        "present": ["/usr/local/cuda/bin/nvcc", "/usr/local/cuda-13.0/bin/nvcc"],
        "disks": {"/usr/local/cuda/bin/nvcc": {"resolved_path": "/usr/local/cuda-13.0/bin/nvcc"}},
    }
    assert [one.path for one in software(tmp_path, **facts)] == ["/usr/local/cuda-13.0/bin/nvcc"]


@pytest.mark.parametrize(
    ("answer", "version"),
    [
        ({"exit_status": 0, "stdout": PRINTED}, "12.0.140"),
        ({"exit_status": 0, "stdout": PRINTED[:60]}, None),
        ({"exit_status": 0, "stdout": "nvcc : compilateur CUDA, édition 12.0\n"}, None),
        ({"exit_status": 1, "stdout": ""}, None),
        ({"failure": "no-permission"}, None),
        ({"failure": "timed-out"}, None),
        ({"exit_status": 0, "stdout": "\x00\x01V"}, None),
    ],
    ids=["printed", "cut", "localised", "empty", "denied", "timeout", "garbage"],
)
def test_a_compiler_without_such_a_file_is_asked(tmp_path: Path, answer: dict[str, Any], version: str | None) -> None:
    command = {"argv": ["/usr/bin/nvcc", "--version"], **answer}
    found = software(
        tmp_path, programs={"nvcc": "/usr/bin/nvcc"}, present=["/usr/bin/nvcc"], commands={"nvcc": command}
    )
    assert found == (Software(name="CUDA toolkit", version=version, path="/usr/bin/nvcc"),)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"cuda": 13}', '{"cuda": {"version": 13}}', CUDA_13[:40], "\x00"])
def test_a_broken_version_file_is_no_version(tmp_path: Path, text: str) -> None:
    assert [one.version for one in software(tmp_path, **toolkit("/usr/local/cuda", text))] == [None]


@pytest.mark.parametrize(
    ("text", "version", "built_for"),
    [
        (TORCH, "2.12.1+cu130", "cuda 13.0"),
        ("__version__ = '2.4.0'\ncuda = '12.4'\nhip = None\n", "2.4.0", "cuda 12.4"),
        (
            "__version__ = '2.11.0+rocm7.1'\ncuda: Optional[str] = None\nhip: Optional[str] = '7.1.5'\n",
            "2.11.0+rocm7.1",
            "rocm 7.1.5",
        ),
        ("__version__ = '2.11.0+cpu'\ncuda: Optional[str] = None\nhip: Optional[str] = None\n", "2.11.0+cpu", None),
        (TORCH[:50], None, None),
        ("", None, None),
        ("\x00 garbage = 'x", None, None),
    ],
    ids=["cuda", "old", "rocm", "cpu", "cut", "empty", "garbage"],
)
def test_torch_tells_what_it_was_built_for(
    tmp_path: Path, text: str, version: str | None, built_for: str | None
) -> None:
    found = software(tmp_path, {PACKAGES: ("torch", "vllm")}, files={f"{PACKAGES}/torch/version.py": text})
    assert found == (Software(name="torch", version=version, built_for=built_for, path=f"{PACKAGES}/torch"),)


def test_the_compiler_of_a_wheel_is_found(tmp_path: Path) -> None:
    names = ("nvidia", "nvidia_cuda_nvcc-13.3.33.dist-info", "nvidia_cuda_nvcc_cu12-12.9.86.dist-info", "vllm")
    assert [one.version for one in software(tmp_path, {PACKAGES: names})] == ["13.3.33", "12.9.86"]


def test_what_lies_beside_vllm_is_found_on_a_live_machine(tmp_path: Path) -> None:
    packages = tmp_path / "lib" / "python3.12" / "site-packages"
    (packages / "torch").mkdir(parents=True)
    (packages / "torch" / "version.py").write_text(TORCH)
    program = tmp_path / "bin" / "vllm"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    system = LiveSystem({"PATH": str(program.parent), "CUDA_HOME": str(tmp_path / "nowhere")})
    found = parse_toolchain(collect_toolchain(system, collect_engines(system).beside_vllm))
    assert [one.built_for for one in found if one.path.startswith(str(tmp_path))] == ["cuda 13.0"]
