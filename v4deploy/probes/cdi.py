"""Reads Container Device Interface files: which devices containers are offered, and for which driver they were made."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml

from v4deploy.domain.surroundings import CdiSpec
from v4deploy.system.base import FileRead

# Defaults of the CDI package, which docker and podman are built with.
USUAL_DIRECTORIES = ("/etc/cdi", "/var/run/cdi")
# The C parser is several times as fast; it is missing where PyYAML was built without libyaml.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# Only drivers' own versions have a major number of three digits: WSL and Jetson mount `libcuda.so.1.1`.
_DRIVER_LIBRARY = re.compile(r"\blib(?:cuda|nvidia-ml)\.so\.(\d{3}\.\d+(?:\.\d+)*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class CdiReading:
    """A file's content, and why it has none: `error` is set exactly where the kind is not known."""

    spec: CdiSpec
    error: str | None = None


def parse_cdi(read: FileRead) -> CdiReading:
    """One file, YAML or JSON."""
    if read.text is None:
        return _unknown(read.path, f"cannot be read: {read.failure}")
    try:
        data = yaml.load(read.text, Loader=_Loader)  # noqa: S506 - both are safe loaders
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        return _unknown(read.path, f"is not YAML: {str(error).splitlines()[0]}")
    kind = data.get("kind") if isinstance(data, dict) else None
    devices = data.get("devices") if isinstance(data, dict) else None
    if not isinstance(kind, str) or "/" not in kind or not isinstance(devices, list):
        return _unknown(read.path, "has no `kind` with `devices`")
    names = tuple(str(entry["name"]) for entry in devices if isinstance(entry, dict) and "name" in entry)
    library = _DRIVER_LIBRARY.search(read.text)
    spec = CdiSpec(path=read.path, kind=kind, devices=names, driver_version=library[1] if library else None)
    return CdiReading(spec=spec)


def effective_specs(specs: tuple[CdiSpec, ...], kind: str, directories: tuple[str, ...] | None) -> tuple[CdiSpec, ...]:
    """What a runtime that looks into `directories` takes for devices of a kind.

    Later directories win over earlier ones (cncf-tags' pkg/cdi, read 2026-11-22), so that a stale file in /etc does no
    harm beside a fresh one in /var/run. `directories` None means the usual ones.
    """
    for directory in reversed(USUAL_DIRECTORIES if directories is None else directories):
        found = tuple(
            spec for spec in specs if spec.kind == kind and spec.devices and spec.path.rpartition("/")[0] == directory
        )
        if found:
            return found
    return ()


def _unknown(path: str, error: str) -> CdiReading:
    return CdiReading(spec=CdiSpec(path=path, kind=None), error=error)
