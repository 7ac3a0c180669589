"""The vendors' probes. A new vendor is a module and its line here."""

from __future__ import annotations

from v4deploy.probes import amd, apple, ascend, nvidia
from v4deploy.probes.base import Probe

ALL_PROBES: tuple[Probe, ...] = (nvidia, amd, apple, ascend)
