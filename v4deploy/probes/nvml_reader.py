"""Asks NVML everything about the NVIDIA GPUs here and prints one JSON object. Run as a child process.

A wedged driver blocks NVML for tens of seconds inside a call that nothing can interrupt, so it gets a process that can
be killed. The one home of pynvml (package nvidia-ml-py). Every answer is `{"value": ...}` or
`{"error": text, "code": NVML's number or null}`, so that one failing field hides no other. Fields:

    init, driver_version, nvml_version, cuda_driver_version (13030 is 13.3), device_count, module_is_old (plain boolean)
    devices: one object each, with index and handle; and, where the handle was given:
        name, pci {address, device_id}, memory {total, free, used, reserved where known} in bytes,
        compute_capability [major, minor], addressing_mode (0 none, 1 HMM, 2 ATS), numa_node (of the GPU's own memory),
        ecc_mode [current, pending], fabric {state, status}, recovery_action, mig_mode [current, pending]
        slices: the same for each MIG slice that exists: index, handle, name, memory
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Callable
from functools import partial
from operator import methodcaller
from typing import Any

Answer = dict[str, Any]

_ERROR_NOT_FOUND = 6
# Present since 2025; an older `pynvml` package that shadows nvidia-ml-py lacks it.
_RECENT_FUNCTION = "nvmlDeviceGetAddressingMode"

_SYSTEM_QUESTIONS = {
    "driver_version": "nvmlSystemGetDriverVersion",
    "nvml_version": "nvmlSystemGetNVMLVersion",
    "cuda_driver_version": "nvmlSystemGetCudaDriverVersion_v2",
    "device_count": "nvmlDeviceGetCount",
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
        answers["devices"] = [_read_device(nvml, index) for index in range(answers["device_count"].get("value", 0))]
    finally:
        _ask_by_name(nvml, "nvmlShutdown")
    return answers


def _read_device(nvml: Any, index: int) -> Answer:
    found, handle = _ask_handle(nvml, lambda: nvml.nvmlDeviceGetHandleByIndex(index))
    device: Answer = {"index": index, "handle": found}
    if handle is None:
        return device
    questions: dict[str, Callable[[], Any]] = {
        "name": lambda: nvml.nvmlDeviceGetName(handle),
        "pci": lambda: _pci(nvml, handle),
        "memory": lambda: _memory(nvml, handle),
        "compute_capability": lambda: list(nvml.nvmlDeviceGetCudaComputeCapability(handle)),
        "addressing_mode": lambda: nvml.nvmlDeviceGetAddressingMode(handle),
        "numa_node": lambda: nvml.nvmlDeviceGetNumaNodeId(handle),
        "ecc_mode": lambda: list(nvml.nvmlDeviceGetEccMode(handle)),
        "fabric": lambda: _fabric(nvml, handle),
        "recovery_action": lambda: _recovery_action(nvml, handle),
        "mig_mode": lambda: list(nvml.nvmlDeviceGetMigMode(handle)),
    }
    device.update({name: _ask(nvml, question) for name, question in questions.items()})
    # Asked whatever the mode says: in a container that was given one slice, the parent answers "no permission".
    device["slices"] = _read_slices(nvml, handle)
    return device


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
        "memory": _ask(nvml, lambda: _memory(nvml, handle)),
    }


def _ask_by_name(nvml: Any, function: str) -> Answer:
    return _ask(nvml, partial(methodcaller(function), nvml))


def _ask(nvml: Any, question: Callable[[], Any]) -> Answer:
    try:
        value = question()
    except nvml.NVMLError as error:
        return {"error": str(error), "code": getattr(error, "value", None)}
    except (AttributeError, TypeError, ValueError, OSError) as error:  # an older module, or a driver's odd answer
        return {"error": f"{type(error).__name__}: {error}", "code": None}
    return {"value": value.decode(errors="replace") if isinstance(value, bytes) else value}


def _ask_handle(nvml: Any, question: Callable[[], Any]) -> tuple[Answer, Any]:
    """The answer as it may be printed, and the handle itself, which may not."""
    answer = _ask(nvml, question)
    handle = answer.get("value")
    return ({"value": True}, handle) if "error" not in answer else (answer, None)


def _pci(nvml: Any, handle: Any) -> Answer:
    info = nvml.nvmlDeviceGetPciInfo(handle)
    address = info.busId.decode() if isinstance(info.busId, bytes) else info.busId
    return {"address": address, "device_id": info.pciDeviceId}


def _memory(nvml: Any, handle: Any) -> Answer:
    try:
        info = nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
    except (nvml.NVMLError, AttributeError, TypeError):  # a driver or module from before version 2
        info = nvml.nvmlDeviceGetMemoryInfo(handle)
    reserved = getattr(info, "reserved", None)
    memory = {"total": info.total, "free": info.free, "used": info.used}
    return memory if reserved is None else {**memory, "reserved": reserved}


def _fabric(nvml: Any, handle: Any) -> Answer:
    info = nvml.c_nvmlGpuFabricInfoV_t()
    nvml.nvmlDeviceGetGpuFabricInfoV(handle, ctypes.byref(info))
    return {"state": info.state, "status": info.status}


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
