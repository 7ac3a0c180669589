"""What the NVIDIA readers' answers mean, beyond the form that all readers share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from v4deploy.probes.answers import mapping, value_of, whole
from v4deploy.probes.nvidia_device import DriverFailure


def failure_of(entry: Mapping[str, Any], name: str, source: str) -> DriverFailure | None:
    """The failure that an answer records; None where it records none."""
    answer = mapping(entry.get(name))
    if "error" not in answer:
        return None
    return DriverFailure(code=whole(answer.get("code")), message=str(answer["error"]), source=source)


def capability_of(entry: Mapping[str, Any]) -> tuple[int, int] | None:
    match value_of(entry, "compute_capability", list):
        case [int(major), int(minor)]:
            return major, minor
        case _:
            return None


def cuda_version_of(number: int | None) -> str | None:
    """13030 is "13.3"."""
    return None if number is None else f"{number // 1000}.{number % 1000 // 10}"
