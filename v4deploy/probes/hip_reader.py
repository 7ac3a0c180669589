"""Asks HIP about the AMD GPUs here and prints one JSON object. Run as a child process, as `nvml_reader` is.

For machines where the kernel's files are hidden and AMD's tools refuse: unprivileged containers, WSL. Nothing is
allocated; therefore free memory is not told.
Every answer is `{"value": ...}` or `{"error": text, "code": HIP's number or null}`. Fields:

    init, runtime_version (70253211 is 7.2), device_count
    devices: one object each, with index and handle; and, where the handle was given:
        name, memory {total} in bytes, target (`gfx942:sramecc+:xnack-`), integrated (0 or 1), pci {address}
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import sys
from collections.abc import Callable, MutableMapping
from typing import Any

from v4deploy.probes.native import Answer, Calls, NativeError, ask, load_first

# The first is there with the development package only; the numbers are those of ROCm 7 and 6.
_NAMES = ("libamdhip64.so", "libamdhip64.so.7", "libamdhip64.so.6")
_ROCM = "/opt/rocm"
# hipDeviceAttributeIntegrated, unchanged since HIP 4.3.
_INTEGRATED = 16
_NAME_BYTES = 256
_ADDRESS_BYTES = 32
# The structure of properties has 1472 bytes in ROCm 6 and 7, and grows.
_PROPERTIES_BYTES = 16384
# Its layout differs between releases, but only the target's name begins like this.
_TARGET = re.compile(rb"gfx[0-9a-f]{3,5}(?::[a-z]+[+-])*(?=\0)")
# ROCm 6 and newer write the current structure by the first name, and an older one by the second.
_PROPERTIES = ("hipGetDevicePropertiesR0600", "hipGetDeviceProperties")
_HIDING = ("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "CUDA_VISIBLE_DEVICES")
_OTHER_TARGET = "HSA_OVERRIDE_GFX_VERSION"
# Before ROCm 7.13 the runtime looks for a GPU behind Windows only if told to (ROCm/librocdxg#34).
_WSL_SWITCH = "HSA_ENABLE_DXG_DETECTION"
_WSL_NODE = "/dev/dxg"


def main() -> None:
    """Print the answers. What the runtime itself prints goes to stderr, as it would spoil the JSON."""
    output = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    see_all_devices(os.environ, behind_windows=os.path.lexists(_WSL_NODE))
    root = os.environ.get("ROCM_PATH") or _ROCM
    library, error = load_first((*_NAMES, *(f"{root}/lib/{name}" for name in _NAMES)))
    missing = {"init": {"error": f"HIP's library cannot be loaded: {error}", "code": None}}
    with output:
        json.dump(missing if library is None else read_all(library), output)


def see_all_devices(environ: MutableMapping[str, str], *, behind_windows: bool) -> None:
    """Hide no device, and show each as what it is: plans count every device of the machine."""
    for name in (*_HIDING, _OTHER_TARGET):
        environ.pop(name, None)
    if behind_windows:
        environ[_WSL_SWITCH] = "1"


def read_all(library: Any) -> Answer:
    """Everything, from a library that has HIP's functions."""
    hip = Calls(library=library, error_name=_error_name)
    answers: Answer = {"init": ask(lambda: hip.call("hipInit", 0))}
    answers["runtime_version"] = ask(lambda: hip.number("hipRuntimeGetVersion"))
    if "error" in answers["init"]:
        return answers
    answers["device_count"] = ask(lambda: hip.number("hipGetDeviceCount"))
    answers["devices"] = [_read_device(hip, index) for index in range(answers["device_count"].get("value", 0))]
    return answers


def _read_device(hip: Calls, index: int) -> Answer:
    found = ask(lambda: hip.number("hipDeviceGet", index))
    if "error" in found:
        return {"index": index, "handle": found}
    device = ctypes.c_int(found["value"])
    questions: dict[str, Callable[[], Any]] = {
        "name": lambda: hip.text("hipDeviceGetName", _NAME_BYTES, device),
        "memory": lambda: {"total": hip.size("hipDeviceTotalMem", device)},
        "target": lambda: _target(hip, device),
        "integrated": lambda: hip.number("hipDeviceGetAttribute", _INTEGRATED, device),
        "pci": lambda: {"address": hip.text("hipDeviceGetPCIBusId", _ADDRESS_BYTES, device)},
    }
    return {"index": index, "handle": {"value": True}, **{name: ask(one) for name, one in questions.items()}}


def _target(hip: Calls, device: ctypes.c_int) -> str:
    function = next((name for name in _PROPERTIES if hasattr(hip.library, name)), _PROPERTIES[-1])
    properties = ctypes.create_string_buffer(_PROPERTIES_BYTES)
    hip.call(function, properties, device)
    found = _TARGET.search(properties.raw)
    if found is None:
        raise NativeError(None, f"{function} names no target")
    return found[0].decode()


def _error_name(library: Any, status: int) -> str:
    try:
        library.hipGetErrorName.restype = ctypes.c_char_p
        name = library.hipGetErrorName(status)
    except AttributeError:
        name = None
    return name.decode(errors="replace") if name else f"HIP error {status}"


if __name__ == "__main__":
    main()
