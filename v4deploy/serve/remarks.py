"""What an engine that runs said in passing and that costs its user something: known lines to findings. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from v4deploy.domain.engine import EngineId
from v4deploy.domain.finding import Evidence, Finding, Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class _Remark:
    id: str
    pattern: str
    summary: str
    why: str
    fix: str


# llama.cpp b11434's own lines, and its issues 27162 and 27872.
_LLAMA_CPP = (
    _Remark(
        id="engine.llama-cpp.not-fitted",
        pattern=r"failed to fit params to free device memory",
        summary="llama.cpp could not fit the model into free memory, and went on without",
        why="it may run out of memory later, at a longer prompt",
        fix="free memory, or plan again: `v4deploy plan` counts what is free now",
    ),
    _Remark(
        id="engine.llama-cpp.indexer-elsewhere",
        pattern=r"Lightning Indexer is assigned to device",
        summary="llama.cpp runs V4's indexer on another device than its layer",
        why="the device has no kernel for it, or no room: every token crosses between them, which is slow",
        fix="use a build with V4's kernels for this device (b10242 or later), or leave more memory free",
    ),
)
# vLLM 0.32's own lines.
_VLLM = (
    _Remark(
        id="engine.vllm.unknown-variable",
        pattern=r"Unknown vLLM environment variable",
        summary="vLLM does not know a variable of its environment",
        why="what it was meant to do is not done",
        fix="remove it, or use a release that knows it; `v4deploy doctor` names such variables",
    ),
    _Remark(
        id="engine.vllm.prefetch-skipped",
        pattern=r"Skipping auto-prefetch",
        summary="vLLM does not read the weights ahead from this file system",
        why="the host's memory is smaller than they are, so that loading is as slow as single reads",
        fix="keep the weights on a local NVMe disk",
    ),
    _Remark(
        id="engine.vllm.no-compilation",
        pattern=r"Enforce eager set",
        summary="vLLM runs without CUDA graphs and compilation",
        why="decoding is then several times slower on GPUs",
        fix="leave `--enforce-eager` out",
    ),
)
_REMARKS = {EngineId.VLLM: _VLLM, EngineId.MINDIE: _VLLM, EngineId.LLAMA_CPP: _LLAMA_CPP, EngineId.OLLAMA: _LLAMA_CPP}


def remarks(engine: EngineId, lines: tuple[str, ...]) -> tuple[Finding, ...]:
    """A warning for each known line, with the line itself."""
    return tuple(
        Finding(
            id=remark.id,
            severity=Severity.WARN,
            summary=remark.summary,
            evidence=(Evidence(source=f"the log of {engine}", value=line),),
            why=remark.why,
            fix=remark.fix,
        )
        for remark in _REMARKS[engine]
        if (line := next((line for line in lines if re.search(remark.pattern, line)), None)) is not None
    )
