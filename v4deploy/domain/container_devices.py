"""How containers are given a vendor's devices: a fact of the vendor's runtime, not of the engine inside."""

from __future__ import annotations

from dataclasses import dataclass

from v4deploy.domain.source import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerDevices:
    """Names of a vendor's devices outside of its own tools.

    Attributes:
        compute_api: `cuda`, `rocm`, `metal` or `cann`.
        cdi_kind: of the container device interface; None where launch files name its devices in another way.
        cluster_resource: what a pod of Kubernetes asks for; None where none is known.
    """

    compute_api: str
    cdi_kind: str | None
    cluster_resource: str | None
    source: Source
