"""Understands what `cuda_reader` printed, and fills with it what the driver's own tools left open."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from v4deploy.probes.answers import error_of, mapping, objects, value_of, whole
from v4deploy.probes.nvidia_answers import capability_of, cuda_version_of, failure_of
from v4deploy.probes.nvidia_device import DriverFailure, NvidiaDevice, NvidiaReport
from v4deploy.probes.pci import normal_address
from v4deploy.system.base import LibraryAnswer

SOURCE = "libcuda"
_SLICE_NAME = re.compile(r"\bMIG \d+g\.\d+gb\b")
# NVML's numbers for a driver that cannot serve CUDA either: not loaded, device lost, reset required, refused by the
# operating system, versions differ, unknown error. Asking would only cost time.
_DRIVER_IS_DOWN = frozenset({9, 15, 16, 17, 18, 999})


def leaves_a_gap(report: NvidiaReport) -> bool:
    """Whether libcuda may know what this report does not: any device at all, or the memory of one.

    Integrated GPUs are always asked about: their drivers tell nothing, or a carve-out that means nothing.
    """
    if report.failure is not None:
        # Where it hung, seconds were lost already, and CUDA hangs in the same driver.
        return not report.failure.is_hang and not driver_refuses(report)
    if not report.devices:
        return True
    return any(
        device.failure is None and (device.total_bytes is None or device.mig_enabled or device.may_be_integrated)
        for device in report.devices
    )


def driver_refuses(report: NvidiaReport) -> bool:
    """Whether the driver itself said no, so that asking it in another way gives the same."""
    return report.failure is not None and report.failure.code in _DRIVER_IS_DOWN


def parse_cuda(answer: LibraryAnswer | None) -> NvidiaReport | None:
    """The devices that CUDA lists; None where it was not asked. A failure without code: there was nobody to ask."""
    if answer is None:
        return None
    if answer.data is None:
        unanswered = DriverFailure(code=None, message=answer.error or "no answer", source=SOURCE)
        return NvidiaReport(source=SOURCE, failure=unanswered)
    data = answer.data
    failure = failure_of(data, "init", SOURCE) or failure_of(data, "device_count", SOURCE)
    return NvidiaReport(
        source=SOURCE,
        cuda_version=cuda_version_of(value_of(data, "driver_version", int)),
        devices=() if failure else tuple(_devices(data)),
        failure=failure,
    )


def with_cuda(report: NvidiaReport, cuda: NvidiaReport | None) -> NvidiaReport:
    """The report with its gaps filled. Devices are told apart by address; a single one on either side needs none."""
    if cuda is None:
        return report
    if not cuda.devices:
        return replace(report, cuda_failure=cuda.failure)
    by_address = {device.pci_address: device for device in cuda.devices if device.pci_address}
    alone = len(cuda.devices) == len(report.devices) == 1
    devices = tuple(
        _filled(device, cuda.devices[0] if alone else by_address.get(device.pci_address or ""))
        for device in report.devices
    )
    return replace(report, devices=devices, cuda_version=report.cuda_version or cuda.cuda_version)


def _filled(device: NvidiaDevice, cuda: NvidiaDevice | None) -> NvidiaDevice:
    # CUDA lists one slice of a device and calls it by its profile; the others share its address, not its size.
    other_slice = cuda is not None and device.is_slice and device.name != cuda.name
    if cuda is None or device.failure is not None or other_slice:
        return device
    filled = replace(
        device,
        cuda_total_bytes=cuda.cuda_total_bytes,
        integrated=cuda.integrated,
        compute_capability=device.compute_capability or cuda.compute_capability,
    )
    if cuda.is_slice and device.mig_enabled:
        # A container that was given one slice: the parent's size is not what a job gets.
        return replace(
            filled,
            name=cuda.name,
            is_slice=True,
            mig_enabled=False,
            total_bytes=None,
            reserved_bytes=None,
            free_bytes=None,
        )
    return filled


def _devices(data: Mapping[str, Any]) -> Iterator[NvidiaDevice]:
    for entry in objects(data.get("devices")):
        name = value_of(entry, "name", str)
        integrated = value_of(entry, "integrated", int)
        yield NvidiaDevice(
            index=whole(entry.get("index")) or 0,
            name=name,
            failure=_device_failure(entry),
            pci_address=normal_address(str(mapping(value_of(entry, "pci", dict)).get("address", ""))),
            cuda_total_bytes=whole(mapping(value_of(entry, "memory", dict)).get("total")),
            memory_error=error_of(entry, "memory", SOURCE) or f"{SOURCE}: free memory is told to running jobs only",
            compute_capability=capability_of(entry),
            integrated=None if integrated is None else integrated == 1,
            is_slice=bool(_SLICE_NAME.search(name or "")),
        )


def _device_failure(entry: Mapping[str, Any]) -> DriverFailure | None:
    """CUDA's numbers are not NVML's, which the table of failures is by."""
    failure = failure_of(entry, "handle", SOURCE)
    return None if failure is None else replace(failure, code=None, message=f"{failure.message} ({failure.code})")
