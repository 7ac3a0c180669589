"""What docker, podman and device descriptions say, in every form in which they can fail to say it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from v4deploy.domain.finding import Severity
from v4deploy.domain.hardware import ComputeApi, Device, Vendor
from v4deploy.domain.surroundings import CdiSpec, ContainerRuntime
from v4deploy.probes.cdi import CdiReading, effective_specs, parse_cdi
from v4deploy.probes.container_findings import container_findings
from v4deploy.probes.containers import (
    DOCKER,
    PODMAN,
    TOOLKIT,
    ContainerCapture,
    ContainerReport,
    RuntimeReading,
    parse_containers,
    parse_docker,
    parse_podman,
)
from v4deploy.system.base import CommandRun, Failure, FileRead

DOCKER_ANSWER: dict[str, Any] = {
    "ServerVersion": "28.3.2",
    "OperatingSystem": "Ubuntu 24.04.3 LTS",
    "Runtimes": {"runc": {"path": "runc"}},
    "DefaultRuntime": "runc",
    "SecurityOptions": ["name=seccomp,profile=builtin"],
    "CDISpecDirs": ["/etc/cdi", "/var/run/cdi"],
}
PODMAN_ANSWER: dict[str, Any] = {
    "host": {"ociRuntime": {"name": "crun"}, "security": {"rootless": True}},
    "version": {"Version": "5.4.0"},
}
GPU = Device(
    index=0,
    vendor=Vendor.NVIDIA,
    compute_api=ComputeApi.CUDA,
    name="GPU",
    arch="sm_90",
    pool_id="nvidia-0",
    driver_version="580.126.09",
)


def ran(argv: tuple[str, ...], stdout: object = "", **more: Any) -> CommandRun:
    text = stdout if isinstance(stdout, str) else json.dumps(stdout)
    return CommandRun(argv=argv, **{"exit_status": 0, "stdout": text, **more})


def docker(**changes: Any) -> ContainerRuntime:
    reading = parse_docker(ran(DOCKER, {**DOCKER_ANSWER, **changes}))
    assert reading is not None
    assert reading.error is None
    return reading.runtime


def spec(path: str = "/etc/cdi/nvidia.yaml", driver: str | None = "580.126.09", *names: str) -> CdiSpec:
    return CdiSpec(path=path, kind="nvidia.com/gpu", devices=names or ("0", "all"), driver_version=driver)


def report(
    *runtimes: ContainerRuntime, specs: tuple[CdiSpec, ...] = (), toolkit: str | None = None, hook: bool = False
) -> ContainerReport:
    return ContainerReport(
        runtimes=tuple(RuntimeReading(runtime=runtime) for runtime in runtimes),
        cdi=tuple(CdiReading(spec=one) for one in specs),
        toolkit_version=toolkit,
        has_hook=hook,
    )


def ids(found: ContainerReport, *devices: Device) -> list[str]:
    return [finding.id for finding in container_findings(found, devices, container=None)]


def test_docker_that_answers() -> None:
    runtime = docker(Runtimes={"runc": {}, "nvidia": {}, "ascend": {}}, SecurityOptions=["name=rootless"])
    assert (runtime.answered, runtime.version, runtime.rootless) == (True, "28.3.2", True)
    assert runtime.oci_runtimes == ("ascend", "nvidia", "runc")
    assert runtime.default_runtime == "runc"


@pytest.mark.parametrize("value", [None, []])
def test_docker_with_cdi_switched_off_looks_nowhere(value: object) -> None:
    assert docker(CDISpecDirs=value).cdi_directories == ()


def test_docker_before_version_25_knows_no_cdi() -> None:
    old = {key: value for key, value in DOCKER_ANSWER.items() if key != "CDISpecDirs"}
    reading = parse_docker(ran(DOCKER, old))
    assert reading is not None
    assert reading.runtime.cdi_directories == ()


@pytest.mark.parametrize(
    ("run", "error", "hung"),
    [
        (ran(DOCKER), "exit status 0, and not the output that it should print", False),
        (ran(DOCKER, '{"ServerVersion":"28.3.2","Runt'), "exit status 0, and not", False),
        (ran(DOCKER, "[" * 100_000), "exit status 0, and not", False),
        (ran(DOCKER, "[1]"), "exit status 0, and not", False),
        (ran(DOCKER, {"ServerVersion": 28}), "exit status 0, and not", False),
        (ran(DOCKER, "\udcff\x00"), "exit status 0, and not", False),
        (ran(DOCKER, {"ServerErrors": ["Cannot connect to the Docker daemon"]}), "Cannot connect", False),
        (ran(DOCKER, exit_status=1, stderr="Client:\nerror: permission denied\n"), "error: permission denied", False),
        (ran(DOCKER, exit_status=None, failure=Failure.TIMED_OUT), "no answer in 3 s", True),
        (ran(DOCKER, exit_status=None, failure=Failure.NO_PERMISSION), "no-permission", False),
    ],
)
def test_docker_that_does_not_answer(run: CommandRun, error: str, hung: bool) -> None:  # noqa: FBT001
    reading = parse_docker(run)
    assert reading is not None
    assert not reading.runtime.answered
    assert reading.runtime.rootless is None
    assert (reading.error or "").startswith(error)
    assert reading.hung is hung


def test_docker_without_its_daemon_still_tells_its_own_version() -> None:
    reading = parse_docker(ran(DOCKER, {"ServerVersion": "", "ClientInfo": {"Version": "28.2.2"}}, exit_status=1))
    assert reading is not None
    assert reading.runtime.version == "28.2.2"


def test_fields_of_other_types_are_unknown_and_not_an_error() -> None:
    runtime = docker(Runtimes=["runc"], SecurityOptions=None, DefaultRuntime=7, CDISpecDirs="/etc/cdi")
    assert (runtime.oci_runtimes, runtime.rootless, runtime.default_runtime) == ((), False, None)
    reading = parse_podman(ran(PODMAN, {"host": {"security": [], "ociRuntime": "crun"}, "version": {"Version": None}}))
    assert reading is not None
    assert reading.runtime == ContainerRuntime(name="podman", version=None, answered=True)


def test_podman_under_the_name_of_docker_is_counted_once() -> None:
    runs = {DOCKER: ran(DOCKER, PODMAN_ANSWER), PODMAN: ran(PODMAN, PODMAN_ANSWER)}
    found = parse_containers(ContainerCapture(runs=runs))
    assert [(one.name, one.rootless, one.oci_runtimes) for one in found.support.runtimes] == [
        ("podman", True, ("crun",))
    ]


@pytest.mark.parametrize("stdout", ["", "{", "null", '{"host": {}}', '{"host": [], "version": {}}'])
def test_podman_that_does_not_answer(stdout: str) -> None:
    reading = parse_podman(ran(PODMAN, stdout, exit_status=125, stderr="Error: cannot set up namespace\n"))
    assert reading is not None
    assert (reading.runtime.answered, reading.error) == (False, "Error: cannot set up namespace")
    found = container_findings(ContainerReport(runtimes=(reading,)), (), container=None)
    assert [finding.id for finding in found] == ["container.podman-fails"]


def test_programs_that_vanish_between_two_looks_are_not_there() -> None:
    gone = {argv: ran(argv, exit_status=None, failure=Failure.NOT_FOUND) for argv in (DOCKER, PODMAN, TOOLKIT)}
    assert parse_containers(ContainerCapture(runs=gone)) == ContainerReport()


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("NVIDIA Container Toolkit CLI version 1.17.8\ncommit: f8daa5e\n", "1.17.8"),
        ("NVIDIA Container Toolkit CLI version 1.18.0-rc.1\n", "1.18.0-rc.1"),
        ("version unknown", None),
        ("", None),
    ],
)
def test_toolkit_versions(text: str, version: str | None) -> None:
    assert parse_containers(ContainerCapture(runs={TOOLKIT: ran(TOOLKIT, text)})).toolkit_version == version


@pytest.mark.parametrize(
    "text",
    [
        '{"kind": "nvidia.com/gpu", "devices": [{"name": "0"}, {"name": "all"}], "m": "/lib/libcuda.so.570.133.20"}',
        "kind: nvidia.com/gpu\ndevices:\n- name: 0\n- name: all\nm:\n- hostPath: /lib/libnvidia-ml.so.570.133.20\n",
    ],
)
def test_descriptions_of_both_forms(text: str) -> None:
    reading = parse_cdi(FileRead(path="/etc/cdi/nvidia.yaml", text=text))
    assert reading.spec == spec("/etc/cdi/nvidia.yaml", "570.133.20")
    assert reading.error is None


def test_libraries_that_wsl_and_jetson_mount_tell_no_driver_version() -> None:
    text = "kind: nvidia.com/gpu\ndevices:\n- name: all\nm: [/usr/lib/wsl/drivers/nv/libcuda.so.1.1]\n"
    assert parse_cdi(FileRead(path="/etc/cdi/nvidia.yaml", text=text)).spec.driver_version is None


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (None, "cannot be read: no-permission"),
        ("", "has no `kind` with `devices`"),
        ("kind: nvidia.com/gpu\ndev", "is not YAML"),
        ("kind: nvidia.com/gpu\ndevices: {}\n", "has no `kind` with `devices`"),
        ("kind: gpu\ndevices: []\n", "has no `kind` with `devices`"),
        ("just text", "has no `kind` with `devices`"),
        ("a: [1\n", "is not YAML"),
        ("!!python/object/apply:os.system [id]", "is not YAML"),
        ("\x00\x01", "is not YAML"),
    ],
)
def test_a_description_that_describes_nothing_is_told(text: str | None, error: str) -> None:
    read = FileRead(path="/etc/cdi/x.yaml", text=text, failure=None if text is not None else Failure.NO_PERMISSION)
    reading = parse_cdi(read)
    assert (reading.error or "").startswith(error)
    assert reading.spec == CdiSpec(path="/etc/cdi/x.yaml", kind=None)
    found = container_findings(ContainerReport(cdi=(reading,)), (), container=None)
    assert [finding.id for finding in found] == ["container.cdi-unreadable"]


def test_later_directories_hide_earlier_ones() -> None:
    old, new = spec("/etc/cdi/nvidia.yaml", "570.1"), spec("/var/run/cdi/nvidia.yaml")
    assert effective_specs((old, new), "nvidia.com/gpu", None) == (new,)
    assert effective_specs((old, new), "nvidia.com/gpu", ("/var/run/cdi", "/etc/cdi")) == (old,)
    assert effective_specs((old, new), "nvidia.com/gpu", ()) == ()
    assert effective_specs((old, new), "amd.com/gpu", None) == ()
    assert ids(report(specs=(old, new)), GPU) == []


@pytest.mark.parametrize(
    ("path", "fix"),
    [
        ("/etc/cdi/nvidia.yaml", "`sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`"),
        ("/var/run/cdi/nvidia.yaml", "`sudo systemctl restart nvidia-cdi-refresh`"),
    ],
)
def test_a_stale_description_is_made_again_where_it_lies(path: str, fix: str) -> None:
    (finding,) = container_findings(report(specs=(spec(path, "570.133.20"),)), (GPU,), container=None)
    assert (finding.id, finding.fix) == ("container.cdi-stale", fix)


def test_two_descriptions_of_one_device_in_one_directory() -> None:
    twins = (spec("/etc/cdi/a.yaml"), spec("/etc/cdi/b.yaml", "580.126.09", "all"))
    (finding,) = container_findings(report(specs=twins), (GPU,), container=None)
    assert finding.id == "container.cdi-conflict"
    assert "nvidia.com/gpu=all" in (finding.why or "")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (report(docker()), ["container.docker-without-nvidia"]),
        (report(docker(Runtimes={"nvidia": {}})), []),
        (report(docker(), specs=(spec(),)), []),
        (report(docker(CDISpecDirs=[]), specs=(spec(),)), ["container.docker-without-nvidia"]),
        (report(docker(), hook=True), []),
        (report(docker(OperatingSystem="Docker Desktop")), []),
        (
            report(ContainerRuntime(name="podman", version="5", answered=True), hook=True),
            ["container.podman-without-nvidia"],
        ),
        (report(ContainerRuntime(name="podman", version="5", answered=True), specs=(spec(),)), []),
        (report(ContainerRuntime(name="podman", version="5", answered=False)), []),
    ],
)
def test_ways_into_a_container(found: ContainerReport, expected: list[str]) -> None:
    assert ids(found, GPU) == expected
    assert ids(found) == []


@pytest.mark.parametrize(
    ("runtime", "toolkit", "part"),
    [
        (docker(), "1.17.8", "`sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker`"),
        (docker(), None, "install the package nvidia-container-toolkit, then `sudo nvidia-ctk"),
        (docker(SecurityOptions=["name=rootless"]), "1.17.8", "nvidia-container-cli.no-cgroups"),
        (ContainerRuntime(name="podman", version="5", answered=True), "1.17.8", "nvidia-ctk cdi generate"),
    ],
)
def test_the_fix_fits_the_runtime(runtime: ContainerRuntime, toolkit: str | None, part: str) -> None:
    (finding,) = container_findings(report(runtime, toolkit=toolkit), (GPU,), container=None)
    assert finding.severity is Severity.WARN
    assert (finding.fix or "").startswith(part) or part in (finding.fix or "")


def test_a_daemon_on_another_machine_says_nothing_about_this_one() -> None:
    reading = parse_docker(ran(DOCKER, DOCKER_ANSWER), docker_host="ssh://gpu-server")
    assert reading is not None
    assert ids(ContainerReport(runtimes=(reading,)), GPU) == []


@pytest.mark.parametrize(
    ("run", "container", "expected"),
    [
        (ran(DOCKER, exit_status=1, stderr="Cannot connect"), None, ("container.docker-not-running", True)),
        (ran(DOCKER, exit_status=1, stderr="Cannot connect"), "docker", ("container.docker-not-running", False)),
        (ran(DOCKER, exit_status=1, stderr="x: Permission denied"), None, ("container.docker-no-permission", True)),
        (ran(DOCKER, exit_status=None, failure=Failure.TIMED_OUT), None, ("container.docker-hangs", True)),
    ],
)
def test_why_docker_is_silent(run: CommandRun, container: str | None, expected: tuple[str, bool]) -> None:
    reading = parse_docker(run)
    assert reading is not None
    (finding,) = container_findings(ContainerReport(runtimes=(reading,)), (), container=container)
    assert (finding.id, finding.fix is not None) == expected
