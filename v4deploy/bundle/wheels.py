"""The wheels that a machine without a network needs to run v4deploy: what a directory holds, and what it lacks."""

from __future__ import annotations

import json
import re
import sys
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.parser import HeaderParser
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

PROGRAM = "v4deploy"
# The extra with llama.cpp inside Python; wanted over there when it is installed here.
_EXTRA, _EXTRA_PACKAGE = "embedded", "xllamacpp"
# Building v4deploy's own wheel and fetching some twenty others takes a minute or two.
PIP_SECONDS = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """What a wheel says of itself. `requires` are its unparsed requirements."""

    name: str
    version: str
    requires: tuple[str, ...]


def read_wheels(paths: Iterable[Path]) -> tuple[Wheel, ...]:
    """The wheels among these files; what is no readable wheel counts as none."""
    return tuple(wheel for path in paths if path.suffix == ".whl" and (wheel := _read_wheel(path)) is not None)


def _read_wheel(path: Path) -> Wheel | None:
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
            fields = HeaderParser().parsestr(archive.read(name).decode("utf-8", "replace"))
    except (OSError, zipfile.BadZipFile, StopIteration):
        return None
    return Wheel(
        name=canonicalize_name(fields.get("Name", "")),
        version=fields.get("Version", ""),
        requires=tuple(fields.get_all("Requires-Dist") or ()),
    )


def lacking(wheels: Iterable[Wheel], *, extras: Iterable[str], environment: Mapping[str, str]) -> tuple[str, ...]:
    """Requirements that no wheel of the set fulfils, beginning with v4deploy itself; empty when it can be installed.

    `environment` describes the interpreter in the words of dependency markers (`python_version`, `sys_platform`).
    """
    by_name = {wheel.name: wheel for wheel in wheels}
    missing: dict[str, None] = {}
    asked = [(PROGRAM, frozenset(extras))]
    seen: set[tuple[str, frozenset[str]]] = set()
    while asked:
        name, wanted_extras = asked.pop()
        if (name, wanted_extras) in seen:
            continue
        seen.add((name, wanted_extras))
        wheel = by_name.get(name)
        if wheel is None:
            missing[name] = None
            continue
        for requirement in _requirements(wheel, wanted_extras, environment):
            needed = canonicalize_name(requirement.name)
            present = by_name.get(needed)
            if present is not None and not requirement.specifier.contains(present.version, prereleases=True):
                missing[str(requirement)] = None
            asked.append((needed, frozenset(requirement.extras)))
    return tuple(missing)


def _requirements(wheel: Wheel, extras: frozenset[str], environment: Mapping[str, str]) -> Iterable[Requirement]:
    for text in wheel.requires:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        marker = requirement.marker
        if marker is None or any(marker.evaluate({**environment, "extra": extra}) for extra in ("", *extras)):
            yield requirement


def wanted_extras() -> tuple[str, ...]:
    """The extras that v4deploy has on this machine."""
    try:
        metadata.version(_EXTRA_PACKAGE)
    except metadata.PackageNotFoundError:
        return ()
    return (_EXTRA,)


def pip_command(directory: Path) -> tuple[str, ...]:
    """The command that fetches or builds the wheels of the v4deploy that runs here, and of all that it needs."""
    options = ("--disable-pip-version-check", "--no-input", "--retries", "1", "--wheel-dir", str(directory))
    return (sys.executable, "-m", "pip", "wheel", *options, _requirement())


def _requirement() -> str:
    """v4deploy from where it was installed (PEP 610), else by its version from an index."""
    distribution = metadata.distribution(PROGRAM)
    extras = f"[{','.join(wanted_extras())}]" if wanted_extras() else ""
    text = distribution.read_text("direct_url.json")
    return requirement_of(json.loads(text) if text else {}, extras=extras, version=distribution.version)


def requirement_of(origin: Mapping[str, Any], *, extras: str, version: str) -> str:
    """What pip is asked for; `origin` as direct_url.json has it (PEP 610), empty for what came from an index."""
    url, repository = str(origin.get("url", "")), origin.get("vcs_info")
    if not url:
        return f"{PROGRAM}{extras}=={version}"
    if isinstance(repository, dict):
        return f"{PROGRAM}{extras} @ {repository.get('vcs')}+{url}@{repository.get('commit_id')}"
    return f"{unquote(urlsplit(url).path)}{extras}" if url.startswith("file://") else f"{PROGRAM}{extras} @ {url}"
