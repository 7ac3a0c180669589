"""Which version of an engine a plan is made for, and whether it is new enough."""

from __future__ import annotations

import re

from v4deploy.domain.engine import EngineId, EngineProfile
from v4deploy.domain.hardware import Host
from v4deploy.domain.model import Release
from v4deploy.domain.versions import is_older, version_numbers

_BUILD = re.compile(r"build (\d+)|^b?(\d+)$|^\d+\.\d+\.(\d{4,})(?:\.|$)")


def comparable(engine: EngineId, version: str) -> str | None:
    """A version text in the form that profiles use: build numbers for llama.cpp, dotted numbers for the others.

    None where the text tells none (`build 0` comes from a source tree without history).
    """
    if engine is EngineId.LLAMA_CPP:
        match = _BUILD.search(version.strip())
        number = next((group for group in match.groups() if group), None) if match else None
        return number if number and int(number) else None
    try:
        return ".".join(str(number) for number in version_numbers(version))
    except ValueError:
        return None


def planned_version(profile: EngineProfile, release: Release, host: Host) -> str:
    """The newest one found on the host; else the profile's, or what the release needs where that is newer."""
    found = [
        engine.version
        for engine in host.engines
        if engine.engine is profile.id and engine.version and comparable(profile.id, engine.version)
    ]
    if found:
        return max(found, key=lambda version: version_numbers(comparable(profile.id, version) or "0"))
    needed = minimum_version(profile, release)
    return needed if is_older(profile.version, needed) else profile.version


def minimum_version(profile: EngineProfile, release: Release, *others: str | None) -> str:
    """The strictest of the engine's, the release's and further minima."""
    newest = profile.minimum_version
    of_release = [version for engine, version in release.minimum_engine_versions if engine is profile.id]
    for version in (*of_release, *others):
        if version is not None and is_older(newest, version):
            newest = version
    return newest


def is_too_old(engine: EngineId, version: str, minimum: str) -> bool:
    """Whether a planned version is below a minimum; a text that tells no number is given the benefit of the doubt."""
    number = comparable(engine, version)
    return number is not None and is_older(number, minimum)
