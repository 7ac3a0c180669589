"""What the kernel and AMD's tools say about a GPU, in one form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

# Targets that exist as integrated GPUs only (rocm-bootstrap's target table, read 2026-11-22). The absence of
# `board_info` in sysfs means "integrated" to kernels that have the file, and nothing to older ones, so both must agree.
_INTEGRATED_TARGETS = frozenset(
    {"gfx902", "gfx90c", "gfx1035", "gfx1036", "gfx1103", "gfx1150", "gfx1151", "gfx1152", "gfx1153", "gfx1170"}
)
# MI300A shares the target gfx942 with MI300X; its memory is HBM that its CPU cores use as well.
_INTEGRATED_WITH_HBM = frozenset({"1002:74a0"})
_TARGET_WITH_HBM = "gfx942"


@dataclass(frozen=True, slots=True, kw_only=True)
class AmdDevice:
    """One schedulable GPU or partition; None where the source did not say.

    Attributes:
        source: where its memory figures come from.
        compute_partition, memory_partition: modes of the whole socket: `SPX`, `CPX`..., `NPS1`, `NPS4`...
        has_board_info: whether sysfs describes a board; None where sysfs could not be read.
        vram_total_bytes: memory of the whole socket, or of an integrated GPU what firmware reserved for it.
        gtt_total_bytes: system RAM that the kernel may map for the GPU.
        shared_total_bytes: both together, as the runtime tells them of an integrated GPU.
        bank_bytes: memory as KFD shows it for this device alone.
        integrated: what the runtime says; None where it was not asked.
        is_open: the runtime listed it, so that programs of this user can open it.
        memory_error: why no memory figure could be read.
    """

    source: str
    name: str | None = None
    gfx: str | None = None
    pci_address: str | None = None
    pci_id: str | None = None
    render_minor: int | None = None
    numa_node: int | None = None
    driver_version: str | None = None
    compute_partition: str | None = None
    memory_partition: str | None = None
    has_board_info: bool | None = None
    in_kfd: bool = True
    integrated: bool | None = None
    is_open: bool = False
    vram_total_bytes: int | None = None
    vram_used_bytes: int | None = None
    gtt_total_bytes: int | None = None
    shared_total_bytes: int | None = None
    bank_bytes: int | None = None
    memory_error: str | None = None

    @property
    def socket(self) -> str | None:
        """The address without its function digit, which numbers partitions."""
        return self.pci_address.rpartition(".")[0] if self.pci_address else None

    @property
    def has_shared_hbm(self) -> bool:
        is_such = self.integrated is True and self.gfx == _TARGET_WITH_HBM
        return self.pci_id in _INTEGRATED_WITH_HBM or is_such

    @property
    def is_integrated(self) -> bool:
        if self.integrated is not None:
            return self.integrated
        return self.has_board_info is not True and (self.gfx in _INTEGRATED_TARGETS or self.has_shared_hbm)

    @property
    def is_partition(self) -> bool:
        return self.compute_partition not in {None, "SPX"}

    @property
    def knows_memory(self) -> bool:
        """Enough for a pool. What KFD calls an integrated GPU's own memory is the host's, unless it is HBM."""
        lives_on_ram = self.is_integrated and not self.has_shared_hbm
        told = (self.vram_total_bytes, self.shared_total_bytes, None if lives_on_ram else self.bank_bytes)
        return any(size is not None for size in told)


def fill_gaps(devices: Sequence[AmdDevice], told: Sequence[AmdDevice]) -> tuple[AmdDevice, ...]:
    """The devices, those of unknown memory with what a further source tells of them; without any, the source's own.

    Devices are told apart by address; a single one on either side needs none.
    """
    if not devices:
        return tuple(told)
    by_address = {device.pci_address: device for device in told if device.pci_address}
    alone = len(devices) == len(told) == 1
    return tuple(_filled(one, told[0] if alone else by_address.get(one.pci_address or "")) for one in devices)


def _filled(device: AmdDevice, told: AmdDevice | None) -> AmdDevice:
    if told is None or device.knows_memory:
        return device
    gaps = {field.name: getattr(told, field.name) for field in fields(device) if getattr(device, field.name) is None}
    return replace(
        device,
        **gaps,
        source=told.source if told.knows_memory else device.source,
        memory_error=told.memory_error or device.memory_error,
        is_open=told.is_open,
    )


def gfx_target(version: int) -> str | None:
    """KFD's number as compilers write it: 90402 is gfx942, 90010 gfx90a, 110501 gfx1151. None for 0: no GPU."""
    if version <= 0:
        return None
    major, rest = divmod(version, 10_000)
    minor, step = divmod(rest, 100)
    return f"gfx{major}{minor:x}{step:x}"


def bdf(domain: int, location: int) -> str:
    """A PCI address from KFD's `domain` and `location_id`: 33792 is 84:00.0."""
    return f"{domain:04x}:{location >> 8 & 0xFF:02x}:{location >> 3 & 0x1F:02x}.{location & 7:x}"
