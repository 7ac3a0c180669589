"""Where this machine's own measurements lie, and reading them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from v4deploy.commands.state import state_directory
from v4deploy.documents import from_json
from v4deploy.domain.errors import ProfileError
from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.measurements import MEASUREMENTS_SCHEMA, Measurements


def measurements_path(environ: Mapping[str, str]) -> Path:
    """`measurements.json` below the state directory."""
    return state_directory(environ) / "measurements.json"


def read_measurements(environ: Mapping[str, str]) -> tuple[Measurements, tuple[Finding, ...]]:
    """What was measured here; nothing where there is no file. A file that cannot be read stops no plan, but is told."""
    path = measurements_path(environ)
    try:
        text = path.read_text(encoding="utf-8")
        return from_json(Measurements, MEASUREMENTS_SCHEMA, text, name=str(path)), ()
    except FileNotFoundError:
        return Measurements(), ()
    except (OSError, UnicodeDecodeError, ProfileError) as error:
        return Measurements(), (_unreadable(path, error),)


def _unreadable(path: Path, error: Exception) -> Finding:
    said = error.message if isinstance(error, ProfileError) else str(error)
    return Finding(
        id="plan.measurements-unreadable",
        severity=Severity.WARN,
        summary="what was measured on this machine could not be read, so the speeds are estimates",
        evidence=(Evidence(source=str(path), error=said),),
        fix=f"mend or remove {path}",
    )
