"""Engines under another supervisor: the commands that ask Docker Compose or systemd, and what their answers mean."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Manager(StrEnum):
    COMPOSE = "compose"
    SYSTEMD = "systemd"


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagedTarget:
    """`name` is a Compose file or a unit. `is_user`: a unit of the user's own systemd."""

    manager: Manager
    name: str
    is_user: bool = False

    @property
    def status_argv(self) -> tuple[str, ...]:
        if self.manager is Manager.COMPOSE:
            return (*self._compose, "ps", "--all", "--format", "json")
        shown = "LoadState,ActiveState,SubState,Result,NRestarts,MainPID"
        return (*self._systemctl, "show", self.name, f"--property={shown}")

    @property
    def stop_argv(self) -> tuple[str, ...]:
        """Both wait for the end, as long as the file or the unit allows it."""
        return (*self._compose, "stop") if self.manager is Manager.COMPOSE else (*self._systemctl, "stop", self.name)

    def logs_argv(self, *, lines: int, follow: bool) -> tuple[str, ...]:
        if self.manager is Manager.COMPOSE:
            return (*self._compose, "logs", "--tail", str(lines), *(("--follow",) if follow else ()))
        unit = "--user-unit" if self.is_user else "--unit"
        return ("journalctl", unit, self.name, "--lines", str(lines), *(("--follow",) if follow else ()))

    @property
    def _compose(self) -> tuple[str, ...]:
        return ("docker", "compose", "--file", self.name)

    @property
    def _systemctl(self) -> tuple[str, ...]:
        return ("systemctl", *(("--user",) if self.is_user else ()), "--no-ask-password")


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagedState:
    """What the other supervisor says. `is_running` is not ready: only `v4deploy smoke` tells that."""

    is_running: bool
    words: str


def read_compose(text: str) -> ManagedState:
    """Read `docker compose ps --format json`: one object a line, or one list in earlier versions.

    Raises:
        ValueError: it is neither.
    """
    text = text.strip()
    entries: list[Any] = json.loads(text) if text.startswith("[") else [json.loads(line) for line in text.splitlines()]
    if not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("it lists no containers")
    if not entries:
        return ManagedState(is_running=False, words="no container was made from this file")
    words = "; ".join(_container(entry) for entry in entries)
    return ManagedState(is_running=all(entry.get("State") == "running" for entry in entries), words=words)


def read_systemd(text: str) -> ManagedState:
    """Read `systemctl show`."""
    values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    if values.get("LoadState") != "loaded":
        return ManagedState(is_running=False, words=f"no such unit ({values.get('LoadState') or 'nothing was said'})")
    active = values.get("ActiveState", "")
    words = f"{active} ({values.get('SubState', '')})"
    if values.get("Result", "success") != "success":
        words += f", last ended with {values['Result']}"
    if values.get("NRestarts", "0") != "0":
        words += f", restarted {values['NRestarts']} times"
    return ManagedState(is_running=active in {"active", "reloading"}, words=words)


def _container(entry: dict[str, Any]) -> str:
    health = f", {entry['Health']}" if entry.get("Health") else ""
    code = f" with exit code {entry.get('ExitCode')}" if entry.get("State") == "exited" else ""
    return f"{entry.get('Name', '?')}: {entry.get('State', '?')}{code}{health}"
