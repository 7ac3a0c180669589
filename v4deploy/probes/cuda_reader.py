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

from v4deploy.probes.native import Answer, Calls, ask, load_first

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


def main() -> None:
    """Print the answers."""
    see_all_devices(os.environ)
    library, error = load_first(_LIBRARIES)
    missing = {"init": {"error": f"CUDA's library cannot be loaded: {error}", "code": None}}
    json.dump(missing if library is None else read_all(library), sys.stdout)


def see_all_devices(environ: MutableMapping[str, str]) -> None:
    """Let CUDA number the devices as NVML does, and hide none: plans count every device of the machine."""
    environ.pop("CUDA_VISIBLE_DEVICES", None)
    environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"


def read_all(library: Any) -> Answer:
    """Everything, from a library that has libcuda's functions."""
    cuda = Calls(library=library, error_name=_error_name)
    answers: Answer = {"init": ask(lambda: cuda.call("cuInit", 0))}
    # This one call works without a successful cuInit.
    answers["driver_version"] = ask(lambda: cuda.number("cuDriverGetVersion"))
    if "error" in answers["init"]:
        return answers
    answers["device_count"] = ask(lambda: cuda.number("cuDeviceGetCount"))
    answers["devices"] = [_read_device(cuda, index) for index in range(answers["device_count"].get("value", 0))]
    return answers


def _read_device(cuda: Calls, index: int) -> Answer:
    found = ask(lambda: cuda.number("cuDeviceGet", index))
    if "error" in found:
        return {"index": index, "handle": found}
    device = ctypes.c_int(found["value"])
    questions: dict[str, Callable[[], Any]] = {
        "name": lambda: cuda.text("cuDeviceGetName", _NAME_BYTES, device),
        "memory": lambda: {"total": cuda.size("cuDeviceTotalMem_v2", device)},
        "compute_capability": lambda: [_attribute(cuda, device, number) for number in (_MAJOR, _MINOR)],
        "integrated": lambda: _attribute(cuda, device, _INTEGRATED),
        "pci": lambda: {"address": cuda.text("cuDeviceGetPCIBusId", _ADDRESS_BYTES, device)},
    }
    return {"index": index, "handle": {"value": True}, **{name: ask(one) for name, one in questions.items()}}


def _attribute(cuda: Calls, device: ctypes.c_int, attribute: int) -> int:
    return cuda.number("cuDeviceGetAttribute", attribute, device)


def _error_name(library: Any, status: int) -> str:
    name = ctypes.c_char_p()
    try:
        library.cuGetErrorName(status, ctypes.byref(name))
    except AttributeError:
        return f"CUDA error {status}"
    return name.value.decode(errors="replace") if name.value else f"CUDA error {status}"


if __name__ == "__main__":
    main()
