"""Reads template files: the shipped directory first, then the user's overlay, whose files win."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from v4deploy.domain.errors import ProfileError
from v4deploy.render.render import TARGET_FILE, TemplateSet


def load_templates(directories: Sequence[Path]) -> TemplateSet:
    """All templates below the directories; a later directory replaces files of an earlier one by their path.

    Raises:
        ProfileError: a template cannot be read.
    """
    texts: dict[str, str] = {}
    for directory in directories:
        for path in sorted(directory.rglob("*")):
            if path.is_file() and (path.suffix == ".j2" or path.name == TARGET_FILE):
                texts[path.relative_to(directory).as_posix()] = _read(path)
    return TemplateSet(texts=texts)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ProfileError(f"the template {path} cannot be read: {error}") from error
