"""What a check found out: a stable id, how bad it is, the evidence, why it matters for V4, and the fix."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    OK = "ok"
    INFO = "info"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


class CheckGroup(StrEnum):
    HOST = "host"
    ACCELERATOR = "accelerator"
    CONTAINER = "container"
    ENGINE = "engine"
    NETWORK = "network"
    STORAGE = "storage"
    CONFIG = "config"
    PLAN = "plan"


_GROUP_OF_PREFIX = {
    "host": CheckGroup.HOST,
    "gpu": CheckGroup.ACCELERATOR,
    "npu": CheckGroup.ACCELERATOR,
    "accelerator": CheckGroup.ACCELERATOR,
    "container": CheckGroup.CONTAINER,
    "engine": CheckGroup.ENGINE,
    "network": CheckGroup.NETWORK,
    "storage": CheckGroup.STORAGE,
    "config": CheckGroup.CONFIG,
    "plan": CheckGroup.PLAN,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Where a claim comes from (`/proc/meminfo`, `nvidia-smi`), and the raw value seen there.

    `value` is None where the source itself could not be read; `error` then says how that failed.
    """

    source: str
    value: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One result of one check.

    Attributes:
        id: stable, dotted, lower case: `gpu.nvidia.driver-too-old`. Scripts rely on it.
        summary: one sentence without a full stop.
        why: why it matters for V4; None where the summary says it all.
        fix: the command or action that removes it; None where there is nothing to fix.
    """

    id: str
    severity: Severity
    summary: str
    evidence: tuple[Evidence, ...] = ()
    why: str | None = None
    fix: str | None = None


def group_of(finding_id: str) -> CheckGroup:
    """The group of a finding, from the first word of its id.

    Raises:
        KeyError: the id begins with a word that no group has; a test asserts that none does.
    """
    return _GROUP_OF_PREFIX[finding_id.split(".", 1)[0]]
