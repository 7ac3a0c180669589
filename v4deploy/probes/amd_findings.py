"""What stands in the way on AMD machines, and the fix that fits the surroundings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.hardware import Device, Pool, PoolKind
from v4deploy.domain.units import GIB, format_gib
from v4deploy.probes.amd_device import AmdDevice
from v4deploy.probes.amd_kernel import KFD_NODES
from v4deploy.probes.amd_pools import HostShare
from v4deploy.probes.device_nodes import DeviceNode
from v4deploy.probes.pci import PCI_DEVICES, PciDevice

KFD_DEVICE = "/dev/kfd"
_PAGE_BYTES = 4096
# What the one published Strix Halo with a raised page limit left to the system (ggml-org/llama.cpp#20472).
_LEFT_TO_SYSTEM_BYTES = 8 * GIB
_SELECTORS = ("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL")
_OVERRIDE = "HSA_OVERRIDE_GFX_VERSION"


@dataclass(frozen=True, slots=True, kw_only=True)
class AmdSurroundings:
    """What is there beside the devices that were described.

    Attributes:
        adapters: addresses that drive a display (PCI class 0x0300), which may be no more than a console.
        kfd_present: whether /dev/kfd is here; `render_nodes` are the names below /dev/dri.
        nodes: who may open what; None where that could not be asked.
        refused_nodes: KFD nodes that a device control group keeps from us.
        tool_errors: what AMD's tools and runtime answered instead of devices; empty where they were not needed.
        hung: the tools, or the library, that gave no answer in time.
        behind_windows: a GPU can only be one that Windows lends to WSL, and ROCm is here.
    """

    pci: tuple[PciDevice, ...] = ()
    adapters: frozenset[str] = frozenset()
    kfd_present: bool = False
    render_nodes: tuple[str, ...] = ()
    nodes: tuple[DeviceNode, ...] | None = None
    refused_nodes: tuple[str, ...] = ()
    tool_errors: tuple[Evidence, ...] = ()
    hung: tuple[str, ...] = ()
    behind_windows: bool = False

    @property
    def closed_nodes(self) -> tuple[DeviceNode, ...]:
        """/dev/kfd and render nodes that this user may not open."""
        own = (node for node in self.nodes or () if node.path == KFD_DEVICE or "/renderD" in node.path)
        return tuple(node for node in own if not node.is_open)

    def is_usable(self, device: AmdDevice) -> bool:
        """Whether a ROCm program of this user can open the device."""
        if device.is_open:
            return True
        if not (device.in_kfd and self.kfd_present and self.render_nodes):
            return False
        needed = {KFD_DEVICE, f"/dev/dri/renderD{device.render_minor}"}
        return not any(node.path in needed for node in self.closed_nodes)


def machine_findings(raw: Sequence[AmdDevice], around: AmdSurroundings) -> Iterator[Finding]:
    """What keeps devices from being found or opened."""
    computing = [device for device in raw if device.in_kfd]
    if computing and not all(device.is_open for device in computing):
        yield from _access_findings(around)
    elif raw and not computing:
        yield Finding(
            id="gpu.amd.kfd-missing",
            severity=Severity.WARN,
            summary="the kernel drives the AMD GPU for display, but not for computing",
            evidence=tuple(Evidence(source=KFD_NODES, value=device.pci_id, error="no node") for device in raw),
            why="ROCm needs KFD; some old and some integrated GPUs have none",
            fix="use a kernel with CONFIG_HSA_AMD, or AMD's amdgpu-dkms package",
        )
    if around.refused_nodes:
        yield Finding(
            id="gpu.amd.node-refused",
            severity=Severity.INFO if computing else Severity.FAIL,
            summary=f"{len(around.refused_nodes)} GPU nodes of this machine are not given to this container",
            evidence=tuple(Evidence(source=f"{KFD_NODES}/{n}", error="no permission") for n in around.refused_nodes),
            fix="pass their /dev/dri/renderD* nodes to the container if it is meant to use them",
        )
    yield from _bus_findings(raw, around)
    for tool in around.hung:
        yield Finding(
            id="gpu.amd.tool-hangs",
            severity=Severity.WARN,
            summary=f"{tool} gives no answer",
            evidence=tuple(error for error in around.tool_errors if error.source == tool),
            why="what it and further sources would have told is unknown; engines may hang in the same driver",
            fix="look for amdgpu's errors in `dmesg`; amd-smi of ROCm before 7.14 hangs on some GPUs by itself",
        )


def device_findings(devices: Sequence[Device], pools: Sequence[Pool], raw: Sequence[AmdDevice]) -> Iterator[Finding]:
    """What is worth knowing about the memory of the devices."""
    for pool in pools:
        mine = [number for number, device in enumerate(devices) if device.pool_id == pool.id]
        first = raw[mine[0]]
        if pool.total.size_bytes is None:
            yield Finding(
                id="gpu.amd.memory-unknown",
                severity=Severity.WARN,
                summary=f"the memory of {devices[mine[0]].name} could not be read",
                evidence=(Evidence(source=pool.total.source, error=first.memory_error or "no figure"),),
                why="nothing can be planned for a device of unknown size; names are no measure of memory",
                fix="plan with `--hardware`, naming the chip",
            )
        if first.is_partition or len(mine) > 1:
            yield _partitioned(pool, first, len(mine))
    if any(device.is_integrated for device in raw) and not all(device.is_integrated for device in raw):
        yield Finding(
            id="gpu.amd.integrated-beside-discrete",
            severity=Severity.INFO,
            summary="the integrated GPU is left out, since there is a GPU with memory of its own",
            evidence=tuple(
                Evidence(source=device.pci_address or device.source, value=device.gfx)
                for device in raw
                if device.is_integrated
            ),
            why="spread over both, a model runs at the speed of the slower one, and ROCm often fails with such pairs",
            fix="`HIP_VISIBLE_DEVICES` keeps engines from taking it",
        )


def carve_out_findings(pool: Pool, device: AmdDevice, share: HostShare) -> Iterator[Finding]:
    """The two settings of an APU: what firmware reserved, and what the kernel may lend."""
    reserved, memory = device.vram_total_bytes, share.memory_bytes
    if pool.kind is not PoolKind.CARVE_OUT_GTT or device.has_shared_hbm or reserved is None or memory is None:
        return
    installed = reserved + memory
    if reserved > memory:
        yield Finding(
            id="gpu.amd.large-carve-out",
            severity=Severity.WARN,
            summary=f"firmware reserves {format_gib(reserved)} for the GPU; {format_gib(memory)} are left over",
            evidence=(Evidence(source=device.source, value=str(reserved)),),
            why="weights pass through the system's part while they load, and the reserved part is of no other use",
            fix="set the smallest UMA frame buffer in the firmware, and raise the kernel's page limit instead",
        )
    wanted = (memory - _LEFT_TO_SYSTEM_BYTES) // _PAGE_BYTES
    ceiling = pool.ceiling.size_bytes
    if ceiling is not None and wanted > 0 and ceiling < installed * 3 // 4:
        module = "ttm" if share.page_limit_bytes is None else share.page_limit_source.split("/")[3]
        yield Finding(
            id="gpu.amd.page-limit-low",
            severity=Severity.WARN,
            summary=f"the GPU may use {format_gib(ceiling)} of {format_gib(installed)}",
            evidence=(Evidence(source=pool.total.source, value=str(pool.total.size_bytes)),),
            why="V4 needs most of the memory of such a machine, and the kernel's default lends half of it",
            fix=f"boot with `{module}.pages_limit={wanted}`",
        )


def environment_findings(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Variables that change which devices engines see, and as what."""
    for name in _SELECTORS:
        if name in environ:
            yield Finding(
                id="config.rocm-visible-devices",
                severity=Severity.WARN,
                summary=f"{name} is set to `{environ[name]}`, and engines will see those devices only",
                evidence=(Evidence(source=name, value=environ[name]),),
                why="plans count every device of the machine",
                fix="unset it while planning and serving, or plan for fewer devices with `--hardware`",
            )
    if _OVERRIDE in environ:
        yield Finding(
            id="config.hsa-override-gfx-version",
            severity=Severity.WARN,
            summary=f"{_OVERRIDE} is set to `{environ[_OVERRIDE]}`, so programs take the GPU for another one",
            evidence=(Evidence(source=_OVERRIDE, value=environ[_OVERRIDE]),),
            why="kernels built for another GPU may crash or compute nonsense",
            fix=f"unset {_OVERRIDE} unless the GPU is known to need it",
        )


