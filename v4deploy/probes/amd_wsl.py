"""AMD GPUs under WSL: there is neither amdgpu nor KFD, and only ROCm's runtime reaches them, by Windows' driver."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.versions import is_older, version_numbers
from v4deploy.probes.amd_device import AmdDevice
from v4deploy.probes.amd_findings import KFD_DEVICE, AmdSurroundings

_NODES = (Evidence(source="/dev/dxg", value="present"), Evidence(source=KFD_DEVICE, error="not found"))
_SWITCH = "HSA_ENABLE_DXG_DETECTION"
# From this release on the runtime looks behind Windows by itself (ROCm/librocdxg#34).
_NEEDS_NO_SWITCH = "7.13"


def wsl_findings(
    raw: Sequence[AmdDevice], around: AmdSurroundings, rocm_version: str | None, environ: Mapping[str, str]
) -> Iterator[Finding]:
    """Whether the runtime reaches a GPU, and what programs need to do so too."""
    if not raw:
        yield Finding(
            id="gpu.amd.wsl",
            severity=Severity.WARN,
            summary="ROCm is installed under WSL, but reaches no GPU",
            evidence=(*_NODES, *around.tool_errors),
            why="ROCm gets to Windows' driver through librocdxg, for some Radeon cards only, and AMD's tools see none",
            fix="install ROCm by AMD's guide for WSL, with a Windows driver that it names; until then plan with "
            "`--hardware`, naming the GPU, for example `--hardware rx-9070-xt`",
        )
        return
    yield Finding(
        id="gpu.amd.wsl",
        severity=Severity.INFO,
        summary=f"{raw[0].name or 'the AMD GPU'} is reached through Windows, by ROCm's runtime alone",
        evidence=(*_NODES, Evidence(source=raw[0].source, value=raw[0].gfx)),
        why="amd-smi and rocm-smi answer with error 34 there, and so do programs that ask amdsmi for the device",
    )
    if _is_old(rocm_version) and environ.get(_SWITCH) != "1":
        yield Finding(
            id="config.hsa-dxg-detection",
            severity=Severity.WARN,
            summary=f"{_SWITCH} is not set, without which ROCm {rocm_version} finds no GPU under WSL",
            evidence=(Evidence(source=_SWITCH, value=environ.get(_SWITCH, "not set")),),
            why="engines then run on the CPU; v4deploy set it for its own look only",
            fix=f"`export {_SWITCH}=1` before the engine starts, or install ROCm {_NEEDS_NO_SWITCH} or newer",
        )


def _is_old(version: str | None) -> bool:
    """False where the version is not known: a release of 2026 needs no switch."""
    try:
        version_numbers(version or "")
    except ValueError:
        return False
    return is_older(version or "", _NEEDS_NO_SWITCH)
