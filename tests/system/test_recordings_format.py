from __future__ import annotations

from pathlib import Path

import pytest

from v4deploy.domain.errors import ProfileError, UsageError
from v4deploy.system.base import Failure
from v4deploy.system.live import LiveSystem
from v4deploy.system.recorded import Origin, OriginKind, RecordedSystem
from v4deploy.system.recorder import RecordingSystem

ORIGIN = "kind: hand-made\nsource: a test\nas_of: 2026-11-22\nclaim: none\n"
FACTS = "machine: {system: Linux, machine: x86_64}\n"


def write(directory: Path, **files: str) -> Path:
    for name, text in {"origin.yaml": ORIGIN, "facts.yaml": FACTS, **files}.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


def test_the_least_recording_answers_not_found_to_everything(tmp_path: Path) -> None:
    system = RecordedSystem(write(tmp_path))
    assert not system.is_live
    assert system.read_text("/proc/meminfo").failure is Failure.NOT_FOUND
    assert system.run(("nvidia-smi",), timeout_seconds=1).failure is Failure.NOT_FOUND
    assert system.library("nvml", timeout_seconds=1).data is None
    assert system.list_dir("/sys") is None
    assert system.which("nvidia-smi") is None
    assert system.disk_usage("/").free_bytes is None
    assert system.package_version("vllm") is None
    assert not system.exists("/.dockerenv")
    assert dict(system.environ) == {}


def test_files_come_from_root_or_from_facts(tmp_path: Path) -> None:
    facts = FACTS + "files: {/sys/a/x: '1'}\nfile_failures: {/proc/1/environ: no-permission}\npresent: [/.dockerenv]\n"
    system = RecordedSystem(write(tmp_path, **{"facts.yaml": facts, "root/proc/meminfo": "MemTotal: 1 kB\n"}))
    assert system.read_text("/proc/meminfo").text == "MemTotal: 1 kB\n"
    assert system.read_text("/sys/a/x").text == "1"
    assert system.read_text("/proc/1/environ").failure is Failure.NO_PERMISSION
    assert system.list_dir("/sys") == ("a",)
    assert system.list_dir("/proc") == ("meminfo",)
    assert all(system.exists(path) for path in ("/.dockerenv", "/proc/meminfo", "/sys/a", "/proc"))


def test_a_path_cannot_lead_out_of_the_recording(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    system = RecordedSystem(write(tmp_path / "recording", **{"root/proc/a": ""}))
    assert system.read_text("/../../secret").failure is Failure.NOT_FOUND
    assert system.read_text("../../secret").failure is Failure.NOT_FOUND


def test_a_command_is_found_by_its_whole_command_line(tmp_path: Path) -> None:
    command = "argv: [nvidia-smi, -L]\nexit_status: 9\nstdout: |\n  NVIDIA-SMI has failed\n"
    system = RecordedSystem(write(tmp_path, **{"commands/smi.yaml": command}))
    ran = system.run(("nvidia-smi", "-L"), timeout_seconds=1)
    assert (ran.exit_status, ran.stdout) == (9, "NVIDIA-SMI has failed\n")
    assert system.run(("nvidia-smi",), timeout_seconds=1).failure is Failure.NOT_FOUND
    assert system.which("nvidia-smi") == "/usr/bin/nvidia-smi"


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("facts.yaml", "machine: {system: Linux, machine: x86_64}\nenvirons: {}\n", "environs"),
        ("facts.yaml", "machine: {system: Linux}\n", "machine.machine"),
        ("facts.yaml", "machine: {system: Linux, machine: x86_64, usable_cpus: two}\n", "machine.usable_cpus"),
        ("facts.yaml", "", ""),
        ("facts.yaml:2", FACTS * 2, "stands twice"),
        ("facts.yaml", "machine: {system: [\n", "this is not YAML"),
        ("origin.yaml", ORIGIN.replace("hand-made", "guessed"), "kind"),
        ("commands/smi.yaml", "exit_status: 0\n", "argv"),
        ("commands/smi.yaml", "argv: [a]\nfailure: broken\n", "failure"),
        ("libraries/nvml.yaml", "data: [1]\n", "data"),
    ],
)
def test_a_malformed_recording_names_the_file_and_the_key(tmp_path: Path, file: str, text: str, words: str) -> None:
    write(tmp_path, **{file.partition(":")[0]: text})
    with pytest.raises(ProfileError) as caught:
        RecordedSystem(tmp_path)
    assert file in caught.value.message
    assert words in caught.value.message


