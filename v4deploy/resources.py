"""Finds profiles/ and templates/: the wheel's copy, else the repository's; and the user's overlay directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from v4deploy.domain.errors import UsageError, V4DeployError


def data_dir(name: str) -> Path:
    """The directory `profiles` or `templates` that belongs to this installation.

    Raises:
        V4DeployError: neither is there, so the installation is broken.
    """
    package = Path(__file__).parent
    for candidate in (package / "_data" / name, package.parent / name):
        if candidate.is_dir():
            return candidate
    raise V4DeployError(
        f"this installation of v4deploy has no `{name}` directory",
        hint="install it again: `python -m pip install --force-reinstall v4deploy`",
    )


def overlay_dir(name: str, environ: Mapping[str, str]) -> Path | None:
    """The user's own `profiles` or `templates`, below V4DEPLOY_OVERLAY or the user's configuration directory.

    None when there is none.

    Raises:
        UsageError: V4DEPLOY_OVERLAY names a directory that is not there.
    """
    candidate = _overlay_root(environ) / name
    return candidate if candidate.is_dir() else None


def refreshed_dir(environ: Mapping[str, str]) -> Path:
    """Where `models --refresh` keeps its profiles: beside the user's own, never among them. It may not be there yet.

    Raises:
        UsageError: V4DEPLOY_OVERLAY names a directory that is not there.
    """
    return _overlay_root(environ) / "refreshed"


def _overlay_root(environ: Mapping[str, str]) -> Path:
    from platformdirs import user_config_path

    root = environ.get("V4DEPLOY_OVERLAY")
    base = Path(root) if root else user_config_path("v4deploy", appauthor=False)
    if root and not base.is_dir():
        raise UsageError(f"V4DEPLOY_OVERLAY is `{root}`, which is no directory", hint="make it, or unset the variable")
    return base