def _partitioned(pool: Pool, device: AmdDevice, count: int) -> Finding:
    modes = f"{device.compute_partition or 'unknown'}, {device.memory_partition or 'unknown'}"
    return Finding(
        id="gpu.amd.partitioned",
        severity=Severity.WARN,
        summary=f"{count} devices share the {format_gib(pool.total.size_bytes)} of {pool.id} ({modes})",
        evidence=(Evidence(source="sysfs current_compute_partition, current_memory_partition", value=modes),),
        why="their memory counts once; V4 is served by whole sockets, and recipes assume them",
        fix="`sudo amd-smi set --memory-partition NPS1`, then `sudo amd-smi set --compute-partition SPX`",
    )


def _access_findings(around: AmdSurroundings) -> Iterator[Finding]:
    if not around.kfd_present:
        yield Finding(
            id="gpu.amd.no-device-nodes",
            severity=Severity.FAIL,
            summary=f"the machine's kernel has AMD GPUs, but {KFD_DEVICE} is not here",
            evidence=(Evidence(source=KFD_DEVICE, error="not found"),),
            why="a container sees no GPU unless it is given one",
            fix="start the container with `--device /dev/kfd --device /dev/dri`",
        )
    elif not around.render_nodes:
        yield Finding(
            id="gpu.amd.no-render-nodes",
            severity=Severity.FAIL,
            summary=f"{KFD_DEVICE} is here, but no /dev/dri/renderD*",
            evidence=(Evidence(source="/dev/dri", error="no render node"),),
            why="ROCm opens both, and falls back to the CPU without a word",
            fix="start the container with `--device /dev/dri` as well",
        )
    closed = around.closed_nodes
    if closed:
        groups = " ".join(f"--group-add {number}" for number in dict.fromkeys(node.group_id for node in closed))
        names = ",".join(dict.fromkeys(node.group for node in closed))
        yield Finding(
            id="gpu.amd.no-permission",
            severity=Severity.FAIL,
            summary="the AMD GPU is there, but this user may not open it",
            evidence=tuple(
                Evidence(
                    source=node.path,
                    value=f"mode {node.mode}, owner {node.owner_id}, group {node.group_id} ({node.group})",
                )
                for node in closed
            ),
            why="engines then run on the CPU without a word",
            fix=f"`sudo usermod -aG {names} $USER` and log in again; for a container `{groups}`",
        )


def _bus_findings(raw: Sequence[AmdDevice], around: AmdSurroundings) -> Iterator[Finding]:
    """Devices on the bus that no source describes."""
    described = {device.socket for device in raw}
    for device in around.pci:
        if device.address.rpartition(".")[0] in described or around.refused_nodes:
            continue
        is_adapter = device.address in around.adapters
        evidence = Evidence(source=f"{PCI_DEVICES}/{device.address}", value=f"{device.pci_id} driver {device.driver}")
        if device.driver in {None, "amdgpu"}:
            missing = "no driver is loaded for" if device.driver is None else "the amdgpu driver does not start"
            yield Finding(
                id="gpu.amd.driver-missing",
                severity=Severity.WARN if is_adapter else Severity.FAIL,
                summary=f"{missing} the AMD device at {device.address}",
                evidence=(evidence, *around.tool_errors),
                why="without it the device is of no use to any engine",
                fix="`sudo modprobe amdgpu`; if that fails, `sudo dmesg | grep amdgpu` tells why",
            )
        else:
            yield Finding(
                id="gpu.amd.held-by-other-driver",
                severity=Severity.INFO,
                summary=f"the AMD device at {device.address} is held by `{device.driver}` and cannot be used here",
                evidence=(evidence,),
            )
