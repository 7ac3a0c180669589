"""Asks NVML everything about the NVIDIA GPUs here and prints one JSON object. Run as a child process.

A wedged driver blocks NVML for tens of seconds inside a call that nothing can interrupt, so it gets a process that can
be killed. The one home of pynvml (package nvidia-ml-py). Every answer is `{"value": ...}` or
`{"error": text, "code": NVML's number or null}`, so that one failing field hides no other. Fields:

    init, driver_version, nvml_version, cuda_driver_version (13030 is 13.3), device_count, module_is_old (plain boolean)
    conf_compute {feature 0 or 1, multi_gpu_mode where known: 0 none}, conf_compute_ready (0 not yet, 1 ready)
    devices: one object each, with index and handle; and, where the handle was given:
        name, uuid, pci {address, device_id}, memory {total, free, used, reserved where known} in bytes,
        compute_capability [major, minor], addressing_mode (0 none, 1 HMM, 2 ATS), numa_node (of the GPU's own memory),
        memory_affinity [NUMA nodes of the system that are near], fabric {state, status, health_summary where known},
        ecc_mode [current, pending], retired_pages_pending (1 yes), repair_pending [channel, TPC],
        remapped_rows [correctable, uncorrectable, pending, failed], unrepairable_memory (1 yes), recovery_action,
        virtualization_mode (0 none, 1 whole GPU passed through, 2 vGPU, 3 and 4 host of vGPUs),
        mig_mode [current, pending]
        nvlinks: one object for each active link: remote_type (0 GPU, 2 switch), remote_address; null where not told
        licences, of a vGPU only: one object for each product: product, licensed (plain boolean)
        slices: the same for each MIG slice that exists: index, handle, name, uuid, memory
    pairs: one object for every two devices: first, second (their indexes), common_ancestor (0 the board itself, 10
        and 20 PCIe switches, 30 host bridge, 40 NUMA node, 50 system), p2p_read, p2p_write, p2p_nvlink (0 is yes)
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Callable
from functools import partial
from itertools import combinations
from operator import methodcaller
from typing import Any

Answer = dict[str, Any]

_ERROR_NOT_FOUND = 6
# More than NVLINK has had links in any generation, for modules that do not name the number.
_MOST_NVLINKS = 36
# 256 NUMA nodes; a GB200 has up to 34.
_NODE_WORDS, _WORD_BITS = 4, 64
_VGPU = 2
# By number: pynvml defines the name for reading as a tuple by mistake, which no call takes.
_PEER_QUESTIONS = {"p2p_read": 0, "p2p_write": 1, "p2p_nvlink": 2}
# Present since 2025; an older `pynvml` package that shadows nvidia-ml-py lacks it.
_RECENT_FUNCTION = "nvmlDeviceGetAddressingMode"

_SYSTEM_QUESTIONS = {
    "driver_version": "nvmlSystemGetDriverVersion",
    "nvml_version": "nvmlSystemGetNVMLVersion",
    "cuda_driver_version": "nvmlSystemGetCudaDriverVersion_v2",
    "device_count": "nvmlDeviceGetCount",
    "conf_compute_ready": "nvmlSystemGetConfComputeGpusReadyState",
}
# Questions about a device whose answers need no unpacking.
_DEVICE_QUESTIONS = {
    "name": "nvmlDeviceGetName",
    "uuid": "nvmlDeviceGetUUID",
    "compute_capability": "nvmlDeviceGetCudaComputeCapability",
    "addressing_mode": "nvmlDeviceGetAddressingMode",
    "numa_node": "nvmlDeviceGetNumaNodeId",
    "ecc_mode": "nvmlDeviceGetEccMode",
    "retired_pages_pending": "nvmlDeviceGetRetiredPagesPendingStatus",
    "remapped_rows": "nvmlDeviceGetRemappedRows",
    "repair_pending": "nvmlDeviceGetRepairStatus",
    "unrepairable_memory": "nvmlDeviceGetUnrepairableMemoryFlag_v1",
    "virtualization_mode": "nvmlDeviceGetVirtualizationMode",
    "mig_mode": "nvmlDeviceGetMigMode",
}


def read_all(nvml: Any) -> Answer:
    """Everything, from a module that has pynvml's functions."""
    answers: Answer = {
        "module_is_old": not hasattr(nvml, _RECENT_FUNCTION),
        "init": _ask(nvml, lambda: nvml.nvmlInit() or True),
    }
    if "error" in answers["init"]:
        return answers
    try:
        # By name: an older module may lack a function, and then only that field is unknown.
        for field, function in _SYSTEM_QUESTIONS.items():
            answers[field] = _ask_by_name(nvml, function)
        answers["conf_compute"] = _ask(nvml, lambda: _confidential_compute(nvml))
        count = answers["device_count"].get("value", 0)
        found = [_ask_handle(nvml, partial(nvml.nvmlDeviceGetHandleByIndex, index)) for index in range(count)]
        answers["devices"] = [_read_device(nvml, index, *one) for index, one in enumerate(found)]
        answers["pairs"] = [
            _read_pair(nvml, pair)
            for pair in combinations([(i, handle) for i, (_, handle) in enumerate(found) if handle is not None], 2)
        ]
    finally:
        _ask_by_name(nvml, "nvmlShutdown")
    return answers


