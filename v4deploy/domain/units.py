"""Bytes as integers: constants, parsing what people type, and the two ways of printing them."""

from __future__ import annotations

import re

KIB = 1024
MIB = 1024**2
GIB = 1024**3
KB = 10**3
MB = 10**6
GB = 10**9
TB = 10**12
TIB = 1024**4

_FACTORS = {
    "": 1,
    "b": 1,
    "k": KIB,
    "kib": KIB,
    "kb": KB,
    "m": MIB,
    "mib": MIB,
    "mb": MB,
    "g": GIB,
    "gib": GIB,
    "gb": GB,
    "t": TIB,
    "tib": TIB,
    "tb": TB,
}
_QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*")


def parse_bytes(text: str) -> int:
    """Read "80GiB", "192 GB", "64g" or a plain number of bytes.

    A bare prefix letter means the binary unit, as in `docker --memory` and `ulimit`.

    Raises:
        ValueError: the text is not a quantity of bytes.
    """
    match = _QUANTITY.fullmatch(text)
    factor = _FACTORS.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise ValueError(f"`{text}` is not a size; write for example `80GiB` or `192GB`")
    return round(float(match[1]) * factor)


def format_gib(size_bytes: int | None) -> str:
    """Memory, as engines and `nvidia-smi` print it: binary units. None prints as "unknown"."""
    if size_bytes is None:
        return "unknown"
    if abs(size_bytes) < 10 * MIB:
        return f"{size_bytes / KIB:,.0f} KiB"
    if abs(size_bytes) < GIB:
        return f"{size_bytes / MIB:,.0f} MiB"
    return f"{size_bytes / GIB:,.1f} GiB"


def format_gb(size_bytes: int | None) -> str:
    """File sizes, as model hubs print them: decimal units. None prints as "unknown"."""
    if size_bytes is None:
        return "unknown"
    for unit, name in ((GB, "GB"), (MB, "MB"), (KB, "kB")):
        if abs(size_bytes) >= unit:
            return f"{size_bytes / unit:,.1f} {name}"
    return f"{size_bytes} B"
