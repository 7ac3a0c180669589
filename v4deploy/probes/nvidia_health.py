"""What wears a GPU out, lends it to others, or keeps CUDA from starting although the driver lists it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.hardware import ProbeOutcome
from v4deploy.probes.nvidia_device import DriverFailure, NvidiaDevice, NvidiaReport, Virtualization

HOSTS_OF_VIRTUAL_GPUS = frozenset({Virtualization.HOST_OF_VGPUS, Virtualization.HOST_OF_VSGAS})
_SYSTEM_NOT_READY = 802
_MOST_PAIRS_NAMED = 3
# Nothing can be done about GNS: the driver offers peer access for no cards of that kind.
_PEER_FIXES = {
    "CNS": "move both cards below one PCIe switch or one CPU",
    "TNS": "move both cards below one PCIe switch or one CPU",
    "DR": "look for `NVreg_RegistryDwords` in /etc/modprobe.d",
}


def health_findings(device: NvidiaDevice, where: str) -> Iterator[Finding]:
    """Repairs that wait for a reset, faults that no reset repairs, and a change of the ECC mode."""
    if device.repairs_pending:
        yield Finding(
            id="gpu.nvidia.repair-pending",
            severity=Severity.WARN,
            summary=f"{' and '.join(device.repairs_pending)} waits for a reset: {where}",
            evidence=(Evidence(source=f"NVML {where}", value=", ".join(device.repairs_pending)),),
            why="until then a job that touches the faulty part fails in the middle of its work",
            fix="stop its jobs, then `nvidia-smi --gpu-reset` or reboot",
        )
    if device.unrepairable:
        yield Finding(
            id="gpu.nvidia.memory-unrepairable",
            severity=Severity.FAIL,
            summary=f"{' and '.join(device.unrepairable)}: {where}",
            evidence=(Evidence(source=f"NVML {where}", value=", ".join(device.unrepairable)),),
            why="weights and KV cache fill all of the memory, so jobs will meet the fault",
            fix="take the card out of service and have it replaced; `nvidia-smi -q -d ROW_REMAPPER` shows the fault",
        )
    if device.ecc_pending is not None:
        state = "on" if device.ecc_pending else "off"
        yield Finding(
            id="gpu.nvidia.ecc-change-pending",
            severity=Severity.INFO,
            summary=f"ECC will be {state} after the next reboot: {where}",
            evidence=(Evidence(source=f"NVML {where} ECC mode pending", value=state),),
            why="on cards without HBM, ECC takes a part of the memory, so a plan made now may not fit then",
            fix="reboot before planning",
        )


def virtual_findings(device: NvidiaDevice, name: str, where: str) -> Iterator[Finding]:
    """A share of a GPU in a virtual machine, or a GPU whose shares virtual machines hold."""
    evidence = (Evidence(source=f"NVML virtualization mode {where}", value=str(device.virtualization)),)
    if device.virtualization in HOSTS_OF_VIRTUAL_GPUS:
        yield Finding(
            id="gpu.nvidia.serves-virtual-machines",
            severity=Severity.FAIL,
            summary=f"the driver lends this GPU to virtual machines: {where}",
            evidence=evidence,
            why="the vGPU manager's driver has no CUDA for the host itself",
            fix="run v4deploy inside a virtual machine that has a vGPU, or install the ordinary driver",
        )
    if not device.is_virtual:
        return
    yield Finding(
        id="gpu.nvidia.virtual",
        severity=Severity.INFO,
        summary=f"{name} is a virtual GPU with the frame buffer of its profile",
        evidence=evidence,
        why="its memory is a part of the card's, other virtual machines share its speed, and few profiles join several",
    )
    if device.licensed is False:
        yield Finding(
            id="gpu.nvidia.vgpu-unlicensed",
            severity=Severity.WARN,
            summary=f"{name} holds no vGPU licence",
            evidence=(Evidence(source=f"NVML licensable features {where}", value="not licensed"),),
            why="speed and functions of an unlicensed vGPU shrink with the time since boot",
            fix="`nvidia-smi -q | grep -A 2 License` shows the state; renew the client token and restart nvidia-gridd",
        )


def attestation_finding(report: NvidiaReport) -> Finding | None:
    """Said once for the machine: the ready state is not a device's."""
    if not report.awaits_attestation:
        return None
    return Finding(
        id="gpu.nvidia.confidential-not-ready",
        severity=Severity.FAIL,
        summary="confidential computing is on, and the GPUs have not been set ready",
        evidence=(Evidence(source="NVML confidential computing GPUs ready state", value="0"),),
        why="CUDA fails with error 802 until then, while nvidia-smi looks healthy",
        fix="attest the GPUs, then `nvidia-smi conf-compute -srs 1`",
    )


