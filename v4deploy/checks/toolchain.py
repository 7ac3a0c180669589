"""What vLLM compiles its kernels with: V4's are compiled at the first start, on the machine itself."""

from __future__ import annotations

import re
from collections.abc import Iterator

from v4deploy.checks.engines import is_comparable
from v4deploy.checks.subject import Subject
from v4deploy.domain.engine import EngineId
from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.hardware import ComputeApi
from v4deploy.domain.surroundings import Software
from v4deploy.domain.versions import is_older

_COMPILERS = ("CUDA toolkit", "nvidia-cuda-nvcc")
_AITER_FLOOR = "0.1.20"
_AITER_SOURCE = "vLLM 0.32.0's ROCm code, read 2026-11-22"
_FIX = (
    "use vLLM's image; or install the CUDA toolkit of torch's version, and start with `CUDA_HOME` and "
    "`TRITON_PTXAS_PATH` in it"
)


def missing_compiler(subject: Subject) -> Iterator[Finding]:
    """A vLLM for CUDA is here, and nothing that compiles for CUDA."""
    torch = _torch_for_cuda(subject)
    if torch is not None and _needs_cuda(subject) and not _compilers(subject):
        yield Finding(
            id="engine.vllm.no-compiler",
            severity=Severity.WARN,
            summary="vLLM is installed without a CUDA compiler",
            evidence=(
                Evidence(source=torch.path, value=f"torch {torch.version or ''} for {torch.built_for}"),
                Evidence(source="nvcc", error="not on PATH, below CUDA_HOME or /usr/local/cuda, nor beside vLLM"),
                Evidence(source="vllm-project/vllm#21960, flashinfer-ai/flashinfer#1781"),
            ),
            why="DeepGEMM, TileLang and FlashInfer compile V4's kernels at the first start, which then ends",
            fix=_FIX,
        )


def other_compiler(subject: Subject) -> Iterator[Finding]:
    """Compilers of another CUDA version than torch's: which of them is used depends on the library that compiles."""
    torch = _torch_for_cuda(subject)
    built = _release(torch.built_for) if torch is not None else None
    others = [one for one in _compilers(subject) if _release(one.version) not in {built, None}]
    if torch is not None and built is not None and others and _needs_cuda(subject):
        yield Finding(
            id="engine.vllm.other-compiler",
            severity=Severity.WARN,
            summary=f"torch is built for CUDA {built}, and a compiler for CUDA {_release(others[0].version)} is here",
            evidence=(
                Evidence(source=torch.path, value=f"torch {torch.version or ''} for {torch.built_for}"),
                *(Evidence(source=one.path, value=f"{one.name} {one.version}") for one in _compilers(subject)),
                Evidence(source="vllm-project/vllm#43954, #44305; vllm-project/perf-eval#52"),
            ),
            why="kernels that are compiled at the first start need compiler and headers of one version; otherwise it "
            "ends with `CUDA compiler and CUDA toolkit headers are incompatible`",
            fix=_FIX,
        )


def old_aiter(subject: Subject) -> Iterator[Finding]:
    """AMD's kernel library beside vLLM, older than V4's output projection in FP8 needs."""
    on_rocm = any(device.compute_api is ComputeApi.ROCM for device in subject.host.devices)
    for one in subject.host.software if on_rocm else ():
        version = one.version or ""
        if one.name == "aiter" and is_comparable(version) and is_older(version, _AITER_FLOOR):
            yield Finding(
                id="engine.vllm.aiter-too-old",
                severity=Severity.WARN,
                summary=f"AITER {version} lies beside vLLM, and V4 in FP8 needs {_AITER_FLOOR}",
                evidence=(Evidence(source=one.path, value=version), Evidence(source=_AITER_SOURCE)),
                why="the kernel for V4's output projection is missing in it, and another one is slow or fails",
                fix="use vLLM's image for ROCm, or install the AITER that this vLLM names",
            )


def torch_build(subject: Subject) -> str:
    """What torch beside vLLM is built for, as builds of vLLM mark it: `+cu129`. "" where it is not known."""
    torch = _torch_for_cuda(subject)
    release = _release(torch.built_for) if torch is not None else None
    return f"+cu{release.replace('.', '')}" if release else ""


def _torch_for_cuda(subject: Subject) -> Software | None:
    found = (one for one in subject.host.software if one.name == "torch")
    return next((one for one in found if (one.built_for or "").startswith(ComputeApi.CUDA)), None)


def _compilers(subject: Subject) -> tuple[Software, ...]:
    return tuple(one for one in subject.host.software if one.name in _COMPILERS)


def _needs_cuda(subject: Subject) -> bool:
    is_here = any(engine.engine is EngineId.VLLM for engine in subject.host.engines)
    return is_here and any(device.compute_api is ComputeApi.CUDA for device in subject.host.devices)


def _release(version: str | None) -> str | None:
    """Major and minor number in a text such as `cuda 13.0` or `13.0.88`."""
    match = re.search(r"\d+\.\d+", version or "")
    return match[0] if match else None