def _read_device(nvml: Any, index: int, found: Answer, handle: Any) -> Answer:
    device: Answer = {"index": index, "handle": found}
    if handle is None:
        return device
    for field, function in _DEVICE_QUESTIONS.items():
        device[field] = _ask_by_name(nvml, function, handle)
    questions: dict[str, Callable[[Any, Any], Any]] = {
        "pci": _pci,
        "memory": _memory,
        "memory_affinity": _memory_affinity,
        "fabric": _fabric,
        "recovery_action": _recovery_action,
        "nvlinks": _nvlinks,
    }
    device.update({field: _ask(nvml, partial(question, nvml, handle)) for field, question in questions.items()})
    if device["virtualization_mode"].get("value") == _VGPU:
        device["licences"] = _ask(nvml, lambda: _licences(nvml, handle))
    # Asked whatever the mode says: in a container that was given one slice, the parent answers "no permission".
    device["slices"] = _read_slices(nvml, handle)
    return device


def _read_pair(nvml: Any, pair: tuple[tuple[int, Any], tuple[int, Any]]) -> Answer:
    (first, one), (second, other) = pair
    answers: Answer = {"first": first, "second": second}
    answers["common_ancestor"] = _ask_by_name(nvml, "nvmlDeviceGetTopologyCommonAncestor", one, other)
    for field, number in _PEER_QUESTIONS.items():
        answers[field] = _ask_by_name(nvml, "nvmlDeviceGetP2PStatus", one, other, number)
    return answers


def _read_slices(nvml: Any, parent: Any) -> list[Answer]:
    count = _ask(nvml, lambda: nvml.nvmlDeviceGetMaxMigDeviceCount(parent)).get("value", 0)
    slots = [_read_slice(nvml, parent, index) for index in range(count)]
    return [entry for entry in slots if entry["handle"].get("code") != _ERROR_NOT_FOUND]  # that is an empty slot


def _read_slice(nvml: Any, parent: Any, index: int) -> Answer:
    found, handle = _ask_handle(nvml, lambda: nvml.nvmlDeviceGetMigDeviceHandleByIndex(parent, index))
    if handle is None:
        return {"index": index, "handle": found}
    return {
        "index": index,
        "handle": found,
        "name": _ask(nvml, lambda: nvml.nvmlDeviceGetName(handle)),
        "uuid": _ask(nvml, lambda: nvml.nvmlDeviceGetUUID(handle)),
        "memory": _ask(nvml, lambda: _memory(nvml, handle)),
    }


def _ask_by_name(nvml: Any, function: str, *arguments: Any) -> Answer:
    return _ask(nvml, partial(methodcaller(function, *arguments), nvml))


def _ask(nvml: Any, question: Callable[[], Any]) -> Answer:
    try:
        value = question()
    except nvml.NVMLError as error:
        return {"error": str(error), "code": getattr(error, "value", None)}
    except (AttributeError, TypeError, ValueError, OSError) as error:  # an older module, or a driver's odd answer
        return {"error": f"{type(error).__name__}: {error}", "code": None}
    return {"value": _text(value) if isinstance(value, bytes) else value}


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _ask_handle(nvml: Any, question: Callable[[], Any]) -> tuple[Answer, Any]:
    """The answer as it may be printed, and the handle itself, which may not."""
    answer = _ask(nvml, question)
    handle = answer.get("value")
    return ({"value": True}, handle) if "error" not in answer else (answer, None)


