from __future__ import annotations

import pytest

from v4deploy.domain.engine import EngineId
from v4deploy.probes.cpu import (
    cpu_features,
    cpu_model,
    parse_cpu_blocks,
    parse_sysctl,
    physical_cores,
    sysctl_core_kinds,
    sysctl_features,
    sysctl_number,
    topology_files,
)
from v4deploy.probes.engines import (
    EngineCapture,
    embedded_build,
    parse_engines,
    parse_list_devices,
    parse_llama_server_version,
    parse_ollama_version,
)

TWO_SOCKETS = "\n".join(
    f"processor\t: {cpu}\nmodel name\t: Xeon\nphysical id\t: {cpu // 4}\ncore id\t\t: {cpu % 2}\nflags\t\t: {flags}\n"
    for cpu, flags in enumerate(["fpu avx2 amx_int8"] * 7 + ["fpu avx2"])
)
ARM = "processor\t: 0\nFeatures\t: fp sve2\n\nprocessor\t: 1\nFeatures\t: fp sve2\n"


def test_cores_are_counted_by_socket_and_core_not_by_thread() -> None:
    blocks = parse_cpu_blocks(TWO_SOCKETS)
    assert len(blocks) == 8
    assert physical_cores(blocks, {}) == 4
    assert topology_files(blocks) == ()
    assert cpu_model(blocks) == "Xeon"


def test_features_are_those_that_every_cpu_has() -> None:
    assert cpu_features(parse_cpu_blocks(TWO_SOCKETS)) == ("avx2", "fpu")


def test_arm_tells_cores_by_topology_only() -> None:
    blocks = parse_cpu_blocks(ARM)
    files = topology_files(blocks)
    assert len(files) == 2
    assert physical_cores(blocks, dict.fromkeys(files, "0-1\n")) == 1
    assert physical_cores(blocks, dict.fromkeys(files)) is None
    assert cpu_model(blocks) is None
    assert cpu_features(blocks) == ("fp", "sve2")


@pytest.mark.parametrize("text", [None, "", "garbage", "flags: avx2", "processor"])
def test_an_unreadable_cpuinfo_makes_nothing_known(text: str | None) -> None:
    blocks = parse_cpu_blocks(text)
    assert (cpu_model(blocks), cpu_features(blocks), physical_cores(blocks, {})) == (None, (), None)


M5_MAX = """\
hw.nperflevels: 2
hw.perflevel0.name: Super
hw.perflevel0.physicalcpu: 6
hw.perflevel1.name: Performance
hw.perflevel1.physicalcpu: 12
"""


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        (M5_MAX, [("Super", 6), ("Performance", 12)]),
        (M5_MAX.replace("Super", "Performance").replace("1.name: Performance", "1.name: Efficiency"), None),
        (M5_MAX.replace("nperflevels: 2", "nperflevels: 3"), []),
        (M5_MAX.replace("nperflevels: 2", "nperflevels: 99999999999"), []),
        (M5_MAX.replace("physicalcpu: 12", "physicalcpu: viele"), []),
        (M5_MAX[: M5_MAX.index("hw.perflevel1.physical")], []),
        ("hw.nperflevels: 1\nhw.perflevel0.name: Standard\nhw.perflevel0.physicalcpu: 8\n", []),
        ("sysctl: unknown oid 'hw.nperflevels'\n", []),
        ("", []),
    ],
)
def test_core_kinds_are_told_whole_or_not_at_all(text: str, kinds: list[tuple[str, int]] | None) -> None:
    expected = [("Performance", 6), ("Efficiency", 12)] if kinds is None else kinds
    assert [(kind.name, kind.physical_cores) for kind in sysctl_core_kinds(parse_sysctl(text))] == expected


