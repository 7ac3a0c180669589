"""`--only` and `--skip`: names of groups, checks and findings, each standing for all below it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from v4deploy.checks.base import Check
from v4deploy.domain.catalogue import unknown_name
from v4deploy.domain.errors import UsageError
from v4deploy.domain.finding import CheckGroup, Finding, group_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which checks run, and which findings are shown. An empty `only` means all."""

    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def shows(self, finding: Finding, check: Check | None = None) -> bool:
        """Whether a finding is wanted; `check` is None for those of the probes."""
        ids = (finding.id, check.id) if check else (finding.id,)
        return (not self.only or _covers(self.only, ids)) and not _covers(self.skip, ids)

    def leaves(self, ids: Sequence[str]) -> bool:
        """Whether anything of a check can be wanted; the first id is its own, by which all of it can be skipped."""
        wanted = not self.only or _covers(self.only, ids)
        return wanted and not _covers(self.skip, ids[:1]) and not all(_covers(self.skip, (id_,)) for id_ in ids)


def select(only: Sequence[str], skip: Sequence[str], known: Iterable[str]) -> Selection:
    """The selection that was typed; `known` are the ids of checks and findings.

    Raises:
        UsageError: a name that stands for nothing; the message gives the nearest ones.
    """
    ids = sorted(set(known))
    names = dict.fromkeys([*(group.value for group in CheckGroup), *(part for id_ in ids for part in _prefixes(id_))])
    for typed in (*only, *skip):
        if typed not in names:
            raise _unknown(typed, list(names))
    return Selection(only=tuple(only), skip=tuple(skip))


def _unknown(typed: str, names: Sequence[str]) -> UsageError:
    """Nearest names, and the groups; all hundred names would hide both."""
    error = unknown_name("check", typed, names)
    near = error.hint if error.hint and error.hint.startswith("did you mean") else "see `v4deploy doctor --list`"
    return UsageError(error.message, hint=near, details=(f"groups: {', '.join(CheckGroup)}",))


def _covers(names: Sequence[str], ids: Iterable[str]) -> bool:
    return any(id_ == name or id_.startswith(f"{name}.") or group_of(id_) == name for name in names for id_ in ids)


def _prefixes(id_: str) -> list[str]:
    """`gpu.nvidia.driver-too-old` with `gpu.nvidia` and `gpu`."""
    words = id_.split(".")
    return [".".join(words[:count]) for count in range(1, len(words) + 1)]