def cuda_finding(report: NvidiaReport, *, explained: bool) -> Finding | None:
    """Why CUDA itself refuses; None where it was not asked, is not there, or another finding explains error 802.

    `explained`: an unfinished fabric or an outstanding attestation is reported already.
    """
    failure = report.cuda_failure
    if failure is None or failure.code is None or (failure.code == _SYSTEM_NOT_READY and explained):
        return None
    name, summary, why, fix = _CUDA_FAILURES.get(failure.code, _OTHER_CUDA_FAILURE)
    return Finding(
        id=f"gpu.nvidia.{name}",
        severity=Severity.FAIL,
        summary=summary,
        evidence=(Evidence(source=failure.source, error=f"{failure.message} ({failure.code})"),),
        why=why,
        fix=fix,
    )


_CudaRow = tuple[str, str, str, str]
# By CUDA's own number.
_CUDA_FAILURES: dict[int, _CudaRow] = {
    802: (
        "cuda-not-ready",
        "CUDA says that the system is not ready yet",
        "the NVSwitch fabric is not up, or confidential computing waits for attestation",
        "`systemctl restart nvidia-fabricmanager` on the host, or `nvidia-smi conf-compute -srs 1` after attestation",
    ),
    803: (
        "driver-mismatch",
        "CUDA's library and the loaded NVIDIA kernel module are of different versions",
        "no CUDA program can start",
        "reboot; in a container, remove a `cuda-compat` directory from LD_LIBRARY_PATH",
    ),
    804: (
        "cuda-compat-refused",
        "CUDA's forward compatibility does not serve this GPU",
        "a `cuda-compat` directory replaces the driver's library, and only data-centre GPUs take that",
        "remove the `cuda-compat` directory from LD_LIBRARY_PATH, or install a newer driver",
    ),
}
_OTHER_CUDA_FAILURE: _CudaRow = (
    "cuda-refuses",
    "CUDA itself does not start",
    "every engine for NVIDIA devices ends with the same error",
    "look for NVRM and Xid lines in `dmesg`",
)


def peer_finding(report: NvidiaReport, outcome: ProbeOutcome) -> Finding | None:
    """Pairs of usable devices without peer access; None where there are none or nothing is known of them."""
    addresses = {
        raw.index: placed.pci_address or f"device {placed.index}"
        for raw, placed in zip(report.devices, outcome.devices, strict=True)
        if placed.usable
    }
    links = [link for link in report.links if {link.first, link.second} <= addresses.keys()]
    without = [link for link in links if link.peer_access is False]
    if not without:
        return None
    refusals = Counter(link.peer_status or "no reason given" for link in without)
    pairs = [f"{addresses[link.first]} and {addresses[link.second]}" for link in without[:_MOST_PAIRS_NAMED]]
    where = pairs[0] if len(links) == 1 else f"{len(without)} of {len(links)} pairs of NVIDIA devices"
    more = f" and {len(without) - len(pairs)} more" if len(without) > len(pairs) else ""
    return Finding(
        id="gpu.nvidia.no-peer-access",
        severity=Severity.INFO,
        summary=f"{where} cannot read each other's memory",
        evidence=(
            *(Evidence(source=f"{report.source} peer access", value=f"{n} x {why}") for why, n in refusals.items()),
            Evidence(source=f"{report.source} peer access", value=f"{', '.join(pairs)}{more}"),
        ),
        why="tensor parallel work exchanges data in every layer, and each exchange then goes through system RAM;"
        " a split by layers suffers least",
        fix=_PEER_FIXES.get(next(iter(refusals)).partition(",")[0]),
    )


def cuda_works_finding(failure: DriverFailure) -> Finding:
    """CUDA listed the devices where NVML and nvidia-smi could not."""
    return Finding(
        id="gpu.nvidia.library-missing",
        severity=Severity.WARN,
        summary="CUDA works, but libnvidia-ml and nvidia-smi do not answer",
        evidence=(Evidence(source=failure.source, error=failure.message),),
        why="vLLM does not start without NVML, and free memory, health and links between devices cannot be read",
        fix="start the container with `NVIDIA_DRIVER_CAPABILITIES=compute,utility`, or install the driver's libraries",
    )
