"""Installed engines: old enough to fail, of a version that is known to fail, or without any use for these devices."""

from __future__ import annotations

from collections.abc import Iterator

from v4deploy.checks.accelerators import newest, support_row
from v4deploy.checks.subject import Subject
from v4deploy.domain.engine import EngineId, EngineProfile, SupportLevel
from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.hardware import ComputeApi, InstalledEngine
from v4deploy.domain.versions import is_older, version_numbers

# vLLM-Ascend is a plugin of vLLM: the two fit only as a set, with the same major and minor number
# (vllm-ascend's version matrix, read 2026-11-22).
_PLACES_OF_A_SET = 2
# How llama.cpp calls devices of a compute API.
_LISTED_AS = {ComputeApi.CUDA: ("CUDA",), ComputeApi.ROCM: ("ROCm", "HIP")}
_SOURCE_BUILD = "0.1.dev"
"""What setuptools-scm writes for vLLM built from a clone without tags; it says nothing about the sources."""


def word(engine: EngineId) -> str:
    """The engine in a finding's id, whose words have no dots of their own."""
    return engine.value.replace(".", "-")


def ids(fault: str) -> tuple[str, ...]:
    """The ids of one fault over all engines."""
    return tuple(f"engine.{word(engine)}.{fault}" for engine in EngineId)


def presence(subject: Subject) -> Iterator[Finding]:
    """Whether any engine is here at all."""
    if not subject.host.engines:
        yield Finding(
            id="engine.none",
            severity=Severity.INFO,
            summary="no engine is installed that v4deploy drives",
            why="`render` still writes launch files for containers; `serve` needs an engine on this machine",
            fix="pip install 'v4deploy[embedded]', or install llama.cpp, vLLM or Ollama",
        )


def versions(subject: Subject) -> Iterator[Finding]:
    """Each installed engine against the oldest version that runs the release on these devices."""
    plugins = {engine.path for engine in subject.host.engines if engine.engine is EngineId.MINDIE}
    for installed in subject.host.engines:
        # The vLLM that vLLM-Ascend is plugged into goes by the plugin: upgraded alone it fits no more.
        if installed.engine is not EngineId.VLLM or installed.path not in plugins:
            yield _judge(subject, installed, subject.catalogue.engine(installed.engine))


def _judge(subject: Subject, installed: InstalledEngine, profile: EngineProfile) -> Finding:
    evidence = (Evidence(source=installed.path, value=installed.version),)
    version = installed.version
    needed = needed_version(subject, profile)
    if version is None or not is_comparable(version):
        told = "does not tell its version" if version is None else f"calls itself {version}, which tells no release"
        return Finding(
            id=f"engine.{word(profile.id)}.version-unknown",
            severity=Severity.WARN,
            summary=f"{profile.name} is installed, but {told}",
            evidence=evidence,
            why=f"{subject.release.name} needs {needed} or newer here",
            fix=f"run `{installed.path} --version` and compare",
        )
    if not is_older(version, needed):
        return Finding(
            id=f"engine.{word(profile.id)}.installed",
            severity=Severity.OK,
            summary=f"{profile.name} {version} is installed",
            evidence=evidence,
        )
    why = "it does not know the architecture and will refuse to load the weights"
    if not is_older(version, profile.minimum_version):
        why = f"{profile.minimum_version} and newer run a V4, but not this release on these devices without fault"
    return Finding(
        id=f"engine.{word(profile.id)}.too-old",
        severity=Severity.WARN,
        summary=f"{profile.name} {version} is too old for {subject.release.name}, which needs {needed} here",
        evidence=evidence,
        why=why,
        fix=f"upgrade {profile.name} to {profile.version if not is_older(profile.version, needed) else needed}",
    )


def is_comparable(version: str) -> bool:
    """Whether a version text can be compared with others; a branch name or a build from a shallow clone cannot."""
    try:
        version_numbers(version)
    except ValueError:
        return False
    return not version.startswith(_SOURCE_BUILD)


def needed_version(subject: Subject, profile: EngineProfile) -> str:
    """The strictest minimum: the engine's for V4, the release's, and that of the rows for the devices here."""
    of_release = dict(subject.release.minimum_engine_versions).get(profile.id)
    of_devices = [
        min(minima, key=version_numbers)
        for device in subject.host.devices
        if (minima := _row_minima(subject, profile, device.compute_api, device.arch))
    ]
    return newest((profile.minimum_version, of_release, *of_devices))


def _row_minima(subject: Subject, profile: EngineProfile, api: ComputeApi, arch: str | None) -> list[str]:
    rows = (
        support_row(profile, checkpoint, api, arch or "unknown")
        for checkpoint in subject.checkpoints
        if profile.id in checkpoint.engines
    )
    return [
        row.minimum_version for row in rows if row and row.minimum_version and row.level is not SupportLevel.UNSUPPORTED
    ]


