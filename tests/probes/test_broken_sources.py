"""Every file, command and library that the survey reads, broken in every way: nothing crashes, nothing is made up."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from v4deploy.domain.finding import CheckGroup, group_of
from v4deploy.domain.hardware import Host
from v4deploy.probes.survey import survey, validate_host
from v4deploy.system.base import CommandRun, Failure, FileRead, LibraryAnswer
from v4deploy.system.recorded import RecordedSystem

RECORDINGS = Path(__file__).parents[1] / "recordings"
# Between them they read every kind of source of NVIDIA's probe and of the host's.
MACHINES = (
    "a100-mig-nvidia-smi-xml",
    "container-without-utility-libcuda-answers",
    "cdi-made-for-older-driver",
    "docker-cgroup-v1-limited",
    "engines-of-all-kinds",
    "four-a100-one-lost",
    "gb200-x4-bus-names-wrong-nodes",
    "hgx-h200-x8-nvswitch",
    "jetson-orin-nano-jetpack-6",
    "pod-limited-to-90gib-of-1007gib",
    "mac-m3-max-128gb-host",
    "rdma-server-with-eight-cards",
    "rootless-podman-with-cdi",
    "two-arc-pro-b70",
    "two-rtx-5090-without-peer-access",
    "vllm-beside-three-cuda-versions",
)
# Files from which devices themselves may come, where the driver is silent.
OF_DEVICES = ("/proc/driver/nvidia", "/sys/bus/pci", "/sys/devices/soc0", "/proc/device-tree")
LOCALISED = "Aucun fichier ou dossier de ce nom : 64 Gio, 12,5 %\n"
GARBAGE = '\x00\xff\x1b[31m{["=:,\n-1 -1\n\t99999999999999999999 kB\n' * 3
TEXTS: dict[str, Callable[[str], str | Failure]] = {
    "empty": lambda _: "",
    "cut": lambda text: text[: len(text) // 2],
    "localised": lambda _: LOCALISED,
    "garbage": lambda _: GARBAGE,
    "denied": lambda _: Failure.NO_PERMISSION,
    "timed-out": lambda _: Failure.TIMED_OUT,
}
ANSWERS: dict[str, Any] = {
    "empty": {},
    "cut": {"init": {"value": True}},
    "localised": {"init": {"error": LOCALISED, "code": None}},
    "garbage": {"init": 7, "device_count": {"value": "x"}, "devices": [None, [], {"index": "a", "name": {"value": 3}}]},
    "denied": {"init": {"error": "Insufficient Permissions", "code": 4}},
    "timed-out": None,
}


@cache
def recorded(name: str) -> RecordedSystem:
    return RecordedSystem(RECORDINGS / name)


@cache
def whole(name: str) -> Host:
    return surveyed(recorded(name))


class Broken(RecordedSystem):
    """A recorded machine one source of which answers otherwise; keeps in mind what was asked and did answer."""

    def __init__(self, name: str, *, source: str | None = None, way: str = "empty") -> None:  # reads no file anew
        vars(self).update(vars(recorded(name)))
        self.source, self.way = source, way
        self.answered: set[str] = set()

    def read_text(self, path: str) -> FileRead:
        read = super().read_text(path)
        if read.text is None:
            return read
        self.answered.add(path)
        if self.source not in {path, "all"}:
            return read
        text = TEXTS[self.way](read.text)
        return (
            FileRead(path=path, text=None, failure=text)
            if isinstance(text, Failure)
            else FileRead(path=path, text=text)
        )

    def run(self, argv: Sequence[str], *, timeout_seconds: float) -> CommandRun:
        run = super().run(argv, timeout_seconds=timeout_seconds)
        if run.failure is Failure.NOT_FOUND:
            return run
        name = " ".join(argv)
        self.answered.add(name)
        if self.source not in {name, "all"}:
            return run
        text = TEXTS[self.way](run.stdout)
        if isinstance(text, Failure):
            return CommandRun(argv=run.argv, exit_status=None, failure=text)
        return CommandRun(argv=run.argv, exit_status=run.exit_status, stdout=text)

    def library(self, library: str, *, timeout_seconds: float) -> LibraryAnswer:
        answer = super().library(library, timeout_seconds=timeout_seconds)
        if answer.data is None:
            return answer
        self.answered.add(library)
        if self.source not in {library, "all"}:
            return answer
        data = ANSWERS[self.way]
        return LibraryAnswer(library=library, data=data, error=None if data is not None else "gave no answer in 10 s")


def surveyed(system: RecordedSystem) -> Host:
    return survey(system, weights_dir="/home/user/weights", chips=())


@cache
def sources() -> tuple[tuple[str, str], ...]:
    """One machine for each kind of source: numbers in a path or an address make no other kind."""
    kinds: dict[str, tuple[str, str]] = {}
    for name in MACHINES:
        system = Broken(name)
        surveyed(system)
        for source in sorted(system.answered):
            kind = source if source in {"nvml", "cuda"} else re.sub(r"[0-9a-f]*\d[0-9a-f]*", "#", source)
            kinds.setdefault(f"{kind} {name}" if source in {"nvml", "cuda"} else kind, (name, source))
    return tuple(kinds.values())


def names(host: Host) -> list[tuple[str, str | None, bool]]:
    return [(device.name, device.pci_address, device.usable) for device in host.devices]


def check(host: Host, unbroken: Host) -> None:
    """Nothing crashed, nothing contradicts itself, and devices do not go without a word."""
    ids = {finding.id for finding in host.findings}
    assert not {id_ for id_ in ids if id_.endswith(("probe-failed", "contradiction"))}
    assert validate_host(host) == host
    for pool in host.pools:
        amounts = [pool.total.size_bytes, pool.ceiling.size_bytes, pool.free.size_bytes]
        assert all(amount is None or amount >= 0 for amount in amounts)
        assert pool.total.size_bytes != 0
        assert all(amount.source for amount in (pool.total, pool.ceiling, pool.free))
    told = any(group_of(id_) is CheckGroup.ACCELERATOR for id_ in ids)
    assert host.devices or told or not unbroken.devices


@pytest.mark.parametrize("way", TEXTS)
def test_a_source_that_is_broken_breaks_nothing_else(way: str) -> None:
    assert len(sources()) > 60
    for name, source in sources():
        host = surveyed(Broken(name, source=source, way=way))
        try:
            check(host, whole(name))
            if source.startswith("/") and not source.startswith(OF_DEVICES):
                assert names(host) == names(whole(name))
        except AssertionError as error:
            error.add_note(f"{name}: {source} {way}")
            raise


@pytest.mark.parametrize("way", TEXTS)
@pytest.mark.parametrize("name", MACHINES)
def test_a_machine_all_of_whose_sources_are_broken_is_still_a_machine(name: str, way: str) -> None:
    host = surveyed(Broken(name, source="all", way=way))
    check(host, whole(name))
