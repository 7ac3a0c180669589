"""What about the host stands in the way of V4, as a table of checks: each takes the view and yields its findings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.hardware import Cpu, Pool
from v4deploy.domain.units import format_gib


@dataclass(frozen=True, slots=True, kw_only=True)
class HostView:
    """The parsed host, and the few raw texts that only the checks need."""

    cpu: Cpu
    memory: Pool
    kernel: str
    config_files: tuple[str, ...]
    environ: Mapping[str, str]


def findings_of(view: HostView) -> tuple[Finding, ...]:
    """Run every check."""
    return tuple(finding for check in _CHECKS for finding in check(view))


def _memory(view: HostView) -> Iterator[Finding]:
    total, ceiling = view.memory.total, view.memory.ceiling
    if total.size_bytes is None:
        yield Finding(
            id="host.memory-unknown",
            severity=Severity.WARN,
            summary="how much memory this machine has could not be read",
            evidence=(Evidence(source=total.source, error="missing or not in the expected form"),),
            why="nothing can be planned for host memory of unknown size",
            fix='plan with `--hardware`, for example `--hardware "cpu 256GB"`',
        )
    elif ceiling.size_bytes is not None and ceiling.size_bytes < total.size_bytes:
        yield Finding(
            id="host.memory-limited",
            severity=Severity.WARN,
            summary=f"a control group allows {format_gib(ceiling.size_bytes)} of {format_gib(total.size_bytes)} of RAM",
            evidence=(Evidence(source=ceiling.source, value=str(ceiling.size_bytes)),),
            why="an engine that takes more is killed while it loads; v4deploy plans within the limit",
            fix="raise the container's or service's memory limit if the machine is yours to use",
        )


def _processor(view: HostView) -> Iterator[Finding]:
    features = view.cpu.features
    if features and view.cpu.architecture == "x86_64" and "avx2" not in features:
        yield Finding(
            id="host.cpu.no-avx2",
            severity=Severity.WARN,
            summary="this processor (or the virtual machine around it) offers no AVX2",
            evidence=(Evidence(source="/proc/cpuinfo flags", value="no avx2"),),
            why="ready-made engine builds may end with an illegal instruction, and experts in host RAM run very slowly",
            fix="on a virtual machine, pass the host's CPU model through",
        )
    if any(feature.startswith("amx_") for feature in features):
        yield Finding(
            id="host.cpu.amx",
            severity=Severity.INFO,
            summary="this processor has AMX, on which llama.cpp has to be started with `--no-repack`",
            evidence=(
                Evidence(
                    source="/proc/cpuinfo flags", value=" ".join(name for name in features if name.startswith("amx_"))
                ),
            ),
            why="build 11434 aborts on V4 files with a quantised attention output when it repacks weights for AMX",
            fix="add `--no-repack`; launch files of v4deploy do so by themselves",
        )


def _surroundings(view: HostView) -> Iterator[Finding]:
    if "microsoft" in view.kernel.lower():
        yield Finding(
            id="host.wsl",
            severity=Severity.INFO,
            summary="this is Windows Subsystem for Linux",
            evidence=(Evidence(source="/proc/sys/kernel/osrelease", value=view.kernel.strip()),),
            why="its memory is a share of Windows' that .wslconfig sets, and files below /mnt are slow",
        )
    for path in view.config_files:
        yield Finding(
            id="config.llama-cpp-file",
            severity=Severity.WARN,
            summary=f"{path} changes every llama.cpp launch",
            evidence=(Evidence(source=path, value="present"),),
            why="options set there are added to what v4deploy writes, and memory figures no longer hold",
            fix=f"move {path} away, or make sure that it sets nothing about memory, placement or the address",
        )
    port = view.environ.get("VLLM_PORT", "")
    if "://" in port:
        yield Finding(
            id="config.vllm-port-is-address",
            severity=Severity.WARN,
            summary="VLLM_PORT holds an address, which stops vLLM at start",
            evidence=(Evidence(source="VLLM_PORT", value=port),),
            why="Kubernetes sets this variable in every pod of a namespace that has a Service named `vllm`",
            fix="give the Service another name, or set `enableServiceLinks: false`",
        )


_CHECKS: tuple[Callable[[HostView], Iterator[Finding]], ...] = (
    _memory,
    _processor,
    _surroundings,
)
