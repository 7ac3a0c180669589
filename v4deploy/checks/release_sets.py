"""vLLM-Ascend, torch_npu, torch and CANN are released as sets: what lies beside vLLM-Ascend against its row."""

from __future__ import annotations

from collections.abc import Iterator

from v4deploy.checks.engines import is_comparable
from v4deploy.checks.subject import Subject
from v4deploy.domain.engine import EngineId
from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.hardware import ComputeApi, InstalledEngine
from v4deploy.domain.launch_settings import ReleaseSet
from v4deploy.domain.versions import version_numbers

TORCH_NPU = "torch_npu"
_TORCH = "torch"
_PLACES_OF_A_RELEASE = 3
_PLACES_OF_A_ROW = 2
_FIX = "use an image of vllm-ascend, which holds the whole set, or install what its version matrix names"


def torch_npu(subject: Subject) -> Iterator[Finding]:
    """torch_npu beside vLLM-Ascend: whether it is there, of torch's release, and of the plugin's row."""
    plugin, found = _plugin(subject), _packages(subject)
    if plugin is None or not found.keys() & {_TORCH, TORCH_NPU}:
        return  # nothing beside it could be read: an image, or an interpreter that we do not see
    evidence = tuple(Evidence(source=name, value=version) for name, version in found.items())
    row = _row(subject, plugin)
    if TORCH_NPU not in found:
        yield _finding("torch is here without torch_npu", evidence, "vLLM then ends with `Failed to infer device type`")
    elif _TORCH in found and not _same_release(found[_TORCH], found[TORCH_NPU]):
        yield _finding(
            f"torch_npu {found[TORCH_NPU]} does not go with torch {found[_TORCH]}",
            evidence,
            "torch_npu is built for the one torch of its own number, and fails to load beside another",
        )
    elif row is not None and not _same_release(found[TORCH_NPU], row.torch):
        yield _finding(
            f"vLLM-Ascend {plugin.version} is made for torch_npu {row.torch}, and {found[TORCH_NPU]} is here",
            (*evidence, Evidence(source=row.source.source)),
            "an older one stops on new NPUs with `Unsupported soc version`, and the sets are tested as wholes only",
        )


def cann(subject: Subject) -> Iterator[Finding]:
    """The CANN toolkit beside vLLM-Ascend against its row."""
    plugin = _plugin(subject)
    row = None if plugin is None else _row(subject, plugin)
    version = next((d.compute_api_version for d in subject.host.devices if d.compute_api is ComputeApi.CANN), None)
    if plugin is None or row is None or version is None or not is_comparable(version):
        return
    if not _same_release(version, row.toolkit):
        yield Finding(
            id="engine.mindie.cann",
            severity=Severity.WARN,
            summary=f"vLLM-Ascend {plugin.version} is made for CANN {row.toolkit}, and {version} is here",
            evidence=(
                Evidence(source=plugin.path, value=plugin.version),
                Evidence(source="CANN toolkit", value=version),
                Evidence(source=row.source.source),
            ),
            why="its operators are compiled against that toolkit, and fail to load or to run with another",
            fix=_FIX,
        )


def _finding(summary: str, evidence: tuple[Evidence, ...], why: str) -> Finding:
    return Finding(
        id="engine.mindie.torch-npu", severity=Severity.WARN, summary=summary, evidence=evidence, why=why, fix=_FIX
    )


def _plugin(subject: Subject) -> InstalledEngine | None:
    """vLLM-Ascend of a readable version, on a machine with NPUs."""
    has_npu = any(device.compute_api is ComputeApi.CANN for device in subject.host.devices)
    found = (engine for engine in subject.host.engines if engine.engine is EngineId.MINDIE)
    return next((one for one in found if has_npu and is_comparable(one.version or "")), None)


def _packages(subject: Subject) -> dict[str, str]:
    """Torch and torch_npu beside vLLM, as far as their versions can be compared."""
    names = (_TORCH, TORCH_NPU)
    return {one.name: one.version or "" for one in subject.host.software if one.name in names and one.version}


def _row(subject: Subject, plugin: InstalledEngine) -> ReleaseSet | None:
    numbers = version_numbers(plugin.version or "")[:_PLACES_OF_A_ROW]
    launch = subject.launch.get(plugin.engine)
    rows = launch.release_sets if launch else ()
    return next((row for row in rows if version_numbers(row.release) == numbers), None)


def _same_release(one: str, other: str) -> bool:
    """2.10.0.post4 and 2.10.0+cpu are both 2.10.0. True where a version cannot be read: nothing is known then."""
    if not (is_comparable(one) and is_comparable(other)):
        return True
    return version_numbers(one)[:_PLACES_OF_A_RELEASE] == version_numbers(other)[:_PLACES_OF_A_RELEASE]
