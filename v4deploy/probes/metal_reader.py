"""Asks Metal what the GPU of a Mac may use, and prints one JSON object. Run as a child process, as `nvml_reader` is.

Written after Apple's documentation and tried against a stand-in only: it has not run on a Mac yet. Where it fails,
llama-server and the wired limit are asked as before.
Every answer is `{"value": ...}` or `{"error": text, "code": null}`. Fields:

    device; and, where Metal gave one: name, recommended_bytes (MTLDevice.recommendedMaxWorkingSetSize), unified
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any

from v4deploy.probes.native import Answer, NativeError, ask, load_first

# Without CoreGraphics in the process Metal gives a command line program no device (Apple's documentation of
# MTLCreateSystemDefaultDevice).
_CORE_GRAPHICS = "/System/Library/Frameworks/CoreGraphics.framework/CoreGraphics"
_METAL = "/System/Library/Frameworks/Metal.framework/Metal"
_OBJECTIVE_C = "/usr/lib/libobjc.A.dylib"


def main() -> None:
    """Print the answers."""
    loaded = [load_first((path,)) for path in (_CORE_GRAPHICS, _METAL, _OBJECTIVE_C)]
    (_, metal, objective_c), errors = zip(*loaded, strict=True)
    error = next((text for text in errors if text), None)
    missing = {"device": {"error": f"Metal cannot be loaded: {error}", "code": None}}
    json.dump(missing if error else read_all(metal, objective_c), sys.stdout)


def read_all(metal: Any, objective_c: Any) -> Answer:
    """Everything, from libraries that have the functions of Metal and of the Objective-C runtime."""
    device = ask(lambda: _default_device(metal))
    if "error" in device:
        return {"device": device}
    handle = device["value"]
    return {
        "device": {"value": True},
        "name": ask(lambda: _text(objective_c, _send(objective_c, handle, b"name", ctypes.c_void_p))),
        "recommended_bytes": ask(
            lambda: _send(objective_c, handle, b"recommendedMaxWorkingSetSize", ctypes.c_uint64),
        ),
        "unified": ask(lambda: bool(_send(objective_c, handle, b"hasUnifiedMemory", ctypes.c_bool))),
    }


def _default_device(metal: Any) -> int:
    create = ctypes.CFUNCTYPE(ctypes.c_void_p)(("MTLCreateSystemDefaultDevice", metal))
    handle = create()
    if not handle:
        raise NativeError(None, "Metal gives no device")
    return int(handle)


def _send(objective_c: Any, receiver: int, selector: bytes, kind: Any) -> Any:
    """A message without arguments. Its function is called by the prototype of the method, as ARM64 asks for."""
    register = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_char_p)(("sel_registerName", objective_c))
    send = ctypes.CFUNCTYPE(kind, ctypes.c_void_p, ctypes.c_void_p)(("objc_msgSend", objective_c))
    return send(receiver, register(selector))


def _text(objective_c: Any, string: int | None) -> str:
    text = _send(objective_c, string, b"UTF8String", ctypes.c_char_p) if string else None
    if text is None:
        raise NativeError(None, "Metal gives no name")
    return str(text.decode(errors="replace"))


if __name__ == "__main__":
    main()
