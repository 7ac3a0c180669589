"""Asks libcuda about the NVIDIA GPUs here and prints one JSON object. Run as a child process, as `nvml_reader` is.

For machines where NVML and nvidia-smi are missing or know no memory: containers without the `utility` capability,
integrated GPUs, old Jetsons. No context is made, so nothing is allocated; therefore free memory is not told.
Every answer is `{"value": ...}` or `{"error": text, "code": CUDA's number or null}`. Fields:

    init, driver_version (13030 is 13.3), device_count
    devices: one object each, with index and handle; and, where the handle was given:
        name, memory {total} in bytes, compute_capability [major, minor], integrated (0 or 1), pci {address}
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Callable, MutableMapping
from typing import Any

Answer = dict[str, Any]

# The loader knows the first one nearly everywhere; the others are where WSL, Google's images and JetPack keep it.
_LIBRARIES = (
    "libcuda.so.1",
    "/usr/lib/wsl/lib/libcuda.so.1",
    "/usr/local/nvidia/lib64/libcuda.so.1",
    "/usr/lib/aarch64-linux-gnu/tegra/libcuda.so.1",
)
# CU_DEVICE_ATTRIBUTE_*.
_INTEGRATED, _MAJOR, _MINOR = 18, 75, 76
_NAME_BYTES = 256
_ADDRESS_BYTES = 32


class CudaError(Exception):
    """A call that returned another status than success."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def main() -> None:
    """Print the answers."""
    see_all_devices(os.environ)
    library, error = _load()
    answers: Answer = {"init": {"error": error, "code": None}} if library is None else read_all(library)
    json.dump(answers, sys.stdout)


def see_all_devices(environ: MutableMapping[str, str]) -> None:
    """Let CUDA number the devices as NVML does, and hide none: plans count every device of the machine."""
    environ.pop("CUDA_VISIBLE_DEVICES", None)
    environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"


def read_all(cuda: Any) -> Answer:
    """Everything, from a library that has libcuda's functions."""
    answers: Answer = {"init": _ask(lambda: _call(cuda, "cuInit", 0))}
    # This one call works without a successful cuInit.
    answers["driver_version"] = _ask(lambda: _number(cuda, "cuDriverGetVersion"))
    if "error" in answers["init"]:
        return answers
    answers["device_count"] = _ask(lambda: _number(cuda, "cuDeviceGetCount"))
    answers["devices"] = [_read_device(cuda, index) for index in range(answers["device_count"].get("value", 0))]
    return answers


def _read_device(cuda: Any, index: int) -> Answer:
    found = _ask(lambda: _number(cuda, "cuDeviceGet", index))
    if "error" in found:
        return {"index": index, "handle": found}
    device = ctypes.c_int(found["value"])
    questions: dict[str, Callable[[], Any]] = {
        "name": lambda: _text(cuda, "cuDeviceGetName", _NAME_BYTES, device),
        "memory": lambda: {"total": _total(cuda, device)},
        "compute_capability": lambda: [_attribute(cuda, device, number) for number in (_MAJOR, _MINOR)],
        "integrated": lambda: _attribute(cuda, device, _INTEGRATED),
        "pci": lambda: {"address": _text(cuda, "cuDeviceGetPCIBusId", _ADDRESS_BYTES, device)},
    }
    return {"index": index, "handle": {"value": True}, **{name: _ask(one) for name, one in questions.items()}}


def _load() -> tuple[Any, str]:
    errors = []
    for name in _LIBRARIES:
        try:
            return ctypes.CDLL(name), ""
        except OSError as error:
            errors.append(str(error))
    return None, f"CUDA's library cannot be loaded: {errors[0]}"


def _ask(question: Callable[[], Any]) -> Answer:
    try:
        return {"value": question()}
    except CudaError as error:
        return {"error": str(error), "code": error.code}
    except (AttributeError, ValueError) as error:  # an older library, or text that is none
        return {"error": f"{type(error).__name__}: {error}", "code": None}


def _call(cuda: Any, function: str, *arguments: Any) -> bool:
    status = getattr(cuda, function)(*arguments)
    if status:
        raise CudaError(status, _error_name(cuda, status))
    return True


def _error_name(cuda: Any, status: int) -> str:
    name = ctypes.c_char_p()
    try:
        cuda.cuGetErrorName(status, ctypes.byref(name))
    except AttributeError:
        return f"CUDA error {status}"
    return name.value.decode(errors="replace") if name.value else f"CUDA error {status}"


def _number(cuda: Any, function: str, *arguments: Any) -> int:
    number = ctypes.c_int()
    _call(cuda, function, ctypes.byref(number), *arguments)
    return number.value


def _attribute(cuda: Any, device: ctypes.c_int, attribute: int) -> int:
    number = ctypes.c_int()
    _call(cuda, "cuDeviceGetAttribute", ctypes.byref(number), attribute, device)
    return number.value


def _total(cuda: Any, device: ctypes.c_int) -> int:
    size = ctypes.c_size_t()
    _call(cuda, "cuDeviceTotalMem_v2", ctypes.byref(size), device)
    return size.value


def _text(cuda: Any, function: str, length: int, device: ctypes.c_int) -> str:
    text = ctypes.create_string_buffer(length)
    _call(cuda, function, text, length, device)
    return text.value.decode(errors="replace")


if __name__ == "__main__":
    main()
