"""What stands between the devices of this machine and a container: each fault with the command that removes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.hardware import Device, Vendor
from v4deploy.domain.surroundings import CdiSpec, ContainerRuntime
from v4deploy.probes.cdi import effective_specs
from v4deploy.probes.containers import ContainerReport, RuntimeReading

_RUNTIME = "nvidia"
_KIND = "nvidia.com/gpu"
_REFRESHED = "/var/run/cdi/"
_INSTALL = "install the package nvidia-container-toolkit, then "
_GENERATE = "sudo nvidia-ctk cdi generate --output="


def container_findings(
    report: ContainerReport, devices: Sequence[Device], *, container: str | None
) -> tuple[Finding, ...]:
    """Run every check. `container`: the one that we are in ourselves, None outside of one."""
    found = [finding for reading in report.runtimes for finding in _unanswered(reading, container)]
    found += _unreadable(report)
    nvidia = [device for device in devices if device.vendor is Vendor.NVIDIA]
    if nvidia:
        found += [*_stale(report, nvidia), *_conflicting(report)]
        found += [finding for reading in report.runtimes for finding in _no_way_in(reading.runtime, report)]
    return tuple(found)


def _unanswered(reading: RuntimeReading, container: str | None) -> Iterator[Finding]:
    name, error = reading.runtime.name, reading.error
    if error is None:
        return
    fault, severity, what, fix = _silence(reading, error, container)
    yield Finding(
        id=f"container.{name}-{fault}",
        severity=severity,
        summary=f"{name} is installed, but {what}",
        evidence=(Evidence(source=f"{name} info", error=error),),
        why=f"launch files for {name} cannot be used until it answers",
        fix=fix,
    )


def _silence(reading: RuntimeReading, error: str, container: str | None) -> tuple[str, Severity, str, str | None]:
    """Why a runtime did not answer: the fault's name, how bad it is, in words, and what removes it."""
    is_docker = reading.runtime.name == "docker"
    if reading.hung:
        fix = "`sudo systemctl restart docker`" if is_docker else "run `podman info` to see where it stops"
        return "hangs", Severity.WARN, "hangs", fix
    if not is_docker:
        fix = "run `podman info`; without root it needs lines for this user in /etc/subuid and /etc/subgid"
        return "fails", Severity.WARN, "does not work for this user", fix
    if "permission denied" in error.lower():
        fix = '`sudo usermod -aG docker "$USER"`, then log in again; the group is as good as root'
        return "no-permission", Severity.WARN, "this user may not talk to its daemon", fix
    # A container has no service manager that could start it.
    fix_outside = "`sudo systemctl start docker`" if container is None else None
    return "not-running", Severity.INFO, "its daemon does not answer", fix_outside


def _unreadable(report: ContainerReport) -> Iterator[Finding]:
    for reading in report.cdi:
        if reading.error is not None:
            yield Finding(
                id="container.cdi-unreadable",
                severity=Severity.WARN,
                summary=f"{reading.spec.path} describes no devices",
                evidence=(Evidence(source=reading.spec.path, error=reading.error),),
                why="container runtimes leave such a file out, and its devices with it",
                fix=f"make it again or remove it; for NVIDIA: `{_GENERATE}{reading.spec.path}`",
            )


def _stale(report: ContainerReport, devices: Sequence[Device]) -> Iterator[Finding]:
    loaded = next((device.driver_version for device in devices if device.driver_version), None)
    for spec in _effective(report):
        if loaded is None or spec.driver_version in {None, loaded}:
            continue
        refresh = "sudo systemctl restart nvidia-cdi-refresh"
        yield Finding(
            id="container.cdi-stale",
            severity=Severity.WARN,
            summary=f"{spec.path} was made for driver {spec.driver_version}, but {loaded} is loaded",
            evidence=(Evidence(source=spec.path, value=f"libraries of driver {spec.driver_version}"),),
            why="containers are given library files that are gone or do not match, and see no GPU or do not start",
            fix=f"`{refresh if spec.path.startswith(_REFRESHED) else _GENERATE + spec.path}`",
        )


def _conflicting(report: ContainerReport) -> Iterator[Finding]:
    """Two files of one directory that describe one device: runtimes then take neither (cncf-tags' pkg/cdi)."""
    specs = _effective(report)
    names = [name for spec in specs for name in spec.devices]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        yield Finding(
            id="container.cdi-conflict",
            severity=Severity.WARN,
            summary=f"{len(twice)} devices are described by two files at once",
            evidence=tuple(Evidence(source=spec.path, value=" ".join(spec.devices)) for spec in specs),
            why=f"container runtimes then know no device `{_KIND}={twice[0]}`",
            fix=f"remove all but one of {' and '.join(spec.path for spec in specs)}",
        )


def _effective(report: ContainerReport) -> tuple[CdiSpec, ...]:
    directories = next((r.runtime.cdi_directories for r in report.runtimes if r.runtime.cdi_directories), None)
    return effective_specs(report.support.cdi_specs, _KIND, directories)


def _no_way_in(runtime: ContainerRuntime, report: ContainerReport) -> Iterator[Finding]:
    """The GPU works here, and a container would still see none."""
    if not runtime.answered or runtime.remote or _way_in(runtime, report):
        return
    found = [spec.path for spec in report.support.cdi_specs if spec.kind == _KIND]
    yield Finding(
        id=f"container.{runtime.name}-without-nvidia",
        severity=Severity.WARN,
        summary=f"this machine has an NVIDIA device, but {runtime.name} cannot give it to a container",
        evidence=(
            Evidence(source=f"{runtime.name} info", value=f"runtimes: {' '.join(runtime.oci_runtimes) or 'unknown'}"),
            Evidence(source=f"{runtime.name} info", value=f"CDI directories: {_directories(runtime)}"),
            Evidence(source="nvidia-ctk --version", value=report.toolkit_version or "not installed"),
            *(Evidence(source=path, value=_KIND) for path in found),
        ),
        why="launch files for containers end with an unknown device driver, or run on the CPU",
        fix=_opening(runtime, installed=report.toolkit_version is not None),
    )


def _way_in(runtime: ContainerRuntime, report: ContainerReport) -> bool:
    specs: tuple[CdiSpec, ...] = effective_specs(report.support.cdi_specs, _KIND, runtime.cdi_directories)
    return bool(specs) or _RUNTIME in runtime.oci_runtimes or (runtime.name == "docker" and report.has_hook)


def _directories(runtime: ContainerRuntime) -> str:
    if runtime.cdi_directories is None:
        return "not said"
    return " ".join(runtime.cdi_directories) or "none, CDI is off"


def _opening(runtime: ContainerRuntime, *, installed: bool) -> str:
    """The toolkit's own commands, which are the same from version 1.17 to 1.20."""
    if runtime.name == "podman":
        command = f"`{_GENERATE}/etc/cdi/nvidia.yaml`"
    elif runtime.rootless:
        command = (
            '`nvidia-ctk runtime configure --runtime=docker --config="$HOME/.config/docker/daemon.json"`, '
            "`systemctl --user restart docker`, and "
            "`sudo nvidia-ctk config --set nvidia-container-cli.no-cgroups --in-place`"
        )
    else:
        command = "`sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker`"
    return command if installed else _INSTALL + command
