"""What an engine is: a module that judges a plan, builds the command line, and gives templates their values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from v4deploy.domain.engine import EngineId, EngineProfile, LaunchOptions, LaunchSpec
from v4deploy.domain.finding import Finding
from v4deploy.domain.plan import Plan


class Engine(Protocol):
    """An engine's module. Every function is pure: the same plan, options and profile give the same answer."""

    ID: EngineId

    def check(self, plan: Plan, options: LaunchOptions, profile: EngineProfile, target: str) -> tuple[Finding, ...]:
        """What speaks against starting or rendering this plan. A finding of severity FAIL refuses it."""
        ...

    def launch_spec(self, plan: Plan, options: LaunchOptions, profile: EngineProfile) -> LaunchSpec:
        """The process that `serve` starts.

        Raises:
            UsageError: the plan lacks what the command line needs; `check` says so beforehand.
        """
        ...

    def values(self, plan: Plan, options: LaunchOptions, profile: EngineProfile, target: str) -> Mapping[str, object]:
        """What the templates of that target may name; `facts` (see engines/common.py) is always among it.

        Raises:
            UsageError: as for `launch_spec`.
        """
        ...
