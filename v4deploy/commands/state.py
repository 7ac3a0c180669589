"""The user's state directory: logs, and what was measured on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def state_directory(environ: Mapping[str, str]) -> Path:
    """`v4deploy` below XDG_STATE_HOME, or the system's equivalent; absolute, as records are read from elsewhere too."""
    from platformdirs import user_state_path

    named = environ.get("XDG_STATE_HOME")
    return Path(named).absolute() / "v4deploy" if named else user_state_path("v4deploy", appauthor=False)
