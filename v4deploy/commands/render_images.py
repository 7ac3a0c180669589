"""The digest of an image that this machine has already: what its tag stood for when it was fetched."""

from __future__ import annotations

import json

from v4deploy.system.base import System

_PROGRAMS = ("docker", "podman")
_ANSWER_SECONDS = 3.0


def pinned_here(system: System, image: str) -> str | None:
    """The image as `name@sha256:...`; None where neither Docker nor Podman has it, or knows no digest of it."""
    for program in _PROGRAMS:
        asked = (program, "image", "inspect", "--format", "{{json .RepoDigests}}", image)
        ran = system.run(asked, timeout_seconds=_ANSWER_SECONDS)
        if ran.exit_status == 0 and (digest := _digest(ran.stdout or "", image)) is not None:
            return digest
    return None


def _digest(answer: str, image: str) -> str | None:
    """Of the names under which an image was fetched the one asked for: a mirror's digest would pin the mirror."""
    try:
        names = json.loads(answer)
    except ValueError:
        return None
    wanted = image.rsplit(":", 1)[0]
    found = [name for name in names if isinstance(name, str) and "@sha256:" in name] if isinstance(names, list) else []
    return next((name for name in found if name.split("@")[0].removeprefix("docker.io/") == wanted), None)
