"""vLLM's compilers and torch: each check fires on the fault and is silent without it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support_checks import cuda, machine, rocm, run, subject
from v4deploy.checks.subject import Subject
from v4deploy.domain.engine import EngineId
from v4deploy.domain.hardware import Device
from v4deploy.domain.surroundings import Software

TORCH = Software(name="torch", version="2.11.0+cu130", built_for="cuda 13.0", path="/v/torch")
TORCH_12 = replace(TORCH, version="2.11.0", built_for="cuda 12.9")
SYSTEM_13, SYSTEM_12 = (Software(name="CUDA toolkit", version=v, path="/usr/local/cuda") for v in ("13.0.88", "12.8.1"))
WHEEL_13_3 = Software(name="nvidia-cuda-nvcc", version="13.3.33", path="/v")
SILENT = replace(SYSTEM_13, version=None)


def with_vllm(*software: Software, devices: tuple[Device, ...] = cuda(1, "sm_90"), version: str = "0.33.0") -> Subject:
    found = machine(*devices, engines={EngineId.VLLM: version})
    return subject(replace(found, software=software))


@pytest.mark.parametrize(
    ("found", "missing", "other"),
    [
        (with_vllm(TORCH), True, False),
        (with_vllm(TORCH, SYSTEM_13), False, False),
        (with_vllm(TORCH, SYSTEM_12), False, True),
        (with_vllm(TORCH, SYSTEM_13, WHEEL_13_3), False, True),
        (with_vllm(TORCH, SILENT), False, False),
        (with_vllm(), False, False),
        (with_vllm(replace(TORCH, built_for=None)), False, False),
        (with_vllm(TORCH, devices=rocm(1, "gfx942")), False, False),
        (subject(replace(machine(*cuda(1, "sm_90")), software=(TORCH,))), False, False),
    ],
    ids=["none", "same", "older", "newer-wheel", "unknown", "no-torch", "torch-for-cpu", "rocm", "no-vllm"],
)
def test_compilers_are_held_against_torch(found: Subject, *, missing: bool, other: bool) -> None:
    assert bool(run("engine.vllm.no-compiler", found)) is missing
    assert bool(run("engine.vllm.other-compiler", found)) is other


def test_the_finding_shows_every_compiler() -> None:
    (finding,) = run("engine.vllm.other-compiler", with_vllm(TORCH, SYSTEM_13, WHEEL_13_3))
    assert "CUDA 13.0, and a compiler for CUDA 13.3" in finding.summary
    shown = [entry.value for entry in finding.evidence]
    assert "CUDA toolkit 13.0.88" in shown
    assert "nvidia-cuda-nvcc 13.3.33" in shown


@pytest.mark.parametrize(
    ("version", "devices", "fires"),
    [
        ("0.1.9.post1", rocm(1, "gfx950"), True),
        ("0.1.20", rocm(1, "gfx950"), False),
        (None, rocm(1, "gfx950"), False),
        ("0.1.9", cuda(1, "sm_90"), False),
    ],
)
def test_an_old_aiter_is_told(version: str | None, devices: tuple[Device, ...], *, fires: bool) -> None:
    library = Software(name="aiter", version=version, path="/v")
    assert bool(run("engine.vllm.aiter-too-old", with_vllm(library, devices=devices))) is fires


@pytest.mark.parametrize(
    ("torch", "driver", "fires"),
    [
        (TORCH, "570.195.03", True),
        (TORCH_12, "570.195.03", False),
        (TORCH_12, "515.65.01", True),
        (TORCH, "580.95.05", False),
    ],
)
def test_the_driver_is_held_against_the_cuda_of_torch(torch: Software, driver: str, *, fires: bool) -> None:
    found = with_vllm(torch, SYSTEM_13, devices=cuda(1, "sm_90", driver=driver))
    assert bool(run("engine.driver-floor", found)) is fires
