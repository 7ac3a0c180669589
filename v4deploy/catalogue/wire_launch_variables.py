"""The form of `variables:` and `removed_variables:` in profiles/launch/<engine>.yaml, and their values."""

from __future__ import annotations

from dataclasses import dataclass

from v4deploy.domain.launch_settings import KnownVariables, RemovedVariable
from v4deploy.domain.source import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class VariablesEntry:
    """As KnownVariables documents it.

    Attributes:
        names: separated by white space: three hundred items would say no more.
        source: null means the file's, here and below.
    """

    version: str
    prefix: str
    names: str
    source: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedEntry:
    """As RemovedVariable documents it."""

    name: str
    since: str
    instead: str
    source: str | None = None


def variables_of(entry: VariablesEntry | None, default: Source) -> KnownVariables | None:
    """The variables of an entry; `default` stands for a source that is not given."""
    if entry is None:
        return None
    return KnownVariables(
        version=entry.version,
        prefix=entry.prefix,
        names=frozenset(entry.names.split()),
        source=_source(entry.source, default),
    )


def removed_of(entry: RemovedEntry, default: Source) -> RemovedVariable:
    """The variable of an entry; `default` stands for a source that is not given."""
    return RemovedVariable(
        name=entry.name, since=entry.since, instead=entry.instead, source=_source(entry.source, default)
    )


def _source(given: str | None, default: Source) -> Source:
    return default if given is None else Source(source=given, as_of=default.as_of)