def test_sysctl() -> None:
    values = parse_sysctl("hw.memsize: 17179869184\nhw.optional.arm.FEAT_SME: 0\nhw.optional.neon: 1\nbroken\n")
    assert sysctl_number(values, "hw.memsize") == 17179869184
    assert sysctl_number(values, "hw.physicalcpu") is None
    assert sysctl_features(values) == ("neon",)


@pytest.mark.parametrize(
    ("text", "build"),
    [
        ("version: 7166 (eec1e33a9)\nbuilt with cc\n", "7166"),
        ("ggml_cuda_init: found 1 CUDA devices:\nversion: 0.6.0-dev (build 11434, commit abc)\n", "11434"),
        ("version: 0.6.0-dev (build 11434)\n", "11434"),
        ("version: 0.6.0-dev (build 0, commit unknown)\n", None),
        ("version: 0 (unknown)\n", None),
        ("error: unknown argument: --version", None),
        ("vers", None),
        ("", None),
    ],
)
def test_llama_server_versions(text: str, build: str | None) -> None:
    assert parse_llama_server_version(text) == build


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (
            (
                "ggml_cuda_init: found 2 CUDA devices:\n  Device 0: NVIDIA GeForce RTX 4090, compute capability 8.9\n"
                "Available devices:\n  CUDA0: NVIDIA GeForce RTX 4090 (24080 MiB, 23670 MiB free)\n"
                "  CUDA1: NVIDIA GeForce RTX 4090 (24080 MiB, 23670 MiB free)\n"
            ),
            ("CUDA0", "CUDA1"),
        ),
        ("Available devices:\n  Vulkan0: AMD Radeon (RADV GFX1151) (65536 MiB, 60000 MiB free)\n", ("Vulkan0",)),
        ("Available devices:\n", ()),
        ("Available devices:\n  (none)\n", ()),
        ("Available devices:\n  CUDA0: NVI", ("CUDA0",)),
        ("error: invalid argument: --list-devices", None),
        ("Périphériques disponibles :\n  CUDA0: x\n", None),
        ("", None),
        ("\x00\xff", None),
    ],
)
def test_devices_that_llama_server_lists(text: str, names: tuple[str, ...] | None) -> None:
    assert parse_list_devices(text) == names


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("ollama version is 0.33.0\n", "0.33.0"),
        ("Warning: could not connect to a running Ollama instance\nWarning: client version is 0.31.1\n", "0.31.1"),
        ("ollama version is 0.33.0\nWarning: client version is 0.32.0\n", "0.33.0"),
        ("ollama version is\n", None),
        ("", None),
    ],
)
def test_ollama_versions(text: str, version: str | None) -> None:
    assert parse_ollama_version(text) == version


@pytest.mark.parametrize(("version", "build"), [("2026.10.11549", "11549"), ("2026.10.0", None), ("1.0rc1", None)])
def test_the_build_inside_the_embedded_wheel(version: str, build: str | None) -> None:
    assert embedded_build(version) == build


def test_what_lies_beside_the_vllm_program_wins_over_what_lies_beside_us() -> None:
    capture = EngineCapture(
        paths={"vllm": "/opt/ascend/bin/vllm"},
        packages={"vllm": "0.1.0", "vllm-ascend": "0.1.0"},
        site_packages={
            "/opt/ascend/bin/vllm": {"/opt/ascend/lib": ("vllm-0.23.0.dist-info", "vllm_ascend-0.23.1.dist-info")}
        },
    )
    assert [(found.engine, found.version, found.path) for found in parse_engines(capture)] == [
        (EngineId.VLLM, "0.23.0", "/opt/ascend/bin/vllm"),
        (EngineId.MINDIE, "0.23.1", "/opt/ascend/bin/vllm"),
    ]


def test_a_program_that_does_not_tell_is_still_found() -> None:
    found = parse_engines(EngineCapture(paths={"vllm": "/usr/bin/vllm", "ollama": "/usr/bin/ollama"}))
    assert [(one.engine, one.version) for one in found] == [(EngineId.OLLAMA, None), (EngineId.VLLM, None)]
