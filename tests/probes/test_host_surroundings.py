"""NUMA nodes, file systems, copies of engines, and what recorded machines say about all that surrounds devices."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from v4deploy.documents import to_data
from v4deploy.domain.finding import Severity
from v4deploy.domain.surroundings import NumaNode
from v4deploy.probes.disks import disk_findings, parse_disks
from v4deploy.probes.engines import collect_engines, engine_findings, parse_engines
from v4deploy.probes.mounts import parse_mountinfo
from v4deploy.probes.numa import nodes_of_devices, numa_files, parse_list, parse_numa_nodes
from v4deploy.probes.survey import survey
from v4deploy.system.base import DiskUsage, Failure, FileRead
from v4deploy.system.live import LiveSystem
from v4deploy.system.recorded import RecordedSystem
from v4deploy.system.recorder import RecordingSystem
from v4deploy.system.redact import Redactor
from v4deploy.system.yaml_files import read_yaml_file

RECORDINGS = sorted(
    path.parent
    for path in (Path(__file__).parents[1] / "recordings").glob("*/expected.yaml")
    if "surroundings:" in path.read_text(encoding="utf-8")
)


def check_part(found: Any, expected: Any) -> None:
    """All that is expected is there; mappings may hold more than is expected of them, sequences may not."""
    if isinstance(expected, Mapping):
        for key, value in expected.items():
            check_part(found[key], value)
    elif isinstance(expected, Sequence) and not isinstance(expected, str):
        assert len(found) == len(expected)
        for one, wanted in zip(found, expected, strict=True):
            check_part(one, wanted)
    else:
        assert found == expected


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda path: path.name)
def test_what_surrounds_the_devices_of_a_recorded_machine(recording: Path) -> None:
    expected = read_yaml_file(recording / "expected.yaml")
    host = survey(RecordedSystem(recording), weights_dir=expected.get("weights_dir", "/weights"), chips=())
    check_part(to_data(host), expected["surroundings"])


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("0\n", (0,)),
        ("0-3,8\n", (0, 1, 2, 3, 8)),
        ("\n", ()),
        ("", ()),
        ("3-1\n", None),
        ("0-\n", None),
        ("0-99999999999\n", None),
        ("a", None),
        ("-1", None),
        (None, None),
    ],
)
def test_the_kernels_lists(text: str | None, numbers: tuple[int, ...] | None) -> None:
    assert parse_list(text) == numbers


@given(numbers=st.sets(st.integers(min_value=0, max_value=2000)))
def test_a_list_of_single_numbers_is_read_back(numbers: set[int]) -> None:
    assert parse_list(",".join(map(str, sorted(numbers))) + "\n") == tuple(sorted(numbers))


def node_files(texts: dict[str, str | None]) -> dict[str, FileRead]:
    base = "/sys/devices/system/node"
    return {
        f"{base}/{name}": FileRead(path=name, text=text, failure=None if text is not None else Failure.NO_PERMISSION)
        for name, text in texts.items()
    }


def test_a_node_that_tells_nothing_is_left_out_and_hides_no_other() -> None:
    files = node_files(
        {
            "online": "0-3\n",
            "node0/cpulist": "0-1\n",
            "node0/meminfo": "Node 0 MemTotal:       1024 kB\nNode 0 MemF",
            "node1/cpulist": None,
            "node1/meminfo": "Node 1 MemTotal:       1024 kB\n",
            "node2/cpulist": "2\n",
            "node2/meminfo": None,
            "node3/cpulist": "\n",
            "node3/meminfo": "Node 3 MemTotal:       0 kB\n",
        }
    )
    assert parse_numa_nodes(files) == (
        NumaNode(number=0, cpus=2, memory_bytes=1024 * 1024, free_bytes=None),
        NumaNode(number=2, cpus=1, memory_bytes=None),
    )


@pytest.mark.parametrize("online", [None, "", "garbage", "9-1"])
def test_a_machine_without_readable_nodes_has_none(online: str | None) -> None:
    assert numa_files(online) == ()
    assert parse_numa_nodes(node_files({"online": online})) == ()


def test_memory_of_cxl_is_not_taken_for_a_devices() -> None:
    cpu = NumaNode(number=0, cpus=8, memory_bytes=100)
    bare = NumaNode(number=1, cpus=0, memory_bytes=50)
    assert nodes_of_devices((cpu, bare), 51) == (bare,)
    assert nodes_of_devices((cpu, bare), 49) == ()
    assert nodes_of_devices((cpu, bare), 0) == ()


def mounted(filesystem: str, options: str = "rw", free_files: int | None = None) -> list[tuple[Severity, str]]:
    mounts = parse_mountinfo(f"1 0 8:1 / /w {options},relatime - {filesystem} /dev/x rw\n")
    usage = DiskUsage(path="/w", total_bytes=10**12, free_bytes=10**12, free_files=free_files)
    disks = parse_disks(("/w",), {"/w": usage}, mounts)
    return [(finding.severity, finding.id) for finding in disk_findings(disks, "/w")]


@pytest.mark.parametrize(
    ("filesystem", "expected"),
    [
        ("ext4", []),
        ("exfat", []),
        ("vfat", [(Severity.WARN, "storage.weights-on-fat")]),
        ("nfs4", [(Severity.WARN, "storage.weights-on-network")]),
        ("tmpfs", [(Severity.WARN, "storage.weights-on-tmpfs")]),
    ],
)
def test_file_systems_for_weights(filesystem: str, expected: list[tuple[Severity, str]]) -> None:
    assert mounted(filesystem) == expected


@pytest.mark.parametrize(("free_files", "told"), [(None, False), (0, True), (999, True), (1000, False)])
def test_few_inodes(free_files: int | None, told: bool) -> None:  # noqa: FBT001
    assert mounted("ext4", free_files=free_files) == ([(Severity.WARN, "storage.few-inodes")] if told else [])


def test_a_read_only_mount_is_told_once_although_it_also_has_no_inodes() -> None:
    assert mounted("squashfs", "ro", 0) == [(Severity.WARN, "storage.weights-read-only")]


def test_a_live_disk_tells_how_many_files_it_can_hold(tmp_path: Path) -> None:
    usage = LiveSystem().disk_usage(str(tmp_path))
    assert usage.free_files is None or usage.free_files > 0


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def llama_server(folder: Path, build: int) -> Path:
    return program(folder / "llama-server", f"#!/bin/sh\necho 'version: {build} (4341dc8bc)' >&2\n")


def test_copies_of_a_program_in_different_versions(tmp_path: Path) -> None:
    first, second = llama_server(tmp_path / "a", 7166), llama_server(tmp_path / "b", 11434)
    system = LiveSystem({"PATH": f"{first.parent}:{second.parent}:/usr/bin:/bin"})
    capture = collect_engines(system)
    assert [(one.path, one.version) for one in parse_engines(capture) if one.path != "embedded"] == [
        (str(first), "7166")
    ]
    (finding,) = engine_findings(capture)
    assert (finding.id, finding.severity) == ("engine.several-copies", Severity.WARN)
    assert [(one.source, one.value) for one in finding.evidence] == [(str(first), "7166"), (str(second), "11434")]


def test_copies_of_one_version_are_a_note_and_links_to_one_file_are_no_copies(tmp_path: Path) -> None:
    first, second = llama_server(tmp_path / "a", 7166), llama_server(tmp_path / "b", 7166)
    (tmp_path / "linked").symlink_to(first.parent)
    (finding,) = engine_findings(
        collect_engines(LiveSystem({"PATH": f"{first.parent}:{tmp_path / 'linked'}:{second.parent}:/usr/bin:/bin"}))
    )
    assert finding.severity is Severity.INFO
    assert len(finding.evidence) == 2
    assert engine_findings(collect_engines(LiveSystem({"PATH": f"{first.parent}:{tmp_path / 'linked'}:/bin"}))) == ()


def test_copies_are_still_found_in_a_recording(tmp_path: Path) -> None:
    first, second = llama_server(tmp_path / "a", 7166), llama_server(tmp_path / "b", 11434)
    system = RecordingSystem(LiveSystem({"PATH": f"{first.parent}:{second.parent}:/usr/bin:/bin"}))
    live = engine_findings(collect_engines(system))
    system.write(tmp_path / "recording")
    assert engine_findings(collect_engines(RecordedSystem(tmp_path / "recording"))) == live


@pytest.mark.parametrize("packages", ["site-packages", "dist-packages"])
def test_vllm_behind_a_link_is_found_by_its_interpreter(tmp_path: Path, packages: str) -> None:
    environment = tmp_path / "tools" / "vllm"
    (environment / "lib" / "python3.12" / packages / "vllm-0.33.0.dist-info").mkdir(parents=True)
    real = program(environment / "bin" / "vllm", f"#!{environment}/bin/python\nimport vllm\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "vllm").symlink_to(real)
    engines = parse_engines(collect_engines(LiveSystem({"PATH": str(tmp_path / "bin")})))
    assert [one.version for one in engines if one.path.startswith(str(tmp_path))] == ["0.33.0"]


@pytest.mark.parametrize("text", ["", "\x7fELF\x00", "#!", "#!/usr/bin/env python3\n", "#!relative/python\n"])
def test_vllm_that_names_no_interpreter_is_found_without_a_version(tmp_path: Path, text: str) -> None:
    program(tmp_path / "bin" / "vllm", text)
    engines = parse_engines(collect_engines(LiveSystem({"PATH": str(tmp_path / "bin")})))
    assert [one.path for one in engines if one.path.startswith(str(tmp_path))] == [str(tmp_path / "bin" / "vllm")]


def test_recordings_keep_of_container_tools_only_what_is_read() -> None:
    docker = {
        "ServerVersion": "28.3.2",
        "Runtimes": {"runc": {}},
        "Name": "vault",
        "HttpProxy": "http://proxy.internal:3128",
        "RegistryConfig": {"Mirrors": ["https://mirror.internal"]},
        "ClientInfo": {"Version": "28.3.2", "Context": "internal"},
    }
    kept = Redactor().output(("docker", "info", "--format", "{{json .}}"), json.dumps(docker))
    assert json.loads(kept) == {
        "ServerVersion": "28.3.2",
        "Runtimes": {"runc": {}},
        "ClientInfo": {"Version": "28.3.2"},
    }
    podman = {"host": {"hostname": "vault", "security": {"rootless": True}, "serviceIsRemote": False}, "registries": 1}
    kept = Redactor().output(("podman", "info", "--format", "json"), json.dumps(podman))
    assert json.loads(kept) == {"host": {"security": {"rootless": True}, "serviceIsRemote": False}}
    assert Redactor().output(("docker", "info"), "no JSON") == "no JSON"
    assert Redactor().output(("other",), '{"Name": "x"}') == '{"Name": "x"}'


def test_recordings_keep_that_a_proxy_is_set_but_not_which() -> None:
    environ = {
        "HTTPS_PROXY": "http://u:p@proxy.internal:3128",
        "no_proxy": "internal",
        "HF_ENDPOINT": "https://mirror.internal",
        "HF_HUB_OFFLINE": "1",
        "HF_TOKEN": "hf_abcdefghijk",
        "HF_HUB_TOKEN": "x",
    }
    assert Redactor().environment(environ) == {
        "HF_ENDPOINT": "https://[redacted]",
        "HF_HUB_OFFLINE": "1",
        "HTTPS_PROXY": "http://[redacted]",
        "no_proxy": "[redacted]",
    }