def test_a_directory_that_is_no_recording_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="is not a recording") as caught:
        RecordedSystem(tmp_path)
    assert "--record" in (caught.value.hint or "")


def test_a_missing_origin_is_named(tmp_path: Path) -> None:
    (write(tmp_path) / "origin.yaml").unlink()
    with pytest.raises(ProfileError, match=r"origin\.yaml"):
        RecordedSystem(tmp_path)


def test_what_was_asked_of_a_machine_is_answered_alike_by_its_recording(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "tool"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nprintf 'a: 1\\n  b\\n'; echo oops >&2; exit 3\n")
    program.chmod(0o755)
    data = tmp_path / "data"
    data.mkdir()
    (data / "x").write_text("trailing blank \n\n: no\n0731\n")
    live = LiveSystem({"PATH": str(program.parent), "CUDA_VISIBLE_DEVICES": "0731"})
    recording = RecordingSystem(live)
    for system in (recording, recording):
        system.run(("tool",), timeout_seconds=10)
        system.read_text(str(data / "x"))
        system.read_text(str(data / "absent"))
        system.list_dir(str(data))
        system.exists(str(data / "x"))
        system.which("tool")
        system.disk_usage(str(data))
        system.package_version("v4deploy")
        system.library("nvml", timeout_seconds=30)
    recording.write(tmp_path / "recording")

    replayed = RecordedSystem(tmp_path / "recording")
    asked = live.run(("tool",), timeout_seconds=10)
    answer = replayed.run(("tool",), timeout_seconds=10)
    assert (answer.exit_status, answer.stdout, answer.stderr) == (asked.exit_status, asked.stdout, asked.stderr)
    assert replayed.read_text(str(data / "x")) == live.read_text(str(data / "x"))
    assert replayed.read_text(str(data / "absent")) == live.read_text(str(data / "absent"))
    assert replayed.list_dir(str(data)) == live.list_dir(str(data))
    assert replayed.exists(str(data / "x"))
    assert replayed.which("tool") == str(program)
    assert replayed.disk_usage(str(data)).total_bytes == live.disk_usage(str(data)).total_bytes
    assert replayed.package_version("v4deploy") == live.package_version("v4deploy")
    assert replayed.library("nvml", timeout_seconds=1).data == live.library("nvml", timeout_seconds=30).data
    assert replayed.facts() == live.facts()
    assert dict(replayed.environ) == {"CUDA_VISIBLE_DEVICES": "0731", "PATH": str(program.parent)}
    assert replayed.origin.kind is OriginKind.CAPTURED


def test_a_recording_is_redacted(tmp_path: Path) -> None:
    home = tmp_path / "homes" / "alice"
    home.mkdir(parents=True)
    (home / "x").write_text(f"{home} GPU-7f57f032-34ab-a064-c37c-7a4f75601cc5")
    system = RecordingSystem(LiveSystem({"HOME": str(home), "HF_TOKEN": "hf_abcdefghijk"}))
    system.read_text(str(home / "x"))
    system.exists(str(home / "x"))
    system.write(tmp_path / "recording")
    written = [path for path in (tmp_path / "recording").rglob("*") if path.is_file()]
    everything = "\n".join(f"{path.relative_to(tmp_path)}\n{path.read_text()}" for path in written)
    for secret in ("alice", "7f57f032", "hf_abc"):
        assert secret not in everything
    replayed = RecordedSystem(tmp_path / "recording")
    assert (replayed.read_text("/home/user/x").text or "").startswith("/home/user GPU-0000")


def test_a_recording_never_mixes_with_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "facts.yaml").write_text(FACTS)
    with pytest.raises(UsageError, match="not empty"):
        RecordingSystem(LiveSystem({})).write(tmp_path)
    assert (tmp_path / "facts.yaml").read_text() == FACTS


def test_a_directory_that_cannot_be_made_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        RecordingSystem(LiveSystem({})).write(tmp_path / "file" / "recording")


def test_an_origin_of_ones_own_is_kept(tmp_path: Path) -> None:
    origin = Origin(kind=OriginKind.VENDOR_DOCUMENTATION, source="a manual", as_of="2026-11-22", claim="x")
    RecordingSystem(LiveSystem({})).write(tmp_path / "new", origin=origin)
    assert RecordedSystem(tmp_path / "new").origin == origin
