"""Images that containers are started from: the engine's version in their tag, and their digest where they are here."""

from __future__ import annotations

import json
import re
from dataclasses import replace

from v4deploy.domain.engine import EngineProfile, LaunchOptions
from v4deploy.domain.errors import UsageError
from v4deploy.domain.finding import Finding, Severity
from v4deploy.engines.common import CONTAINER_TARGETS, engine_word
from v4deploy.system.base import System

_PROGRAMS = ("docker", "podman")
_ANSWER_SECONDS = 3.0

_MOTOR = "motor"
"""Its image is one of Motor's own, and so is the version in its tag."""

# `v0.33.0`, `v0.25.1rc1-a3`, `0.33.0-rocm`, `server-cuda13-b11434`; not `nightly`, `deepseek-v4.1-flash-a3`.
_VERSION_IN_TAG = re.compile(r"v?(\d+\.\d+(?:\.\d+)*(?:rc\d+)?)(?![\w.])|(?:.*-)?b(\d+)$")


def require_container(image: str | None, targets: tuple[str, ...]) -> None:
    """Refuse an image where no target starts one.

    Raises:
        UsageError: it would be ignored.
    """
    if image is not None and not CONTAINER_TARGETS & set(targets):
        raise UsageError(
            f"`--image` is for containers, and target {', '.join(targets)} starts none",
            hint="leave it out, or choose a target with a container: `--target compose`",
        )


def version_in(image: str) -> str | None:
    """The engine's version as an image's tag has it; None where it names none, as with a digest alone."""
    tag = image.split("@", maxsplit=1)[0].rpartition("/")[2].partition(":")[2]
    found = _VERSION_IN_TAG.match(tag)
    return None if found is None else found[1] or found[2]


def for_image(options: LaunchOptions, profile: EngineProfile, target: str) -> tuple[LaunchOptions, tuple[Finding, ...]]:
    """The options for the version that the user's own image brings; a finding where its tag does not tell which."""
    if options.image is None or target not in CONTAINER_TARGETS or target == _MOTOR:
        return options, ()
    version = version_in(options.image)
    if version is not None:
        return replace(options, engine_version=version), ()
    return options, (
        Finding(
            id=f"engine.{engine_word(profile.id)}.image-version-unknown",
            severity=Severity.INFO,
            summary=f"which {profile.name} is in {options.image} is not known; "
            "the files are for the one that their header names",
            why="flags differ between versions, and one that the image's engine does not know stops it at its start",
            fix="name it by a tag with its version; its digest may stand behind: `--image NAME:TAG@sha256:...`",
        ),
    )


def pinned_here(system: System, image: str) -> str | None:
    """The image as `name:tag@sha256:...`; None where neither Docker nor Podman has it, or knows no digest of it."""
    for program in _PROGRAMS:
        asked = (program, "image", "inspect", "--format", "{{json .RepoDigests}}", image)
        ran = system.run(asked, timeout_seconds=_ANSWER_SECONDS)
        if ran.exit_status == 0 and (digest := _digest(ran.stdout or "", image)) is not None:
            return f"{image}@{digest}"
    return None


def _digest(answer: str, image: str) -> str | None:
    """The digest under the name that was asked for: that of a mirror's name would pin the mirror."""
    try:
        names = json.loads(answer)
    except ValueError:
        return None
    wanted = image.rsplit(":", 1)[0]
    found = [name for name in names if isinstance(name, str) and "@sha256:" in name] if isinstance(names, list) else []
    parts = (name.split("@", maxsplit=1) for name in found)
    return next((digest for name, digest in parts if name.removeprefix("docker.io/") == wanted), None)