def none_for_devices(subject: Subject) -> Iterator[Finding]:
    """Engines are here, devices are here, and no pair of them runs the release."""
    devices = [device for device in subject.host.devices if device.arch is not None]
    installed = {engine.engine: subject.catalogue.engine(engine.engine) for engine in subject.host.engines}
    if not devices or not installed:
        return
    kinds = {(device.compute_api, device.arch or "unknown"): device.name for device in devices}
    rows = [
        support_row(profile, checkpoint, api, arch)
        for profile in installed.values()
        for api, arch in kinds
        for checkpoint in subject.checkpoints
        if profile.id in checkpoint.engines and (not checkpoint.compute_apis or api in checkpoint.compute_apis)
    ]
    if not any(row and row.level is not SupportLevel.UNSUPPORTED for row in rows):
        names = " and ".join(profile.name for profile in installed.values())
        reasons = dict.fromkeys(row.reason for row in rows if row and row.reason)
        yield Finding(
            id="engine.none-for-devices",
            severity=Severity.WARN,
            summary=f"{names} does not run {subject.release.name} on {' and '.join(dict.fromkeys(kinds.values()))}",
            why="; ".join(reason for reason in reasons if reason) or None,
            fix=f"`v4deploy plan {subject.model.id}` names an engine that does",
        )


def blind_build(subject: Subject) -> Iterator[Finding]:
    """A llama.cpp that lists none of the GPUs here: built for the CPU, or for another way to them."""
    apis = {device.compute_api for device in subject.host.devices if device.usable} & _LISTED_AS.keys()
    for installed in subject.host.engines:
        if installed.sees is None:
            continue
        for api in sorted(apis):
            if not any(name.startswith(_LISTED_AS[api]) for name in installed.sees):
                seen = ", ".join(installed.sees) or "no device"
                yield Finding(
                    id="engine.llama-cpp.blind-build",
                    severity=Severity.WARN,
                    summary=f"this llama.cpp lists {seen}, and none of the {api.value.upper()} devices here",
                    evidence=(Evidence(source=f"{installed.path} --list-devices", value=seen),),
                    why="it was built without them, and would serve from the processor or in a way that no plan counts",
                    fix=f"install a build of llama.cpp for {api.value.upper()}, or use its image",
                )


def known_bad(subject: Subject) -> Iterator[Finding]:
    """Installed versions that were reported as broken on the devices here; what holds for every version is a note."""
    architectures = {device.arch for device in subject.host.devices}
    for installed in subject.host.engines:
        launch = subject.launch.get(installed.engine)
        for defect in launch.known_defects if launch else ():
            if defect.version in {installed.version, None} and architectures & defect.archs:
                yield Finding(
                    id=f"engine.{word(installed.engine)}.known-bad",
                    severity=Severity.WARN if defect.version else Severity.INFO,
                    summary=defect.what,
                    evidence=(
                        Evidence(source=installed.path, value=installed.version),
                        Evidence(source=defect.source.source),
                    ),
                    fix=defect.fix,
                )


def ascend_set(subject: Subject) -> Iterator[Finding]:
    """vLLM-Ascend beside a vLLM of another release."""
    found = {engine.engine: engine for engine in subject.host.engines if engine.version}
    plugin, engine = found.get(EngineId.MINDIE), found.get(EngineId.VLLM)
    if (
        plugin is None
        or engine is None
        or not (is_comparable(plugin.version or "") and is_comparable(engine.version or ""))
    ):
        return
    pair = [version_numbers(one.version or "")[:_PLACES_OF_A_SET] for one in (plugin, engine)]
    if pair[0] != pair[1]:
        yield Finding(
            id="engine.mindie.version-set",
            severity=Severity.WARN,
            summary=f"vLLM-Ascend {plugin.version} does not go with vLLM {engine.version}",
            evidence=(
                Evidence(source=plugin.path, value=plugin.version),
                Evidence(source=engine.path, value=engine.version),
            ),
            why="vLLM-Ascend, vLLM, CANN and torch_npu fit only as a set",
            fix="use an image of vllm-ascend, or install the vLLM release of the same number",
        )


def ascend_image_and_weights(subject: Subject) -> Iterator[Finding]:
    """Which image and which weights the family of the NPUs takes: with others the engine does not start."""
    profile = subject.catalogue.engine(EngineId.MINDIE)
    devices = [device for device in subject.host.devices if device.compute_api is ComputeApi.CANN and device.arch]
    for arch in dict.fromkeys(device.arch for device in devices if device.arch):
        image = next((entry for entry in profile.images if entry.arch == arch), None)
        quants = dict.fromkeys(
            checkpoint.quant
            for checkpoint in subject.checkpoints
            if profile.id in checkpoint.engines
            and (row := support_row(profile, checkpoint, ComputeApi.CANN, arch)) is not None
            and row.level is not SupportLevel.UNSUPPORTED
            and (not checkpoint.architectures or arch in checkpoint.architectures)
        )
        if image is not None and quants:
            name = f"{image.image}:{image.tag.format(version=profile.version)}"
            yield Finding(
                id="engine.mindie.image-and-weights",
                severity=Severity.INFO,
                summary=f"{arch} takes the image {name} and {' or '.join(quants)} weights of {subject.release.name}",
                evidence=(Evidence(source=image.source),),
                why="an image of another family, or weights in another format, do not start there",
            )
