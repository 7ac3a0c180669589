"""What stands in the way on Ascend machines, and the fix that fits the surroundings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.probes.ascend_answers import Refusal
from v4deploy.probes.ascend_dcmi import SOURCE as DCMI
from v4deploy.probes.ascend_dcmi import DcmiFailure
from v4deploy.probes.ascend_device_findings import words_of
from v4deploy.probes.ascend_family import NpuChip
from v4deploy.probes.ascend_merge import device_label
from v4deploy.probes.ascend_table import Layout, NpuTable
from v4deploy.probes.device_nodes import DeviceNode
from v4deploy.probes.pci import PCI_DEVICES, PciDevice
from v4deploy.system.base import CommandRun, Failure, FileRead

INSTALL_RECORD = "/etc/ascend_install.info"
_NPU_SMI = "npu-smi info"
_SELECTOR = "ASCEND_RT_VISIBLE_DEVICES"
_INCOMPLETE = "driver package may not be completely installed"
_UNSUPPORTED_FAMILIES = ("ascend-910", "ascend-310", "ascend-310b", "ascend-310p")


@dataclass(frozen=True, slots=True, kw_only=True)
class NpuSurroundings:
    """What is there whether or not npu-smi answers.

    Attributes:
        device_nodes: `davinci0`...; N is the physical id, so a container may hold `davinci1` alone.
        nodes: who may open what below /dev; None where that could not be asked.
        cann_version, nnal_version: None where no version file was found here, as on a host that runs containers only.
    """

    pci: tuple[PciDevice, ...] = ()
    device_nodes: tuple[str, ...] = ()
    nodes: tuple[DeviceNode, ...] | None = None
    install_record: FileRead | None = None
    cann_version: str | None = None
    nnal_version: str | None = None
    environ: Mapping[str, str] = field(default_factory=dict)

    @property
    def present(self) -> bool:
        """Whether there is any sign of an NPU."""
        return bool(self.pci or self.device_nodes)

    @property
    def closed_nodes(self) -> tuple[DeviceNode, ...]:
        """NPU nodes that this user may not open."""
        return tuple(node for node in self.nodes or () if node.path.startswith("/dev/davinci") and not node.is_open)


_Row = tuple[str, Severity, str, str | None, str | None]
_REFUSALS: dict[Refusal | None, _Row] = {
    None: (
        "tool-missing",
        Severity.FAIL,
        "there is an Ascend NPU, but npu-smi is not here",
        "its memory and kind cannot be read; a container without the driver's tools may still run on it",
        "install Huawei's driver package; in a container mount /usr/local/bin/npu-smi and /usr/local/Ascend/driver",
    ),
    Refusal.NO_ANSWER: (
        "driver-not-answering",
        Severity.FAIL,
        "the Ascend driver gave no answer in time",
        "a hanging driver also hangs every engine",
        "look for errors in `dmesg`; reboot if `npu-smi info` hangs",
    ),
    Refusal.NO_CARD: (
        "none-listed",
        Severity.FAIL,
        "the Ascend driver answers, but lists no device",
        "it may have failed to start the device",
        "`dmesg | grep -i -e davinci -e drv` tells why",
    ),
    Refusal.IN_USE: (
        "held-by-other-container",
        Severity.FAIL,
        "the Ascend device is held by another container",
        "a device goes to one container at a time",
        "stop that container, or give this one other devices: `ls /dev/davinci*`",
    ),
    Refusal.NOT_INITIALISED: (
        "driver-not-initialised",
        Severity.FAIL,
        "the Ascend driver does not start for this process",
        "the driver was upgraded without a reboot, or this user or container may not open its device nodes",
        "try it as root; reboot after a driver upgrade; in a container pass /dev/davinci_manager and /dev/hisi_hdc too",
    ),
    Refusal.BOARD_UNKNOWN: (
        "board-unknown",
        Severity.FAIL,
        "the Ascend driver does not know this board",
        "the driver is older than the board",
        "install a newer driver package",
    ),
    Refusal.VIRTUAL_MACHINE: (
        "refused-in-vm",
        Severity.FAIL,
        "npu-smi refuses to run in this virtual machine",
        "the device cannot be examined here",
        "pass the whole device through to the virtual machine",
    ),
    Refusal.LIBRARIES_MISSING: (
        "driver-libraries-missing",
        Severity.FAIL,
        "npu-smi is here without the driver's libraries",
        "no CANN program can start",
        "mount /usr/local/Ascend/driver/lib64 into the container, or install the driver package",
    ),
    Refusal.OTHER: (
        "unreadable",
        Severity.FAIL,
        "npu-smi printed something that is no device table",
        "devices may be missing from the plan, and their memory is unknown",
        "`v4deploy doctor --record DIR` and report the recording",
    ),
}


def refusal_finding(
    run: CommandRun | None, refusal: Refusal | None, around: NpuSurroundings, dcmi: DcmiFailure | None = None
) -> Finding:
    """Why there is no device table. `refusal` None: there is no npu-smi, and no DCMI library either."""
    evidence = [Evidence(source=_NPU_SMI, error=words_of(run))] if run else []
    if dcmi is not None:
        evidence.append(Evidence(source=DCMI, error=dcmi.message))
    evidence += [
        Evidence(source=f"{PCI_DEVICES}/{device.address}", value=f"{device.pci_id} driver {device.driver}")
        for device in around.pci
    ]
    if around.device_nodes:
        evidence.append(Evidence(source="/dev", value=" ".join(around.device_nodes)))
    name, severity, summary, why, fix = _REFUSALS[None if refusal is Refusal.NOT_INSTALLED else refusal]
    if not around.present and refusal is not Refusal.NO_ANSWER:
        name, severity, why = "stray-tools", Severity.INFO, None
        summary = "npu-smi is installed, but there is no sign of an Ascend NPU"
        fix = "remove Huawei's driver package if this machine never has such a device"
    elif refusal is Refusal.NOT_INITIALISED and around.closed_nodes:
        node = around.closed_nodes[0]
        evidence.append(
            Evidence(source=node.path, value=f"mode {node.mode}, group {node.group_id} ({node.group})", error="closed")
        )
        name, summary = "no-permission", "the Ascend NPU is there, but this user may not open it"
        why = "every CANN program fails the same way"
        fix = f"`sudo usermod -aG {node.group} $USER` and log in again; for a container `--group-add {node.group_id}`"
    elif refusal is Refusal.NOT_INITIALISED and not around.device_nodes:
        name, summary = "no-device-nodes", "the machine has an Ascend NPU, but /dev/davinci* is not here"
        why = "a container sees no device unless it is given one"
        fix = (
            "start the container with `--device /dev/davinci0 --device /dev/davinci_manager --device /dev/hisi_hdc`, "
            "and `--device /dev/devmm_svm` where the host has it"
        )
    return Finding(
        id=f"npu.huawei.{name}", severity=severity, summary=summary, evidence=tuple(evidence), why=why, fix=fix
    )


def machine_findings(table: NpuTable, info: CommandRun | None, around: NpuSurroundings) -> Iterator[Finding]:
    """What is wrong or worth knowing about driver, toolkit and environment, beside devices that answered."""
    if info is not None and _INCOMPLETE in info.stdout:
        yield Finding(
            id="npu.huawei.driver-incomplete",
            severity=Severity.WARN,
            summary="the driver package is not completely installed",
            evidence=(Evidence(source=_NPU_SMI, value=_INCOMPLETE),),
            fix=f"install it again, until {INSTALL_RECORD} says `Driver_Install_Status=complete`",
        )
    if around.install_record is not None and around.install_record.failure is Failure.UNREADABLE:
        yield Finding(
            id="npu.huawei.install-record-is-no-file",
            severity=Severity.WARN,
            summary=f"{INSTALL_RECORD} is not a file that can be read",
            evidence=(Evidence(source=INSTALL_RECORD, error=str(around.install_record.failure)),),
            why="mounting a file that the host lacks makes a directory, which tools of the driver trip over",
            fix="leave that mount out of the container's options",
        )
    if around.cann_version is None:
        yield Finding(
            id="npu.huawei.cann-not-found",
            severity=Severity.INFO,
            summary="no CANN toolkit was found here",
            evidence=(Evidence(source="/usr/local/Ascend", error="no version file of the toolkit"),),
            why="that is as it should be where vLLM-Ascend runs in its container, which brings its own",
        )
    elif around.nnal_version is None:
        yield Finding(
            id="npu.huawei.nnal-not-found",
            severity=Severity.WARN,
            summary=f"there is a CANN toolkit {around.cann_version}, but no nnal",
            evidence=(Evidence(source="/usr/local/Ascend/nnal/atb", error="no version file"),),
            why="vLLM-Ascend stops with `libatb.so: cannot open shared object file`",
            fix="install the nnal package of the toolkit's version, and source its set_env.sh",
        )
    if _SELECTOR in around.environ:
        yield Finding(
            id="config.ascend-visible-devices",
            severity=Severity.WARN,
            summary=f"{_SELECTOR} is set to `{around.environ[_SELECTOR]}`, and engines will see those devices only",
            evidence=(Evidence(source=_SELECTOR, value=around.environ[_SELECTOR]),),
            why="plans count every device of the machine",
            fix="unset it while planning and serving, or plan for fewer devices with `--hardware`",
        )
    yield from _unlisted(table, around)


def chip_findings(chips: Sequence[NpuChip]) -> Iterator[Finding]:
    """What is wrong with single devices, or with all of a kind."""
    for chip in chips:
        where = device_label(chip.row)
        if chip.row.health.lower() not in {"ok", ""}:
            yield _unhealthy(chip, where)
        if chip.row.total_bytes is None:
            yield Finding(
                id="npu.huawei.memory-unknown",
                severity=Severity.WARN,
                summary=f"the memory of {chip.name} at {where} could not be read",
                evidence=(
                    *(Evidence(source=DCMI, error=error) for error in chip.errors),
                    Evidence(source=_NPU_SMI, error="no used and total memory printed"),
                ),
                why="nothing can be planned for a device of unknown size; names are no measure of memory",
                fix="plan with `--hardware`, naming the chip",
            )
        if chip.compatibility not in {None, "OK", "NA"}:
            yield Finding(
                id="npu.huawei.firmware-mismatch",
                severity=Severity.WARN,
                summary="driver and firmware of the NPU do not go together",
                evidence=(Evidence(source="driver", value=f"Compatibility: {chip.compatibility}"),),
                why="such a pair was seen to lose memory sharing between processes",
                fix="install driver and firmware of one release",
            )
        yield from _kind_findings(chip)


def _kind_findings(chip: NpuChip) -> Iterator[Finding]:
    evidence = (Evidence(source=_NPU_SMI, value=chip.row.name), Evidence(source="PCI id", value=chip.pci_id))
    if chip.family is None:
        product = (Evidence(source="npu-smi info -t product", value=chip.product),) if chip.product else ()
        yield Finding(
            id="npu.huawei.family-unknown",
            severity=Severity.WARN,
            summary=f"which family `{chip.name}` belongs to is not known",
            evidence=(*evidence, *product),
            why="images, weights and recipes are made for one family",
            fix="plan with `--hardware`, naming the chip",
        )
    elif chip.family in _UNSUPPORTED_FAMILIES:
        bare = " (a `910B` without a digit is the first generation, not an A2)" if chip.row.name == "910B" else ""
        yield Finding(
            id="npu.huawei.unsupported-family",
            severity=Severity.WARN,
            summary=f"vLLM-Ascend runs no V4 on {chip.name}{bare}",
            evidence=evidence,
            why="V4 is supported on A2, A3 and 950 only",
        )
    if chip.name_family and chip.pci_family and chip.name_family != chip.pci_family:
        yield Finding(
            id="npu.huawei.family-contradiction",
            severity=Severity.WARN,
            summary=f"by its name the NPU is {chip.name_family}, by its PCI id {chip.pci_family}",
            evidence=evidence,
            why="the name was believed; an image of the wrong family does not start",
            fix="`npu-smi info -t board -i 0 -c 0` shows the chip; plan with `--hardware` if the name is wrong",
        )


def _unhealthy(chip: NpuChip, where: str) -> Finding:
    is_severe = chip.row.health.lower() in {"alarm", "critical"}
    return Finding(
        id="npu.huawei.unhealthy",
        severity=Severity.FAIL if is_severe else Severity.WARN,
        summary=f"the health of {chip.name} at {where} is `{chip.row.health}`",
        evidence=(
            Evidence(source=chip.source, value=chip.row.health),
            *(Evidence(source="npu-smi info -t health", value=fault) for fault in chip.faults),
        ),
        fix="ask the vendor's support about the fault, with its code"
        if chip.faults
        else f"`npu-smi info -t health -i {chip.row.npu_id}` tells the fault",
    )


def _unlisted(table: NpuTable, around: NpuSurroundings) -> Iterator[Finding]:
    """Devices on the bus that npu-smi leaves out. In a container the bus shows more than it was given."""
    listed = {row.pci_address for row in table.rows}
    hidden = [device for device in around.pci if device.address not in listed]
    if hidden and table.layout is not Layout.DDR and len(around.device_nodes) > len(table.rows):
        yield Finding(
            id="npu.huawei.device-missing",
            severity=Severity.FAIL,
            summary=f"{len(hidden)} Ascend devices on the bus are left out by npu-smi",
            evidence=tuple(Evidence(source=f"{PCI_DEVICES}/{d.address}", value=d.pci_id) for d in hidden),
            fix="`dmesg | grep -i -e davinci -e drv` tells why",
        )
