"""Installed engines: too old for a release or a device, of a known-bad version, or without a use here."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support_checks import ascend, cuda, machine, rocm, run, subject
from v4deploy.domain.engine import EngineId
from v4deploy.domain.finding import Finding, Severity
from v4deploy.domain.hardware import Device


@pytest.mark.parametrize(
    ("engine", "version", "some", "model", "expected"),
    [
        (EngineId.VLLM, "0.33.0", cuda(8, "sm_90"), "v4-flash", "engine.vllm.installed"),
        (EngineId.VLLM, "0.22.0", cuda(8, "sm_90"), "v4-flash", "engine.vllm.too-old"),
        (EngineId.VLLM, "0.22.0", cuda(8, "sm_90"), "v4-flash-preview", "engine.vllm.installed"),
        (EngineId.VLLM, "0.25.0", rocm(8, "gfx950"), "v4-flash", "engine.vllm.too-old"),
        (EngineId.VLLM, "0.26.0", rocm(8, "gfx950"), "v4-flash", "engine.vllm.installed"),
        (EngineId.VLLM, "0.29.0", cuda(8, "sm_90"), "v4.1-flash", "engine.vllm.too-old"),
        (EngineId.LLAMA_CPP, "9839", (), "v4-flash", "engine.llama-cpp.too-old"),
        (EngineId.LLAMA_CPP, "11434", (), "v4-flash", "engine.llama-cpp.installed"),
        (EngineId.OLLAMA, None, (), "v4-flash", "engine.ollama.version-unknown"),
        (EngineId.VLLM, "main", (), "v4-flash", "engine.vllm.version-unknown"),
        (EngineId.VLLM, "0.1.dev1+g1a2b3c4", (), "v4-flash", "engine.vllm.version-unknown"),
    ],
)
def test_a_version_is_held_against_release_and_device(
    engine: EngineId, version: str | None, some: tuple[Device, ...], model: str, expected: str
) -> None:
    (found,) = run("engine.version", subject(machine(*some, engines={engine: version}), model=model))
    assert found.id == expected


def test_too_old_names_what_is_needed_and_what_to_install() -> None:
    (found,) = run("engine.version", subject(machine(*cuda(8, "sm_90"), engines={EngineId.VLLM: "0.22.0"})))
    assert "0.25.0" in found.summary
    assert found.fix == "upgrade vLLM to 0.33.0"


def test_no_engine_at_all_is_a_note() -> None:
    (found,) = run("engine.none", subject())
    assert found.severity is Severity.INFO
    assert run("engine.none", subject(machine(engines={EngineId.VLLM: "0.33.0"}))) == ()


@pytest.mark.parametrize(
    ("engine", "some", "fires"),
    [
        (EngineId.VLLM, cuda(4, "sm_80"), True),
        (EngineId.LLAMA_CPP, ascend(8, "ascend-a2"), True),
        (EngineId.LLAMA_CPP, cuda(4, "sm_80"), False),
        (EngineId.MINDIE, ascend(8, "ascend-a2"), False),
        (EngineId.VLLM, (), False),
    ],
)
def test_an_engine_without_use_for_the_devices_is_told(
    engine: EngineId,
    some: tuple[Device, ...],
    fires: bool,  # noqa: FBT001
) -> None:
    found = run("engine.none-for-devices", subject(machine(*some, engines={engine: "0.33.0"})))
    assert bool(found) is fires


def test_engines_are_not_blamed_for_devices_that_are_broken() -> None:
    lost = Finding(id="gpu.nvidia.device-lost", severity=Severity.FAIL, summary="lost")
    broken = replace(cuda(1, "sm_80")[0], usable=False)
    found = replace(machine(broken, engines={EngineId.VLLM: "0.33.0"}), findings=(lost,))
    assert [entry.severity for entry in run("engine.none-for-devices", subject(found))] == [Severity.SKIP]


@pytest.mark.parametrize(
    ("sees", "some", "fires"),
    [
        (("CUDA0", "CUDA1"), cuda(2, "sm_89"), False),
        ((), cuda(2, "sm_89"), True),
        (("Vulkan0",), cuda(1, "sm_89"), True),
        (("ROCm0",), rocm(1, "gfx1100"), False),
        (("Vulkan0",), rocm(1, "gfx1100"), True),
        ((), (), False),
        (None, cuda(1, "sm_89"), False),
    ],
)
def test_a_llama_cpp_that_misses_the_gpus_is_told(
    sees: tuple[str, ...] | None, some: tuple[Device, ...], *, fires: bool
) -> None:
    found = machine(*some, engines={EngineId.LLAMA_CPP: "11434"})
    engines = tuple(replace(engine, sees=sees) for engine in found.engines)
    assert bool(run("engine.llama-cpp.blind-build", subject(replace(found, engines=engines)))) is fires


def test_what_is_known_of_every_version_is_a_note() -> None:
    found = machine(*cuda(1, "sm_120"), engines={EngineId.VLLM: "0.33.0"})
    findings = run("engine.known-bad", subject(found))
    assert [finding.severity for finding in findings] == [Severity.INFO]


@pytest.mark.parametrize(
    ("version", "arch", "fires"), [("0.27.0", "sm_90", True), ("0.27.1", "sm_90", False), ("0.27.0", "sm_100", False)]
)
def test_versions_known_as_broken_are_told_on_their_devices_only(
    version: str,
    arch: str,
    fires: bool,  # noqa: FBT001
) -> None:
    found = machine(*cuda(8, arch), engines={EngineId.VLLM: version})
    assert bool(run("engine.known-bad", subject(found))) is fires


@pytest.mark.parametrize(
    ("plugin", "engine", "fires"),
    [("0.23.0", "0.23.1", False), ("0.23.0", "0.25.0", True), ("0.23.0", None, False), ("0.23.0", "main", False)],
)
def test_vllm_ascend_and_vllm_have_to_be_one_set(
    plugin: str,
    engine: str | None,
    fires: bool,  # noqa: FBT001
) -> None:
    found = machine(*ascend(8, "ascend-a2"), engines={EngineId.MINDIE: plugin, EngineId.VLLM: engine})
    assert bool(run("engine.mindie.version-set", subject(found))) is fires


def test_the_vllm_below_vllm_ascend_is_not_told_to_be_upgraded_alone() -> None:
    found = machine(*ascend(8, "ascend-a2"), engines={EngineId.MINDIE: "0.23.0", EngineId.VLLM: "0.23.0"})
    one_program = replace(found, engines=tuple(replace(engine, path="/opt/bin/vllm") for engine in found.engines))
    assert [finding.id for finding in run("engine.version", subject(one_program))] == ["engine.mindie.too-old"]
    assert len(run("engine.version", subject(found))) == 2


@pytest.mark.parametrize(
    ("arch", "suffix", "quant"),
    [("ascend-a2", "v0.25.1rc1 ", "w8a8"), ("ascend-a3", "-a3 ", "w8a8"), ("ascend-950", "-a5 ", "native")],
)
def test_each_ascend_family_is_told_its_image_and_weights(arch: str, suffix: str, quant: str) -> None:
    (found,) = run("engine.mindie.image-and-weights", subject(machine(*ascend(8, arch))))
    assert suffix in found.summary
    assert quant in found.summary


def test_an_unsupported_ascend_family_is_told_no_image() -> None:
    assert run("engine.mindie.image-and-weights", subject(machine(*ascend(8, "ascend-310p")))) == ()