def _pci(nvml: Any, handle: Any) -> Answer:
    info = nvml.nvmlDeviceGetPciInfo(handle)
    return {"address": _text(info.busId), "device_id": info.pciDeviceId}


def _memory(nvml: Any, handle: Any) -> Answer:
    try:
        info = nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
    except (nvml.NVMLError, AttributeError, TypeError):  # a driver or module from before version 2
        info = nvml.nvmlDeviceGetMemoryInfo(handle)
    reserved = getattr(info, "reserved", None)
    memory = {"total": info.total, "free": info.free, "used": info.used}
    return memory if reserved is None else {**memory, "reserved": reserved}


def _memory_affinity(nvml: Any, handle: Any) -> list[int]:
    words = nvml.nvmlDeviceGetMemoryAffinity(handle, _NODE_WORDS, nvml.NVML_AFFINITY_SCOPE_NODE)
    return [
        number * _WORD_BITS + bit for number, word in enumerate(words) for bit in range(_WORD_BITS) if word >> bit & 1
    ]


def _fabric(nvml: Any, handle: Any) -> Answer:
    try:
        info = nvml.c_nvmlGpuFabricInfo_v3_t()
        nvml.nvmlDeviceGetGpuFabricInfoV(handle, ctypes.byref(info))
    except (nvml.NVMLError, AttributeError):  # a driver or module from before version 3
        info = nvml.c_nvmlGpuFabricInfoV_t()
        nvml.nvmlDeviceGetGpuFabricInfoV(handle, ctypes.byref(info))
    fabric = {"state": info.state, "status": info.status}
    health = getattr(info, "healthSummary", None)
    return fabric if health is None else {**fabric, "health_summary": health}


def _nvlinks(nvml: Any, handle: Any) -> list[Answer]:
    """The active links. Which numbers exist is learned by asking: the first that does not exist ends the list."""
    links = []
    for number in range(getattr(nvml, "NVML_NVLINK_MAX_LINKS", _MOST_NVLINKS)):
        try:
            active = nvml.nvmlDeviceGetNvLinkState(handle, number)
        except nvml.NVMLError:
            if number == 0:
                raise
            break
        if active:
            remote = _ask_by_name(nvml, "nvmlDeviceGetNvLinkRemotePciInfo", handle, number).get("value")
            kind = _ask_by_name(nvml, "nvmlDeviceGetNvLinkRemoteDeviceType", handle, number).get("value")
            links.append({"remote_type": kind, "remote_address": _text(remote.busId) if remote else None})
    return links


def _licences(nvml: Any, handle: Any) -> list[Answer]:
    features = nvml.nvmlDeviceGetGridLicensableFeatures(handle)
    return [
        {"product": _text(feature.productName), "licensed": bool(feature.featureState)}
        for feature in features.gridLicensableFeatures[: features.licensableFeaturesCount]
    ]


def _confidential_compute(nvml: Any) -> Answer:
    """The mode that spans several GPUs (protected PCIe) is told by newer drivers only, and leaves the feature off."""
    answer = {"feature": nvml.nvmlSystemGetConfComputeState().ccFeature}
    if not hasattr(nvml, "c_nvmlSystemConfComputeSettings_v1_t"):
        return answer
    settings = nvml.c_nvmlSystemConfComputeSettings_v1_t()
    try:
        status = nvml.nvmlSystemGetConfComputeSettings(ctypes.byref(settings))
    except nvml.NVMLError:
        return answer
    return {**answer, "multi_gpu_mode": settings.multiGpuMode} if status == nvml.NVML_SUCCESS else answer


def _recovery_action(nvml: Any, handle: Any) -> int | None:
    field = nvml.nvmlDeviceGetFieldValues(handle, [nvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION])[0]
    if field.nvmlReturn != nvml.NVML_SUCCESS:
        raise nvml.NVMLError(field.nvmlReturn)
    return int(field.value.uiVal)


def main() -> None:
    """Print the answers."""
    try:
        import pynvml
    except ImportError as error:
        answers: Answer = {"init": {"error": f"pynvml cannot be imported: {error}", "code": None}}
    else:
        answers = read_all(pynvml)
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
