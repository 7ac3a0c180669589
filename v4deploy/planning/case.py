"""What all candidates of one request share."""

from __future__ import annotations

from dataclasses import dataclass

from v4deploy.domain.engine import EngineProfile
from v4deploy.domain.hardware import HOST_POOL_ID, Device, Host
from v4deploy.domain.model import Model, Release


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A release on an engine on a host.

    Attributes:
        engine_version: found on the host; else the profile's, or the release's minimum where that is newer.
    """

    model: Model
    release: Release
    profile: EngineProfile
    engine_version: str
    host: Host

    def devices(self, indices: tuple[int, ...]) -> tuple[Device, ...]:
        """The devices of a layout, in its order."""
        by_index = {device.index: device for device in self.host.devices}
        return tuple(by_index[index] for index in indices)

    def is_unified(self, indices: tuple[int, ...]) -> bool:
        """Whether these devices live in the host's own pool."""
        return any(device.pool_id == HOST_POOL_ID for device in self.devices(indices))
